"""Speaker similarity and confusion: cosines between embeddings of the output and of the clean speech, by one encoder.

All signals are brought to one level before they are embedded, as voice detection and features of an encoder depend on it.
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

    Returns:
        What gives the embedding ``[D]`` of a recording, float ``[L]``, at a rate; ``None`` if it is too short. Nothing is cut
        off, whatever ``trim`` says, as in published evaluations and in ESPnet's training.

    Raises:
        UserError: If a package or a file is missing, or a file is damaged.
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
