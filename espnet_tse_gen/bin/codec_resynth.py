"""``tse-gen resynth``: what a codec keeps of recordings, which is the ceiling of every extraction through its codes.

Every output has its input's rate, length and level.
"""

from typing import Any

import click

from espnet_tse_gen.utils.arguments import program


@program
@click.option("--codec_dir", type=click.Path(), help="codec directory, made by 'tse-gen codec'")
@click.option(
    "--codec_config",
    type=click.Path(),
    help="instead: a file of conf/codec whose weights ship, are cached, or are given",
)
@click.option("--weights", type=click.Path(), help="with --codec_config: its weights, as for 'tse-gen codec'")
@click.option("--input", "source", type=click.Path(), help="one recording; with --output")
@click.option("--output", type=click.Path(), help="where its resynthesis goes")
@click.option("--overwrite", is_flag=True, help="replace --output if it is there")
@click.option("--wav_scp", type=click.Path(), help="recordings; with --output_dir and --name")
@click.option("--level_scp", type=click.Path(), help="mixtures (same keys) that set the level and lend their phase")
@click.option("--output_dir", type=click.Path(), help="where NAME.scp and wavs/NAME/KEY.wav go")
@click.option("--name", help="name of the table, e.g. spk1")
@click.option(
    "--mixture",
    type=click.Choice(("true", "false", "auto")),
    default="false",
    help="decode with the phase of --level_scp; auto: if the codec can",
)
@click.option("--num_codebooks", type=int, help="decode the first so many codebooks  [default: all]")
@click.option("--job", type=int, default=1, help="number of this job, from 1")
@click.option("--num_jobs", type=int, default=1, help="number of all jobs")
@click.option("--device", default="cpu", help="cpu or cuda")
def main(**options: Any) -> None:
    """Encode and decode recordings (the codec's ceiling)."""
    from espnet_tse_gen.codec.resynthesis import resynthesize_named

    if told := resynthesize_named(**options):
        print(told)
