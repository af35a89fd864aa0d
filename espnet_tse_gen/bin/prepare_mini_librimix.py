"""Make the mini corpus: synthetic speech in LibriSpeech's layout, and LibriMix-style metadata of two-speaker mixtures.

    python -m espnet_tse_gen.bin.prepare_mini_librimix --output_dir downloads --num_voices 56 --nj 2

writes ``downloads/mini_librispeech`` (see :mod:`espnet_tse_gen.data.synthetic`) and
``downloads/mini_librimix_metadata/libri2mix_{train,dev,test}-mini.csv``. What is already there with the same options is
kept. The mixtures themselves are then made as those of Libri2Mix are, by ``prepare_libri2mix``.
"""

from typing import Any

import click

from espnet_tse_gen.utils.arguments import PATH, command
from espnet_tse_gen.utils.errors import run_main


@command
@click.option("--output_dir", required=True, type=PATH, help="where the corpus goes")
@click.option("--num_voices", type=int, default=56, help="voices in all; a quarter of them for dev and test")
@click.option("--utterances_per_voice", type=int, default=25, help="sentences that each voice says")
@click.option("--train_mixtures", type=int, default=1200, help="number of training mixtures")
@click.option("--dev_mixtures", type=int, default=60, help="number of validation mixtures")
@click.option("--test_mixtures", type=int, default=60, help="number of test mixtures")
@click.option("--seed", type=int, default=0, help="everything follows from it")
@click.option("--nj", type=int, default=1, help="number of processes")
def main(**options: Any) -> None:
    """Make the mini corpus: synthetic speech and metadata of mixtures."""
    from espnet_tse_gen.data.librimix.commands import prepare_mini

    prepare_mini(**options)


if __name__ == "__main__":
    run_main(main)
