"""A discriminative extractor as the frozen front end of the masked generative one, at any rate."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from espnet_tse_gen.discriminative.build import ExtractionNetwork
from espnet_tse_gen.discriminative.halves import halves_of
from espnet_tse_gen.masked.abs_front_end import AbsFrontEnd, Estimate

PARTS = ("encoder", "extractor", "decoder")
KEPT = (*(key for part in PARTS for key in (part, f"{part}_conf")), "model_conf", "sample_rate")
"""Keys of a training configuration from which its model is built."""
SHORTEST_SECONDS = 0.1
"""Shorter recordings are filled up with silence: networks cannot be applied to less than a few of their windows."""
ZEROS = 6
"""Zero crossings of the filter on each side."""
ROLL_OFF = 0.99
"""Where the pass band ends, as a share of the lower Nyquist frequency."""


class DiscriminativeFrontEnd(AbsFrontEnd):
    """Any discriminative extractor, trained by this package or by ESPnet, with ``sample_rate`` Hz of the codec.

    The model becomes frozen; one that takes something else than an enrolment's recording is a :class:`UserError`. A network
    of another rate hears resampled recordings; the estimate of a lower one has nothing above its Nyquist frequency.
    """

    def __init__(self, model: ExtractionNetwork, config: Mapping[str, Any], sample_rate: int) -> None:
        super().__init__()
        self.model = model
        self.config = {key: config[key] for key in KEPT if config.get(key) is not None}
        self.sample_rate = sample_rate
        self._halves = halves_of(model)
        self.feature_width = getattr(model.extractor, "feature_width", 0)
        self.feature_rate = model.sample_rate / self._halves.hop
        self.freeze()

    def conf(self) -> dict[str, Any]:
        """Return the network's parts and their options, and its rate."""
        parts = {part: [self.config.get(part), self.config.get(f"{part}_conf") or {}] for part in PARTS}
        return {**parts, "sample_rate": self.model.sample_rate}

    def estimate(self, mixture: Tensor, lengths: Tensor, enroll: Tensor, enroll_lengths: Tensor) -> Estimate:
        """Return the network's estimate ``[B, about L]`` and its features; see :class:`AbsFrontEnd`."""
        own, rate = self.model.sample_rate, self.sample_rate
        # The network's Python code looks at lengths; on a GPU each look would wait for all that is under way.
        mixed, sizes = _at_rate(mixture, lengths.cpu(), rate, own)
        enrolled, enroll_sizes = _at_rate(enroll, enroll_lengths.cpu(), rate, own)
        each = [[row[:size]] for row, size in zip(enrolled, enroll_sizes.tolist(), strict=True)]
        enrolments = self._halves.enroll(each)
        wav, features = torch.zeros_like(mixed), None
        if self.feature_width:
            features = wav.new_zeros(len(wav), wav.shape[1] // self._halves.hop + 1, self.feature_width)
        for rows, size in self._together(sizes):
            made = self._halves.extract(mixed[rows, :size], sizes[rows], [enrolments[row] for row in rows])
            extracted = made.waveforms[:, :size]
            wav[rows, : extracted.shape[1]] = extracted.to(wav.dtype)
            if features is not None and made.features is not None:
                own_frames = made.features.flatten(2).to(wav.dtype)
                features[rows, : own_frames.shape[1]] = own_frames
                # What lies beyond a recording may count for its last frame: as alone, its last feature.
                features[rows, own_frames.shape[1] :] = own_frames[:, -1:]
        return Estimate(_at_rate(_silenced(wav, sizes), sizes, own, rate)[0], features)

    def _together(self, sizes: Tensor) -> Iterator[tuple[list[int], int]]:
        """Yield rows that can be computed together and their greatest length: all, or those of one length each."""
        lengths = sizes.tolist()
        if self._halves.padding_exact:
            yield list(range(len(lengths))), max(lengths)
            return
        for size in sorted(set(lengths)):
            yield [row for row, length in enumerate(lengths) if length == size], size


def _at_rate(wav: Tensor, lengths: Tensor, rate: int, wanted: int) -> tuple[Tensor, Tensor]:
    """Return recordings ``[B, L]`` and their lengths at another rate, as long as networks need, silent in the padding."""
    if rate != wanted:
        wav = resample(wav, rate, wanted)
        lengths = torch.div(lengths * wanted + rate - 1, rate, rounding_mode="floor")
        wav = _silenced(wav, lengths)
    lengths = lengths.clamp_min(round(SHORTEST_SECONDS * wanted))
    return F.pad(wav, (0, max(0, int(lengths.max()) - wav.shape[1]))), lengths


def _silenced(wav: Tensor, lengths: Tensor) -> Tensor:
    """Return ``wav [B, L]`` with silence beyond each row's length."""
    return wav * (torch.arange(wav.shape[1]) < lengths[:, None]).to(wav.device)


def resample(wav: Tensor, rate: int, wanted: int) -> Tensor:
    """Return waveforms ``[B, L]`` at another rate, ``[B, ceil(L * wanted / rate)]``.

    On the CPU or a GPU, in any precision. A sinc filter under a Hann window, one phase of it for each output sample of a
    period: what torchaudio does by default.
    """
    divisor = math.gcd(rate, wanted)
    step, phases = rate // divisor, wanted // divisor
    cutoff = ROLL_OFF * min(step, phases)
    reach = math.ceil(ZEROS * step / cutoff)
    places = torch.arange(-reach, reach + step, dtype=wav.dtype, device=wav.device) / step
    outputs = torch.arange(0, -phases, -1, dtype=wav.dtype, device=wav.device)[:, None] / phases
    times = ((outputs + places) * cutoff).clamp(-ZEROS, ZEROS)
    window = torch.cos(times * math.pi / ZEROS / 2) ** 2
    filters = torch.sinc(times) * window * (cutoff / step)
    padded = F.pad(wav, (reach, reach + step))
    rows = F.conv1d(padded[:, None], filters[:, None], stride=step)
    return rows.transpose(1, 2).flatten(1)[:, : math.ceil(wav.shape[1] * wanted / rate)]
