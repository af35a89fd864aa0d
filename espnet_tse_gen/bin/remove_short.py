"""Remove the mixtures below a length from every table of a data directory, in place.

python -m espnet_tse_gen.bin.remove_short --min_seconds 1.0 dump/raw/train
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from espnet_tse_gen.utils.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Remove the mixtures below a length from every table of a data directory, in place.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--min_seconds", type=float, default=1.0, help="mixtures shorter than this are removed")
    parser.add_argument("data_dir", help="data directory")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_tse_gen.data.datadir import remove_short

    kept, removed = remove_short(args.data_dir, args.min_seconds)
    print(f"{args.data_dir}: {kept} mixtures kept, {removed} shorter than {args.min_seconds} s removed")


if __name__ == "__main__":
    run_main(main)
