"""Exp directories as the doors see them: where a model is, which checkpoint to take, how to open a packed one, what it is.

A model is a directory with ``config.yaml``, at least one ``*.pth`` or ``*.safetensors`` and, if it is a masked generative one,
``codec/`` (what training leaves, or what ``pack`` makes); :func:`open_model` finds it.
"""

import contextlib
import os
import re
import tempfile
import textwrap
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.discriminative.registry import is_discriminative
from espnet_tse_gen.inference.options import SegmentOptions
from espnet_tse_gen.utils.errors import UserError, unknown_name, warn
from espnet_tse_gen.utils.files import is_lfs_pointer, read_yaml
from espnet_tse_gen.utils.hub import cached, parse_tag, snapshot
from espnet_tse_gen.utils.model_files import PACKED, WEIGHTS, find_checkpoint
from espnet_tse_gen.utils.options import Options

SHIPPED = Path(__file__).resolve().parents[1] / "pretrained"
DEFAULT_MODEL = "dual_path_16k"
CONFIG = "config.yaml"
DECODE = "decode.yaml"
CARD = "README.md"


@dataclass(frozen=True)
class ModelDir:
    """An open model: its directory, and its configuration, read once."""

    path: Path
    config: dict[str, Any]

    @property
    def is_discriminative(self) -> bool:
        """Whether the model turns waveforms into waveforms; otherwise it is a masked generative one."""
        return is_discriminative(self.config)

    def checkpoint(self, model_file: str | Path | None = None) -> Path:
        """Return the checkpoint, see :func:`find_checkpoint`."""
        return find_checkpoint(self.path, model_file)

    def load(self, model_file: str | Path | None = None, device: str = "cpu") -> Any:
        """Return the model in evaluation mode, an ``ExtractionNetwork`` or a ``MaskedTSEModel``."""
        if self.is_discriminative:
            from espnet_tse_gen.discriminative.build import load_model
        else:
            from espnet_tse_gen.inference.front_end import load_model  # type: ignore[assignment]
        return load_model(self.path / CONFIG, self.checkpoint(model_file), device)

    def options(self, decode: Any = None) -> Any:
        """Return the options of the model's kind that ``decode`` names, by default its own; see :meth:`Options.resolve`."""
        own = self.path / DECODE
        kind: type[Options] = SegmentOptions if self.is_discriminative else DecodingOptions
        return kind.resolve(own if decode is None and own.is_file() else decode)

    @property
    def card(self) -> str:
        """The card without what only the hub reads, or nothing where there is none."""
        return re.sub(r"\A---\n.*?\n---\n+", "", self.text(CARD), flags=re.DOTALL)

    def text(self, name: str) -> str:
        """Return a text file of the directory, or nothing where it is not there."""
        path = self.path / name
        return path.read_text(encoding="utf-8") if path.is_file() else ""


def shipped_models() -> dict[str, Path]:
    """Return the models inside the package, by name."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob(f"*/{CONFIG}"))}


@contextlib.contextmanager
def open_model(where: str | Path) -> Iterator[ModelDir]:
    """Give a model's directory; one that had to be unpacked is removed when the block ends.

    ``where`` is an exp directory, a zip file made by ``pack``, the name of a shipped model, which comes first (``./NAME`` is a
    folder of that name), or else ``ORG/NAME`` or ``ORG/NAME@REVISION`` of the Hugging Face hub, in the cache of
    ``huggingface_hub`` or fetched. Where there is a folder ``ORG``, ``ORG/NAME`` is a path: nobody is asked for a mistyped one.

    Raises:
        UserError: If there is no such model, or it is not a model.
    """
    try:
        path, shipped = Path(where), shipped_models().get(str(where))
    except TypeError:
        raise UserError(f"model {where!r}: expected an exp directory, a zip file or a name as text") from None
    if shipped is not None:
        # Also where a folder, such as one with outputs of that model, has the same name.
        if (path / CONFIG).is_file():
            warn(f"{where}: the model of this name that ships is used; write ./{where} for the folder")
        yield _checked(shipped)
    elif path.is_dir():
        yield _checked(path)
    elif path.is_file():
        if is_lfs_pointer(path):
            raise UserError(f"{path}: is a pointer of Git LFS in the place of the model; run 'git lfs pull'")
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path}: is neither an exp directory nor a zip file made by pack; give its directory")
        with tempfile.TemporaryDirectory(prefix="tse_gen_") as temporary:
            yield _checked(_unpack(path, Path(temporary)))
    elif isinstance(where, str) and (tag := parse_tag(where)) and (tag[1] or not os.path.isdir(path.parts[0])):
        try:
            folder = _of_hub(*tag)
        except UserError as fault:
            raise UserError(
                f"{where}: no such exp directory or zip file; as a model of the Hugging Face hub: {fault}"
            ) from None
        yield _checked(folder)
    elif os.sep in str(where) or path.suffix:
        hint = f"; a model of the Hugging Face hub would be {where}@main" if parse_tag(str(where)) else ""
        raise UserError(f"{where}: no such exp directory or zip file; train a model first or correct the path{hint}")
    else:
        error = unknown_name("model", str(where), shipped_models() or ["none ships with this installation"])
        raise UserError(f"{error}; or give an exp directory or a packed zip file") from None


def _of_hub(repository: str, revision: str) -> Path:
    # Weights of whatever else is there may be large: is it a model of this package?
    folder = snapshot(repository, revision, [CONFIG])
    if (folder / CONFIG).is_file():
        folder = snapshot(repository, folder.name, PACKED)
    if not all((folder / name).is_file() for name in (CONFIG, WEIGHTS)):
        raise UserError(f"it is none that 'tse-gen pack' made (no {CONFIG} and {WEIGHTS})")
    return folder


def _checked(directory: Path) -> ModelDir:
    if not (directory / CONFIG).is_file():
        raise UserError(f"{directory}: is not an exp directory (no {CONFIG}); give the directory that training made")
    return ModelDir(directory, read_yaml(directory / CONFIG))


def _unpack(archive: Path, directory: Path) -> Path:
    try:
        with zipfile.ZipFile(archive) as packed:
            for name in packed.namelist():
                if name.startswith("/") or ".." in name.split("/") or "\\" in name:
                    raise UserError(f"{archive}: holds a file outside of it ('{name}'); pack it again")
            packed.extractall(directory)
    except UserError:
        raise
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError) as error:
        raise UserError(f"{archive}: is damaged ({error}); copy it again") from None
    # Also of a folder, as other programs make a zip file.
    found = [*directory.glob(CONFIG)] or [*directory.glob(f"*/{CONFIG}")]
    if len(found) != 1:
        raise UserError(f"{archive}: holds no {CONFIG}; give a zip file made by pack")
    return found[0].parent


def list_models() -> str:
    """Return the models and codecs that ship, and others in the caches of this user: kind, rate, size, and data."""
    told = []
    for name, path in shipped_models().items():
        model = _checked(path)
        kind = "discriminative model" if model.is_discriminative else "masked generative model"
        facts = f"{name}: {kind}, {model.config['sample_rate']} Hz, {_megabytes(*path.rglob('*'))}"
        told.append(facts + (", the default" if name == DEFAULT_MODEL else "") + _card_facts(model.card))
    for path in (config.parent for config in sorted(SHIPPED.glob("*/codec.yaml"))):
        told.append(f"{path.name}: codec, {_megabytes(*path.rglob('*'))}{_card_facts(ModelDir(path, {}).card)}")
    from espnet_tse_gen.codec.dac import RELEASES
    from espnet_tse_gen.codec.encodec import cached_file

    released = {f"dac at {rate} Hz": release.file.path for rate, release in RELEASES.items()}
    for name, path in {**released, "encodec at 24000 Hz": cached_file()}.items():
        if path.is_file():
            told.append(f"{name}: weights of a codec, {_megabytes(path)}, in {path}")
    for name, path in cached(CONFIG).items():
        # The cache holds other programs' repositories, too, whose configurations may be anything.
        with contextlib.suppress(UserError):
            if (path / WEIGHTS).is_file() and "extractor_conf" in (model := _checked(path)).config:
                facts = f"{name}: model of the Hugging Face hub, {_megabytes(*path.rglob('*'))}, in {path}"
                told.append(facts + _card_facts(model.card))
    return "\n".join(told) + "\n"


def _megabytes(*files: Path) -> str:
    return f"{sum(file.stat().st_size for file in files if file.is_file()) / 1e6:.1f} MB"


def _card_facts(card: str) -> str:
    """Return the lines of a card that say what a model is worth, on what it was trained, and under which licence it is."""
    found = re.findall(r"^(?:- |\| )(Figures|Data|Licen[cs]e[^:|\n]*?)(?::| \|) (.*(?:\n  .*)*)", card, re.MULTILINE)
    return "".join(f"\n    {label}: {textwrap.shorten(text.strip(' |'), 240)}" for label, text in found)


def describe_model(model: str | Path, model_file: str | None = None) -> str:
    """Return what a model is: checkpoint, :func:`model_facts`, decoding options, and its card."""
    with open_model(model) as directory:
        facts = {"Model": str(model), "Checkpoint": directory.checkpoint(model_file).name}
        facts |= model_facts(directory.load(model_file), directory.config)
        facts["Decoding"] = "; ".join((directory.text(DECODE) or "default").splitlines())
        card = directory.card
    lines = [f"{label.lower() + ':':11} {text}\n" for label, text in facts.items()]
    return "".join(lines).replace("`", "") + (f"\n{card}" if card else "")


def model_facts(model: Any, config: dict[str, Any]) -> dict[str, str]:
    """Return label and text of what a loaded model consists of: extractor, codec or rate, and front end."""
    extractor, size = config.get("extractor", "masked"), _size(model)
    facts = {"Extractor": f"`{extractor}`, {size} ({_settings(config.get('extractor_conf'))})"}
    codec, front_end = getattr(model, "codec", None), getattr(model, "front_end", None)
    if codec is not None:
        facts["Codec"] = (
            f"`{codec.name}`, {codec.sample_rate} Hz, {codec.frame_rate:g} frames/s, {codec.num_codebooks} codebooks x "
            f"{codec.codebook_size} entries, fingerprint `{codec.fingerprint()[:16]}`"
        )
    elif model.encoder is not None:
        encoder = f"`{config.get('encoder', 'stft')}` ({_settings(config.get('encoder_conf'))})"
        facts["Encoder and decoder"] = f"{encoder}, {model.sample_rate} Hz"
    else:
        facts["Rate"] = f"{model.sample_rate} Hz, waveform to waveform"
    if front_end is not None:
        facts["Front end"] = (
            f"`{front_end.config['extractor']}`, {_size(front_end)}, {front_end.model.sample_rate} Hz, fingerprint "
            f"`{front_end.fingerprint()[:16]}`; its estimate is one of the conditions"
        )
    return facts


def _size(module: Any) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f} M parameters"


def _settings(conf: dict[str, Any] | None) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted((conf or {}).items())) or "defaults"
