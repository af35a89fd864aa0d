#!/usr/bin/env python3
"""What one call of `tse-gen extract` for a folder of recordings saves beside a call for each of them.

    python benchmarks/many_files.py --threads 1 --files 200 --calls 10 --speech espnet_tse_gen/speech

A mixture is the sum of two recordings of `--speech`, as loud as each other, or of noise like speech; who talks does not change
the time. All have one enrolment. Of the calls for one recording each there are only `--calls`, and their time is scaled to all
recordings. Time is that of whole processes, with start and loading: what passes, and the processor's.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import common
from common import ROOT, SAMPLE_RATE, head, markdown, parse, speech_like, thread_variables, write_report

from espnet_tse_gen.utils.errors import UserError, run_main


def options() -> argparse.ArgumentParser:
    parser = common.get_parser(str(__doc__), threads=1, repeats=1)
    parser.add_argument("--files", type=int, default=200, help="recordings")
    parser.add_argument("--calls", type=int, default=10, help="of them that have a call of their own")
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of a mixture, at most")
    parser.add_argument("--speech", type=Path, help="folder of recordings; noise like speech if not given")
    parser.add_argument("--model", default="dual_path_16k", help="as of tse-gen extract")
    return parser


def make_recordings(folder: Path, args: argparse.Namespace) -> None:
    """Write the mixtures into ``folder / "mixtures"``, and ``folder / "enroll.wav"``."""
    import numpy as np

    from espnet_tse_gen.audio.files import AUDIO_SUFFIXES, read_audio
    from espnet_tse_gen.audio.recordings import resample
    from espnet_tse_gen.audio.writing import write_audio

    found = sorted(args.speech.rglob("*")) if args.speech else []
    paths = [path for path in found if path.suffix.lower() in AUDIO_SUFFIXES]
    if args.speech and len(paths) < 2:
        raise UserError(f"--speech {args.speech}: holds {len(paths)} recordings, expected two or more")

    def speech(number: int) -> np.ndarray:
        length = round(args.seconds * SAMPLE_RATE)
        if not paths:
            return speech_like(length, number).numpy()
        samples, rate = read_audio(paths[number % len(paths)])
        samples = resample(samples, rate, SAMPLE_RATE)[:length]
        return 0.05 * samples / max(float(np.sqrt(np.mean(samples**2))), 1e-8)

    write_audio(folder / "enroll.wav", speech(0), SAMPLE_RATE)
    for number in range(args.files):
        # One number further in each round through the folder, so that pairs do not come twice.
        first, second = speech(number), speech(number + 1 + number // max(len(paths), 1))
        size = min(len(first), len(second))
        write_audio(folder / "mixtures" / f"{number:04}.wav", first[:size] + second[:size], SAMPLE_RATE)


def seconds_of(args: argparse.Namespace, folder: Path, mixture: Path, output: Path) -> tuple[float, float]:
    """Extract with one call; return the seconds that passed, and those of the processor."""
    command = [sys.executable, "-m", "espnet_tse_gen", "extract", str(mixture), "-o", str(output)]
    command += ["--enroll", str(folder / "enroll.wav")]
    command += ["--model", args.model, "--num_threads", str(args.threads), "--quiet", "--overwrite"]
    start, before = time.perf_counter(), sum(os.times()[2:4])
    variables = {**thread_variables(args.threads), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    passed, worked = time.perf_counter() - start, sum(os.times()[2:4]) - before
    if done.returncode:
        raise UserError(f"{mixture}: {(done.stderr.strip().splitlines() or ['ended with no word'])[-1]}")
    return passed, worked


def main(cmd: Sequence[str] | None = None) -> None:
    args = parse(options(), cmd, "files", "calls")
    calls = min(args.calls, args.files)
    speech = f"speech of {args.speech}" if args.speech else "noise like speech"
    text = f"Mixtures of at most {args.seconds:g} s, made of {speech}, with {args.model}."
    rows, report = [], head("Many recordings", text, args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_recordings(folder, args)
        mixtures = sorted((folder / "mixtures").iterdir())
        for number in range(args.repeats):
            print(f"round {number + 1} of {args.repeats}", file=sys.stderr, flush=True)
            together = seconds_of(args, folder, folder / "mixtures", folder / "together")
            # From all over the folder.
            chosen = [mixtures[place * args.files // calls] for place in range(calls)]
            alone = [seconds_of(args, folder, path, folder / path.name) for path in chosen]
            passed, worked = (sum(each) / calls * args.files for each in zip(*alone, strict=True))
            rows.append(["one call", args.files, *(f"{value:.1f}" for value in together), "1 (the peer)"])
            rows.append([
                f"a call each: {calls}, scaled", args.files, f"{passed:.1f}", f"{worked:.1f}", f"{passed / together[0]:.1f}",
            ])  # fmt: skip
    headings = ["system", "recordings", "seconds", "processor's seconds", "times as long"]
    write_report([*report, *markdown(headings, rows)], args.output)


if __name__ == "__main__":
    run_main(main)
