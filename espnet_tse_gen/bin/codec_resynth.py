"""Encode and decode recordings: what a codec keeps of them, which is the ceiling of every extraction through its codes.

    python -m espnet_tse_gen.bin.codec_resynth --codec_dir exp/codec_mel_16k --wav_scp dump/raw/test/spk1.scp \\
        --level_scp dump/raw/test/wav.scp --mixture true --output_dir exp/ceiling/test --name spk1
    python -m espnet_tse_gen.bin.codec_resynth --codec_config conf/codec/mini_16k.yaml --input a.wav --output b.wav

Every output has its input's rate, length and level. With --codec_config the codec is made for this call, with weights
from where codec_prepare finds them too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_tse_gen.utils.arguments import OneLineParser
from espnet_tse_gen.utils.errors import UserError, run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(description="Encode and decode recordings (the codec's ceiling).")
    add = parser.add_argument
    add("--codec_dir", help="codec directory, made by codec_prepare")
    add("--codec_config", help="instead: a file of conf/codec whose weights ship, are cached, or are given")
    add("--weights", help="with --codec_config: its weights, as for codec_prepare")
    add("--input", help="one recording; with --output")
    add("--output", help="where its resynthesis goes")
    add("--overwrite", action="store_true", help="replace --output if it is there")
    add("--wav_scp", help="recordings; with --output_dir and --name")
    add("--level_scp", help="mixtures (same keys) that set the level and lend their phase")
    add("--output_dir", help="where NAME.scp and wavs/NAME/KEY.wav go")
    add("--name", help="name of the table, e.g. spk1")
    add("--mixture", choices=("true", "false", "auto"), default="false", help="decode with the phase of --level_scp; "
        "auto: if the codec can")  # fmt: skip
    add("--num_levels", type=int, help="decode the first so many levels of the codes; default: all")
    add("--job", type=int, default=1, help="number of this job, from 1")
    add("--num_jobs", type=int, default=1, help="number of all jobs")
    add("--device", default="cpu", help="cpu or cuda")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    single = args.input is not None or args.output is not None
    for option in ("input", "output") if single else ("wav_scp", "output_dir", "name"):
        if getattr(args, option) is None:
            raise UserError(f"--{option} is missing: give --input and --output, or --wav_scp, --output_dir and --name")
    if (args.codec_dir is None) == (args.codec_config is None):
        raise UserError("--codec_dir: give it, or --codec_config instead; one of the two")
    if args.weights is not None and args.codec_config is None:
        raise UserError("--weights: only with --codec_config; a codec directory has its own")
    from espnet_tse_gen.audio.recordings import Recordings
    from espnet_tse_gen.codec.resynthesis import open_codec, resynthesize_file, resynthesize_table

    codec = open_codec(args.codec_dir, args.codec_config, args.weights, args.device)
    if args.num_levels is not None and not 1 <= args.num_levels <= codec.num_levels:
        raise UserError(f"--num_levels: expected 1..{codec.num_levels} for codec '{codec.name}', got {args.num_levels}")
    if single:
        resynthesize_file(codec, args.input, args.output, args.num_levels, args.overwrite)
        return
    table, output = Recordings(args.wav_scp, args.level_scp), Path(args.output_dir)
    print(resynthesize_table(codec, table, output, args.name, args.mixture, args.job, args.num_jobs, args.num_levels))


if __name__ == "__main__":
    run_main(main)
