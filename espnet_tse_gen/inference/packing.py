"""Packing a trained model into one file that any of the doors opens: the exp directory without what only training needs.

The package holds ``config.yaml`` (without the paths of the machine it was trained on), ``model.safetensors``, the default
decoding options, a model card and, of a masked generative model, ``codec/`` and, where it has one, ``front_end/``, both
unchanged. The same input gives the same bytes.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save

from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.inference.loading import CARD, CONFIG, DECODE, open_model
from espnet_tse_gen.inference.options import SegmentOptions
from espnet_tse_gen.utils.checkpoints import read_checkpoint
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, read_yaml
from espnet_tse_gen.utils.model_files import WEIGHTS

KEPT = (
    "codec", "codec_conf", "encoder", "encoder_conf", "extractor", "extractor_conf", "decoder", "decoder_conf",
    "model_conf", "criterions", "preprocessor", "preprocessor_conf", "sample_rate", "ref_num", "seed",
    "max_epoch", "accum_grad", "grad_clip", "use_amp", "batch_type", "batch_size", "batch_bins", "optim", "optim_conf",
    "scheduler", "scheduler_conf", "best_model_criterion", "keep_nbest_models", "version",
)  # fmt: skip
"""Keys of a configuration that say what a model is and how it was trained; the others name files and machines."""
WIDE = ("_fingerprint", "running_mean", "running_var")
"""Ends of the names of what keeps 32 bits: a fingerprint is compared, not computed with, and variances may be tiny."""


def pack(
    where: str | Path,
    output: Path,
    model_file: str | None = None,
    half: bool = False,
    decode: str | None = None,
    results: Path | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> str:
    """Write the package of a model; return what was written.

    Args:
        where: The model, as :func:`open_model` takes it.
        output: A zip file, or a directory where the name lacks ``.zip``.
        model_file: Checkpoint; by default the best average that is there.
        half: Store weights with 16 bits.
        decode: Default decoding: a preset's name or a yaml file; by default the model's own.
        results: Table for the model card; by default the ``RESULTS.md`` of the model.
        name: The model's name on its card; by default that of ``output``.

    Raises:
        UserError: If the model is incomplete, what is packed does not fit together, or ``output`` is there.
    """
    if output.exists() and not overwrite:
        raise UserError(f"--output {output}: is there already; choose another name or add --overwrite true")
    with open_model(where) as model:
        directory, config = model.path, model.config
        checkpoint = model.checkpoint(model_file)
        decode = model.decode(decode)
        # Loading checks that configuration, codec and checkpoint belong together.
        packed = _discriminative if model.is_discriminative else _masked
        description, changed, files = packed(directory, checkpoint, config, decode)
        files[CONFIG] = _yaml({key: _without_paths(config[key]) for key in KEPT if key in config})
        files[WEIGHTS] = _weights(checkpoint, half)
        if decode is not None:
            files[DECODE] = _yaml({key: list(v) if isinstance(v, tuple) else v for key, v in changed.items()})
        if results is not None and not results.is_file():
            raise UserError(f"--results {results}: no such file")
        table = results or directory / "RESULTS.md"
        told = table.read_text(encoding="utf-8") if table.is_file() else ""
        origin = f"`{checkpoint.name}` of the training, stored with {16 if half else 32} bits"
        files[CARD] = _card(name or output.stem, output.name, description, origin, told).encode()
    (_write_zip if output.suffix == ".zip" else _write_directory)(output, files)
    size = sum(len(content) for content in files.values())
    return f"{output}: {len(files)} files, {size / 2**20:.1f} MiB before compression"


Packed = tuple[list[str], dict[str, Any], dict[str, bytes]]
"""Lines of the model card, decoding options that are not the defaults, and further files of the package."""


def _masked(directory: Path, checkpoint: Path, config: dict[str, Any], decode: str | Path | None) -> Packed:
    """Check a masked generative model, and return what is particular to it: its codec and the card's lines."""
    from espnet_tse_gen.inference.front_end import FRONT_END, load_model

    if not (directory / "codec").is_dir():
        raise UserError(f"{directory / 'codec'}: no such directory; copy the codec directory of the training there")
    model = load_model(directory / CONFIG, checkpoint)
    files: dict[str, bytes] = {}
    for part in ("codec", FRONT_END) if model.front_end is not None else ("codec",):
        if not (directory / part).is_dir():
            raise UserError(f"{directory / part}: no such directory; copy the {part} directory of the training there")
        for path in sorted((directory / part).iterdir()):
            if path.is_file() and not path.name.startswith("."):
                files[f"{part}/{path.name}"] = path.read_bytes()
    stored = read_yaml(directory / "codec" / "codec.yaml")
    origin = stored.pop("origin", None) or {}
    origin = {key: value for key, value in origin.items() if not key.endswith(("_scp", "_dir"))}
    files["codec/codec.yaml"] = _yaml({**stored, "origin": origin} if origin else stored)
    codec = model.codec
    description = [
        "A masked generative target speaker extractor for ESPnet (`espnet_tse_gen`): given a recording of several",
        "speakers and a few seconds of one of them, it predicts the tokens of a codec for that speaker alone.",
        "",
        _extractor_line(model, config, "masked"),
        f"- Codec: `{codec.name}`, {codec.sample_rate} Hz, {codec.frame_rate:g} frames/s, {codec.num_levels} levels x "
        f"{codec.codebook_size} entries, fingerprint `{codec.fingerprint()[:16]}`",
        *_front_end_line(model.front_end),
    ]
    return description, _changes(DecodingOptions.resolve(decode), DecodingOptions()), files


def _discriminative(directory: Path, checkpoint: Path, config: dict[str, Any], decode: str | Path | None) -> Packed:
    """Check a discriminative model, and return the card's lines."""
    from espnet_tse_gen.discriminative.build import load_model

    options = SegmentOptions.resolve(decode)
    model = load_model(directory / CONFIG, checkpoint)
    line = f"- {model.sample_rate} Hz, waveform to waveform"
    if model.encoder is not None:
        encoder = _settings(config.get("encoder_conf"))
        line = f"- Encoder and decoder: `{config.get('encoder', 'stft')}` ({encoder}), {model.sample_rate} Hz"
    description = [
        "A discriminative target speaker extractor for ESPnet (`espnet_tse_gen`): given a recording of several speakers",
        "and a few seconds of one of them, it estimates the waveform of that speaker alone.",
        "",
        _extractor_line(model, config, ""),
        line,
    ]
    return description, _changes(options, SegmentOptions()), {}


def _changes(options: Any, defaults: Any) -> dict[str, Any]:
    """Return the fields of ``options`` that are not as in ``defaults``."""
    return {name: value for name, value in vars(options).items() if value != vars(defaults)[name]}


def _settings(conf: dict[str, Any] | None) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted((conf or {}).items())) or "defaults"


def _extractor_line(model: Any, config: dict[str, Any], default: str) -> str:
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    settings = _settings(config.get("extractor_conf"))
    return f"- Extractor: `{config.get('extractor', default)}`, {parameters:.2f} M parameters ({settings})"


def _yaml(content: dict[str, Any]) -> bytes:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()


def _without_paths(value: Any) -> Any:
    """Return ``value`` without entries that are absolute paths."""
    if isinstance(value, dict):
        kept = {key: _without_paths(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if not (isinstance(item, str) and item.startswith("/"))}
    return value


def _weights(checkpoint: Path, half: bool) -> bytes:
    state = read_checkpoint(checkpoint)
    for name, value in state.items():
        stored = value.detach().clone().contiguous()
        narrowed = half and stored.is_floating_point() and not name.endswith(WIDE)
        state[name] = stored.half() if narrowed else stored
        if narrowed and not bool(torch.isfinite(state[name]).all()):
            raise UserError(f"{checkpoint}: weight '{name}' does not fit into 16 bits; pack it with --half false")
    return save(dict(state))


def _card(name: str, where: str, description: list[str], weights: str, results: str) -> str:
    lines = [
        f"# {name}",
        "",
        *description,
        f"- Weights: {weights}",
        "",
        "```",
        f"tse-gen extract mixture.wav --enroll enroll.wav -o voice.wav --model {where}",
        "```",
        "",
        "```python",
        "from espnet_tse_gen import TargetSpeakerExtractor",
        "",
        f'extractor = TargetSpeakerExtractor.from_pretrained("{where}")',
        "voice = extractor(mixture, enroll, sample_rate=16000)",
        "```",
    ]
    if results:
        lower = [f"#{line}" if line.startswith("#") else line for line in results.splitlines()]
        lines += ["", "## Results", "", *lower]
    return "\n".join(lines) + "\n"


def _front_end_line(front_end: Any) -> list[str]:
    if front_end is None:
        return []
    size = sum(parameter.numel() for parameter in front_end.parameters()) / 1e6
    network, rate = front_end.config["extractor"], front_end.model.sample_rate
    return [
        f"- Front end: `{network}`, {size:.2f} M parameters, {rate} Hz, fingerprint `{front_end.fingerprint()[:16]}`;"
        " its estimate is one of the conditions"
    ]


def _write_zip(output: Path, files: dict[str, bytes]) -> None:
    with atomic_write(output, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
        for name in sorted(files):
            # A fixed date and mode, so that the same model is the same file.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED, 6)


def _write_directory(output: Path, files: dict[str, bytes]) -> None:
    if output.is_file():
        raise UserError(f"--output {output}: is a file; choose a directory or a name that ends in .zip")
    partial = output.with_name(f".{output.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    for name in sorted(files):
        with atomic_write(partial / name, "wb") as stream:
            stream.write(files[name])
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
