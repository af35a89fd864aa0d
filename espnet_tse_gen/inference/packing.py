"""Packing a trained model into one file that any of the doors opens: the exp directory without what only training needs.

The package holds ``config.yaml`` (without the paths of the machine it was trained on), ``model.safetensors``, the default
decoding options, a model card and, of a masked generative model, ``codec/`` and, where it has one, ``front_end/``, both
unchanged. The same input gives the same bytes. A repository of the Hugging Face hub can hold a directory of it as it is.
"""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save

from espnet_tse_gen.inference.front_end import FRONT_END
from espnet_tse_gen.inference.loading import CARD, CONFIG, DECODE, model_facts, open_model
from espnet_tse_gen.utils.checkpoints import read_checkpoint
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, read_text, read_yaml
from espnet_tse_gen.utils.hub import parse_tag
from espnet_tse_gen.utils.model_files import PACKED, WEIGHTS

KEPT = (
    "codec", "codec_conf", "encoder", "encoder_conf", "extractor", "extractor_conf", "decoder", "decoder_conf",
    "model_conf", "criterions", "preprocessor", "preprocessor_conf", "sample_rate", "ref_num", "seed",
    "max_epoch", "accum_grad", "grad_clip", "use_amp", "batch_type", "batch_size", "batch_bins", "optim", "optim_conf",
    "scheduler", "scheduler_conf", "best_model_criterion", "keep_nbest_models", "version",
)  # fmt: skip
"""Keys of a configuration that say what a model is and how it was trained; the others name files and machines."""
TAGS = ["audio", "speech", "espnet", "target-speaker-extraction", "speech-separation"]
WIDE = ("_fingerprint", "running_mean", "running_var")
"""Ends of the names of what keeps 32 bits: a fingerprint is compared, not computed with, and variances may be tiny."""


MASKED = """A masked generative target speaker extractor for ESPnet (`espnet_tse_gen`): given a recording of several
speakers and a few seconds of one of them, it predicts the tokens of a codec for that speaker alone."""
DISCRIMINATIVE = """A discriminative target speaker extractor for ESPnet (`espnet_tse_gen`): given a recording of several speakers
and a few seconds of one of them, it estimates the waveform of that speaker alone."""


def pack(
    where: str | Path,
    output: Path,
    model_file: str | None = None,
    half: bool = False,
    decode: str | None = None,
    results: Path | None = None,
    name: str | None = None,
    license: str = "unknown",
    overwrite: bool = False,
) -> str:
    """Write the package of a model; return what was written.

    Args:
        where: The model, as :func:`open_model` takes it.
        output: A zip file, or a directory where the name lacks ``.zip``.
        half: Store weights with 16 bits.
        decode: Default decoding: a preset's name or a yaml file; by default the model's own.
        results: Table for the model card; by default the ``RESULTS.md`` of the model.
        name: On its card; ``ORG/NAME`` is that of the hub, which the examples take from there; by default that of ``output``.
        license: That of the weights, as the hub calls it.

    Raises:
        UserError: If the model is incomplete, what is packed does not fit together, or ``output`` is there.
    """
    output = output.resolve()
    if output.exists() and not overwrite:
        raise UserError(f"--output {output}: is there already; choose another name or add --overwrite true")
    if results is not None and not results.is_file():
        raise UserError(f"--results {results}: no such file; run the stage that makes it, or correct the path")
    with open_model(where) as opened:
        _check_place(output, opened.path.resolve())
        checkpoint, config, options = opened.checkpoint(model_file), opened.config, opened.options(decode)
        # Loading checks that configuration, codec and checkpoint belong together.
        model = opened.load(model_file)
        files = {} if opened.is_discriminative else _parts(opened.path, model.front_end is not None)
        files[CONFIG] = _yaml({key: _without_paths(config[key]) for key in KEPT if key in config})
        files[WEIGHTS] = _weights(checkpoint, half)
        if decode is not None or (opened.path / DECODE).is_file():
            defaults = vars(type(options)())
            changed = {key: value for key, value in vars(options).items() if value != defaults[key]}
            files[DECODE] = _yaml({key: list(v) if isinstance(v, tuple) else v for key, v in changed.items()})
        facts = model_facts(model, config)
        facts["Weights"] = f"`{checkpoint.name}` of the training, stored with {16 if half else 32} bits"
        text = DISCRIMINATIVE if opened.is_discriminative else MASKED
        told = read_text(results) if results else opened.text("RESULTS.md")
        where = name if name and parse_tag(name) else output.name
        files[CARD] = _card(name or output.stem, where, license, text, facts, told).encode()
    (_write_zip if output.suffix == ".zip" else _write_directory)(output, files)
    size = sum(len(content) for content in files.values())
    return f"{output}: {len(files)} files, {size / 2**20:.1f} MiB before compression"


_WRITTEN = {Path(name).parts[0] for name in PACKED}


def _check_place(output: Path, model: Path) -> None:
    """Require that nothing is replaced but what was packed before."""
    if output == model or output in model.parents:
        raise UserError(f"--output {output}: holds the model that is packed; choose another name")
    if output.is_dir():
        names = [path.relative_to(output) for path in output.rglob("*") if path.is_file()]
        if others := [name.name for name in names if name.parts[0] not in _WRITTEN]:
            raise UserError(
                f"--output {output}: holds files that no packing wrote, first '{others[0]}'; choose another name"
            )


def _parts(directory: Path, with_front_end: bool) -> dict[str, bytes]:
    """Return the files of a masked generative model's codec and front end."""
    files: dict[str, bytes] = {}
    for part in ("codec", FRONT_END) if with_front_end else ("codec",):
        if not (directory / part).is_dir():
            raise UserError(f"{directory / part}: no such directory; copy the {part} directory of the training there")
        for path in sorted((directory / part).iterdir()):
            if path.is_file() and not path.name.startswith("."):
                files[f"{part}/{path.name}"] = path.read_bytes()
    stored = read_yaml(directory / "codec" / "codec.yaml")
    origin = stored.pop("origin", None) or {}
    origin = {key: value for key, value in origin.items() if not key.endswith(("_scp", "_dir"))}
    files["codec/codec.yaml"] = _yaml({**stored, "origin": origin} if origin else stored)
    return files


def _yaml(content: dict[str, Any]) -> bytes:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()


def _without_paths(value: Any) -> Any:
    """Return ``value`` without entries that are absolute paths."""
    if isinstance(value, dict):
        kept = value.items()
        return {key: _without_paths(one) for key, one in kept if not (isinstance(one, str) and one.startswith("/"))}
    return value


def _weights(checkpoint: Path, half: bool) -> bytes:
    state = read_checkpoint(checkpoint)
    for name, value in state.items():
        stored = value.detach().clone().contiguous()
        narrowed = half and stored.is_floating_point() and not name.endswith(WIDE)
        state[name] = stored.half() if narrowed else stored
        if narrowed and not bool(torch.isfinite(state[name]).all()):
            raise UserError(f"{checkpoint}: weight '{name}' does not fit into 16 bits; pack it with --half false")
    return save(state)


def _card(name: str, where: str, license: str, text: str, facts: dict[str, str], results: str) -> str:
    listed = "\n".join(f"- {label}: {fact}" for label, fact in facts.items())
    # What the hub sorts models by.
    tags = {"license": license, "library_name": "espnet_tse_gen", "pipeline_tag": "audio-to-audio", "tags": TAGS}
    card = f"""---
{_yaml(tags).decode()}---

# {name}

{text}

{listed}

```
tse-gen extract mixture.wav --enroll enroll.wav -o voice.wav --model {where}
```

```python
from espnet_tse_gen import TargetSpeakerExtractor

extractor = TargetSpeakerExtractor.from_pretrained("{where}")
voice = extractor(mixture, enroll, sample_rate=16000)
```
"""
    lower = "\n".join(f"#{line}" if line.startswith("#") else line for line in results.splitlines())
    return card + (f"\n## Results\n\n{lower}\n" if results else "")


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
