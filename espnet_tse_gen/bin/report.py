"""``tse-gen report``: result tables, recordings with spectrograms, scores per item, training curves on a page."""

from typing import Any

import click

from espnet_tse_gen.utils.arguments import AT_LEAST_0, AT_LEAST_1, PATH, program, several


@program
@click.option("--exp_dir", type=PATH, required=True, help="exp directory of the model")
@several("--sets", required=True, metavar="SET=DATA_DIR", help="sets and their data directories")
@several("--systems", required=True, metavar="NAME[=DIR]", help="in order; without DIR: table row only")
@click.option("--scores", type=PATH, help="score table  [default: EXP_DIR/scores.csv if it exists]")
@click.option("--output", type=PATH, help="folder to make  [default: EXP_DIR/report]")
@click.option("--title", help="heading  [default: name of EXP_DIR]")
@click.option("--num_mixtures", type=AT_LEAST_0, default=12, help="mixtures with recordings, per set")
@click.option("--command", help="command to print in the head; default: this one")
@click.option("--resamples", type=AT_LEAST_1, default=1000, help="bootstrap resamples")
@click.option("--seed", type=int, default=0, help="seed of the bootstrap")
def main(**options: Any) -> None:
    """Make a self-contained report page with players and spectrograms."""
    from espnet_tse_gen.report.make import report_of

    print(f"report -> {report_of(**options)}")
