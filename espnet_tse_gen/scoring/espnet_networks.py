"""Networks that ESPnet trained, for scoring: an ASR model that transcribes, a speaker model that embeds.

Both are taken from an exp directory as ESPnet's recipes leave it (``config.yaml``, ``valid.acc.ave.pth``), or from a
folder that a packed model was unpacked into (``meta.yaml`` names the files). ESPnet's own loader accepts weights that do
not fit and runs code that a checkpoint may hold; here the network is built without weights, and they are loaded
strictly, as weights only.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.fetch import file_sha256
from espnet_tse_gen.utils.files import read_yaml, write_yaml

CONFIG = "config.yaml"
CHECKPOINTS = ("valid.acc.ave.pth", "valid.acc.ave_*best.pth", "valid.*.ave.pth", "valid.*.best.pth", "*epoch.pth")
"""Which checkpoint is taken, the first pattern that is there."""
PATH_KEYS = ("bpemodel", "token_list", "non_linguistic_symbols", "normalize_conf.stats_file")
"""Entries of a training's configuration that name files which the network needs."""
DECODING: dict[str, type] = {
    "beam_size": int,
    "ctc_weight": float,
    "penalty": float,
    "maxlenratio": float,
    "minlenratio": float,
    "normalize_length": bool,
}
"""Options of recognition that may be given."""
BUILD_ERRORS = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, OSError, ImportError, AssertionError)
"""What ESPnet raises for a configuration that it cannot build a network of, ImportError for a package it lacks."""
DEFAULT_DECODING: dict[str, Any] = {"beam_size": 10, "ctc_weight": 0.3}


class ExpDir:
    """The files of a network that ESPnet trained.

    Args:
        folder: Exp directory, or a folder with ``meta.yaml``.
        model_file: Name of the checkpoint in it; by default the first of :data:`CHECKPOINTS`.

    Attributes:
        folder: As given.
        config: The configuration of the training.
        checkpoint: The checkpoint.

    Raises:
        UserError: If a file is missing.
    """

    def __init__(self, folder: str | Path, model_file: str | None = None) -> None:
        self.folder = Path(folder)
        config, checkpoint = self._packed()
        self.config = config or self.folder / CONFIG
        if not self.config.is_file():
            raise UserError(f"{self.config}: no such file; give the exp directory of a training of ESPnet")
        if model_file is not None:
            checkpoint = self.config.parent / model_file
        self.checkpoint = checkpoint or self._chosen()
        if not self.checkpoint.is_file():
            found = ", ".join(path.name for path in sorted(self.config.parent.glob("*.pth"))) or "none"
            raise UserError(f"{self.checkpoint}: no such checkpoint; there are: {found}")

    def _packed(self) -> tuple[Path | None, Path | None]:
        """Configuration and checkpoint that ``meta.yaml`` names."""
        if not (self.folder / "meta.yaml").is_file():
            return None, None
        meta = read_yaml(self.folder / "meta.yaml")
        files = [str(name) for kind in ("yaml_files", "files") for name in (meta.get(kind) or {}).values()]
        # An ASR pack may hold a language model too, whose files are named lm_*.
        config = next((name for name in files if Path(name).name == CONFIG and "/lm_" not in name), None)
        model = next((name for name in files if name.endswith(".pth") and "/lm_" not in name), None)
        if config is None or model is None:
            raise UserError(f"{self.folder / 'meta.yaml'}: names no config.yaml and checkpoint; unpack the model again")
        return self.folder / config, self.folder / model

    def _chosen(self) -> Path:
        for pattern in CHECKPOINTS:
            found = sorted(self.config.parent.glob(pattern))
            if found:
                return found[-1]
        return self.config.parent / CHECKPOINTS[0]

    def resolved_config(self) -> dict[str, Any]:
        """Return the configuration with the paths that matter as they are on this machine.

        A path is taken as it is, else relative to the folder or one above it, else as a file of that name beside
        ``config.yaml``.

        Raises:
            UserError: If such a file is nowhere.
        """
        config = read_yaml(self.config)
        for key in PATH_KEYS:
            holder, _, last = key.rpartition(".")
            table = config.get(holder) if holder else config
            if not isinstance(table, dict) or not isinstance(table.get(last), str):
                continue
            table[last] = str(self._find(key, table[last]))
        return config

    def _find(self, key: str, name: str) -> Path:
        above = [self.folder, *list(self.folder.absolute().parents)[:4]]
        for path in (Path(name), *(place / name for place in above), self.config.parent / Path(name).name):
            if path.is_file():
                return path.absolute()
        raise UserError(f"{self.config}: {key} is {name}, which is not there; put the file beside {self.config.name}")

    def describe(self) -> str:
        """Name the network: folder, checkpoint, and the hash of its weights."""
        return f"{self.config.parent.name}/{self.checkpoint.name} (SHA-256 {file_sha256(self.checkpoint)[:12]})"

    def stamp(self) -> str:
        """A digest of configuration and checkpoint, to tell whether results are still those of this network."""
        stat = self.checkpoint.stat()
        text = f"{self.config.read_text(encoding='utf-8')}{self.checkpoint.name} {stat.st_size} {stat.st_mtime_ns}"
        return hashlib.sha256(text.encode()).hexdigest()


def load_weights(model: Any, checkpoint: Path) -> None:
    """Load ``checkpoint`` into ``model``, a ``torch.nn.Module``: weights only, and exactly those that it has.

    Raises:
        UserError: If the file is damaged, holds other than weights, or does not fit.
    """
    import torch

    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{checkpoint}: is not a readable checkpoint of weights ({reason}); copy it again") from None
    if isinstance(state, dict) and isinstance(state.get("module"), dict):  # as DeepSpeed writes it
        state = state["module"]
    try:
        model.load_state_dict(state, strict=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{checkpoint}: does not fit the network of config.yaml beside it ({reason})") from None


def read_decoding(path: str | Path | None) -> dict[str, Any]:
    """Read options of recognition from a yaml, such as ESPnet's ``conf/decode_asr.yaml``; without one, the defaults.

    Raises:
        UserError: If it has an entry that is not in :data:`DECODING`, or of another type.
    """
    if path is None:
        return dict(DEFAULT_DECODING)
    options: dict[str, Any] = dict(DEFAULT_DECODING)
    for name, value in read_yaml(path).items():
        if name not in DECODING:
            raise unknown_name(f"option in {path}", str(name), DECODING)
        wanted = DECODING[name]
        if isinstance(value, bool) != (wanted is bool) or not isinstance(value, (int, float)):
            raise UserError(f"{path}: {name} is '{value}', expected {wanted.__name__}")
        options[name] = wanted(value)
    return options


class ESPnetRecognizer:
    """An ESPnet ASR model behind ``espnet2.bin.asr_inference.Speech2Text``, without a language model.

    Args:
        exp: Its files.
        decoding: Options of recognition, see :data:`DECODING`.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        UserError: If a file is missing or damaged, or it is no ASR model with tokens that make text.
    """

    def __init__(self, exp: ExpDir, decoding: Mapping[str, Any] | None = None, device: str = "cpu") -> None:
        from espnet_tse_gen.utils.quiet import import_quietly

        import_quietly()
        from espnet2.bin.asr_inference import Speech2Text

        config = exp.resolved_config()
        if "decoder" not in config or "token_type" not in config:
            raise UserError(f"{exp.config}: is not the configuration of an ASR training (no 'decoder' in it)")
        self.rate = _rate(config)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / CONFIG
            write_yaml(path, config)
            try:
                with _quiet():
                    self._model = Speech2Text(path, None, device=device, **{**DEFAULT_DECODING, **(decoding or {})})
            except BUILD_ERRORS as error:
                reason = " ".join(str(error).split())[:200]
                raise UserError(f"{exp.config}: no ASR model can be built from it ({reason})") from None
        if self._model.tokenizer is None:
            raise UserError(
                f"{exp.config}: token_type '{config['token_type']}' cannot be made text of; use bpe or char"
            )
        load_weights(self._model.asr_model, exp.checkpoint)
        self._model.asr_model.eval()

    def __call__(self, samples: np.ndarray, sample_rate: int) -> str | None:
        """Return what is said in ``samples``, float ``[L]``; ``None`` if the recording is too short for the network."""
        from espnet2.asr.encoder.conformer_encoder import TooShortUttError

        try:
            with _quiet():
                hypotheses = self._model(resample(samples, sample_rate, self.rate))
        except TooShortUttError:
            return None
        return str(hypotheses[0][0] or "") if hypotheses else ""


class ESPnetSpeaker:
    """A model of ESPnet's speaker task, as a speaker encoder.

    Args:
        folder: Exp directory, or a folder with ``meta.yaml``.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        UserError: If a file is missing or damaged, or it is no speaker model.
    """

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        from espnet_tse_gen.utils.quiet import import_quietly

        import_quietly()
        from espnet2.tasks.spk import SpeakerTask

        exp = ExpDir(folder)
        config = exp.resolved_config()
        if "projector" not in config:
            raise UserError(f"{exp.config}: is not the configuration of a speaker training (no 'projector' in it)")
        self.rate = int(config.get("sample_rate") or 16000)
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / CONFIG
            write_yaml(path, config)
            try:
                self._model, _ = SpeakerTask.build_model_from_file(path, None, device)
            except BUILD_ERRORS as error:
                reason = " ".join(str(error).split())[:200]
                raise UserError(f"{exp.config}: no speaker model can be built from it ({reason})") from None
        load_weights(self._model, exp.checkpoint)
        self._model.eval()
        self._device = device

    def embed(self, samples: np.ndarray, sample_rate: int, trim: str = "keep") -> np.ndarray | None:
        """Return the embedding ``[D]`` of ``samples``, float ``[L]``; ``None`` if they are too short.

        Nothing is cut off, whatever ``trim`` says: the network was trained with pauses.
        """
        import torch

        wave = torch.from_numpy(resample(samples, sample_rate, self.rate))[None].to(self._device)
        try:
            with torch.no_grad():
                voice = self._model(speech=wave, extract_embd=True)[0]
        except (RuntimeError, ValueError):
            return None
        return voice.cpu().numpy().astype(np.float64) if bool(torch.isfinite(voice).all()) else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what ESPnet logs of every network and of every beam search."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        root.setLevel(level)


def _rate(config: Mapping[str, Any]) -> int:
    """Sampling rate in Hz of the recordings that an ASR model takes; ESPnet writes 16000 or "16k"."""
    value = (config.get("frontend_conf") or {}).get("fs", 16000)
    text = str(value).strip().lower()
    return round(float(text[:-1]) * 1000) if text.endswith("k") else int(float(text))
