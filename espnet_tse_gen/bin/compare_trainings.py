"""Compare trainings by their validation: a table and a chart of curves.

    python -m espnet_tse_gen.bin.compare_trainings --exp_dirs exp/spex_plus_16k_small exp/mc_spex_16k_small --output_dir exp

Writes ``comparison.md`` and ``comparison.svg``, and prints the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from espnet_tse_gen.utils.arguments import OneLineParser
from espnet_tse_gen.utils.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(description="Compare trainings by their validation.")
    parser.add_argument("--exp_dirs", nargs="+", required=True, help="directories of trainings, each DIR or NAME=DIR")
    parser.add_argument("--measure", default="si_snr_loss_s0", help="what validation logs, the lower the better")
    parser.add_argument("--output_dir", required=True, help="where comparison.md and comparison.svg go")
    parser.add_argument("--command", default="", help="the command to name as the one that made this")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_tse_gen.report.compare import read_training, write_comparison

    trainings = []
    for given in args.exp_dirs:
        name, _, folder = given.rpartition("=")
        trainings.append(read_training(folder, args.measure, name))
    print(write_comparison(args.output_dir, trainings, args.measure, args.command), end="")


if __name__ == "__main__":
    run_main(main)
