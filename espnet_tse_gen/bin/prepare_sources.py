"""List clean utterances for dynamic mixing: wav.scp, utt2spk and utt2dur.

    python -m espnet_tse_gen.bin.prepare_sources --spk2enroll dump/raw/train/spk2enroll.json --output_dir dump/raw/train_sources

The utterances are those that a training set draws its enrolments from (``--spk2enroll``), or those of a folder with ``wav.scp``
and ``utt2spk`` (``--speech_dir``, as ``prepare_speech_lists`` makes one). Every header is read once, here, for the durations.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_tse_gen.utils.arguments import OneLineParser
from espnet_tse_gen.utils.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(description="List clean utterances for dynamic mixing: wav.scp, utt2spk, utt2dur.")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--spk2enroll", help="JSON file {speaker: [[utterance, wav], ...]} of a training set")
    given.add_argument("--speech_dir", help="folder with wav.scp and utt2spk of clean utterances")
    parser.add_argument("--output_dir", required=True, help="where the tables go")
    parser.add_argument(
        "--fs",
        type=int,
        default=0,
        help="convert what is not 16-bit wav at this rate, in Hz; 0 lists files as they are",
    )
    parser.add_argument("--nj", type=int, default=1, help="number of processes that convert")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_tse_gen.data.datadir import read_pool
    from espnet_tse_gen.data.sources import as_wav, read_collections, write_sources
    from espnet_tse_gen.utils.files import check_same_keys

    collections = None
    if args.spk2enroll:
        pool = read_pool(args.spk2enroll)
        sources = [(utterance, speaker, path) for speaker, own in pool.items() for utterance, path in own]
    else:
        folder = Path(args.speech_dir)
        paths, speakers = check_same_keys(folder / "wav.scp", folder / "utt2spk")
        sources = [(key, speakers[key], path) for key, path in paths.items()]
        collections = read_collections(folder)
    if args.fs:
        sources, done = as_wav(sources, Path(args.output_dir) / "data", args.fs, args.nj)
        print(f"{args.output_dir}: {done.describe(args.fs)}")
    count = write_sources(args.output_dir, sources, collections)
    print(f"{args.output_dir}: {count} utterances of {len({speaker for _, speaker, _ in sources})} speakers")


if __name__ == "__main__":
    run_main(main)
