"""List the recordings of a split's speakers: wav.scp, utt2spk and spk2gender of single-speaker speech.

The JSON file says which speakers belong to which split: ``{"train": {"train-clean-100": ["19", "26"]}}``.
"""

import click

from espnet_tse_gen.utils.arguments import program, several


@program
@click.option("--librispeech", required=True, type=click.Path(), help="folder in LibriSpeech's layout")
@click.option("--speakers_json", type=click.Path(), help="split -> subset -> list of speakers; default: all speakers")
@click.option("--split", help="split of --speakers_json to list, for example train")
@several("--subsets", help="take these subsets of the split only; default: all")
@click.option("--output_dir", required=True, type=click.Path(), help="where the tables go")
def main(
    librispeech: str, speakers_json: str | None, split: str | None, subsets: tuple[str, ...], output_dir: str
) -> None:
    """List the recordings of a split's speakers: wav.scp, utt2spk, spk2gender."""
    from espnet_tse_gen.data.corpus import list_utterances, read_speaker_sexes, wanted_speakers
    from espnet_tse_gen.data.sources import write_sources

    named = [name for text in subsets for name in text.split()] or None
    utterances = list_utterances(librispeech, wanted_speakers(speakers_json, split, named))
    rows = [(one.name, one.speaker, str(one.path.absolute())) for one in utterances]
    collections = {one.name: one.subset for one in utterances}
    write_sources(output_dir, rows, collections, read_speaker_sexes(librispeech), durations=False)
    print(f"{output_dir}: {len(rows)} recordings of {len({speaker for _, speaker, _ in rows})} speakers")
