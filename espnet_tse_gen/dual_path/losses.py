"""The loss of the dual-path extractor: waveform, spectrum, silence of absent targets, and activity; all ratios in dB.

The waveform is judged twice: by SI-SDR (Le Roux et al., ICASSP 2019), and by the ratio of target to error without a free scale,
which gives the output the target's level. SI-SDR is what makes a network listen to the enrolment: by the other ratio, the wrong
speaker costs 3 dB where silence costs 0. Ratios are bounded (soft threshold, Wisdom et al. 2020, arXiv 2006.12701).
"""

from typing import NamedTuple

import torch
from torch import Tensor

BOUND = 1e-3
"""Of ratios of energies: 30 dB."""
WORST = 1e-2
"""An estimate counts as if this share of its energy, -20 dB, were target: SI-SDR of anything else has no bound."""
_COMPRESSION = 0.3
_EPSILON = 1e-8
# A frame this far below the target's loudest one is a pause: 40 dB.
_PAUSE = 1e-4


class ExtractionLoss(NamedTuple):
    """Parts of the loss, each a scalar with its gradient, in dB but for the last; zero where no row has a part."""

    si_sdr: Tensor  # of the waveform, negative, where the target speaks
    waveform: Tensor  # error to target, likewise
    spectrum: Tensor  # the same of compressed magnitudes
    silence: Tensor  # output to mixture, where the target is absent
    activity: Tensor  # binary cross-entropy of speaking or not, frame by frame


def extraction_loss(
    estimate: Tensor, target: Tensor, mixture: Tensor, valid: Tensor, logits: Tensor, window: int, hop: int
) -> ExtractionLoss:
    """Return the parts of the loss of ``estimate``, ``target`` and ``mixture [B, L]``.

    Args:
        target: Zero in all samples where the target is absent.
        valid: bool ``[B, L]``, false where an item is padded.
        logits: ``[B, T]``, activity in frames of ``hop`` samples centred at its multiples.
        window: Samples of the analysis window.
    """
    estimate, target = estimate.float() * valid, target.float() * valid
    present = target.square().sum(dim=1) > 0
    zero = estimate.sum() * 0.0
    scaled = waveform = spectrum = silence = zero
    hann = torch.hann_window(window, device=target.device)

    def magnitudes(x: Tensor) -> Tensor:
        made = torch.stft(x, window, hop, window=hann, center=True, pad_mode="constant", return_complex=True)
        return made.real.square() + made.imag.square()

    power = magnitudes(target)
    if present.any():
        heard, made = target[present], estimate[present]
        along = (made * heard).sum(dim=1, keepdim=True) / (heard.square().sum(dim=1, keepdim=True) + _EPSILON) * heard
        energy = along.square().sum(dim=1) + WORST * made.square().sum(dim=1)
        scaled = _ratio((made - along).square().sum(dim=1), energy)
        waveform = _ratio((heard - made).square().sum(dim=1), heard.square().sum(dim=1))
        wanted = (power[present] + _EPSILON) ** (_COMPRESSION / 2)
        found = (magnitudes(made) + _EPSILON) ** (_COMPRESSION / 2)
        spectrum = _ratio((wanted - found).square().sum(dim=(1, 2)), wanted.square().sum(dim=(1, 2)))
    if not present.all():
        mixed = (mixture.float() * valid)[~present].square().sum(dim=1)
        silence = _ratio(estimate[~present].square().sum(dim=1), mixed)
    energy = power.sum(dim=1)
    speaks = energy > _PAUSE * energy.amax(dim=1, keepdim=True) + _EPSILON
    inside = valid[:, ::hop][:, : logits.shape[1]]
    size = min(logits.shape[1], speaks.shape[1], inside.shape[1])
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[:, :size].float(), speaks[:, :size].float(), reduction="none"
    )
    activity = entropy[inside[:, :size]].mean()
    return ExtractionLoss(scaled, waveform, spectrum, silence, activity)


def _ratio(error: Tensor, energy: Tensor) -> Tensor:
    """Return the mean ratio in dB of energies ``[B]``, bounded below."""
    return 10.0 * torch.log10((error + BOUND * energy + _EPSILON) / (energy + _EPSILON)).mean()
