"""Make the mini corpus: synthetic speech in LibriSpeech's layout, and LibriMix-style metadata of two-speaker mixtures.

    python -m espnet_tse_gen.bin.prepare_mini_librimix --output_dir downloads --num_voices 56 --nj 2

writes ``downloads/mini_librispeech`` (see :mod:`espnet_tse_gen.data.synthetic`) and
``downloads/mini_librimix_metadata/libri2mix_{train,dev,test}-mini.csv``. What is already there with the same options is
kept. The mixtures themselves are then made as those of Libri2Mix are, by ``prepare_libri2mix``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_tse_gen.utils.errors import run_main

SPEECH = "mini_librispeech"
METADATA = "mini_librimix_metadata"


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Make the mini corpus: synthetic speech and metadata of mixtures.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output_dir", required=True, help="where the corpus goes")
    parser.add_argument("--num_voices", type=int, default=56, help="voices in all; a quarter of them for dev and test")
    parser.add_argument("--utterances_per_voice", type=int, default=25, help="sentences that each voice says")
    parser.add_argument("--train_mixtures", type=int, default=1200, help="number of training mixtures")
    parser.add_argument("--dev_mixtures", type=int, default=60, help="number of validation mixtures")
    parser.add_argument("--test_mixtures", type=int, default=60, help="number of test mixtures")
    parser.add_argument("--seed", type=int, default=0, help="everything follows from it")
    parser.add_argument("--nj", type=int, default=1, help="number of processes")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    import json
    import time

    from espnet_tse_gen.data.librimix.drawing import make_metadata, write_metadata
    from espnet_tse_gen.data.synthetic import build_corpus
    from espnet_tse_gen.utils.errors import UserError
    from espnet_tse_gen.utils.files import atomic_write
    from espnet_tse_gen.utils.state import is_current, state_of

    counts = {"train": args.train_mixtures, "dev": args.dev_mixtures, "test": args.test_mixtures}
    for name, number in [("nj", args.nj), *((f"{split}_mixtures", count) for split, count in counts.items())]:
        if number < 1:
            raise UserError(f"--{name} is {number}; expected a positive number")
    started = time.monotonic()
    root, metadata = Path(args.output_dir) / SPEECH, Path(args.output_dir) / METADATA
    made = build_corpus(root, args.num_voices, args.utterances_per_voice, args.seed, args.nj)
    corpus = json.loads((root / "corpus.json").read_text())["parameters"]
    print(f"{root}: {'made' if made else 'kept'} ({time.monotonic() - started:.0f} s)")
    for split, count in counts.items():
        path, record = metadata / f"libri2mix_{split}-mini.csv", metadata / f".{split}.json"
        state = state_of(corpus, count, args.seed)
        if is_current(record, state, path):
            print(f"{path}: kept")
            continue
        write_metadata(path, make_metadata(root, {f"{split}-mini": None}, count, args.seed, num_jobs=args.nj))
        with atomic_write(record) as stream:
            stream.write(state)
        print(f"{path}: {count} mixtures")


if __name__ == "__main__":
    run_main(main)
