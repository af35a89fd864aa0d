"""Check data directories: keys, recordings, lengths, speakers, and that no enrolment is the target utterance.

python -m espnet_tse_gen.bin.check_data --ref_num 2 --fs 16000 --train_dir dump/raw/train dump/raw/dev dump/raw/test
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from espnet_tse_gen.utils.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Check data directories: keys, recordings, lengths, enrolments.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--ref_num", type=int, default=2, help="number of speakers in a mixture")
    parser.add_argument("--fs", type=int, help="the sampling rate in Hz that all recordings must have")
    parser.add_argument(
        "--train_dir", help="training data, whose speakers should not be in any of the others: a warning"
    )
    parser.add_argument("data_dir", nargs="+", help="data directories")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_tse_gen.data.checking import check_directory, speakers_of

    heard = speakers_of(args.train_dir) if args.train_dir else set()
    for folder in args.data_dir:
        found = check_directory(folder, args.ref_num, args.fs)
        speakers = f"{len(found.speakers)} speakers, " if found.speakers else ""
        size = f"{found.mixtures} mixtures, {speakers}{found.hours:.2f} h at {found.sample_rate} Hz"
        print(f"{folder}: no fault found ({size})")
        if both := found.speakers & heard:
            print(
                f"{folder}: warning: {len(both)} of its {len(found.speakers)} speakers, such as '{min(both)}', are also in "
                f"the training data {args.train_dir}; figures on this set do not tell how a model does with new voices",
                file=sys.stderr,
            )


if __name__ == "__main__":
    run_main(main)
