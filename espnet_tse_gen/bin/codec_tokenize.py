"""Encode recordings into codes on disk: int16 ``[T, K]`` per key in a Kaldi ark with its scp.

    python -m espnet_tse_gen.bin.codec_tokenize --codec_dir exp/codec_mel_16k --output_dir dump/codec/mel_16k/train \\
        --wav_scp dump/raw/train/spk1.scp --level_scp dump/raw/train/wav.scp --name codes_spk1 \\
        --wav_scp dump/raw/train/spk2.scp --level_scp dump/raw/train/wav.scp --name codes_spk2 --job 1 --num_jobs 4

Each job makes its part; the one that completes the last part writes ``NAME.scp`` and the manifest ``NAME.json``. Parts
that are there and were made of the same recordings with the same codec are kept. A job that was killed goes on behind
its last batch when it is started again, and what it leaves is the same to the byte. A recording that is named more than
once is encoded once. Paths in the scp are as ``--output_dir`` was given.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_tse_gen.utils.arguments import boolean
from espnet_tse_gen.utils.errors import UserError, run_main

if TYPE_CHECKING:
    from espnet_tse_gen.tokens.table import TokenList, TokenTables

OWN_LEVEL = "own"
"""What --level_scp is given where recordings set their own level beside tables that have mixtures."""
BATCH_SECONDS = {"cpu": 60.0, "cuda": 300.0}
"""Default of --batch_seconds."""


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description="Encode recordings into codes in a Kaldi ark.")
    parser.add_argument("--codec_dir", required=True, help="codec directory, made by codec_prepare")
    parser.add_argument(
        "--wav_scp", required=True, action="append", help="recordings to encode (may be repeated, a --name for each)"
    )
    parser.add_argument(
        "--level_scp",
        action="append",
        default=[],
        help="mixtures (same keys) that set the level of each --wav_scp, in its order; "
        f"default, and where '{OWN_LEVEL}' is given: each recording its own",
    )
    parser.add_argument("--output_dir", required=True, help="where ark and scp go")
    parser.add_argument("--name", required=True, action="append", help="name of each table, e.g. codes_spk1")
    parser.add_argument(
        "--latents", type=boolean, default=False, help="also write the encoder's output, float16 [T, D], NAME_latents"
    )
    parser.add_argument("--batch_size", type=int, default=16, help="recordings in a batch at most, of similar length")
    parser.add_argument(
        "--batch_seconds",
        type=float,
        help="audio in a batch at most, each recording counted as long as the longest; default "
        f"{BATCH_SECONDS['cpu']:g}, and {BATCH_SECONDS['cuda']:g} on a GPU",
    )
    parser.add_argument(
        "--batched",
        type=boolean,
        default=False,
        help="compute the recordings of a batch together: pays on a GPU; the codes then are those of each recording "
        "alone but for rounding, which can decide between two entries that are all but equally near",
    )
    parser.add_argument("--job", type=int, default=1, help="number of this job, from 1")
    parser.add_argument("--num_jobs", type=int, default=1, help="number of all jobs")
    parser.add_argument("--key_file", help="table whose first column are the keys to encode; default: all of --wav_scp")
    parser.add_argument(
        "--max_errors", type=int, default=0, help="recordings that may be unreadable; they are missing from the tables"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--num_workers", type=int, default=2, help="threads that read recordings ahead")
    parser.add_argument("--num_threads", type=int, default=0, help="CPU threads that compute; 0 leaves it to torch")
    parser.add_argument("--log_interval", type=float, default=30.0, help="seconds between lines of progress in a log")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    _check(args)
    import torch

    from espnet_tse_gen.codec.registry import load_codec, on_device
    from espnet_tse_gen.tokens.job import Extraction, ExtractionOptions, integer_type
    from espnet_tse_gen.tokens.table import TokenTables

    lists = _lists(args)
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    codec = load_codec(args.codec_dir)
    fingerprint = codec.fingerprint()
    tag = Path(args.codec_dir).resolve().name.removeprefix("codec_")
    common = {"codec": codec.name, "codec_tag": tag, "fingerprint": fingerprint}
    tables = TokenTables(args.output_dir, lists, args.job, args.num_jobs, common, args.latents)
    codec = on_device(codec, args.device)
    codec.batched = args.batched
    seconds = args.batch_seconds or BATCH_SECONDS.get(codec.device.type, BATCH_SECONDS["cpu"])
    options = ExtractionOptions(args.batch_size, seconds, args.max_errors, args.num_workers, args.log_interval)
    extraction = Extraction(codec, tables, options)
    failures = {name: list(extraction.make_part(name).values()) for name in tables.names}
    if sum(map(len, failures.values())) > args.max_errors:
        raise _too_many(failures, tables)
    manifest = {
        **common,
        "codec_conf": codec.conf(),
        "sample_rate": codec.sample_rate,
        "frame_rate": codec.frame_rate,
        "levels": codec.num_levels,
        "codebook_sizes": list(codec.codebook_sizes),
        "dtype": integer_type(codec),
        "latents": args.latents,
    }
    absent = tables.merge(manifest, args.max_errors)
    if absent:
        print(
            f"{args.output_dir}: {len(absent)} recording(s) have no tokens and are missing from the tables, as --max_errors "
            f"{args.max_errors} allows; training and decoding want the same keys everywhere: remove them there too"
        )


def _check(args: argparse.Namespace) -> None:
    for option, least in (("batch_size", 1), ("num_workers", 1), ("max_errors", 0), ("num_threads", 0)):
        if getattr(args, option) < least:
            raise UserError(f"--{option}: expected at least {least}, got {getattr(args, option)}")
    if args.batch_seconds is not None and not args.batch_seconds > 0:
        raise UserError(f"--batch_seconds: expected more than 0, got {args.batch_seconds}")
    tables = len(args.wav_scp)
    if len(args.name) != tables:
        raise UserError(f"--name: expected one for each --wav_scp ({tables}), got {len(args.name)}")
    if len(args.level_scp) not in (0, tables):
        raise UserError(
            f"--level_scp: expected none or one for each --wav_scp ({tables}; '{OWN_LEVEL}' for a table without), got "
            f"{len(args.level_scp)}"
        )


def _lists(args: argparse.Namespace) -> list[TokenList]:
    from espnet_tse_gen.audio.recordings import Recordings
    from espnet_tse_gen.tokens.table import TokenList
    from espnet_tse_gen.utils.jobs import read_key_file

    lists = []
    levels = args.level_scp or [OWN_LEVEL] * len(args.wav_scp)
    for name, wav_scp, level in zip(args.name, args.wav_scp, levels, strict=True):
        recordings = Recordings(wav_scp, None if level == OWN_LEVEL else level)
        keys = read_key_file(args.key_file, recordings) if args.key_file else list(recordings)
        lists.append(TokenList(name, recordings, keys))
    return lists


def _too_many(failures: Mapping[str, Sequence[str]], tables: TokenTables) -> UserError:
    total = sum(len(tables.share(name)) for name in tables.names)
    reasons = [reason for listed in failures.values() for reason in listed]
    where = " and ".join(str(tables.errors(name)) for name, listed in failures.items() if listed)
    return UserError(
        f"{len(reasons)} of {total} recordings cannot be encoded, first: {reasons[0]}. All are listed in {where}; correct or "
        "remove them and run this again (what is done is kept), or allow them to be missing with --max_errors "
        f"{len(reasons)}"
    )


if __name__ == "__main__":
    run_main(main)
