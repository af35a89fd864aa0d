"""Encode recordings into codes on disk: int16 ``[T, K]`` per key in a Kaldi ark with its scp.

    python -m espnet_tse_gen.bin.codec_tokenize --codec_dir exp/codec_mel_16k --output_dir dump/codec/mel_16k/train \\
        --wav_scp dump/raw/train/spk1.scp --level_scp dump/raw/train/wav.scp --name codes_spk1 \\
        --wav_scp dump/raw/train/spk2.scp --level_scp dump/raw/train/wav.scp --name codes_spk2 --job 1 --num_jobs 4

The job that finds all recordings encoded writes ``NAME.scp`` and the manifest ``NAME.json``. What was made of the same
recordings with the same codec is kept; a job that was killed goes on behind its last batch when it is started again. A
recording that is named more than once is encoded once. Paths in the scp are as ``--output_dir`` was given.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_tse_gen.utils.arguments import OneLineParser, at_least, boolean, positive
from espnet_tse_gen.utils.errors import UserError, run_main

BATCH_SECONDS = {"cpu": 60.0, "cuda": 300.0}
"""Default of --batch_seconds."""


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(description="Encode recordings into codes in a Kaldi ark.")
    add = parser.add_argument
    add("--codec_dir", required=True, help="codec directory, made by codec_prepare")
    add("--wav_scp", required=True, action="append", help="recordings to encode (may be repeated, a --name for each)")
    add("--level_scp", action="append", default=[], help="mixtures (same keys) that set the level of each --wav_scp, in "
        "its order; default, and where 'own' is given: each recording its own")  # fmt: skip
    add("--output_dir", required=True, help="where ark and scp go")
    add("--name", required=True, action="append", help="name of each table, e.g. codes_spk1")
    add("--latents", type=boolean, default=False, help="also write the encoder's output, float16 [T, D], NAME_latents")
    add("--batch_size", type=at_least(1), default=16, help="recordings in a batch at most, of similar length")
    add("--batch_seconds", type=positive, help="audio in a batch at most, each recording counted as long as the longest; "
        f"default {BATCH_SECONDS['cpu']:g}, and {BATCH_SECONDS['cuda']:g} on a GPU")  # fmt: skip
    add("--batched", type=boolean, default=False, help="compute a batch's recordings together: pays on a GPU; codes are "
        "those of each alone but for rounding, which can decide between all but equally near entries")  # fmt: skip
    add("--job", type=int, default=1, help="number of this job, from 1")
    add("--num_jobs", type=int, default=1, help="number of all jobs")
    add("--key_file", help="table whose first column are the keys to encode; default: all of --wav_scp")
    add(
        "--max_errors",
        type=at_least(0),
        default=0,
        help="recordings that may be unreadable; they are missing from the tables",
    )
    add("--device", default="cpu", help="cpu or cuda")
    add("--num_workers", type=at_least(1), default=2, help="threads that read recordings ahead")
    add("--num_threads", type=at_least(0), default=0, help="CPU threads that compute; 0 leaves it to torch")
    add("--log_interval", type=float, default=30.0, help="seconds between lines of progress in a log")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    if len(args.name) != len(args.wav_scp):
        raise UserError(f"--name: expected one for each --wav_scp ({len(args.wav_scp)}), got {len(args.name)}")
    from espnet_tse_gen.audio.recordings import read_tables
    from espnet_tse_gen.codec.registry import load_codec, on_device
    from espnet_tse_gen.tokens.job import Extraction, ExtractionOptions, TokenTable
    from espnet_tse_gen.utils.jobs import read_key_file
    from espnet_tse_gen.utils.parallel import set_threads

    tables = []
    for name, table in zip(args.name, read_tables(args.wav_scp, args.level_scp), strict=True):
        tables.append(TokenTable(name, table, read_key_file(args.key_file, table) if args.key_file else list(table)))
    set_threads(args.num_threads)
    codec = on_device(load_codec(args.codec_dir), args.device)
    codec.batched = args.batched
    seconds = args.batch_seconds or BATCH_SECONDS.get(codec.device.type, BATCH_SECONDS["cpu"])
    options = ExtractionOptions(
        args.latents, args.batch_size, seconds, args.max_errors, args.num_workers, args.log_interval
    )
    tag = Path(args.codec_dir).resolve().name.removeprefix("codec_")
    Extraction(codec, tables, args.output_dir, tag, options, args.job, args.num_jobs).run()


if __name__ == "__main__":
    run_main(main)
