"""SpeechBERTScore (Saeki et al. 2024), precision: how well each frame of the output is found in the reference.

With features ``g`` of the output and ``r`` of the reference it is the mean over ``i`` of ``max_j cos(g_i, r_j)``.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.scoring.items import Item
from espnet_tse_gen.scoring.metrics.base import Column, Metric
from espnet_tse_gen.scoring.networks import RATE, NetworkChoice, allow_too_short, load_transformer
from espnet_tse_gen.utils.errors import UserError

_MEANING = (
    "mean over the output's frames of the largest cosine to any frame of the clean target, features of a self-supervised network "
    "(the precision of Saeki et al. 2024)"
)


@dataclass(frozen=True)
class SpeechBERTScore(Metric):
    """By the hidden states of a HuBERT before layer ``layer``."""

    network: NetworkChoice
    layer: int = 11

    columns = (Column("SpeechBERTScore", "SpeechBERTScore", "", 3, "up", _MEANING),)

    def score(self, item: Item) -> dict[str, float]:
        return {"SpeechBERTScore": self.compare(item.target, item.output, item.rate)}

    def compare(self, reference: np.ndarray, output: np.ndarray, rate: int) -> float:
        """Return the score, -1..1; NaN if a recording is too short for one frame; a :class:`UserError` without the layer."""
        import torch

        first, second = self.features(output, rate), self.features(reference, rate)
        if first is None or second is None:
            return float("nan")
        cosines = torch.nn.functional.normalize(first, dim=-1) @ torch.nn.functional.normalize(second, dim=-1).T
        return float(cosines.max(dim=1).values.mean())

    def features(self, samples: np.ndarray, rate: int) -> Any:
        """Return the hidden states ``[T, D]``, or ``None`` of a recording that is too short."""
        import torch

        model = _network(self.network)
        layers = model.config.num_hidden_layers
        if not 0 <= self.layer <= layers:
            raise UserError(f"{self.network.locate()}: has {layers} layers; SpeechBERTScore takes layer {self.layer}")
        # The waveform as it is: the published tool does not normalise it either.
        wave = torch.from_numpy(resample(samples, rate, RATE))[None].to(self.network.device)
        with allow_too_short(samples, rate):
            return model(wave, output_hidden_states=True).hidden_states[self.layer][0].float()
        return None


@functools.lru_cache(maxsize=1)
def _network(choice: NetworkChoice) -> Any:
    return load_transformer("HubertModel", choice.locate(), choice.device)
