"""Write RESULTS.md from a score table.

Systems that are not named follow those that are.

    python -m espnet_tse_gen.bin.make_results --exp_dir exp/m --systems mixture codec greedy_16
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_tse_gen.utils.arguments import OneLineParser, at_least
from espnet_tse_gen.utils.errors import UserError, run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command's options."""
    parser = OneLineParser(
        prog="make_results",
        description="Write RESULTS.md from a score table: means with intervals, by gender pair and input SIR.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--exp_dir", type=Path, required=True, help="exp directory of the model; its name is the title")
    add("--scores", type=Path, help="score table; default: EXP_DIR/scores.csv")
    add("--output", type=Path, help="file to write; default: EXP_DIR/RESULTS.md")
    add("--systems", nargs="+", default=[], help="order of the rows; systems not named follow")
    add("--sets", nargs="+", default=[], help="sets to report; default: all")
    add("--measures", nargs="+", default=[], help="columns of the main table, in order; default: all")
    add("--published", type=Path, help="yaml of published figures, needed for --check")
    add("--check", nargs="+", default=[], metavar="SET=ENTRY", help="compare a set to a published entry")
    add("--data_dirs", nargs="+", default=[], metavar="SET=DIR", help="data directories, whose protocols are printed")
    add("--command", help="command to print in the head; default: this one")
    add("--resamples", type=at_least(1), default=1000, help="bootstrap resamples")
    add("--seed", type=int, default=0, help="seed of the bootstrap")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Write the file that the options name.

    Raises:
        UserError: For options or files that cannot be used.
    """
    args = get_parser().parse_args(cmd)
    checks = _pairs("--check", args.check, "SET=ENTRY, such as test=libri2mix_test_16k_min_clean")
    data_dirs = _pairs("--data_dirs", args.data_dirs, "SET=DIR, such as test=dump/raw/test")
    if checks and args.published is None:
        raise UserError("--check: needs --published, the yaml of published figures")

    from espnet_tse_gen.data.enrolment.protocol import read_protocol
    from espnet_tse_gen.report.environment import describe_environment
    from espnet_tse_gen.report.published import published_tables
    from espnet_tse_gen.scoring.metrics import BY_NAME, MAIN_COLUMNS
    from espnet_tse_gen.scoring.results import Bootstrap, ordered, render_results
    from espnet_tse_gen.scoring.table import add_derived, read_scores
    from espnet_tse_gen.utils.errors import unknown_name
    from espnet_tse_gen.utils.files import atomic_write

    for name in args.measures:
        if name not in BY_NAME:
            raise unknown_name("measure in --measures", name, BY_NAME)
    rows = read_scores(args.scores or args.exp_dir / "scores.csv")
    if not rows:
        raise UserError(f"{args.scores or args.exp_dir / 'scores.csv'}: has no rows; run scoring first")
    add_derived(rows)
    sets = ordered("set", rows, args.sets)
    bootstrap = Bootstrap(args.resamples, args.seed)
    tables = published_tables(rows, checks, args.published, bootstrap) if checks else []
    text = render_results(
        args.exp_dir.resolve().name,
        rows,
        sets=list(dict.fromkeys(args.sets)) or sets,
        systems=ordered("system", rows, args.systems),
        environment=describe_environment(args.command),
        bootstrap=bootstrap,
        checks=tables,
        measures=args.measures or MAIN_COLUMNS,
        protocols={name: found.describe() for name, path in data_dirs.items() if (found := read_protocol(path))},
    )
    output: Path = args.output or args.exp_dir / "RESULTS.md"
    with atomic_write(output) as stream:
        stream.write(text)
    print(f"results -> {output}")


def _pairs(option: str, texts: Sequence[str], expected: str) -> dict[str, str]:
    """Read words ``NAME=VALUE``."""
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not (name and separator and value):
            raise UserError(f"{option} {text}: expected {expected}")
        pairs[name] = value
    return pairs


if __name__ == "__main__":
    run_main(main)
