"""Print the codec configuration that ``auto`` stands for, and on stderr why (see :mod:`espnet_tse_gen.codec.choose`).

python -m espnet_tse_gen.bin.codec_choose --conf_dir conf/codec --fs 16000 --expdir exp
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from espnet_tse_gen.utils.arguments import OneLineParser, boolean
from espnet_tse_gen.utils.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(description="Print the codec configuration that a recipe's 'auto' stands for.")
    parser.add_argument(
        "--conf_dir", default="conf/codec", help="folder of codec configurations (default: %(default)s)"
    )
    parser.add_argument("--fs", type=int, required=True, help="sampling rate of the recordings, Hz")
    parser.add_argument("--expdir", help="folder of codec directories; one that is there stays chosen")
    parser.add_argument("--codec_args", default="", help="options that codec_prepare will get, as one word")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    given = OneLineParser(add_help=False)
    given.add_argument("--weights")
    given.add_argument("--download", type=boolean, default=False)
    options, _ = given.parse_known_args(shlex.split(args.codec_args))
    from espnet_tse_gen.codec.choose import choose_codec

    path, reason = choose_codec(args.conf_dir, args.fs, args.expdir, options.weights, options.download)
    print(f"codec_config auto: {path} ({reason})", file=sys.stderr)
    print(path)


if __name__ == "__main__":
    run_main(main)
