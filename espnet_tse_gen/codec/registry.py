"""Codecs by name: build one from a yaml file, save it as a directory, load it again and check that it is the same.

A codec directory holds ``codec.yaml`` (``codec``, ``codec_conf``, ``fingerprint``) and, for a codec with weights,
``weights.pth``: all that later stages need.

    codec = build_codec("mel", {"sample_rate": 8000, "hop": 160, "n_fft": 512})
    save_codec(codec, "exp/codec_mel_8k")
    codec = load_codec("exp/codec_mel_8k")
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.utils.checkpoints import load_weights, read_checkpoint
from espnet_tse_gen.utils.errors import UserError, check_options, unknown_name
from espnet_tse_gen.utils.files import atomic_write, read_yaml, write_yaml
from espnet_tse_gen.utils.registry import built, chosen

CODECS: dict[str, str] = {
    "mini": "espnet_tse_gen.codec.mini:MiniCodec",
    "mel": "espnet_tse_gen.codec.mel:MelCodec",
    "encodec": "espnet_tse_gen.codec.encodec:EncodecCodec",
    "dac": "espnet_tse_gen.codec.dac:DacCodec",
    "transformers": "espnet_tse_gen.codec.transformers:TransformersCodec",
    "espnet": "espnet_tse_gen.codec.espnet:EspnetCodec",
}
"""Registry: name to ``module:Class``, imported when the name is chosen. A new family is one line here."""

PREFERRED, SHIPPED, NARROW = "dac_16k", "mini_16k", "mel_8k"
CODEC_YAML = "codec.yaml"
WEIGHTS = "weights.pth"


@dataclass(frozen=True)
class CodecConfig:
    """A file of ``conf/codec``."""

    codec: str  # name in the registry
    codec_conf: dict[str, Any] = field(default_factory=dict)  # arguments of the codec's constructor
    fit_conf: dict[str, Any] = field(default_factory=dict)  # arguments of `fit`, of a codec that is fitted
    weights: str | None = None  # file of released weights, for a codec that loads them; None looks in the cache


def codec_class(name: str) -> type[AbsCodec]:
    """Return the class of a registered codec."""
    return chosen("codec", name, CODECS)


def build_codec(name: str, conf: Mapping[str, Any] | None = None) -> AbsCodec:
    """Return a codec with the given constructor arguments and with weights that are not yet fitted or loaded.

    Raises:
        UserError: If the name or an option is unknown, or a value cannot be used.
    """
    return built(f"codec '{name}'", codec_class(name), conf or {})


def read_codec_config(path: str | Path) -> CodecConfig:
    """Read a file of ``conf/codec``; a ``UserError`` if it, a key in it or the codec's name cannot be used."""
    content = read_yaml(path)
    check_options(f"key in {path}", content, CodecConfig)
    if "codec" not in content:
        raise UserError(f"{path}: expected a key 'codec' with the name of a codec; valid: {', '.join(sorted(CODECS))}")
    for key in ("codec_conf", "fit_conf"):
        content[key] = content.get(key) or {}
        if not isinstance(content[key], dict):
            raise UserError(f"{path}: expected a mapping under '{key}', found {content[key]!r}")
    if content["codec"] not in CODECS:
        raise unknown_name(f"codec in {path}", str(content["codec"]), CODECS)
    return CodecConfig(**content)


def save_codec(
    codec: AbsCodec, directory: str | Path, origin: Mapping[str, Any] | None = None, half: bool = False
) -> None:
    """Write a codec directory. ``codec.yaml`` is written last: where it exists, the directory is complete.

    ``origin`` says how the weights were made, for the reader; ``half`` rounds them to half precision, also in memory.
    """
    directory = Path(directory)
    (directory / CODEC_YAML).unlink(missing_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in codec.state_dict().items()}
    if half:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
        codec.load_state_dict(state)
    if state:
        with atomic_write(directory / WEIGHTS, "wb") as stream:
            # The older format spends fewer bytes on each of many small tensors, and reads as well.
            torch.save(state, stream, _use_new_zipfile_serialization=not half)
    content: dict[str, Any] = {"codec": codec.name, "codec_conf": codec.conf(), "fingerprint": codec.fingerprint()}
    if origin:
        content["origin"] = dict(origin)
    write_yaml(directory / CODEC_YAML, content)


def load_codec(path: str | Path) -> AbsCodec:
    """Load a codec directory.

    Raises:
        UserError: If a file is missing or corrupt, or the weights are not those that ``codec.yaml`` was written with.
    """
    directory = Path(path)
    if not (directory / CODEC_YAML).is_file():
        raise UserError(f"{directory}: is not a codec directory (no {CODEC_YAML}); make it with 'tse-gen codec'")
    content = read_yaml(directory / CODEC_YAML)
    for key in ("codec", "codec_conf", "fingerprint"):
        if key not in content:
            raise UserError(f"{directory / CODEC_YAML}: key '{key}' is missing; make the directory again")
    codec = build_codec(content["codec"], content["codec_conf"])
    if codec.state_dict():
        weights = directory / WEIGHTS
        if not weights.is_file():
            raise UserError(f"{weights}: no such file; make the codec directory again")
        load_weights(codec, read_checkpoint(weights), f"{weights}: does not hold the weights of this codec")
    found = codec.fingerprint()
    if found != content["fingerprint"]:
        raise UserError(
            f"{directory}: weights or options are not those that {CODEC_YAML} was written with (fingerprint "
            f"{found[:12]}, expected {str(content['fingerprint'])[:12]}); copy the whole directory again"
        )
    return codec


def choose_codec(
    conf_dir: str, sample_rate: int, expdir: str | None = None, weights: str | None = None, download: bool = False
) -> tuple[Path, str]:
    """Return the file of ``conf_dir`` that ``--codec_config auto`` of a recipe stands for and, for the reader, why.

    For recordings at 16 kHz (``sample_rate``) it is DAC where that can be had, else the codec that ships. What a recipe has
    prepared in ``expdir`` (``codec_<name of the file>``) stays chosen unless ``weights``, a file for DAC, or ``download`` ask for
    DAC: a codec that becomes available between two runs must not turn the second into another experiment.

    Raises:
        UserError: If the chosen file is not there.
    """
    name, reason = _choose(sample_rate, expdir, weights, download)
    path = Path(conf_dir) / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"{path}: no such file; name one of {conf_dir} with --codec_config")
    return path, reason


def _choose(sample_rate: int, expdir: str | None, weights: str | None, download: bool) -> tuple[str, str]:
    if sample_rate < 16000:
        return NARROW, f"the recordings are at {sample_rate} Hz"
    for name in (PREFERRED, SHIPPED) if expdir else ():
        made = Path(str(expdir)) / f"codec_{name}" / CODEC_YAML
        if made.is_file() and (name == PREFERRED or not (weights or download)):
            return name, f"{made} is there"
    from espnet_tse_gen.codec.dac import RELEASES, dac_class

    try:
        dac_class()
    except UserError as error:
        if weights:
            raise
        return SHIPPED, f"it ships with the package; {error}"
    if weights:
        return PREFERRED, f"its weights are given by --weights {weights}"
    cache = RELEASES[16000].file.path
    if cache.is_file():
        return PREFERRED, f"its weights are in {cache}"
    if download:
        return PREFERRED, "its weights are to be fetched (--download true)"
    missing = f"the weights of {PREFERRED} are not in {cache}: fetch them with --codec_args '--download true'"
    return SHIPPED, f"it ships with the package; {missing}"
