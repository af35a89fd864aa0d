"""Extract one speaker of every mixture of a set: the decoding stage of the recipe.

    python -m espnet_tse_gen.bin.tse_gen_inference --model_dir exp/tse_x --decode_config conf/decode/greedy_16.yaml \\
        --mixture_scp dump/raw/test/wav.scp --enroll_scp dump/raw/test/enroll_spk1.scp --name spk1 \\
        --output_dir exp/tse_x/greedy_16/test --job 1 --num_jobs 4

The model may be of any kind, masked generative or discriminative; options of decoding are those of its kind.
Writes ``wavs/NAME/KEY.wav`` (at the mixture's rate, length, level and, if that is lossless, sample format), ``NAME.N.scp`` for
job N, ``NAME.N.rtf.json`` (how long it took, codec included) and, given the target's tokens, ``NAME.N.token_accuracy.csv``; the
job that completes the last part writes ``NAME.scp``. What is there and was made from the same recordings, model and
options is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from espnet_tse_gen.utils.arguments import OneLineParser, boolean
from espnet_tse_gen.utils.errors import UserError, run_main
from espnet_tse_gen.utils.files import check_same_keys, read_scp

if TYPE_CHECKING:
    from espnet_tse_gen.inference.base import TargetSpeakerExtractor

# The fields of DecodingOptions and SegmentOptions, here by name: importing them would make --help wait for torch.
DECODING_OPTIONS = (
    "steps", "joint", "temperature", "choice_temperature", "anneal", "top_k", "top_p", "order", "coarse_first",
    "guidance", "guidance_schedule", "remask", "rescore_fraction", "rescore_rounds", "remdm_eta", "seed",
    "chunk_seconds", "carry_seconds", "reconstruction", "batch_size",
)  # fmt: skip
SEGMENT_OPTIONS = ("segment_seconds", "overlap_seconds", "scale", "batch_size")
ALL_OPTIONS = tuple(dict.fromkeys((*DECODING_OPTIONS, *SEGMENT_OPTIONS)))


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(description="Extract one speaker of every mixture of a set.")
    parser.add_argument("--model_dir", required=True, help="exp directory, packed zip file, or shipped model")
    parser.add_argument("--model_file", help="checkpoint in it; default: the best average that is there")
    parser.add_argument("--mixture_scp", required=True, help="table of the mixtures")
    parser.add_argument("--enroll_scp", required=True, help="table of the enrolments: same keys, paths")
    parser.add_argument("--output_dir", required=True, help="where the recordings and their table go")
    parser.add_argument("--name", default="spk1", help="name of the table, e.g. spk1")
    parser.add_argument("--target_scp", help="table of the targets, none of which may be its own enrolment")
    parser.add_argument("--codes_scp", help="table of the targets' tokens, to measure token accuracy")
    parser.add_argument("--key_file", help="table whose first column are the keys to extract; default: all")
    parser.add_argument("--job", type=int, default=1, help="number of this job, from 1")
    parser.add_argument("--num_jobs", type=int, default=1, help="number of all jobs")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument(
        "--dtype", default="float32", help="float32; float64: no batch size changes a token; bfloat16: faster"
    )
    parser.add_argument("--num_threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    parser.add_argument("--overwrite", type=boolean, default=False, help="make again what is there")
    group = parser.add_argument_group("decoding", "each of the following replaces one key of --decode_config")
    group.add_argument("--decode_config", help="a file of conf/decode or a preset's name; default: the model's own")
    for name in ALL_OPTIONS:
        group.add_argument(f"--{name}", metavar="VALUE", help=argparse.SUPPRESS if name != "seed" else _decoding_help())
    return parser


def _decoding_help() -> str:
    masked = ", ".join(f"--{name}" for name in DECODING_OPTIONS if name != "seed")
    own = ", ".join(f"--{name}" for name in SEGMENT_OPTIONS)
    return f"and likewise {masked}; of discriminative models: {own}"


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_tse_gen.utils.jobs import read_key_file, split_keys

    check_same_keys(args.mixture_scp, args.enroll_scp)
    mixtures, enrolls = read_scp(args.mixture_scp), read_scp(args.enroll_scp)
    chosen = read_key_file(args.key_file, mixtures) if args.key_file else list(mixtures)
    keys = split_keys(chosen, args.job, args.num_jobs)
    tables = {"mixture": mixtures, "enroll": enrolls}
    for kind in ("target", "codes"):
        path = getattr(args, f"{kind}_scp")
        if path:
            tables[kind] = _covering(path, chosen, args.mixture_scp)
    from espnet_tse_gen.inference.job import InferenceJob

    extractor = _load(args)
    job = InferenceJob(extractor, tables, args.output_dir, args.name, job=args.job, num_jobs=args.num_jobs)
    print(job.run(keys, args.overwrite))


def _covering(path: str, keys: Sequence[str], mixture_scp: str) -> dict[str, str]:
    """Read a table that must have all ``keys`` (and may have more)."""
    table = read_scp(path)
    missing = sorted(set(keys) - table.keys())
    if missing:
        raise UserError(f"{path}: {len(missing)} key(s) of {mixture_scp} are missing, first '{missing[0]}'; add them")
    return table


def _load(args: argparse.Namespace) -> TargetSpeakerExtractor:
    from espnet_tse_gen.inference.base import TargetSpeakerExtractor, with_changes
    from espnet_tse_gen.utils.parallel import set_threads

    set_threads(args.num_threads)
    extractor = TargetSpeakerExtractor.from_pretrained(
        args.model_dir, args.device, args.model_file, args.decode_config, args.dtype
    )
    extractor.options = with_changes(extractor.options, given_options(args))
    return extractor


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the decoding options on the command line, read as yaml values (``--steps "[8, 2]"``).

    Raises:
        UserError: If a value is not yaml.
    """
    import yaml

    values: dict[str, Any] = {}
    for name in ALL_OPTIONS:
        text = getattr(args, name, None)
        if text is not None:
            try:
                values[name] = yaml.safe_load(text)
            except yaml.YAMLError:
                raise UserError(f"--{name}: cannot read the value '{text}'") from None
    return values


if __name__ == "__main__":
    run_main(main)
