"""Write a data directory with all recordings as mono 16-bit wav at one sampling rate.

python -m espnet_tse_gen.bin.format_wav --fs 16000 --nj 4 data/train dump/raw/train
"""

import click

from espnet_tse_gen.utils.arguments import command
from espnet_tse_gen.utils.errors import run_main


@command
@click.option("--fs", type=int, default=16000, help="sampling rate in Hz")
@click.option("--nj", type=int, default=1, help="number of processes")
@click.argument("data_dir", type=click.Path())
@click.argument("out_dir", type=click.Path())
def main(fs: int, nj: int, data_dir: str, out_dir: str) -> None:
    """Write a data directory with all recordings as mono 16-bit wav at one sampling rate."""
    from espnet_tse_gen.data.formatting import format_directory

    print(f"{out_dir}: {format_directory(data_dir, out_dir, fs, nj)}")


if __name__ == "__main__":
    run_main(main)
