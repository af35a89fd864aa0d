"""``tse-gen results``: write RESULTS.md from a score table."""

from typing import Any

import click

from espnet_tse_gen.utils.arguments import AT_LEAST_1, PATH, program, several


@program
@click.option("--exp_dir", type=PATH, required=True, help="exp directory of the model; its name is the title")
@click.option("--scores", type=PATH, help="score table  [default: EXP_DIR/scores.csv]")
@click.option("--output", type=PATH, help="file to write  [default: EXP_DIR/RESULTS.md]")
@several("--systems", help="order of the rows; systems not named follow")
@several("--sets", help="sets to report; default: all")
@several("--measures", help="columns of the main table, in order; default: all")
@click.option("--published", type=PATH, help="yaml of published figures, needed for --check")
@several("--check", metavar="SET=ENTRY", help="compare a set to a published entry")
@several("--data_dirs", metavar="SET=DIR", help="data directories, whose protocols are printed")
@click.option("--command", help="command to print in the head; default: this one")
@click.option("--resamples", type=AT_LEAST_1, default=1000, help="bootstrap resamples")
@click.option("--seed", type=int, default=0, help="seed of the bootstrap")
def main(**options: Any) -> None:
    """Write RESULTS.md from a score table: means with intervals, by gender pair and input SIR."""
    from espnet_tse_gen.report.results import write_results

    print(f"results -> {write_results(**options)}")
