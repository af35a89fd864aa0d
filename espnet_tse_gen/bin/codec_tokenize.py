"""Encode recordings into codes on disk: int16 ``[T, K]`` per key in a Kaldi ark with its scp.

    python -m espnet_tse_gen.bin.codec_tokenize --codec_dir exp/codec_mel_16k --wav_scp dump/raw/train/spk1.scp \\
        --level_scp dump/raw/train/wav.scp --output_dir dump/codec/mel_16k/train --name codes_spk1 --job 1 --num_jobs 4

Each job writes its part; the one that completes the last part writes ``NAME.scp``. Parts that are there and were made
from the same files with the same codec are kept. Paths in the scp are as ``--output_dir`` was given.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_tse_gen.errors import UserError, run_main

if TYPE_CHECKING:
    import numpy as np

    from espnet_tse_gen.codec.abs_codec import AbsCodec
    from espnet_tse_gen.codec.recordings import Recordings


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description="Encode recordings into codes in a Kaldi ark.")
    parser.add_argument("--codec_dir", required=True, help="codec directory, made by codec_prepare")
    parser.add_argument("--wav_scp", required=True, help="recordings to encode")
    parser.add_argument("--level_scp", help="mixtures (same keys) that set the level; default: each recording its own")
    parser.add_argument("--output_dir", required=True, help="where ark and scp go")
    parser.add_argument("--name", required=True, help="name of the table, e.g. codes_spk1")
    parser.add_argument("--batch_size", type=int, default=8, help="recordings encoded together, of similar length")
    parser.add_argument("--job", type=int, default=1, help="number of this job, from 1")
    parser.add_argument("--num_jobs", type=int, default=1, help="number of all jobs")
    parser.add_argument("--key_file", help="table whose first column are the keys to encode; default: all of --wav_scp")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    if args.batch_size < 1:
        raise UserError(f"--batch_size: expected at least 1, got {args.batch_size}")
    from espnet_tse_gen.codec.jobs import Part, files_digest, read_key_file, split_keys
    from espnet_tse_gen.codec.recordings import Recordings
    from espnet_tse_gen.codec.registry import load_codec

    table = Recordings(args.wav_scp, args.level_scp)
    keys = split_keys(read_key_file(args.key_file, table) if args.key_file else table, args.job, args.num_jobs)
    codec = load_codec(args.codec_dir)
    if codec.codebook_size > 32767:
        raise UserError(f"{args.codec_dir}: codebooks of {codec.codebook_size} entries do not fit the format (int16)")
    files = [table[key] for key in keys] + [table.level_path(key) for key in keys]
    source = {"codec": codec.name, "fingerprint": codec.fingerprint(), "files": files_digest(keys, files)}
    part = Part(args.output_dir, args.name, args.job, args.num_jobs, source)
    if part.is_complete():
        whole = part.merge()
        print(f"{part.scp}: is complete and up to date; kept{'' if whole else ' (other parts are still missing)'}")
        return
    part.begin()
    part.finish(_write_ark(codec.to(args.device), table, keys, args))
    part.merge()


def _write_ark(codec: AbsCodec, table: Recordings, keys: list[str], args: argparse.Namespace) -> dict[str, str]:
    """Encode ``keys`` into the part's ark and return its table.

    Raises:
        UserError: If any recording cannot be read; then no ark is left.
    """
    import kaldiio

    from espnet_tse_gen.fileio import atomic_write

    ark = Path(args.output_dir) / f"{args.name}.{args.job}.ark"
    failures: list[str] = []
    entries: dict[str, str] = {}
    seconds, start = 0.0, time.monotonic()
    with atomic_write(ark, "wb") as stream:
        for key, codes, duration in _encoded(codec, table, keys, args.batch_size, failures):
            entries[key] = f"{ark}:{stream.tell() + len(f'{key} '.encode())}"
            kaldiio.save_ark(stream, {key: codes}, write_function="numpy")
            seconds += duration
        if failures:
            raise _failure(failures, keys, ark)
    spent = max(time.monotonic() - start, 1e-6)
    print(f"{ark}: {len(entries)} recordings, {seconds:.1f} s of audio, {seconds / spent:.1f} times real time")
    return entries


def _failure(failures: list[str], keys: list[str], ark: Path) -> UserError:
    """Return the error for recordings that could not be read, and list all of them beside the ark."""
    from espnet_tse_gen.fileio import atomic_write

    listing = ark.with_suffix(".errors")
    with atomic_write(listing) as stream:
        stream.writelines(f"{line}\n" for line in failures)
    return UserError(
        f"{len(failures)} of {len(keys)} recordings cannot be encoded, first: {failures[0]}. "
        f"All are listed in {listing}; correct or remove them and run this again"
    )


def _encoded(
    codec: AbsCodec, table: Recordings, keys: list[str], batch_size: int, failures: list[str]
) -> Iterator[tuple[str, np.ndarray, float]]:
    """Yield key, codes (int16 ``[T, K]``) and seconds of every readable recording, batched by length."""
    import numpy as np
    import torch
    from tqdm import tqdm

    durations = {key: table.duration(key) for key in keys}
    order = sorted(keys, key=lambda key: (durations[key], key))
    progress = tqdm(total=round(sum(durations.values())), unit=" s of audio", unit_scale=True, disable=None)
    for first in range(0, len(order), batch_size):
        batch: dict[str, np.ndarray] = {}
        for key in order[first : first + batch_size]:
            try:
                batch[key] = table.load(key, codec.sample_rate).samples
            except UserError as error:
                failures.append(str(error))
        if not batch:
            continue
        lengths = torch.tensor([samples.shape[0] for samples in batch.values()])
        wav = torch.zeros(len(batch), int(lengths.max()))
        for row, samples in zip(wav, batch.values(), strict=True):
            row[: samples.shape[0]] = torch.from_numpy(samples)
        encoded = codec.encode(wav, lengths)
        codes = encoded.codes.cpu().numpy().astype(np.int16)
        for row, key in enumerate(batch):
            yield key, np.ascontiguousarray(codes[row, :, : int(encoded.lengths[row])].T), durations[key]
            progress.update(round(durations[key]))
    progress.close()


if __name__ == "__main__":
    run_main(main)
