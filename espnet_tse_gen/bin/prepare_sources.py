"""List clean utterances for dynamic mixing: wav.scp, utt2spk and utt2dur.

The utterances are those that a training set draws its enrolments from (``--spk2enroll``), or those of a folder with ``wav.scp``
and ``utt2spk`` (``--speech_dir``, as ``prepare_speech_lists`` makes one). Every header is read once, here, for the durations.
"""

from pathlib import Path

import click

from espnet_tse_gen.utils.arguments import PATH, program
from espnet_tse_gen.utils.errors import UserError


@program
@click.option("--spk2enroll", type=PATH, help="JSON file {speaker: [[utterance, wav], ...]} of a training set")
@click.option("--speech_dir", type=PATH, help="or: folder with wav.scp and utt2spk of clean utterances")
@click.option("--output_dir", required=True, type=PATH, help="where the tables go")
@click.option(
    "--fs", type=int, default=0, help="convert what is not 16-bit wav at this rate, in Hz; 0: files as they are"
)
@click.option("--nj", type=int, default=1, help="number of processes that convert")
def main(spk2enroll: Path | None, speech_dir: Path | None, output_dir: Path, fs: int, nj: int) -> None:
    """List clean utterances for dynamic mixing: wav.scp, utt2spk, utt2dur."""
    if (spk2enroll is None) == (speech_dir is None):
        raise UserError("--spk2enroll, --speech_dir: required is one of the two; see --help")
    from espnet_tse_gen.data.datadir import read_pool
    from espnet_tse_gen.data.sources import as_wav, read_collections, write_sources
    from espnet_tse_gen.utils.files import check_same_keys

    collections = None
    if speech_dir is None:
        pool = read_pool(str(spk2enroll))
        sources = [(utterance, speaker, path) for speaker, own in pool.items() for utterance, path in own]
    else:
        paths, speakers = check_same_keys(speech_dir / "wav.scp", speech_dir / "utt2spk")
        sources = [(key, speakers[key], path) for key, path in paths.items()]
        collections = read_collections(speech_dir)
    if fs:
        sources, told = as_wav(sources, output_dir / "data", fs, nj)
        print(f"{output_dir}: {told}")
    count = write_sources(output_dir, sources, collections)
    print(f"{output_dir}: {count} utterances of {len({speaker for _, speaker, _ in sources})} speakers")
