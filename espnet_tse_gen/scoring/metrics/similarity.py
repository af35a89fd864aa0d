"""Similarities of the output and the clean speech to a network: of the voices as a whole, and of frames.

Speaker similarity and confusion are cosines between embeddings by one encoder. All signals are brought to one level before they
are embedded, as voice detection and features of an encoder depend on it.

SpeechBERTScore (Saeki et al. 2024), precision, is how well each frame of the output is found in the reference: with features
``g`` of the output and ``r`` of the reference the mean over ``i`` of ``max_j cos(g_i, r_j)``.
"""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_tse_gen.audio.level import mixture_gain
from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.audio.speaker import SpeakerEncoder, cosine
from espnet_tse_gen.scoring.espnet_networks import espnet_speaker
from espnet_tse_gen.scoring.items import Item
from espnet_tse_gen.scoring.metrics.base import Column, Metric, share
from espnet_tse_gen.scoring.networks import RATE, NetworkChoice, allow_too_short, load_part, load_transformer
from espnet_tse_gen.utils.errors import UserError


def _columns(suffix: str, name: str, encoder: str) -> tuple[Column, ...]:
    by = f" by {encoder}" if suffix else ""
    meanings = (
        f"{encoder} cosine between output and clean target",
        f"{encoder} cosine between output and clean interferer (the nearest one)",
        f"share of outputs that are closer to the interferer than to the target{by}",
    )
    return (
        Column(f"similarity{suffix}", f"similarity{name}", "", 3, "up", meanings[0]),
        Column(f"similarity_interferer{suffix}", f"similarity{name} to interferer", "", 3, "down", meanings[1]),
        share(f"confused{suffix}", f"confusion{name}", "down", meanings[2]),
    )


@dataclass(frozen=True)
class Similarity(Metric):
    """By Resemblyzer, or by the encoder ``network``; an output in which it hears no voice has similarity 0."""

    network: NetworkChoice | None = None

    columns = (
        *_columns("", "", "Resemblyzer"),
        *_columns("_wavlm", " WavLM", "WavLM-SV"),
        *_columns("_espnet_spk", " ESPnet-SPK", "an ESPnet speaker model's"),
    )
    packages = ("resemblyzer", "pkg_resources")

    def check(self) -> None:
        if self.network is None:
            super().check()

    def score(self, item: Item) -> dict[str, float]:
        embed, suffix = _encoder(self.network), f"_{self.network.name}" if self.network else ""
        voices = item.whole.shared.setdefault(f"voices{suffix}", {})
        for number, clean in item.whole.references.items():
            if number not in voices:
                voices[number] = embed(_leveled(clean), item.rate)
        voice = embed(_leveled(item.output), item.rate, trim="drop")
        cosines = {number: cosine(voice, other) for number, other in voices.items()}
        target = cosines.pop(item.number)
        row = {f"similarity{suffix}": target}
        if cosines:
            nearest = max(cosines.values())
            row |= {f"similarity_interferer{suffix}": nearest, f"confused{suffix}": float(nearest > target)}
        return row


def _leveled(samples: np.ndarray) -> np.ndarray:
    return samples * np.float32(mixture_gain(samples))


@functools.lru_cache(maxsize=4)
def _encoder(network: NetworkChoice | None) -> Callable[..., np.ndarray | None]:
    return network_embedding(network) if network else SpeakerEncoder().embed


def network_embedding(network: NetworkChoice) -> Callable[..., np.ndarray | None]:
    """Load a speaker encoder: WavLM-SV (Chen et al. 2022) of ``transformers``, or a model of ESPnet's speaker task.

    It gives the embedding ``[D]`` of a recording, float ``[L]``, at a rate; ``None`` if it is too short. Nothing is cut off,
    whatever ``trim`` says, as in published evaluations and in ESPnet's training.
    """
    voice_of = (_wavlm if network.name == "wavlm" else espnet_speaker)(network.locate(), network.device)

    def embed(samples: np.ndarray, sample_rate: int, trim: str = "keep") -> np.ndarray | None:
        import torch

        with allow_too_short(samples, sample_rate), warnings.catch_warnings():
            # Of a statistics layer that gets a single frame, whose result is refused below.
            warnings.simplefilter("ignore")
            voice = voice_of(samples, sample_rate).cpu().double()
            return voice.numpy() if bool(torch.isfinite(voice).all()) else None
        return None

    return embed


def _wavlm(folder: Path, device: str) -> Callable[[np.ndarray, int], Any]:
    """Load ``WavLMForXVector`` with the preprocessing that its folder describes."""
    model = load_transformer("WavLMForXVector", folder, device)
    extractor = load_part("Wav2Vec2FeatureExtractor", folder)

    def voice(samples: np.ndarray, sample_rate: int) -> Any:
        inputs = extractor(resample(samples, sample_rate, RATE), sampling_rate=RATE, return_tensors="pt")
        return model(inputs["input_values"].to(device)).embeddings[0]

    return voice


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

        model = _hubert(self.network)
        layers = model.config.num_hidden_layers
        if not 0 <= self.layer <= layers:
            raise UserError(f"{self.network.locate()}: has {layers} layers; SpeechBERTScore takes layer {self.layer}")
        # The waveform as it is: the published tool does not normalise it either.
        wave = torch.from_numpy(resample(samples, rate, RATE))[None].to(self.network.device)
        with allow_too_short(samples, rate):
            return model(wave, output_hidden_states=True).hidden_states[self.layer][0].float()
        return None


@functools.lru_cache(maxsize=1)
def _hubert(choice: NetworkChoice) -> Any:
    return load_transformer("HubertModel", choice.locate(), choice.device)
