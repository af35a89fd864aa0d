#!/usr/bin/env python3
"""Time of a training step: ESPnet's trainer on drawn mixtures beside a bare loop over them, and two processes beside one.

    python benchmarks/training.py --sources dump/sources/train --config conf/train/dual_path_16k.yaml --steps 30

``--sources`` is a folder that ``prepare_sources`` made. The trainer runs as a recipe runs it, reporter, clipping, scheduler and
data loader included; its figure is the mean of ``train_time`` in its log, after a warm-up. The bare loop draws, computes, and
updates, and does nothing else. All run on one thread each.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from common import ROOT, markdown, speech_like, thread_variables

from espnet_tse_gen.utils.errors import UserError, run_main

BARE = "bare"
WARMUP = 6
"""Steps that are not timed."""


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--sources", type=Path, required=True, help="folder with wav.scp, utt2spk and utt2dur")
    parser.add_argument("--config", type=Path, default=ROOT / "conf" / "train" / "dual_path_16k.yaml")
    parser.add_argument("--steps", type=int, default=30, help="steps that are timed (default: %(default)s)")
    parser.add_argument("--two", action="store_true", help="also two processes, each with half of every batch")
    parser.add_argument("--what", default="", help=argparse.SUPPRESS)
    return parser


def command(args: argparse.Namespace, folder: Path) -> list[str]:
    """Return the options of a training, validated on two mixtures."""
    from espnet_tse_gen.audio.writing import write_audio

    write_audio(folder / "sound.wav", speech_like(32000, 0).numpy(), 16000)
    (folder / "sound.scp").write_text("".join(f"{key} {folder}/sound.wav\n" for key in ("one", "two")))
    (folder / "shape").write_text("one 32000\ntwo 32000\n")
    options = {
        "config": args.config, "output_dir": folder / "exp", "num_spk": 2, "max_epoch": 1, "log_interval": 1,
        "num_iters_per_epoch": WARMUP + args.steps, "valid_shape_file": folder / "shape",
        "train_shape_file": folder / "shape", "use_tensorboard": "true", "valid_batch_size": 2,
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    for path, kind in (("wav.scp,speech", "sound"), ("utt2spk,speaker", "text")):
        words += ["--train_data_path_and_name_and_type", f"{args.sources}/{path},{kind}"]
    for name in ("speech_mix", "speech_ref1", "enroll_ref1", "speech_ref2", "enroll_ref2"):
        kind = "text" if name.startswith("enroll") else "sound"
        words += ["--valid_data_path_and_name_and_type", f"{folder}/sound.scp,{name},{kind}"]
    return words


def run(words: Sequence[str]) -> subprocess.Popen[str]:
    """Start a program of this tree on one thread."""
    own = {**os.environ, **thread_variables(1), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *words], env=own, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finished(process: subprocess.Popen[str]) -> str:
    """Wait for a program and return what it printed."""
    log, _ = process.communicate()
    if process.returncode:
        raise UserError(f"the training failed: {log.strip().splitlines()[-1] if log.strip() else 'no output'}")
    return log


def trainer_seconds(log: str) -> float:
    """Return the mean of a log's ``train_time`` after the warm-up."""
    times = [float(value) for value in re.findall(r"epoch:train:\d+-\d+batch:.*?train_time=([\d.e+-]+)", log)]
    return statistics.fmean(times[WARMUP:])


def bare_seconds(args: argparse.Namespace, folder: Path) -> float:
    """Return the mean time of a step of the bare loop, in this process."""
    import torch
    from espnet2.train.distributed_utils import DistributedOption

    from espnet_tse_gen.training import mixing
    from espnet_tse_gen.training.tse_task import TSETask
    from espnet_tse_gen.utils.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(1)
    parsed = TSETask.get_parser().parse_args(command(args, folder))
    model = TSETask.build_model(parsed).train()
    (optimizer,) = TSETask.build_optimizers(parsed, model)
    options = TSETask.build_iter_options(parsed, DistributedOption(), mode="train")
    batches = mixing.build_iter_factory(parsed, options, TSETask.build_preprocess_fn(parsed, True)).build_iter(1)
    times = []
    start = time.perf_counter()
    for _, batch in batches:
        loss, _, _ = model(**batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), parsed.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
    return statistics.fmean(times[WARMUP:])


def main(cmd: Sequence[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    args.sources, args.config = args.sources.resolve(), args.config.resolve()
    if not (args.sources / "wav.scp").is_file():
        raise UserError(f"--sources {args.sources}: holds no wav.scp; make it by prepare_sources")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if args.what == BARE:
            print(f"bare {bare_seconds(args, folder):.4f}")
            return
        program = "-m", "espnet_tse_gen.bin.tse_train"
        own = ["--sources", str(args.sources), "--config", str(args.config), "--steps", str(args.steps)]
        bare = float(finished(run([__file__, *own, "--what", BARE])).split("bare ")[-1])
        found = {
            "bare loop": bare,
            "ESPnet's trainer": trainer_seconds(finished(run([*program, *command(args, folder)]))),
        }
        if args.two:
            with socket.socket() as probe:
                probe.bind(("localhost", 0))
                port = str(probe.getsockname()[1])
            (folder / "two").mkdir()
            words = [*program, *command(args, folder / "two"), "--dist_backend", "gloo", "--dist_world_size", "2"]
            words += ["--multiprocessing_distributed", "false", "--dist_master_addr", "localhost"]
            both = [run([*words, "--dist_master_port", port, "--dist_rank", str(rank)]) for rank in (0, 1)]
            log, _ = map(finished, both)
            found["two processes"] = trainer_seconds(log)
        rows = [[name, f"{seconds:.3f}", f"{seconds / bare:.2f}"] for name, seconds in found.items()]
        print("\n".join(markdown(["", "seconds per step", "to the bare loop"], rows)))


if __name__ == "__main__":
    run_main(main)
