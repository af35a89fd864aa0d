"""Networks in the format of the ``transformers`` package: WavLM-SV, HuBERT for SpeechBERTScore, and Whisper.

Each is loaded from a folder, and only if the folder holds all of its weights.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from espnet_tse_gen.scoring.networks import RATE, check_weights, to_rate
from espnet_tse_gen.utils.errors import UserError, naming_extra

SPEECHBERTSCORE_LAYER = 11
WHISPER_SECONDS = 30.0
"""What Whisper hears at a time; a longer recording has no transcript."""
UNUSED = {"masked_spec_embed": "used in training", "hubert.masked_spec_embed": "", "wavlm.masked_spec_embed": ""}


class WavLMSpeaker:
    """Speaker encoder ``WavLMForXVector`` (Chen et al. 2022), with the preprocessing that its folder describes.

    Args:
        folder: ``config.json``, ``preprocessor_config.json`` and weights, as ``microsoft/wavlm-base-plus-sv`` has them.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        UserError: If ``transformers`` or a file is missing, or a file is damaged.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self._model = _load("WavLMForXVector", folder, device)
        self._extractor = _processor("Wav2Vec2FeatureExtractor", folder)
        self._device = device

    def embed(self, samples: np.ndarray, sample_rate: int, trim: str = "keep") -> np.ndarray | None:
        """Return the embedding ``[D]`` of ``samples``, float ``[L]``; ``None`` if they are too short.

        Nothing is cut off, whatever ``trim`` says, as in published evaluations.
        """
        import torch

        inputs = self._extractor(to_rate(samples, sample_rate), sampling_rate=RATE, return_tensors="pt")
        try:
            with torch.no_grad(), warnings.catch_warnings():
                # Of a statistics layer that gets a single frame, whose result is refused below.
                warnings.simplefilter("ignore")
                voice = self._model(inputs["input_values"].to(self._device)).embeddings[0].cpu().double()
        except (RuntimeError, ValueError):
            return None
        return voice.numpy() if bool(torch.isfinite(voice).all()) else None


class SpeechBERTScore:
    """SpeechBERTScore (Saeki et al. 2024), precision: how well each frame of the output is found in the reference.

    With features ``g`` of the output and ``r`` of the reference it is the mean over ``i`` of ``max_j cos(g_i, r_j)``.

    Args:
        folder: A HuBERT model's ``config.json`` and weights, as ``facebook/hubert-base-ls960`` has them.
        layer: Which hidden states are the features; 0 are the inputs of the first layer.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        UserError: If ``transformers`` or a file is missing, a file is damaged, or there is no such layer.
    """

    def __init__(self, folder: Path, layer: int = SPEECHBERTSCORE_LAYER, device: str = "cpu") -> None:
        self._model = _load("HubertModel", folder, device)
        if not 0 <= layer <= self._model.config.num_hidden_layers:
            raise UserError(
                f"{folder}: has {self._model.config.num_hidden_layers} layers; SpeechBERTScore takes layer {layer}"
            )
        self._layer, self._device = layer, device

    def compare(self, reference: np.ndarray, output: np.ndarray, sample_rate: int) -> float:
        """Return the score, -1..1; NaN if a recording is too short for one frame."""
        import torch

        first, second = (self._features(samples, sample_rate) for samples in (output, reference))
        if first is None or second is None:
            return float("nan")
        cosines = torch.nn.functional.normalize(first, dim=-1) @ torch.nn.functional.normalize(second, dim=-1).T
        return float(cosines.max(dim=1).values.mean())

    def _features(self, samples: np.ndarray, sample_rate: int) -> Any:
        import torch

        # The waveform as it is: the published tool does not normalise it either.
        wave = torch.from_numpy(to_rate(samples, sample_rate))[None].to(self._device)
        try:
            with torch.no_grad():
                return self._model(wave, output_hidden_states=True).hidden_states[self._layer][0].float()
        except (RuntimeError, ValueError):
            return None


class WhisperRecognizer:
    """Whisper (Radford et al. 2023), greedy, English.

    Args:
        folder: A Whisper model as ``openai/whisper-base`` has it: configs, tokenizer and weights.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        UserError: If ``transformers`` or a file is missing, or a file is damaged.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self._model = _load("WhisperForConditionalGeneration", folder, device)
        self._extractor = _processor("WhisperFeatureExtractor", folder)
        self._tokenizer = _processor("WhisperTokenizer", folder)
        self._device = device
        # An English-only model refuses to be told a language.
        several = bool(getattr(self._model.generation_config, "is_multilingual", False))
        self._options: dict[str, Any] = {"language": "en", "task": "transcribe"} if several else {}

    def __call__(self, samples: np.ndarray, sample_rate: int) -> str | None:
        """Return what is said in ``samples``, float ``[L]``; ``None`` if they are longer than Whisper's window."""
        import torch

        if len(samples) > WHISPER_SECONDS * sample_rate:
            return None
        wave = to_rate(samples, sample_rate)
        inputs = self._extractor(wave, sampling_rate=RATE, return_tensors="pt", return_attention_mask=True)
        with torch.no_grad():
            tokens = self._model.generate(
                inputs["input_features"].to(self._device),
                attention_mask=inputs["attention_mask"].to(self._device),
                do_sample=False,
                num_beams=1,
                **self._options,
            )
        return str(self._tokenizer.decode(tokens[0], skip_special_tokens=True)).strip()


def _load(name: str, folder: Path, device: str) -> Any:
    """Load a network of class ``name`` with all of its weights."""
    transformers = _transformers()
    try:
        model, report = getattr(transformers, name).from_pretrained(
            str(folder), local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # transformers raises errors of several libraries.
        raise UserError(f"{folder}: is no {name} that can be loaded ({_first_line(error)})") from None
    check_weights(report["missing_keys"], report["mismatched_keys"], folder, UNUSED)
    return model.to(device).eval()


def _processor(name: str, folder: Path) -> Any:
    """Load what prepares a network's inputs or reads its outputs."""
    try:
        return getattr(_transformers(), name).from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # As above.
        raise UserError(f"{folder}: has no usable {name} ({_first_line(error)})") from None


def _transformers() -> Any:
    with naming_extra("this network"):
        import transformers
    # It reports every load, in many lines.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
