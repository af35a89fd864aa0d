"""Waveform to features and back: learned filters of three lengths with a common hop, and their transposed counterparts."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_tse_gen.discriminative.blocks import NUM_SCALES, check_sizes, valid_frames, zero_padding
from espnet_tse_gen.utils.errors import UserError


def _checked(owner: str, kernel_sizes: Sequence[int], stride: int) -> tuple[int, ...]:
    """Return ``owner``'s kernels as a tuple; what is not three lengths, shortest first, of at least a hop is a UserError."""
    kernels = tuple(kernel_sizes)
    if len(kernels) != NUM_SCALES or list(kernels) != sorted(kernels) or kernels[0] < stride:
        raise UserError(
            f"{owner}: option 'kernel_sizes' is {list(kernels)}: expected {NUM_SCALES} lengths in samples, "
            f"shortest first, none below the stride of {stride}"
        )
    return kernels


class MultiScaleConvEncoder(nn.Module):
    """Three convolutions over the waveform, one per window length, each followed by ReLU (SpEx+, arXiv 2005.04686).

    The number of frames is that of the shortest window over a signal padded to whole hops, so that the decoder covers every
    sample; where the signal consists of whole hops it is the authors' number.
    """

    def __init__(
        self,
        channel: int = 256,  # filters of each scale (N); the features have 3N channels, short scale first
        # windows in samples, shortest first; the defaults are 2.5, 10 and 20 ms at 8 kHz
        kernel_sizes: Sequence[int] = (20, 80, 160),
        stride: int = 10,  # hop in samples, common to the scales
        bias: bool = True,  # whether the filters have an offset
    ) -> None:
        super().__init__()
        check_sizes("encoder", locals())
        self.kernel_sizes = _checked("encoder", kernel_sizes, stride)
        self.stride, self.output_dim = stride, NUM_SCALES * channel
        self.convs = nn.ModuleList(nn.Conv1d(1, channel, k, stride=stride, bias=bias) for k in self.kernel_sizes)

    def forward(self, input: Tensor, ilens: Tensor, fs: int | None = None) -> tuple[Tensor, Tensor]:
        """Return features ``[B, T, 3 * channel]`` of waveforms ``[B, L]``, the scales concatenated, and valid frames ``[B]``.

        What lies beyond an item's ``ilens`` samples is taken as zero; less than the shortest window is a :class:`UserError`.
        """
        length = input.shape[-1]
        shortest = min(int(ilens.min()), length)
        if shortest < self.kernel_sizes[0]:
            raise UserError(
                f"signal too short: {shortest} samples, expected at least {self.kernel_sizes[0]}, the encoder's "
                "shortest window: give a longer recording"
            )
        signal = zero_padding(input[:, None], valid_frames(ilens, length, input.device))
        covered = self.stride * (-(-(length - self.kernel_sizes[0]) // self.stride))
        padded = F.pad(signal, (0, covered + self.kernel_sizes[-1] - length))
        scales = [conv(padded[..., : covered + k]) for conv, k in zip(self.convs, self.kernel_sizes, strict=True)]
        features = F.relu(torch.cat(scales, 1), inplace=True)
        hops = torch.div(ilens - self.kernel_sizes[0] + self.stride - 1, self.stride, rounding_mode="floor")
        return features.transpose(1, 2), hops + 1


class MultiScaleConvDecoder(nn.Module):
    """Three transposed convolutions, one per window length, of which the short one decodes; options as the encoder's."""

    def __init__(
        self, channel: int = 256, kernel_sizes: Sequence[int] = (20, 80, 160), stride: int = 10, bias: bool = True
    ) -> None:
        super().__init__()
        check_sizes("decoder", locals())
        self.kernel_sizes = _checked("decoder", kernel_sizes, stride)
        self.channel, self.stride, self.bias = channel, stride, bias
        self.convs = nn.ModuleList(
            nn.ConvTranspose1d(channel, 1, k, stride=stride, bias=bias) for k in self.kernel_sizes
        )

    def forward(self, input: Tensor, ilens: Tensor, fs: int | None = None) -> tuple[Tensor, Tensor]:
        """Return waveforms ``[B, max(ilens)]`` of the short scale alone, which are the first channels, and ``ilens``.

        What lies beyond an item's length is not set to zero.
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
