"""Compute the speaker embeddings of recordings, for training with ``extractor_conf: speaker_embedding``.

By Resemblyzer, one embedding for each whole recording. What the file holds already is kept; an interrupted run goes on.
"""

import click

from espnet_tse_gen.utils.arguments import boolean, program
from espnet_tse_gen.utils.errors import UserError


@program
@click.option("--scp", multiple=True, type=click.Path(), help="table of recordings; may be given more than once")
@click.option("--spk2enroll", type=click.Path(), help="JSON file {speaker: [[utterance, wav], ...]} of a training set")
@click.option("--output", required=True, type=click.Path(), help="the file of embeddings (.npz)")
@click.option("--nj", type=int, default=1, help="number of processes")
@boolean("--overwrite", "compute again what is there")
def main(scp: tuple[str, ...], spk2enroll: str | None, output: str, nj: int, overwrite: bool) -> None:
    """Compute the speaker embeddings of recordings."""
    if not scp and not spk2enroll:
        raise UserError("--scp, --spk2enroll: none given; name recordings")
    from espnet_tse_gen.data.datadir import DYNAMIC_MARK, read_pool
    from espnet_tse_gen.data.enrolment.embeddings import write_embeddings
    from espnet_tse_gen.utils.files import read_scp

    paths = [path for table in scp for path in read_scp(table).values() if not path.startswith(DYNAMIC_MARK)]
    if spk2enroll:
        paths += [path for own in read_pool(spk2enroll).values() for _, path in own]
    made = write_embeddings(output, paths, nj, overwrite)
    print(f"{output}: {len(set(paths))} recordings, {made} embedded now")
