"""``tse-gen codec``: make a codec directory, for all later stages; one that exists with the same settings is kept.

Nothing is fetched from a network unless ``--download true``.
"""

from pathlib import Path
from typing import Any

import click

from espnet_tse_gen.utils.arguments import PATH, boolean, program


@program
@click.option("--codec_config", required=True, type=click.Path(), help="a file of conf/codec")
@click.option("--output_dir", type=PATH, help="codec directory to make  [default: exp/codec_<name of the config file>]")
@click.option("--wav_scp", multiple=True, type=click.Path(), help="recordings to fit to (may be repeated)")
@click.option(
    "--level_scp", multiple=True, type=click.Path(), help="mixtures that set the level of each --wav_scp, in its order"
)
@click.option("--max_seconds", type=float, help="audio used for fitting at most  [default: see fit_conf]")
@click.option("--seed", type=int, default=0, help="seed of fitting")
@click.option(
    "--weights",
    type=click.Path(),
    help="file of released weights, or an exp directory of ESPnet  [default: 'weights' in the config, then the cache]",
)
@boolean("--download", "fetch released weights that are not there")
@boolean("--half", "round the weights to half precision")
@boolean("--overwrite", "replace one made with other settings")
def main(
    codec_config: str,
    output_dir: Path | None,
    wav_scp: Any,
    level_scp: Any,
    half: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Make a codec directory: fit a codec or load its released weights."""
    from espnet_tse_gen.audio.recordings import read_tables
    from espnet_tse_gen.codec.prepare import Preparation

    made_of = Preparation(codec_config, read_tables(wav_scp, level_scp), **options)
    print(made_of.save(output_dir or Path(f"exp/codec_{Path(codec_config).stem}"), half, overwrite))
