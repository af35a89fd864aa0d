"""List the recordings of a split's speakers: wav.scp, utt2spk and spk2gender of single-speaker speech.

    python -m espnet_tse_gen.bin.prepare_speech_lists --librispeech downloads/LibriSpeech \\
        --speakers_json splits.json --split train --subsets train-clean-100 --output_dir data/train

The JSON file says which speakers belong to which split: ``{"train": {"train-clean-100": ["19", "26"]}}``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from espnet_tse_gen.utils.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="List the recordings of a split's speakers: wav.scp, utt2spk, spk2gender.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--librispeech", required=True, help="folder in LibriSpeech's layout")
    parser.add_argument("--speakers_json", help="split -> subset -> list of speakers; default: all speakers")
    parser.add_argument("--split", help="split of --speakers_json to list, for example train")
    parser.add_argument("--subsets", nargs="+", help="take these subsets of the split only; default: all")
    parser.add_argument("--output_dir", required=True, help="where the tables go")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_tse_gen.data.corpus import list_utterances, read_speaker_sexes, wanted_speakers
    from espnet_tse_gen.data.sources import write_sources

    named = [name for text in args.subsets or () for name in text.split()] or None
    utterances = list_utterances(args.librispeech, wanted_speakers(args.speakers_json, args.split, named))
    rows = [(one.name, one.speaker, str(one.path.absolute())) for one in utterances]
    collections = {one.name: one.subset for one in utterances}
    write_sources(args.output_dir, rows, collections, read_speaker_sexes(args.librispeech), durations=False)
    print(f"{args.output_dir}: {len(rows)} recordings of {len({speaker for _, speaker, _ in rows})} speakers")


if __name__ == "__main__":
    run_main(main)
