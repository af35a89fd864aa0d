"""Make a codec directory: fit a codec to recordings, or load released weights, once and for all later stages.

    python -m espnet_tse_gen.bin.codec_prepare --codec_config conf/codec/mel_16k.yaml --output_dir exp/codec_mel_16k \\
        --wav_scp dump/raw/train/spk1.scp --level_scp dump/raw/train/wav.scp

A directory that exists with the same settings is kept. Nothing is fetched from a network unless ``--download true``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_tse_gen.utils.arguments import OneLineParser, boolean
from espnet_tse_gen.utils.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(description="Make a codec directory: fit a codec or load its released weights.")
    add = parser.add_argument
    add("--codec_config", required=True, help="a file of conf/codec")
    add("--output_dir", help="codec directory to make; default exp/codec_<name of the config file>")
    add("--wav_scp", action="append", default=[], help="recordings to fit to (may be repeated)")
    add("--level_scp", action="append", default=[], help="mixtures that set the level of each --wav_scp, in its order")
    add("--max_seconds", type=float, help="audio used for fitting at most; default: see fit_conf")
    add("--seed", type=int, default=0, help="seed of fitting")
    add("--weights", help="file of released weights, or an exp directory of ESPnet; default: 'weights' in the config, "
        "then the cache")  # fmt: skip
    add("--download", type=boolean, default=False, help="fetch released weights that are not there")
    add("--half", type=boolean, default=False, help="round the weights to half precision")
    add("--overwrite", type=boolean, default=False, help="replace one made with other settings")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_tse_gen.audio.recordings import read_tables
    from espnet_tse_gen.codec.prepare import Preparation

    tables = read_tables(args.wav_scp, args.level_scp)
    output = Path(args.output_dir or f"exp/codec_{Path(args.codec_config).stem}")
    made_of = Preparation(args.codec_config, tables, args.weights, args.download, args.seed, args.max_seconds)
    print(made_of.save(output, args.half, args.overwrite))


if __name__ == "__main__":
    run_main(main)
