"""Pack a trained model into one file that any of the doors opens: the exp directory without what only training needs.

    python -m espnet_tse_gen.bin.pack --exp_dir exp/tse_x --output tse_x.zip --half true

The package holds ``config.yaml`` (without the paths of the machine it was trained on), ``codec/``, ``model.pth``, the
default decoding options and a model card. The same input gives the same bytes. Without ``.zip`` the output is a directory.
"""

from __future__ import annotations

import argparse
import io
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_tse_gen.arguments import OneLineParser, boolean
from espnet_tse_gen.errors import UserError, run_main

KEPT = (
    "codec", "codec_conf", "extractor", "extractor_conf", "model_conf", "preprocessor", "preprocessor_conf",
    "sample_rate", "ref_num", "seed", "max_epoch", "accum_grad", "grad_clip", "use_amp", "batch_type", "batch_size",
    "batch_bins", "optim", "optim_conf", "scheduler", "scheduler_conf", "best_model_criterion", "keep_nbest_models",
    "version",
)  # fmt: skip
"""Keys of a configuration that say what a model is and how it was trained; the others name files and machines."""
FINGERPRINT = "codec_fingerprint"


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
    from espnet_tse_gen.decoding.options import DecodingOptions
    from espnet_tse_gen.fileio import read_yaml
    from espnet_tse_gen.masked.build import load_model
    from espnet_tse_gen.model_dir import CARD, CONFIG, DECODE, find_checkpoint, open_model

    with open_model(args.exp_dir) as directory:
        if not (directory / "codec").is_dir():
            raise UserError(f"{directory / 'codec'}: no such directory; copy the codec directory of the training there")
        checkpoint = find_checkpoint(directory, args.model_file)
        # Loading checks that configuration, codec and checkpoint belong together.
        model = load_model(directory / CONFIG, checkpoint)
        config = read_yaml(directory / CONFIG)
        files = {
            CONFIG: _yaml({key: _without_paths(config[key]) for key in KEPT if key in config}),
            "model.pth": _weights(checkpoint, args.half),
        }
        for path in sorted((directory / "codec").iterdir()):
            if path.is_file() and not path.name.startswith("."):
                files[f"codec/{path.name}"] = path.read_bytes()
        codec = read_yaml(directory / "codec" / "codec.yaml")
        origin = codec.pop("origin", None) or {}
        origin = {key: value for key, value in origin.items() if not key.endswith(("_scp", "_dir"))}
        files["codec/codec.yaml"] = _yaml({**codec, "origin": origin} if origin else codec)
        decode = args.decode_config or (directory / DECODE if (directory / DECODE).is_file() else None)
        if decode is not None:
            options, default = vars(DecodingOptions.resolve(decode)), vars(DecodingOptions())
            changed = {name: value for name, value in options.items() if value != default[name]}
            files[DECODE] = _yaml({key: list(v) if isinstance(v, tuple) else v for key, v in changed.items()})
        results = Path(args.results) if args.results else directory / "RESULTS.md"
        if args.results and not results.is_file():
            raise UserError(f"--results {results}: no such file")
        table = results.read_text(encoding="utf-8") if results.is_file() else ""
        name = args.name or Path(args.output).stem
        origin_of_weights = f"`{checkpoint.name}` of the training, stored with {16 if args.half else 32} bits"
        files[CARD] = _card(name, model, config, origin_of_weights, table).encode()
    return files


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

    from espnet_tse_gen.masked.build import read_checkpoint

    state = read_checkpoint(checkpoint)
    for name, value in state.items():
        stored = value.detach().clone().contiguous()
        # The fingerprint is compared, not computed with: it keeps its type.
        narrowed = half and stored.is_floating_point() and not name.endswith(FINGERPRINT)
        state[name] = stored.half() if narrowed else stored
        if narrowed and not bool(torch.isfinite(state[name]).all()):
            raise UserError(f"{checkpoint}: weight '{name}' does not fit into 16 bits; pack it with --half false")
    stream = io.BytesIO()
    torch.save(dict(state), stream)
    return stream.getvalue()


def _card(name: str, model: Any, config: dict[str, Any], weights: str, results: str) -> str:
    codec, extractor = model.codec, config.get("extractor_conf") or {}
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    settings = ", ".join(f"{key} {value}" for key, value in sorted(extractor.items())) or "defaults"
    lines = [
        f"# {name}",
        "",
        "A masked generative target speaker extractor for ESPnet (`espnet_tse_gen`): given a recording of several",
        "speakers and a few seconds of one of them, it predicts the tokens of a codec for that speaker alone.",
        "",
        f"- Extractor: `{config.get('extractor', 'masked')}`, {parameters:.2f} M parameters ({settings})",
        f"- Codec: `{codec.name}`, {codec.sample_rate} Hz, {codec.frame_rate:g} frames/s, {codec.num_levels} levels x "
        f"{codec.codebook_size} entries, fingerprint `{codec.fingerprint()[:16]}`",
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


def _write_zip(output: Path, files: dict[str, bytes]) -> None:
    from espnet_tse_gen.fileio import atomic_write

    with atomic_write(output, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
        for name in sorted(files):
            # A fixed date and mode, so that the same model is the same file.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED, 6)


def _write_directory(output: Path, files: dict[str, bytes]) -> None:
    from espnet_tse_gen.fileio import atomic_write

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
