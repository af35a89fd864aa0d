"""Compute the speaker embeddings of recordings, for training with ``extractor_conf: speaker_embedding``.

    python -m espnet_tse_gen.bin.embed_speakers --spk2enroll dump/raw/train/spk2enroll.json \\
        --scp dump/raw/dev/enroll_spk1.scp --scp dump/raw/dev/enroll_spk2.scp --output embeddings.npz --nj 4

By Resemblyzer, one embedding for each whole recording. What the file holds already is kept; an interrupted run goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from espnet_tse_gen.utils.arguments import OneLineParser, boolean
from espnet_tse_gen.utils.errors import UserError, run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(description="Compute the speaker embeddings of recordings.")
    parser.add_argument("--scp", action="append", default=[], help="table of recordings; may be given more than once")
    parser.add_argument("--spk2enroll", help="JSON file {speaker: [[utterance, wav], ...]} of a training set")
    parser.add_argument("--output", required=True, help="the file of embeddings (.npz)")
    parser.add_argument("--nj", type=int, default=1, help="number of processes")
    parser.add_argument("--overwrite", type=boolean, default=False, help="compute again what is there")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    if not args.scp and not args.spk2enroll:
        raise UserError("--scp, --spk2enroll: none given; name recordings")
    from espnet_tse_gen.data.datadir import DYNAMIC_MARK, read_pool
    from espnet_tse_gen.data.enrolment.embeddings import write_embeddings
    from espnet_tse_gen.utils.files import read_scp

    paths = [path for scp in args.scp for path in read_scp(scp).values() if not path.startswith(DYNAMIC_MARK)]
    if args.spk2enroll:
        paths += [path for own in read_pool(args.spk2enroll).values() for _, path in own]
    made = write_embeddings(args.output, paths, args.nj, args.overwrite)
    print(f"{args.output}: {len(set(paths))} recordings, {made} embedded now")


if __name__ == "__main__":
    run_main(main)
