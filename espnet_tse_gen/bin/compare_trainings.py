"""``tse-gen compare``: a table (``comparison.md``) and a chart of curves (``comparison.svg``) of trainings."""

import click

from espnet_tse_gen.utils.arguments import program, several


@program
@several("--exp_dirs", required=True, help="directories of trainings, each DIR or NAME=DIR")
@click.option("--measure", default="si_snr_loss_s0", help="what validation logs, the lower the better")
@click.option("--output_dir", type=click.Path(), required=True, help="where comparison.md and comparison.svg go")
@click.option("--command", "made_by", default="", help="the command to name as the one that made this")
def main(exp_dirs: tuple[str, ...], measure: str, output_dir: str, made_by: str) -> None:
    """Compare trainings by their validation."""
    from espnet_tse_gen.report.compare import read_training, write_comparison

    named = (given.rpartition("=") for given in exp_dirs)
    trainings = [read_training(folder, measure, name) for name, _, folder in named]
    print(write_comparison(output_dir, trainings, measure, made_by), end="")
