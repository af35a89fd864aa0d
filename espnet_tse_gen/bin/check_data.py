"""Check data directories: keys, recordings, lengths, and that no enrolment is the target utterance.

python -m espnet_tse_gen.bin.check_data --ref_num 2 --fs 16000 dump/raw/train dump/raw/dev
"""

from __future__ import annotations

import argparse
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
    parser.add_argument("data_dir", nargs="+", help="data directories")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_tse_gen.data.checking import check_directory

    for folder in args.data_dir:
        found = check_directory(folder, args.ref_num, args.fs)
        speakers = f"{found.speakers} speakers, " if found.speakers else ""
        size = f"{found.mixtures} mixtures, {speakers}{found.hours:.2f} h at {found.sample_rate} Hz"
        print(f"{folder}: no fault found ({size})")


if __name__ == "__main__":
    run_main(main)
