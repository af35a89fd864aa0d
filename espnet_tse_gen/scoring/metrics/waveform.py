"""SI-SDR as it is, after the codec's constant delay, and against the mixture; the level; CI-SDR."""

from dataclasses import dataclass

import numpy as np

from espnet_tse_gen.scoring.items import Item
from espnet_tse_gen.scoring.metrics.base import Column, Metric, decibels
from espnet_tse_gen.scoring.signal import align, energy_ratio_db, is_silent, si_sdr


@dataclass(frozen=True)
class Waveform(Metric):
    """Compares waveforms, of which the output lags by ``delay`` samples (negative: leads)."""

    delay: int = 0

    columns = (
        decibels("SI_SDR", "SI-SDR", "scale-invariant signal-to-distortion ratio of the output as it is"),
        decibels(
            "SI_SDR_aligned",
            "SI-SDR aligned",
            "SI-SDR after undoing the one constant delay of the codec; equal to SI-SDR where that delay is 0",
        ),
        decibels("SI_SDRi", "SI-SDRi", "aligned SI-SDR minus the SI-SDR of the unprocessed mixture"),
        Column("level", "level", "dB", 1, "", "energy of the output relative to the clean target"),
    )

    def score(self, item: Item) -> dict[str, float]:
        raw = aligned = si_sdr(item.target, item.output)
        target, output = align(item.target, item.output, self.delay)
        # Cropping by the delay may leave nothing of a signal that has its only samples at the very edge.
        if self.delay and not is_silent(target) and not is_silent(output):
            aligned = si_sdr(target, output)
        row = {"SI_SDR": raw, "SI_SDR_aligned": aligned, "level": energy_ratio_db(item.output, item.target)}
        if not is_silent(item.whole.mixture):
            row["SI_SDRi"] = aligned - si_sdr(item.target, item.whole.mixture)
        return row


@dataclass(frozen=True)
class CISDR(Metric):
    """SDR that allows a filter of 512 taps, by the package ``ci_sdr``."""

    columns = (decibels("CI_SDR", "CI-SDR", "convolution-invariant SDR, which tolerates a short delay or filter"),)
    packages = ("ci_sdr",)
    instead = "choose --preset generative"

    def score(self, item: Item) -> dict[str, float]:
        import ci_sdr
        import torch

        target, output = (torch.from_numpy(one.astype(np.float64))[None] for one in (item.target, item.output))
        return {"CI_SDR": float(ci_sdr.pt.ci_sdr(target, output, compute_permutation=False))}
