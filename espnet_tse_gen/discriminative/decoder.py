"""The speech decoder: one transposed convolution per scale turns masked features into a waveform."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from espnet_tse_gen.discriminative.blocks import NUM_SCALES, check_sizes
from espnet_tse_gen.discriminative.encoder import check_kernels


class MultiScaleConvDecoder(nn.Module):
    """Three transposed convolutions, one per window length (SpEx+, arXiv 2005.04686); all are used in training only.

    The signal extracted is that of the short scale. Options as those of the encoder, and to be the same.

    Raises:
        UserError: An option does not fit.
    """

    def __init__(
        self, channel: int = 256, kernel_sizes: Sequence[int] = (20, 80, 160), stride: int = 10, bias: bool = True
    ) -> None:
        super().__init__()
        check_sizes("decoder", channel=channel)
        self.kernel_sizes = check_kernels("decoder", kernel_sizes, stride)
        self.channel = channel
        self.stride = stride
        self.bias = bias
        self.convs = nn.ModuleList(
            nn.ConvTranspose1d(channel, 1, k, stride=stride, bias=bias) for k in self.kernel_sizes
        )

    def forward(self, input: Tensor, ilens: Tensor, fs: int | None = None) -> tuple[Tensor, Tensor]:
        """Decode the short scale alone.

        Args:
            input: ``[B, T, channel]`` or more channels, of which the first are the short scale's.
            ilens: ``[B]``, samples of each item.

        Returns:
            Waveforms ``[B, max(ilens)]`` and ``ilens``. What lies beyond an item's length is not set to zero.
        """
        return self._decode(input, 0, int(ilens.max())), ilens

    def decode_scales(self, features: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return the waveforms ``[B, max(lengths)]`` of all scales, short first, of ``[B, T, 3 * channel]``."""
        length = int(lengths.max())
        return [self._decode(features, scale, length) for scale in range(NUM_SCALES)]

    def _decode(self, features: Tensor, scale: int, length: int) -> Tensor:
        kernel = self.kernel_sizes[scale]
        weight = self.convs[scale].get_parameter("weight")
        scale_features = features[..., self.channel * scale : self.channel * (scale + 1)].transpose(1, 2)
        # A transposed convolution to one channel is a matrix product and an overlap-add; so written it takes a sixth
        # of the time on a CPU.
        windows = weight[:, 0].t() @ scale_features
        samples = (features.shape[1] - 1) * self.stride + kernel
        wav = F.fold(windows, (1, samples), (1, kernel), stride=(1, self.stride))[:, 0, 0, :length]
        return wav + self.convs[scale].get_parameter("bias") if self.bias else wav
