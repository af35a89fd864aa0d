"""Remove the mixtures below a length from every table of a data directory, in place."""

import click

from espnet_tse_gen.utils.arguments import program


@program
@click.option("--min_seconds", type=float, default=1.0, help="mixtures shorter than this are removed")
@click.argument("data_dir", type=click.Path())
def main(min_seconds: float, data_dir: str) -> None:
    """Remove the mixtures below a length from every table of a data directory, in place."""
    from espnet_tse_gen.data.datadir import remove_short

    kept, removed = remove_short(data_dir, min_seconds)
    print(f"{data_dir}: {kept} mixtures kept, {removed} shorter than {min_seconds} s removed")
