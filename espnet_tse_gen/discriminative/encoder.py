"""The speech encoder: learned filters of three lengths with a common hop, applied to mixture and enrolment alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_tse_gen.discriminative.blocks import NUM_SCALES, check_sizes
from espnet_tse_gen.utils.errors import UserError


def check_kernels(owner: str, kernel_sizes: Sequence[int], stride: int) -> tuple[int, ...]:
    """Return the kernels as a tuple, having refused what is not three lengths, shortest first, of at least a hop.

    Raises:
        UserError: ``kernel_sizes`` or ``stride`` does not fit; names ``owner``.
    """
    kernels = tuple(kernel_sizes)
    check_sizes(owner, stride=stride)
    if len(kernels) != NUM_SCALES or list(kernels) != sorted(kernels) or kernels[0] < stride:
        raise UserError(
            f"{owner}: option 'kernel_sizes' is {list(kernels)}: expected {NUM_SCALES} lengths in samples, "
            f"shortest first, none below the stride of {stride}"
        )
    return kernels


class MultiScaleConvEncoder(nn.Module):
    """Three convolutions over the waveform, one per window length, each followed by ReLU (SpEx+, arXiv 2005.04686).

    One instance encodes the mixture and the enrolment: that is the tying of the twin encoders. The number of frames is
    that of the shortest window over a signal padded to whole hops, so that the decoder covers every sample; where the
    signal consists of whole hops it is the authors' number.

    Args:
        channel: Filters of each scale (N); the features have ``3 * channel`` channels, short scale first.
        kernel_sizes: Windows in samples, shortest first; the defaults are 2.5, 10 and 20 ms at 8 kHz.
        stride: Hop in samples, common to the scales.
        bias: Whether the filters have an offset.

    Raises:
        UserError: An option does not fit.
    """

    def __init__(
        self, channel: int = 256, kernel_sizes: Sequence[int] = (20, 80, 160), stride: int = 10, bias: bool = True
    ) -> None:
        super().__init__()
        check_sizes("encoder", channel=channel)
        self.kernel_sizes = check_kernels("encoder", kernel_sizes, stride)
        self.channel = channel
        self.stride = stride
        self.convs = nn.ModuleList(nn.Conv1d(1, channel, k, stride=stride, bias=bias) for k in self.kernel_sizes)

    @property
    def output_dim(self) -> int:
        """Channels of the features, those of all scales."""
        return NUM_SCALES * self.channel

    def forward(self, input: Tensor, ilens: Tensor, fs: int | None = None) -> tuple[Tensor, Tensor]:
        """Encode waveforms.

        Args:
            input: ``[B, L]``; what lies beyond an item's length is taken as zero.
            ilens: ``[B]``, valid samples.

        Returns:
            Features ``[B, T, 3 * channel]``, the scales concatenated, and the valid frames ``[B]``.

        Raises:
            UserError: A signal is shorter than the shortest window.
        """
        length = input.shape[-1]
        shortest = min(int(ilens.min()), length)
        if shortest < self.kernel_sizes[0]:
            raise UserError(
                f"signal too short: {shortest} samples, expected at least {self.kernel_sizes[0]}, the encoder's "
                "shortest window: give a longer recording"
            )
        if shortest < length:
            input = input * (torch.arange(length, device=input.device) < ilens.to(input.device)[:, None])
        covered = self.stride * (-(-(length - self.kernel_sizes[0]) // self.stride))
        padded = F.pad(input[:, None], (0, covered + self.kernel_sizes[-1] - length))
        scales = [conv(padded[..., : covered + k]) for conv, k in zip(self.convs, self.kernel_sizes, strict=True)]
        features = F.relu(torch.cat(scales, 1), inplace=True)
        hops = torch.div(ilens - self.kernel_sizes[0] + self.stride - 1, self.stride, rounding_mode="floor")
        return features.transpose(1, 2), hops + 1
