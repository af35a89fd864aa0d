"""Write a data directory with all recordings as mono 16-bit wav at one sampling rate."""

import click

from espnet_tse_gen.utils.arguments import program


@program
@click.option("--fs", type=int, default=16000, help="sampling rate in Hz")
@click.option("--nj", type=int, default=1, help="number of processes")
@click.argument("data_dir", type=click.Path())
@click.argument("out_dir", type=click.Path())
def main(fs: int, nj: int, data_dir: str, out_dir: str) -> None:
    """Write a data directory with all recordings as mono 16-bit wav at one sampling rate."""
    from espnet_tse_gen.data.formatting import format_directory

    print(f"{out_dir}: {format_directory(data_dir, out_dir, fs, nj)}")
