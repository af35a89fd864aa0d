"""Speaker similarity and confusion: cosines between embeddings of the output and of the clean speech, by one encoder.

All signals are brought to one level before they are embedded, as voice detection and features of an encoder depend on it.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from espnet_tse_gen.audio.level import mixture_gain
from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.audio.speaker import SpeakerEncoder, cosine
from espnet_tse_gen.scoring.items import Item
from espnet_tse_gen.scoring.metrics.base import Column, Metric, share
from espnet_tse_gen.scoring.networks import RATE, NetworkChoice, describe, load_processor, load_transformer


class Encoder(Protocol):
    """A speaker encoder: a recording in, its voice as a vector out."""

    def embed(self, samples: np.ndarray, sample_rate: int, trim: str = "keep") -> np.ndarray | None:
        """Return the voice of ``samples``, ``[D]``, or ``None`` where there is none."""


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

    def describe(self) -> str:
        return describe(self.network) if self.network else ""

    def score(self, item: Item) -> dict[str, float]:
        encoder, suffix = _encoder(self.network), f"_{self.network.name}" if self.network else ""
        voices = item.whole.shared.setdefault(f"voices{suffix}", {})
        for number, clean in item.whole.references.items():
            if number not in voices:
                voices[number] = encoder.embed(_leveled(clean), item.rate)
        voice = encoder.embed(_leveled(item.output), item.rate, trim="drop")
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
def _encoder(network: NetworkChoice | None) -> Encoder:
    if network is None:
        return SpeakerEncoder()
    if network.name == "wavlm":
        return WavLMSpeaker(network.folder, network.device)
    from espnet_tse_gen.scoring.espnet_networks import ESPnetSpeaker

    return ESPnetSpeaker(network.folder, network.device)


class WavLMSpeaker:
    """Speaker encoder ``WavLMForXVector`` (Chen et al. 2022), with the preprocessing that its folder describes.

    Args:
        folder: ``config.json``, ``preprocessor_config.json`` and weights, as ``microsoft/wavlm-base-plus-sv`` has them.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        UserError: If ``transformers`` or a file is missing, or a file is damaged.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self._model = load_transformer("WavLMForXVector", folder, device)
        self._extractor = load_processor("Wav2Vec2FeatureExtractor", folder)
        self._device = device

    def embed(self, samples: np.ndarray, sample_rate: int, trim: str = "keep") -> np.ndarray | None:
        """Return the embedding ``[D]`` of ``samples``, float ``[L]``; ``None`` if they are too short.

        Nothing is cut off, whatever ``trim`` says, as in published evaluations.
        """
        import torch

        inputs = self._extractor(resample(samples, sample_rate, RATE), sampling_rate=RATE, return_tensors="pt")
        try:
            with torch.no_grad(), warnings.catch_warnings():
                # Of a statistics layer that gets a single frame, whose result is refused below.
                warnings.simplefilter("ignore")
                voice = self._model(inputs["input_values"].to(self._device)).embeddings[0].cpu().double()
        except (RuntimeError, ValueError):
            return None
        return voice.numpy() if bool(torch.isfinite(voice).all()) else None
