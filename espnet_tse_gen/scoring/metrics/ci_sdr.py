"""Convolution-invariant SDR by the package ``ci_sdr``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from espnet_tse_gen.scoring.items import Item
from espnet_tse_gen.scoring.metrics.base import Metric, decibels


@dataclass(frozen=True)
class CISDR(Metric):
    """SDR that allows a filter of 512 taps."""

    columns = (decibels("CI_SDR", "CI-SDR", "convolution-invariant SDR, which tolerates a short delay or filter"),)
    packages = ("ci_sdr",)
    instead = "choose --preset generative"

    def score(self, item: Item) -> dict[str, float]:
        import ci_sdr
        import torch

        target, output = (torch.from_numpy(one.astype(np.float64))[None] for one in (item.target, item.output))
        return {"CI_SDR": float(ci_sdr.pt.ci_sdr(target, output, compute_permutation=False))}
