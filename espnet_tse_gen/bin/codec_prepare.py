"""Make a codec directory: fit a codec to recordings, or load released weights, once and for all later stages.

    python -m espnet_tse_gen.bin.codec_prepare --codec_config conf/codec/mel_16k.yaml --output_dir exp/codec_mel_16k \\
        --wav_scp dump/raw/train/spk1.scp --level_scp dump/raw/train/wav.scp

A directory that exists with the same settings is kept. Nothing is fetched from a network unless ``--download true``.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_tse_gen.utils.arguments import boolean
from espnet_tse_gen.utils.errors import UserError, run_main

if TYPE_CHECKING:
    from torch import Tensor

    from espnet_tse_gen.audio.recordings import Recordings
    from espnet_tse_gen.codec.base import AbsCodec


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description="Make a codec directory: fit a codec or load its released weights.")
    parser.add_argument("--codec_config", required=True, help="a file of conf/codec")
    parser.add_argument("--output_dir", help="codec directory to make; default exp/codec_<name of the config file>")
    parser.add_argument("--wav_scp", action="append", default=[], help="recordings to fit to (may be repeated)")
    parser.add_argument(
        "--level_scp",
        action="append",
        default=[],
        help="mixtures that set the level of each --wav_scp, in its order",
    )
    parser.add_argument("--max_seconds", type=float, help="audio used for fitting at most; default: see fit_conf")
    parser.add_argument("--seed", type=int, default=0, help="seed of fitting")
    parser.add_argument(
        "--weights",
        help="file of released weights, or an exp directory of ESPnet; default: 'weights' in the config, then the cache",
    )
    parser.add_argument("--download", type=boolean, default=False, help="fetch released weights that are not there")
    parser.add_argument("--half", type=boolean, default=False, help="round the weights to half precision")
    parser.add_argument("--overwrite", type=boolean, default=False, help="replace one made with other settings")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_tse_gen.codec.registry import (
        CODEC_YAML,
        build_codec,
        check_options,
        codec_class,
        read_codec_config,
        save_codec,
    )
    from espnet_tse_gen.utils.fetch import file_sha256
    from espnet_tse_gen.utils.files import read_yaml

    config = read_codec_config(args.codec_config)
    output = Path(args.output_dir or f"exp/codec_{Path(args.codec_config).stem}")
    conf, weights = dict(config.codec_conf), args.weights or config.weights
    option = codec_class(config.codec).weights_option
    if option and weights:
        conf[option] = weights
    codec = build_codec(config.codec, conf)
    check_options(f"fit_conf option of codec '{config.codec}'", config.fit_conf, codec.fit, ("waveforms", "seed"))

    origin: dict[str, Any] = {"codec": config.codec, "codec_conf": codec.conf()}
    if args.half:
        origin["half"] = True
    if codec.trainable:
        origin |= {"fit_conf": config.fit_conf, "seed": args.seed, "max_seconds": args.max_seconds}
        origin |= {"wav_scp": list(args.wav_scp), "level_scp": list(args.level_scp)}
    elif option:
        # A training that went on has other weights of the same settings.
        checkpoint = codec.pretrained_cache()
        origin["weights"] = {"file": checkpoint.name, "sha256": file_sha256(checkpoint)} if checkpoint else None
    if (output / CODEC_YAML).is_file():
        made = read_yaml(output / CODEC_YAML).get("origin") or {}
        different = sorted(key for key in origin if made.get(key) != origin[key])
        if not different:
            print(f"{output}: is there already with the same settings; kept")
            return
        if not args.overwrite:
            raise UserError(
                f"{output}: was made with other settings ({', '.join(different)}); choose another --output_dir, or "
                "--overwrite true and make its tokens and models again"
            )

    if codec.trainable:
        _fit(codec, args, config.fit_conf)
    elif codec.pretrained_file is not None:
        found = _find_weights(codec, args, config.weights)
        codec.load_pretrained(found)
        origin.setdefault("weights", _origin_of(found))
    if "delay" in codec.conf():
        from espnet_tse_gen.codec.delay import measure_delay

        codec.delay += measure_delay(codec, _delay_signals(codec, _recordings(args)))
        print(f"delay: {codec.delay} samples")
    save_codec(codec, output, origin, half=args.half)
    print(f"{output}: made ({codec.num_levels} levels x {codec.codebook_size}, {codec.frame_rate:g} frames/s)")


def _recordings(args: argparse.Namespace) -> list[Recordings]:
    from espnet_tse_gen.audio.recordings import Recordings

    if args.level_scp and len(args.level_scp) != len(args.wav_scp):
        raise UserError(
            f"--level_scp: expected none or one for each --wav_scp ({len(args.wav_scp)}), got {len(args.level_scp)}"
        )
    levels = args.level_scp or [None] * len(args.wav_scp)
    return [Recordings(wav_scp, level) for wav_scp, level in zip(args.wav_scp, levels, strict=True)]


def _fit(codec: AbsCodec, args: argparse.Namespace, fit_conf: dict[str, Any]) -> None:
    tables = _recordings(args)
    if not tables:
        raise UserError(f"--wav_scp: codec '{codec.name}' is fitted to recordings; give at least one table of them")
    codec.fit(_waveforms(codec, tables, args.seed, args.max_seconds), seed=args.seed, **fit_conf)


def _waveforms(codec: AbsCodec, tables: list[Recordings], seed: int, max_seconds: float | None) -> Iterator[Tensor]:
    """Yield the recordings of all tables in a random order, up to ``max_seconds``."""
    import torch

    items = [(number, key) for number, table in enumerate(tables) for key in sorted(table)]
    random.Random(seed).shuffle(items)
    seconds = 0.0
    for number, key in items:
        samples = tables[number].load(key, codec.sample_rate).samples
        seconds += samples.shape[0] / codec.sample_rate
        yield torch.from_numpy(samples)
        if max_seconds is not None and seconds >= max_seconds:
            return


def _delay_signals(codec: AbsCodec, tables: list[Recordings]) -> list[Tensor] | None:
    """Return a few seconds of up to three recordings, or ``None`` (synthetic signals) where no table is given."""
    import torch

    if not tables:
        return None
    keys = sorted(tables[0])[:3]
    signals = [tables[0].load(key, codec.sample_rate).samples[: 3 * codec.sample_rate] for key in keys]
    return [torch.from_numpy(signal.copy()) for signal in signals]


def _find_weights(codec: AbsCodec, args: argparse.Namespace, configured: str | None) -> Path:
    """Return the file of released weights, fetched if it is wanted and missing."""
    chosen = args.weights or configured
    cache = codec.pretrained_cache()
    candidates = [Path(chosen)] if chosen else [cache] if cache else []
    for candidate in candidates:
        if candidate.exists():
            return candidate
    if args.download and not args.weights:
        return codec.download_pretrained()
    missing = f"{candidates[0]}: no such file or directory" if candidates else "nothing is in the local cache"
    from espnet_tse_gen.codec.base import AbsCodec

    # Weights that are named, and those that ship with the package, are not fetched.
    fetched = not args.weights and type(codec).download_pretrained is not AbsCodec.download_pretrained
    command = f"python -m espnet_tse_gen.bin.codec_prepare --codec_config {args.codec_config} --download true"
    advice = f"On a machine with a network run '{command}', or put" if fetched else "Put"
    raise UserError(
        f"{missing}; codec '{codec.name}' needs its released weights ({codec.pretrained_source()}). {advice} them there, or"
        " name them with --weights"
    )


def _origin_of(weights: Path) -> dict[str, str] | list[dict[str, str]]:
    """Return names and hashes of the released files, for the reader of ``codec.yaml``."""
    from espnet_tse_gen.utils.fetch import file_sha256

    files = [weights] if weights.is_file() else sorted(weights.glob("*.safetensors"))
    found = [{"file": file.name, "sha256": file_sha256(file)} for file in files] or [{"directory": weights.name}]
    return found[0] if len(found) == 1 else found


if __name__ == "__main__":
    run_main(main)
