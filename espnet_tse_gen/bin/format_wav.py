"""Write a data directory with all recordings as mono 16-bit wav at one sampling rate.

python -m espnet_tse_gen.bin.format_wav --fs 16000 --nj 4 data/train dump/raw/train
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from espnet_tse_gen.utils.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Write a data directory with all recordings as mono 16-bit wav at one sampling rate.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--fs", type=int, default=16000, help="sampling rate in Hz")
    parser.add_argument("--nj", type=int, default=1, help="number of processes")
    parser.add_argument("data_dir", help="data directory")
    parser.add_argument("out_dir", help="the new one")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_tse_gen.data.formatting import format_directory

    print(f"{args.out_dir}: {format_directory(args.data_dir, args.out_dir, args.fs, args.nj).describe(args.fs)}")


if __name__ == "__main__":
    run_main(main)
