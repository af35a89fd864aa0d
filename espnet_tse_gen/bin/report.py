"""Make the report page: result tables, recordings with spectrograms, scores per item, training curves.

For example, with the table row of the mixture and two systems:

    python -m espnet_tse_gen.bin.report --exp_dir exp/m --sets test=dump/raw/test \
        --systems mixture codec=exp/m/decode_codec greedy_16=exp/m/decode_greedy_16

A system's directory holds ``SET/spk1.scp``, ``SET/spk2.scp``. The page opens from the file system; it needs no server.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_tse_gen.utils.arguments import OneLineParser, at_least
from espnet_tse_gen.utils.errors import UserError, run_main

RESERVED = ("clean", "enrolment")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command's options."""
    parser = OneLineParser(
        prog="report",
        description="Make a self-contained report page with players and spectrograms.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--exp_dir", type=Path, required=True, help="exp directory of the model")
    add("--sets", nargs="+", required=True, metavar="SET=DATA_DIR", help="sets and their data directories")
    add("--systems", nargs="+", required=True, metavar="NAME[=DIR]", help="in order; without DIR: table row only")
    add("--scores", type=Path, help="score table; default: EXP_DIR/scores.csv if it exists")
    add("--output", type=Path, help="folder to make; default: EXP_DIR/report")
    add("--title", help="heading; default: name of EXP_DIR")
    add("--num_mixtures", type=at_least(0), default=12, help="mixtures with recordings, per set")
    add("--command", help="command to print in the head; default: this one")
    add("--resamples", type=at_least(1), default=1000, help="bootstrap resamples")
    add("--seed", type=int, default=0, help="seed of the bootstrap")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Make the page that the options describe.

    Raises:
        UserError: For options or files that cannot be used.
    """
    args = get_parser().parse_args(cmd)
    names: dict[str, str] = {}
    for text in args.systems:
        name, separator, directory = text.partition("=")
        if not name or (separator and not directory) or name in names or name in RESERVED:
            raise UserError(f"--systems {text}: expected NAME or NAME=DIR, each name once, not {' or '.join(RESERVED)}")
        names[name] = directory

    from espnet_tse_gen.report.clips import DemoSet
    from espnet_tse_gen.report.make import ReportOptions, make_report
    from espnet_tse_gen.scoring.results import Bootstrap

    sets = []
    for text in args.sets:
        name, _, directory = text.partition("=")
        if not name or not directory:
            raise UserError(f"--sets {text}: expected SET=DATA_DIR")
        outputs = {system: Path(path) / name for system, path in names.items() if path}
        sets.append(DemoSet(name, Path(directory), outputs))
    default = args.exp_dir / "scores.csv"
    options = ReportOptions(
        exp_dir=args.exp_dir,
        scores=args.scores or (default if default.exists() else None),
        output=args.output or args.exp_dir / "report",
        title=args.title or args.exp_dir.resolve().name,
        count=args.num_mixtures,
        systems=list(names),
        command=args.command,
        bootstrap=Bootstrap(args.resamples, args.seed),
    )
    print(f"report -> {make_report(options, sets)}")


if __name__ == "__main__":
    run_main(main)
