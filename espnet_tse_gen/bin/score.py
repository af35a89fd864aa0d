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

from espnet_tse_gen.errors import UserError, run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command's options."""
    parser = argparse.ArgumentParser(
        prog="score",
        description="Score extracted speech: ESPnet's enh_scoring, SI-SDR raw and aligned, speaker similarity, DNSMOS.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--data_dir", type=Path, help="data directory with wav.scp, spk{n}.scp, target_spk{n}, spk2gender"
    )
    parser.add_argument(
        "--ref_scp", type=Path, action="append", help="clean speech; once per speaker; default: data_dir"
    )
    parser.add_argument("--inf_scp", type=Path, action="append", required=True, help="outputs; once per target speaker")
    parser.add_argument("--mixture_scp", type=Path, help="mixtures; default: wav.scp of data_dir")
    parser.add_argument("--output_dir", type=Path, required=True, help="for ESPnet's tables, and log/")
    parser.add_argument("--scores", type=Path, help="score table to add to; default: OUTPUT_DIR/scores.csv")
    parser.add_argument("--system", required=True, help="name of the system, a row of the result table")
    parser.add_argument("--set", help="name of the test set; default: name of the data directory")
    parser.add_argument("--preset", default="signal", help="signal, generative (adds DNSMOS) or full (adds CI-SDR)")
    parser.add_argument(
        "--delay", type=int, default=0, help="samples by which outputs lag the references (codec delay)"
    )
    parser.add_argument("--rtf_json", type=Path, help="real-time factor; default: what decoding left beside --inf_scp")
    parser.add_argument("--nj", type=int, default=1, help="number of processes")
    parser.add_argument(
        "--force", type=_bool, default=False, metavar="BOOL", help="score again even if nothing changed"
    )
    parser.add_argument("--log_level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
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
    data_dir: Path = args.data_dir or args.mixture_scp.parent
    ref_scps = args.ref_scp or _references(data_dir)
    mixture_scp: Path = args.mixture_scp or data_dir / "wav.scp"
    if args.nj < 1:
        raise UserError(f"--nj {args.nj}: expected 1 or more")
    for option, value in (("--system", args.system), ("--set", args.set)):
        if value is not None and not value.strip():
            raise UserError(f"{option}: is empty; give a name")

    from espnet_tse_gen.scoring.run import ScoringJob, run_scoring

    job = ScoringJob(
        system=args.system,
        set=args.set or data_dir.resolve().name,
        mixture_scp=mixture_scp,
        ref_scps=ref_scps,
        inf_scps=args.inf_scp,
        output_dir=args.output_dir,
        scores=args.scores or args.output_dir / "scores.csv",
        data_dir=data_dir,
        preset=args.preset,
        delay=args.delay,
        nj=args.nj,
        rtf_json=args.rtf_json,
    )
    rows = run_scoring(job, force=args.force)
    mean = sum(row.metrics["SI_SDR_aligned"] for row in rows) / len(rows)
    print(f"{job.system} on {job.set}: {len(rows)} items, aligned SI-SDR {mean:.2f} dB -> {job.scores}")


def _references(data_dir: Path) -> list[Path]:
    """The ``spk{n}.scp`` of a data directory, in order."""
    found: list[Path] = []
    while (path := data_dir / f"spk{len(found) + 1}.scp").exists():
        found.append(path)
    if not found:
        raise UserError(f"{data_dir / 'spk1.scp'}: no such file; --data_dir must hold spk1.scp, spk2.scp, ...")
    return found


def _bool(text: str) -> bool:
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, not '{text}'")


if __name__ == "__main__":
    run_main(main)
