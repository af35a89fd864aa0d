#!/usr/bin/env python3
"""What keeping freed memory (`utils/memory.py`) is worth: seconds and peak memory of training, extraction and tokenization.

Each case runs in a process of its own for each setting of glibc's allocator, round after round, so that whatever else the
machine does meets all settings alike. Ratios are of processor time, the system's included, within a round: on a machine that does
nothing else it is the time that passes.

    python benchmarks/memory.py --threads 1 --repeats 3

Networks that are trained and codecs have random weights; extraction is by the models that ship. Seconds are those of the
work, without imports and loading; memory is the most that the process held at any time, with everything.
"""

import argparse
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import common
from common import ROOT, SAMPLE_RATE, head, markdown, parse, ratios, rounds, speech_like, spread, write_report

from espnet_tse_gen.utils.errors import run_main

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = 2**31 - 1
LARGEST_THRESHOLD = 2**25
"""Bytes: glibc takes no larger one."""
DEFAULT, KEPT = "glibc's default", "keep_freed_memory"
SETTINGS: dict[str, tuple[tuple[int, int], ...]] = {
    DEFAULT: (),
    "M_MMAP_THRESHOLD 32 MB": ((M_MMAP_THRESHOLD, LARGEST_THRESHOLD), (M_TRIM_THRESHOLD, NEVER)),
    KEPT: (),
}
"""Name to parameters of ``mallopt``; the last is the package's own function."""

ROWS, SECONDS = 8, 3.0
"""Of a training step."""
WARM_UP, STEPS = 2, 3
SPEAKERS = 100
TRAININGS = "td_speakerbeam_16k_small", "spex_plus_16k_small", "mc_spex_16k_small", "masked_small", "dual_path_16k"
# Not through run_main, which sets up the memory itself.
RUN_HERE = [sys.executable, "-W", "ignore", "-c", "import sys; from memory import run_here; run_here(*sys.argv[1:])"]


def training(name: str) -> Callable[[], Any]:
    """Return training steps of a configuration of ``conf/train``, after some that are not timed."""
    import torch

    from espnet_tse_gen.utils.files import read_yaml

    torch.manual_seed(0)
    config = read_yaml(ROOT / "conf" / "train" / f"{name}.yaml")
    samples = round(SECONDS * SAMPLE_RATE)
    signals = [torch.stack([speech_like(samples, seed + row) for row in range(ROWS)]) for seed in (0, 100, 200)]
    batch = dict(zip(("speech_mix", "speech_ref1", "enroll_ref1"), signals, strict=True))
    batch.update({f"{key}_lengths": torch.full((ROWS,), samples) for key in [*batch]})
    model: Any
    if config["extractor"] == "masked":
        from espnet_tse_gen.codec.registry import build_codec
        from espnet_tse_gen.masked.build import build_model as build_masked

        codec: Any = build_codec("mel")
        codec.fit([speech_like(SAMPLE_RATE * 8, 300)], max_frames=2000, iterations=2)
        model = build_masked(codec, config)
    else:
        from espnet2.enh.loss.criterions.time_domain import SISNRLoss

        from espnet_tse_gen.training.losses import MultiScaleSolver, SpeakerCrossEntropy, SpeakerSolver
        from espnet_tse_gen.training.tse_model import build_model

        losses = [] if config["extractor"] == "dual_path" else [MultiScaleSolver(SISNRLoss())]
        conf = config["extractor_conf"]
        if "num_train_spk" in conf:
            conf["num_train_spk"] = SPEAKERS
            losses.append(SpeakerSolver(SpeakerCrossEntropy()))
            batch["spk_label_ref1"] = torch.arange(ROWS)[:, None]
        model = build_model(config, losses)
    optimizer = torch.optim.Adam(model.parameters())

    def work(steps: int = STEPS) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            model(**batch)[0].backward()
            optimizer.step()

    work(WARM_UP)
    return work


def extraction(name: str, seconds: float) -> Callable[[], Any]:
    """Return the extraction of a recording with a model that ships, after one of a second that is not timed."""
    from espnet_tse_gen import load_extractor

    extractor = load_extractor(name)
    mixture, enroll = (speech_like(round(length * SAMPLE_RATE), 1).numpy() for length in (seconds, 5.0))
    extractor(mixture[:SAMPLE_RATE], enroll, sample_rate=SAMPLE_RATE)
    return lambda: extractor(mixture, enroll, sample_rate=SAMPLE_RATE)


def tokenization(name: str, conf: dict[str, Any]) -> Callable[[], Any]:
    """Return the tokenization of recordings of 4 to 16 s, after one that is not timed."""
    import torch

    from espnet_tse_gen.codec.registry import build_codec

    torch.manual_seed(0)
    codec = build_codec(name, conf)
    recordings = [speech_like(seconds * codec.sample_rate, seconds)[None] for seconds in (4, 16, 8, 12)]
    codec.encode(recordings[0])
    return lambda: [codec.encode(recording) for recording in recordings]


CASES: dict[str, Callable[[], Callable[[], Any]]] = {
    **{f"training step, {name}": partial(training, name) for name in TRAININGS},
    **{
        f"extraction of {text}, {name}": partial(extraction, name, seconds)
        for text, seconds in (("10 s", 10.0), ("10 min", 600.0))
        for name in ("mc_spex_16k", "tse_gen_16k")
    },
    "tokenization, encodec": lambda: tokenization("encodec", {}),
}


def options() -> argparse.ArgumentParser:
    parser = common.get_parser(str(__doc__), threads=1)
    parser.add_argument("--cases", nargs="+", default=[*CASES], choices=[*CASES], metavar="CASE", help="what is run")
    return parser


def run_here(case: str, setting: str) -> None:
    """Run a case in this process and print its figures."""
    if setting == KEPT:
        from espnet_tse_gen.utils.memory import keep_freed_memory

        keep_freed_memory()
    for parameter, value in SETTINGS[setting]:
        if not ctypes.CDLL(None).mallopt(parameter, value):
            raise SystemExit(f"mallopt({parameter}, {value}) was refused")
    work = CASES[case]()
    before, start, start_cpu = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    used = resource.getrusage(resource.RUSAGE_SELF)
    faults = used.ru_minflt - before.ru_minflt
    print(json.dumps({"wall": wall, "cpu": cpu, "megabytes": used.ru_maxrss / 1024, "faults": faults}))


def measure(case: str, args: argparse.Namespace) -> list[list[str]]:
    """Return a case's rows of the table, one for each setting."""
    path = f"{ROOT}:{Path(__file__).parent}"
    environment = {**os.environ, **common.thread_variables(args.threads), "PYTHONPATH": path}
    found: dict[str, list[dict[str, float]]] = {setting: [] for setting in SETTINGS}
    for number, order in rounds([*SETTINGS], args.repeats):
        for setting in order:
            print(f"{case}, round {number + 1} of {args.repeats}: {setting}", file=sys.stderr, flush=True)
            run = subprocess.run(
                [*RUN_HERE, case, setting], env=environment, stdout=subprocess.PIPE, check=True, text=True
            )
            found[setting].append(json.loads(run.stdout.splitlines()[-1]))
    cells = []
    for setting, figures in found.items():
        cpu, default = ([each["cpu"] for each in part] for part in (figures, found[DEFAULT]))
        keys = "wall", "megabytes", "faults"
        wall, peak, faults = (statistics.median(each[key] for each in figures) for key in keys)
        ratio = "1" if setting == DEFAULT else spread(ratios(cpu, default), 2)
        cells.append([case, setting, f"{wall:.2f}", spread(cpu, 2), ratio, f"{peak:.0f}", f"{faults / 1000:.0f}"])
    return cells


def main(cmd: Sequence[str] | None = None) -> None:
    args = parse(options(), cmd)
    text = (
        f"Medians of {args.repeats} rounds [least, most]. A training case is {STEPS} steps of {ROWS} x {SECONDS:g} s."
    )
    report = head("Memory that is kept", text, args.threads)
    headings = ["case", "setting", "wall s", "CPU s", "times as fast as the default", "peak MB", "page faults / 1000"]
    write_report(
        [*report, *markdown(headings, [row for case in args.cases for row in measure(case, args)])], args.output
    )


if __name__ == "__main__":
    run_main(main)
