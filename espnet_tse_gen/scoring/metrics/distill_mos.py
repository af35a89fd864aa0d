"""Distill-MOS (Stahl and Gamper 2025), a quality estimate without reference, by ``distillmos``, whose wheel holds the weights."""

from __future__ import annotations

import contextlib
import functools
import io
from dataclasses import dataclass
from typing import Any

from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.scoring.items import Item
from espnet_tse_gen.scoring.metrics.base import Metric, opinion
from espnet_tse_gen.scoring.networks import RATE, NetworkChoice, describe


@dataclass(frozen=True)
class DistillMOS(Metric):
    """One overall figure: segments of 7.68 s at most 1 s apart, each at its own peak, shorter ones filled with zeros."""

    network: NetworkChoice

    columns = (opinion("distill_mos", "Distill-MOS", "Distill-MOS overall quality, without reference"),)
    packages = ("distillmos",)
    instead = "leave out --networks distill_mos"

    def describe(self) -> str:
        return describe(self.network)

    def score(self, item: Item) -> dict[str, float]:
        import torch

        with torch.no_grad():
            wave = torch.from_numpy(resample(item.output, item.rate, RATE))[None].to(self.network.device)
            return {"distill_mos": float(_network(self.network.device)(wave))}


@functools.cache
def _network(device: str) -> Any:
    # The package prints where its weights are.
    with contextlib.redirect_stdout(io.StringIO()):
        import distillmos

        return distillmos.ConvTransformerSQAModel().eval().to(device)
