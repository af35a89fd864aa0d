"""Pack a trained model into one file that any of the doors opens: the exp directory without what only training needs.

    python -m espnet_tse_gen.bin.pack --exp_dir exp/tse_x --output tse_x.zip --half true

The package holds ``config.yaml`` (without the paths of the machine it was trained on), ``model.safetensors``, the default
decoding options, a model card and, of a masked generative model, ``codec/`` and, where it has one, ``front_end/``, both
unchanged. The same input gives the same bytes. Without ``.zip`` the output is a directory.
"""

from __future__ import annotations

import argparse
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_tse_gen.utils.arguments import OneLineParser, boolean
from espnet_tse_gen.utils.errors import UserError, run_main

KEPT = (
    "codec", "codec_conf", "encoder", "encoder_conf", "extractor", "extractor_conf", "decoder", "decoder_conf",
    "model_conf", "criterions", "preprocessor", "preprocessor_conf", "sample_rate", "ref_num", "seed",
    "max_epoch", "accum_grad", "grad_clip", "use_amp", "batch_type", "batch_size", "batch_bins", "optim", "optim_conf",
    "scheduler", "scheduler_conf", "best_model_criterion", "keep_nbest_models", "version",
)  # fmt: skip
"""Keys of a configuration that say what a model is and how it was trained; the others name files and machines."""
WIDE = ("_fingerprint", "running_mean", "running_var")
"""Ends of the names of what keeps 32 bits: a fingerprint is compared, not computed with, and variances may be tiny."""


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(description="Pack a trained model into one file.")
    parser.add_argument("--exp_dir", required=True, help="exp directory of a training")
    parser.add_argument("--model_file", help="checkpoint in it; default: the best average that is there")
    parser.add_argument("--output", required=True, help="zip file to write, or a directory where the name lacks .zip")
    parser.add_argument("--half", type=boolean, default=False, help="store weights with 16 bits; they are loaded as 32")
    parser.add_argument("--decode_config", help="default decoding: a file of conf/decode or a preset's name")
    parser.add_argument("--results", help="table for the model card; default: RESULTS.md in the exp directory")
    parser.add_argument("--name", help="the model's name on its card; default: that of the output")
    parser.add_argument("--overwrite", type=boolean, default=False, help="replace the output if it is there")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    output = Path(args.output)
    if output.exists() and not args.overwrite:
        raise UserError(f"--output {output}: is there already; choose another name or add --overwrite true")
    files = packed_files(args)
    if output.suffix == ".zip":
        _write_zip(output, files)
    else:
        _write_directory(output, files)
    size = sum(len(content) for content in files.values())
    print(f"{output}: {len(files)} files, {size / 2**20:.1f} MiB before compression")


def packed_files(args: argparse.Namespace) -> dict[str, bytes]:
    """Return the package's files: path in it to content.

    Raises:
        UserError: If the exp directory is incomplete, or what is packed does not fit together.
    """
    from espnet_tse_gen.inference.loading import CARD, CONFIG, DECODE, WEIGHTS, open_model

    with open_model(args.exp_dir) as model:
        directory, config = model.path, model.config
        checkpoint = model.checkpoint(args.model_file)
        decode = model.decode(args.decode_config)
        packed = _discriminative if model.is_discriminative else _masked
        # Loading checks that configuration, codec and checkpoint belong together.
        description, changed, files = packed(directory, checkpoint, config, decode)
        files[CONFIG] = _yaml({key: _without_paths(config[key]) for key in KEPT if key in config})
        files[WEIGHTS] = _weights(checkpoint, args.half)
        if decode is not None:
            files[DECODE] = _yaml({key: list(v) if isinstance(v, tuple) else v for key, v in changed.items()})
        results = Path(args.results) if args.results else directory / "RESULTS.md"
        if args.results and not results.is_file():
            raise UserError(f"--results {results}: no such file")
        table = results.read_text(encoding="utf-8") if results.is_file() else ""
        name = args.name or Path(args.output).stem
        origin_of_weights = f"`{checkpoint.name}` of the training, stored with {16 if args.half else 32} bits"
        files[CARD] = _card(name, description, origin_of_weights, table).encode()
    return files


Packed = tuple[list[str], dict[str, Any], dict[str, bytes]]
"""Lines of the model card, decoding options that are not the defaults, and further files of the package."""


def _masked(directory: Path, checkpoint: Path, config: dict[str, Any], decode: str | Path | None) -> Packed:
    """Check a masked generative model, and return what is particular to it: its codec and the card's lines."""
    from espnet_tse_gen.decoding.options import DecodingOptions
    from espnet_tse_gen.inference.front_end import FRONT_END, load_model
    from espnet_tse_gen.inference.loading import CONFIG
    from espnet_tse_gen.utils.files import read_yaml

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
    from espnet_tse_gen.audio.segments import SegmentOptions
    from espnet_tse_gen.discriminative.build import load_model
    from espnet_tse_gen.inference.loading import CONFIG

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
    import yaml

    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()


def _without_paths(value: Any) -> Any:
    """Return ``value`` without entries that are absolute paths."""
    if isinstance(value, dict):
        kept = {key: _without_paths(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if not (isinstance(item, str) and item.startswith("/"))}
    return value


def _weights(checkpoint: Path, half: bool) -> bytes:
    import torch
    from safetensors.torch import save

    from espnet_tse_gen.utils.checkpoints import read_checkpoint

    state = read_checkpoint(checkpoint)
    for name, value in state.items():
        stored = value.detach().clone().contiguous()
        narrowed = half and stored.is_floating_point() and not name.endswith(WIDE)
        state[name] = stored.half() if narrowed else stored
        if narrowed and not bool(torch.isfinite(state[name]).all()):
            raise UserError(f"{checkpoint}: weight '{name}' does not fit into 16 bits; pack it with --half false")
    return save(dict(state))


def _card(name: str, description: list[str], weights: str, results: str) -> str:
    lines = [
        f"# {name}",
        "",
        *description,
        f"- Weights: {weights}",
        "",
        "```",
        f"tse-gen extract --mixture mixture.wav --enroll enroll.wav -o voice.wav --model {name}.zip",
        "```",
        "",
        "```python",
        "from espnet_tse_gen import TargetSpeakerExtractor",
        "",
        f'extractor = TargetSpeakerExtractor.from_pretrained("{name}.zip")',
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
    from espnet_tse_gen.utils.files import atomic_write

    with atomic_write(output, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
        for name in sorted(files):
            # A fixed date and mode, so that the same model is the same file.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED, 6)


def _write_directory(output: Path, files: dict[str, bytes]) -> None:
    from espnet_tse_gen.utils.files import atomic_write

    if output.is_file():
        raise UserError(f"--output {output}: is a file; choose a directory or a name that ends in .zip")
    partial = output.with_name(f".{output.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    for name in sorted(files):
        with atomic_write(partial / name, "wb") as stream:
            stream.write(files[name])
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)


if __name__ == "__main__":
    run_main(main)
