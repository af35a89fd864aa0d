"""The command ``tse-gen``: extract a voice from a recording without a recipe.

    tse-gen extract --mixture meeting.wav --enroll alice.wav -o alice_only.wav
    tse-gen info --model exp/tse_x

Nothing heavy is imported before the command line has been read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_tse_gen import __version__
from espnet_tse_gen.inference.loading import DEFAULT_MODEL
from espnet_tse_gen.utils.arguments import OneLineParser
from espnet_tse_gen.utils.errors import run_main

if TYPE_CHECKING:
    import numpy as np

ABSENT = 0.5
"""Confidence below which a warning is given."""


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(prog="tse-gen", description="Extract a target speaker's voice.")
    parser.add_argument("--version", action="version", version=f"tse-gen {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    extract = commands.add_parser("extract", help="extract the enrolled speaker's voice from a recording")
    extract.add_argument("--mixture", required=True, metavar="WAV", help="recording of several speakers (mono)")
    extract.add_argument(
        "--enroll",
        required=True,
        action="append",
        metavar="WAV",
        help="the target speaker alone, a few seconds (mono); may be given several times",
    )
    extract.add_argument("-o", "--output", required=True, metavar="WAV", help="file to write, .wav or .flac")
    extract.add_argument(
        "--decode",
        metavar="NAME|YAML",
        help="a preset (one_pass, greedy_16, stochastic, ...; of discriminative models: segments) or a file of decoding "
        "options; default: the model's own",
    )
    extract.add_argument("--seed", type=int, help="seed of stochastic decoding")
    extract.add_argument("--overwrite", action="store_true", help="replace the output if it is there")
    info = commands.add_parser("info", help="say what a model is")
    for command in (extract, info):
        command.add_argument(
            "--model",
            default=DEFAULT_MODEL,
            metavar="DIR|ZIP|NAME",
            help="exp directory, zip file made by pack, or a shipped model: dual_path_16k and the older mc_spex_16k are for "
            "people, mini_librimix is generative and knows synthetic voices only (default: %(default)s)",
        )
        command.add_argument("--model_file", metavar="PTH", help="checkpoint in it (default: the best average)")
    extract.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    extract.add_argument("--num_threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    {"extract": _extract, "info": _info}[args.command](args)


def entry() -> None:
    """Run the command as installed: a user's mistake is one line and exit status 2."""
    run_main(main)


def _extract(args: argparse.Namespace) -> None:
    output = Path(args.output)
    from espnet_tse_gen.audio.files import check_output, output_subtype, read_with_format, write_audio

    check_output(output, [("--mixture", args.mixture), *(("--enroll", path) for path in args.enroll)], args.overwrite)
    # The recordings first: a mistake in their names should not wait for torch.
    mixture, rate, _, subtype = read_with_format(args.mixture)
    enrolls = _read_enrolls(args.enroll)
    from espnet_tse_gen.inference.base import TargetSpeakerExtractor, with_changes
    from espnet_tse_gen.utils.parallel import set_threads

    set_threads(args.num_threads)
    extractor = TargetSpeakerExtractor.from_pretrained(args.model, args.device, args.model_file, args.decode)
    if args.seed is not None:
        extractor.options = with_changes(extractor.options, {"seed": args.seed})
    enroll_rate = enrolls[0][1]
    request = extractor.request(
        mixture,
        [samples for samples, _ in enrolls] if len(enrolls) > 1 else enrolls[0][0],
        rate,
        enroll_sample_rate=enroll_rate,
        mixture_name=str(args.mixture),
        enroll_name=str(args.enroll[0]) if len(enrolls) == 1 else "enrolment",
    )
    extraction = extractor.extract([request])[0]
    samples = extraction.samples
    subtype = output_subtype(output, subtype)
    write_audio(output, samples, rate, subtype)
    confidence = extraction.confidence
    print(f"{output}: {len(samples) / rate:.2f} s at {rate} Hz{_clipping(samples, subtype)}")
    if confidence is not None and confidence < ABSENT:
        print(
            f"{output}: the enrolled speaker is probably not in {args.mixture} (confidence {confidence:.2f})",
            file=sys.stderr,
        )


def _read_enrolls(paths: Sequence[str]) -> list[tuple[np.ndarray, int]]:
    """Read enrolments, all at the rate of the first."""
    from espnet_tse_gen.audio.files import read_audio
    from espnet_tse_gen.audio.recordings import resample

    first, *others = (read_audio(path) for path in paths)
    return [first, *((resample(samples, own, first[1]), first[1]) for samples, own in others)]


def _clipping(samples: np.ndarray, subtype: str) -> str:
    clipped = int((abs(samples) > 1.0).sum()) if subtype not in ("FLOAT", "DOUBLE") else 0
    return f" ({clipped} samples were clipped: the mixture is close to full scale)" if clipped else ""


def _info(args: argparse.Namespace) -> None:
    from espnet_tse_gen.inference.loading import CARD, DECODE, open_model

    with open_model(args.model) as directory:
        checkpoint = directory.checkpoint(args.model_file)
        facts_of = _discriminative_facts if directory.is_discriminative else _masked_facts
        parameters, extractor, facts = facts_of(directory.config_file, checkpoint)
        decode, card = directory.text(DECODE) or "default\n", directory.text(CARD)
    print(f"model:      {args.model}")
    print(f"checkpoint: {checkpoint.name}, {parameters / 1e6:.2f} M parameters, {extractor}")
    print(facts)
    print(f"decoding:   {'; '.join(decode.splitlines())}")
    if card:
        print(f"\n{card}", end="")


def _masked_facts(config: Path, checkpoint: Path) -> tuple[int, str, str]:
    """Return a masked generative model's number of parameters, extractor, and the lines about its codec and front end."""
    from espnet_tse_gen.inference.front_end import load_model

    model = load_model(config, checkpoint)
    codec = model.codec
    front_end: Any = model.front_end
    facts = (
        f"codec:      {codec.name}, {codec.sample_rate} Hz, {codec.frame_rate:g} frames/s, "
        f"{codec.num_levels} levels x {codec.codebook_size}, fingerprint {codec.fingerprint()[:12]}"
    )
    if front_end is not None:
        facts += f"\nfront end:  {type(front_end.model.extractor).__name__}, {front_end.model.sample_rate} Hz"
    return sum(parameter.numel() for parameter in model.parameters()), type(model.extractor).__name__, facts


def _discriminative_facts(config: Path, checkpoint: Path) -> tuple[int, str, str]:
    """Return a discriminative model's number of parameters, extractor, and the line about its rate."""
    from espnet_tse_gen.discriminative.build import load_model

    model = load_model(config, checkpoint)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters, type(model.extractor).__name__, f"rate:       {model.sample_rate} Hz, waveform to waveform"


if __name__ == "__main__":
    entry()
