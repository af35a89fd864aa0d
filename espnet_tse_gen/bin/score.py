"""Score one system on one set and put a row per item into the score table.

For example, both targets of a decoded set:

    python -m espnet_tse_gen.bin.score --data_dir dump/raw/test --set test --system greedy_16 \
        --inf_scp exp/m/decode_greedy_16/test/spk1.scp --inf_scp exp/m/decode_greedy_16/test/spk2.scp \
        --output_dir exp/m/decode_greedy_16/test/scoring --scores exp/m/scores.csv --nj 4
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_tse_gen.utils.arguments import OneLineParser, at_least, boolean
from espnet_tse_gen.utils.errors import UserError, run_main

if TYPE_CHECKING:
    from espnet_tse_gen.scoring.run import ScoringJob


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command's options."""
    parser = OneLineParser(
        prog="score",
        description="Score extracted speech: ESPnet's enh_scoring, SI-SDR raw and aligned, speaker similarity, DNSMOS, "
        "word error rates.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data_dir", type=Path, help="data directory with wav.scp, spk{n}.scp, target_spk{n}, spk2gender, text_spk{n}")
    add("--ref_scp", type=Path, action="append", help="clean speech; once per speaker; default: data_dir")
    add("--inf_scp", type=Path, action="append", required=True, help="outputs; once per target speaker")
    add("--mixture_scp", type=Path, help="mixtures; default: wav.scp of data_dir")
    add("--output_dir", type=Path, required=True, help="for ESPnet's tables, and what is kept to go on after a stop")
    add("--scores", type=Path, help="score table to add to; default: OUTPUT_DIR/scores.csv")
    add("--system", required=True, help="name of the system, a row of the result table")
    add("--set", help="name of the test set; default: name of the data directory")
    add("--preset", default="signal", help="signal, generative (adds DNSMOS) or full (adds CI-SDR)")
    add("--delay", type=_delay, default=0, metavar="SAMPLES", help="by which outputs lag the references (codec delay); auto: "
        "measured on --ceiling_scp")  # fmt: skip
    add("--ceiling_scp", type=Path, action="append", help="clean speech through the codec; once per speaker")
    add("--nj", type=at_least(1), default=1, help="number of processes")
    add("--force", type=boolean, default=False, metavar="BOOL", help="score again even if nothing changed")
    add("--log_level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    add = parser.add_argument_group("word error rates").add_argument
    add("--score_with_asr", type=boolean, default=False, metavar="BOOL", help="compute WER and dWER")
    add("--asr_exp", type=Path, help="exp directory of an ESPnet ASR model, or an unpacked one")
    add("--asr_model_file", help="checkpoint in it; default: valid.acc.ave.pth or the like")
    add("--asr_decode_config", type=Path, help="yaml of beam_size, ctc_weight, ...; see docs/scoring.md")
    add("--asr_text", default="basic", help="text normalisation: basic, none or whisper_en")
    add("--text", type=Path, action="append", help="transcripts; once per speaker; default: text_spk{n} of data_dir")
    add("--clean_dir", type=Path, help="where recognised clean speech is kept for all systems; default: OUTPUT_DIR")
    add = parser.add_argument_group("networks that are scored with only when they are named").add_argument
    add("--networks", nargs="+", default=[], metavar="NAME[=WHERE]", help="distill_mos, whisper_tiny; wavlm, espnet_spk, "
        "speechbertscore, whisper, of which WHERE is a folder or a repository of the hub[@REVISION]")  # fmt: skip
    add("--download_networks", type=boolean, default=False, metavar="BOOL", help="fetch what is missing of --networks")
    add("--device", default="cpu", help="where ASR and --networks run: cpu, cuda or cuda:N")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Score the system that the options name.

    Raises:
        UserError: For options or files that cannot be used.
    """
    args = get_parser().parse_args(cmd)
    logging.basicConfig(level=args.log_level, format="%(asctime)s %(levelname)s: %(message)s")
    if args.data_dir is None and (args.ref_scp is None or args.mixture_scp is None):
        raise UserError("--data_dir: is required unless both --ref_scp and --mixture_scp are given")
    for option, value in (("--system", args.system), ("--set", args.set)):
        if value is not None and not value.strip():
            raise UserError(f"{option}: is empty; give a name")
    if args.delay is None and not args.ceiling_scp:
        raise UserError("--delay auto: needs --ceiling_scp, the clean speech through the codec")
    if args.score_with_asr and args.asr_exp is None:
        raise UserError("--score_with_asr: needs --asr_exp, the exp directory of an ESPnet ASR model")

    from espnet_tse_gen.scoring.run import run_scoring

    job = _job(args)
    rows = run_scoring(job, force=args.force)
    scored = [row.metrics["SI_SDR_aligned"] for row in rows if "SI_SDR_aligned" in row.metrics]
    mean = f"aligned SI-SDR {sum(scored) / len(scored):.2f} dB" if scored else "none of them with scores"
    without = f", {len(rows) - len(scored)} without scores" if scored and len(scored) < len(rows) else ""
    print(f"{job.system} on {job.set}: {len(rows)} items{without}, {mean} -> {job.scores}")


def _job(args: argparse.Namespace) -> ScoringJob:
    from espnet_tse_gen.scoring.items import speaker_tables
    from espnet_tse_gen.scoring.metrics.words import Words
    from espnet_tse_gen.scoring.networks import locate, parse_choice
    from espnet_tse_gen.scoring.recognizers import ESPnetASR, Recognizer, Whisper, WhisperTiny
    from espnet_tse_gen.scoring.run import ScoringJob

    data_dir: Path = args.data_dir or args.mixture_scp.parent
    networks = [parse_choice(text, args.device) for text in args.networks]
    for choice in networks:
        if choice.where:
            locate(choice, args.download_networks)
    recognizers: list[tuple[Recognizer, str]] = []
    if args.score_with_asr:
        decode = str(args.asr_decode_config) if args.asr_decode_config else None
        recognizers.append((ESPnetASR(str(args.asr_exp), args.asr_model_file, decode, args.device), args.asr_text))
    recognizers += [(Whisper(choice), "whisper_en") for choice in networks if choice.name == "whisper"]
    recognizers += [(WhisperTiny(choice), "whisper_en") for choice in networks if choice.name == "whisper_tiny"]
    texts = args.text or [data_dir / f"text_spk{number}" for number in range(1, len(args.inf_scp) + 1)]
    folders = str(args.output_dir), str(args.clean_dir or args.output_dir)
    return ScoringJob(
        system=args.system,
        set=args.set or data_dir.resolve().name,
        mixture_scp=args.mixture_scp or data_dir / "wav.scp",
        ref_scps=args.ref_scp or speaker_tables(data_dir),
        inf_scps=args.inf_scp,
        output_dir=args.output_dir,
        scores=args.scores or args.output_dir / "scores.csv",
        data_dir=data_dir,
        preset=args.preset,
        delay=args.delay,
        ceiling_scps=args.ceiling_scp or (),
        nj=args.nj,
        networks=[choice for choice in networks if not choice.name.startswith("whisper")],
        further=[Words(recognizer, text, tuple(map(str, texts)), *folders) for recognizer, text in recognizers],
    )


def _delay(text: str) -> int | None:
    """Samples, or ``None`` for "auto"."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number of samples or auto, not '{text}'") from None


if __name__ == "__main__":
    run_main(main)
