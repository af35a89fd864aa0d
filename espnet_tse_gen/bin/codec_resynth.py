"""Encode and decode recordings: what a codec keeps of them, which is the ceiling of every extraction through its codes.

    python -m espnet_tse_gen.bin.codec_resynth --codec_dir exp/codec_mel_16k --wav_scp dump/raw/test/spk1.scp \\
        --level_scp dump/raw/test/wav.scp --mixture true --output_dir exp/ceiling/test --name spk1
    python -m espnet_tse_gen.bin.codec_resynth --codec_config conf/codec/mini_16k.yaml --input a.wav --output b.wav

Every output has its input's rate, length and level. With --codec_config the codec is made for this call, with weights
from where codec_prepare finds them too.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_tse_gen.utils.errors import UserError, run_main

if TYPE_CHECKING:
    import numpy as np

    from espnet_tse_gen.audio.recordings import Recording
    from espnet_tse_gen.codec.base import AbsCodec


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description="Encode and decode recordings (the codec's ceiling).")
    parser.add_argument("--codec_dir", help="codec directory, made by codec_prepare")
    parser.add_argument(
        "--codec_config", help="instead: a file of conf/codec whose weights ship, are cached, or are given"
    )
    parser.add_argument("--weights", help="with --codec_config: its weights, as for codec_prepare")
    parser.add_argument("--input", help="one recording; with --output")
    parser.add_argument("--output", help="where its resynthesis goes")
    parser.add_argument("--wav_scp", help="recordings; with --output_dir and --name")
    parser.add_argument("--level_scp", help="mixtures (same keys) that set the level and lend their phase")
    parser.add_argument("--output_dir", help="where NAME.scp and wavs/NAME/KEY.wav go")
    parser.add_argument("--name", help="name of the table, e.g. spk1")
    parser.add_argument(
        "--mixture",
        choices=("true", "false", "auto"),
        default="false",
        help="decode with the phase of --level_scp; auto: if the codec can",
    )
    parser.add_argument("--num_levels", type=int, help="decode the first so many levels of the codes; default: all")
    parser.add_argument("--job", type=int, default=1, help="number of this job, from 1")
    parser.add_argument("--num_jobs", type=int, default=1, help="number of all jobs")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    single = args.input is not None or args.output is not None
    needed = ("input", "output") if single else ("wav_scp", "output_dir", "name")
    for option in needed:
        if getattr(args, option) is None:
            raise UserError(f"--{option} is missing: give --input and --output, or --wav_scp, --output_dir and --name")
    if (args.codec_dir is None) == (args.codec_config is None):
        raise UserError("--codec_dir: give it, or --codec_config instead; one of the two")
    if args.weights is not None and args.codec_config is None:
        raise UserError("--weights: only with --codec_config; a codec directory has its own")
    if single:
        _check_output(args.input, args.output)
    from espnet_tse_gen.codec.registry import load_codec, on_device

    codec = load_codec(args.codec_dir) if args.codec_dir else _made_for_this_call(args.codec_config, args.weights)
    codec = on_device(codec, args.device)
    if args.num_levels is not None and not 1 <= args.num_levels <= codec.num_levels:
        raise UserError(f"--num_levels: expected 1..{codec.num_levels} for codec '{codec.name}', got {args.num_levels}")
    if single:
        _resynthesize_file(codec, args.input, args.output, args.num_levels)
    else:
        _resynthesize_table(codec, args)


def _check_output(source: str, output: str) -> None:
    path = Path(output)
    if path.suffix.lower() not in (".wav", ".flac"):
        raise UserError(f"--output {output}: expected a name that ends in .wav or .flac")
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise UserError(f"--output {output}: is the file of --input; choose another name")


def _made_for_this_call(config: str, weights: str | None) -> AbsCodec:
    """Return the codec that codec_prepare makes of a configuration without recordings.

    Raises:
        UserError: If its weights are fitted to recordings, or are not where they are looked for.
    """
    from espnet_tse_gen.bin import codec_prepare
    from espnet_tse_gen.codec.registry import codec_class, load_codec, read_codec_config

    name = read_codec_config(config).codec
    if codec_class(name).trainable:
        raise UserError(
            f"--codec_config {config}: codec '{name}' is fitted to recordings and has no weights of its own; make its "
            f"directory once ('python -m espnet_tse_gen.bin.codec_prepare --codec_config {config} --wav_scp TABLE "
            "--output_dir DIR') and give that as --codec_dir DIR"
        )
    # Whoever resynthesizes a file need not hear of the directory that is made on the way.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        command = ["--codec_config", config, "--output_dir", folder]
        codec_prepare.main([*command, "--weights", weights] if weights else command)
        return load_codec(folder)


def _resynthesize_file(codec: AbsCodec, source: str, output: str, num_levels: int | None) -> None:
    from espnet_tse_gen.audio.files import write_audio
    from espnet_tse_gen.audio.recordings import load_recording

    recording = load_recording(source, codec.sample_rate)
    write_audio(output, resynthesize(codec, recording, num_levels), recording.rate)


def _resynthesize_table(codec: AbsCodec, args: argparse.Namespace) -> None:
    from espnet_tse_gen.audio.files import write_audio
    from espnet_tse_gen.audio.recordings import Recordings
    from espnet_tse_gen.utils.jobs import Part, files_digest, split_keys

    with_mixture = args.mixture == "true" or (
        args.mixture == "auto" and codec.supports_mixture and bool(args.level_scp)
    )
    if with_mixture and not args.level_scp:
        raise UserError("--level_scp is missing: '--mixture true' takes the phase from the mixtures in it")
    if with_mixture and not codec.supports_mixture:
        raise UserError(f"--mixture: codec '{codec.name}' cannot use the mixture in decoding; choose false or auto")
    table = Recordings(args.wav_scp, args.level_scp)
    keys = split_keys(table, args.job, args.num_jobs)
    files = [table[key] for key in keys] + [table.level_path(key) for key in keys]
    source = {"fingerprint": codec.fingerprint(), "mixture": with_mixture, "num_levels": args.num_levels}
    source["files"] = files_digest(keys, files)
    part = Part(args.output_dir, args.name, args.job, args.num_jobs, source)
    if part.is_complete():
        part.merge()
        print(f"{part.scp}: is complete and up to date; kept")
        return
    part.begin()
    entries: dict[str, str] = {}
    for key in keys:
        recording = table.load(key, codec.sample_rate, with_mixture)
        path = Path(args.output_dir) / "wavs" / args.name / f"{key}.wav"
        write_audio(path, resynthesize(codec, recording, args.num_levels), recording.rate)
        entries[key] = str(path)
    part.finish(entries)
    part.merge()
    print(f"{part.scp}: {len(entries)} recordings resynthesized")


def resynthesize(codec: AbsCodec, recording: Recording, num_levels: int | None = None) -> np.ndarray:
    """Return the recording after a round trip: float32, at its own rate, length and level.

    Args:
        codec: The codec.
        recording: The decoder gets its mixture if it holds one.
        num_levels: Levels to decode, the first so many; ``None`` means all.
    """
    import torch

    encoded = codec.encode(torch.from_numpy(recording.samples).unsqueeze(0))
    mixture = None if recording.mixture is None else torch.from_numpy(recording.mixture).unsqueeze(0)
    wav = codec.decode(encoded.codes, mixture=mixture, num_levels=num_levels)[0].cpu().numpy()
    return recording.restore(wav, codec.sample_rate)


if __name__ == "__main__":
    run_main(main)
