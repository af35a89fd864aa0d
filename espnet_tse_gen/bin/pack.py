"""``tse-gen pack``: the exp directory without what only training needs, in one file that any of the doors opens."""

from typing import Any

import click

from espnet_tse_gen.utils.arguments import PATH, boolean, program


@program
@click.option("--model", "--exp_dir", "where", required=True, type=click.Path(), help="exp directory of a training")
@click.option("--model_file", help="checkpoint in it; default: the best average that is there")
@click.option("--output", required=True, type=PATH, help="zip file to write, or a directory where the name lacks .zip")
@boolean("--half", "store weights with 16 bits; they are loaded as 32")
@click.option("--decode", "--decode_config", help="default decoding: a file of conf/decode or a preset's name")
@click.option("--results", type=PATH, help="table for the model card  [default: RESULTS.md in the exp directory]")
@click.option(
    "--name", help="the model's name on its card, also ORG/NAME of the Hugging Face hub  [default: that of the output]"
)
@click.option(
    "--license", default="unknown", help="of the weights, as the hub calls it: apache-2.0, cc-by-4.0, other, ..."
)
@boolean("--overwrite", "replace the output if it is there")
def main(**options: Any) -> None:
    """Pack a trained model into one file."""
    from espnet_tse_gen.inference.packing import pack

    print(pack(**options))
