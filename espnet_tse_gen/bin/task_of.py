"""Tell the recipe which task a training configuration is for: ``tse`` (discriminative) or ``tse_gen`` (masked generative)."""

import click

from espnet_tse_gen.utils.arguments import program


@program
@click.argument("config", type=click.Path())
@click.option("--sample_rate", type=int, help="Hz of the recordings; refused where the configuration names another")
def main(config: str, sample_rate: int | None) -> None:
    """Tell which task CONFIG (a file of conf/train, or the config.yaml of a training) is for: tse or tse_gen."""
    from espnet_tse_gen.discriminative.registry import task_of

    print(task_of(config, sample_rate))
