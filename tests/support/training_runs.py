"""A small data set, and trainings of it, forked from one process, as to import ESPnet's tasks takes ten seconds."""

import importlib
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from tiny_model import RATE, fitted_codec, voice

from espnet_tse_gen.bin import codec_tokenize
from espnet_tse_gen.codec.registry import save_codec
from espnet_tse_gen.utils.files import write_scp, write_yaml

PITCHES = {"ann": 200.0, "bob": 95.0, "cleo": 260.0, "dan": 140.0}
PRELOAD = [
    "espnet_tse_gen.training.tse_gen_task",
    "espnet_tse_gen.training.tse_task", "espnet_tse_gen.training.codec_task", "espnet_tse_gen.codec.mel",
    "espnet_tse_gen.masked.extractor", "espnet_tse_gen.discriminative.mc_spex", "espnet_tse_gen.discriminative.spex_plus",
    "espnet_tse_gen.data.preprocessor", "torch._dynamo", "torch.utils.tensorboard",
]  # fmt: skip
CONFIG = {
    "extractor_conf": {
        "width": 32, "layers": 1, "heads": 2, "mixture_layers": 1, "dropout": 0.1, "max_enroll_seconds": 1.0,
        "mixture_features": "latent", "enroll_features": "latent",
    },
    "model_conf": {"masking": "mixed"},
    "preprocessor_conf": {"crop_seconds": 0.5, "enroll_seconds": [0.4, 0.8]},
    "batch_type": "unsorted",
    "batch_size": 2,
    "max_epoch": 3,
    "num_workers": 0,
    "keep_nbest_models": 2,
    "best_model_criterion": [["valid", "loss", "min"]],
    "optim": "adamw",
    "optim_conf": {"lr": 0.003},
    "scheduler": "warmuplr",
    "scheduler_conf": {"warmup_steps": 4},
    "log_interval": 1,
    "use_matplotlib": False,
    "use_tensorboard": False,
}  # fmt: skip


def make_corpus(root: Path) -> Path:
    """Write 10 training and 4 validation mixtures of two of four voices, the tables, the codec and the configuration."""
    number = 0
    enrolments: dict[str, list[list[str]]] = {}
    for speaker, pitch in PITCHES.items():
        for n in range(2):
            path = root / "enroll" / f"{speaker}{n}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, voice(1.0, pitch, seed=900 + 10 * n + int(pitch)), RATE)
            enrolments.setdefault(speaker, []).append([f"{speaker}{n}", str(path)])
    for name, count in (("train", 10), ("valid", 4)):
        folder = root / name
        (folder / "wav").mkdir(parents=True)
        tables: dict[str, dict[str, str]] = {}
        for n in range(count):
            pair = sorted(PITCHES)[n % 4], sorted(PITCHES)[(n + 1 + n // 4) % 4]
            key, length = f"{name}{n:02d}", 0.6 + 0.05 * n
            voices = [voice(length, PITCHES[speaker], seed=(number := number + 1)) for speaker in pair]
            signals = {"wav": voices[0] + voices[1], "spk1": voices[0], "spk2": voices[1]}
            for kind, samples in signals.items():
                path = folder / "wav" / f"{key}_{kind}.wav"
                soundfile.write(path, samples, RATE)
                tables.setdefault(kind, {})[key] = str(path)
            for k, speaker in enumerate(pair, 1):
                entry = f"*{speaker}0 {speaker}" if name == "train" else enrolments[speaker][1][1]
                tables.setdefault(f"enroll_spk{k}", {})[key] = entry
        for kind, table in tables.items():
            write_scp(folder / f"{kind}.scp", table)
    (root / "spk2enroll.json").write_text(json.dumps(enrolments))
    save_codec(fitted_codec(), root / "codec")
    write_yaml(root / "train.yaml", CONFIG)
    return root


def data_options(root: Path, codes: Path | None = None) -> list[str]:
    """Options that name the data; targets as recordings, or as the tokens in ``codes``."""
    options = []
    for name in ("train", "valid"):
        option = f"--{name}_data_path_and_name_and_type"
        options += [option, f"{root}/{name}/wav.scp,speech_mix,sound"]
        for n in (1, 2):
            options += [option, f"{root}/{name}/enroll_spk{n}.scp,enroll_ref{n},text"]
            target = f"{root}/{name}/spk{n}.scp,speech_ref{n},sound"
            options += [option, f"{codes}/{name}/codes_spk{n}.scp,codes_ref{n},kaldi_ark" if codes else target]
    return [*options, "--train_spk2enroll", f"{root}/spk2enroll.json"]


def training(root: Path, output: Path, *options: str, codes: Path | None = None) -> list[str]:
    """The whole command line of a training; ``root`` also holds the statistics."""
    command = ["--config", f"{root}/train.yaml", "--codec_dir", f"{root}/codec", "--output_dir", str(output)]
    for name in ("train", "valid"):
        command += [f"--{name}_shape_file", f"{root}/stats/{name}/speech_mix_shape"]
    return [*command, *data_options(root, codes), *options]


def drawn_from(command: Sequence[str], sources: Path) -> list[str]:
    """``command`` with training mixtures that are drawn from ``sources`` in the place of its tables."""
    option = "--train_data_path_and_name_and_type"
    kept = [word for before, word in zip(["", *command], command, strict=False) if option not in (before, word)]
    speech = [option, f"{sources}/wav.scp,speech,sound", option, f"{sources}/utt2spk,speaker,text"]
    return [*kept, *speech, "--dynamic_mixing", "true"]


def tokenize(root: Path, output: Path) -> Path:
    """Write the tokens of all targets to a folder, as :func:`data_options` takes them."""
    for name in ("train", "valid"):
        for n in (1, 2):
            options = ["--codec_dir", f"{root}/codec", "--wav_scp", f"{root}/{name}/spk{n}.scp"]
            options += ["--level_scp", f"{root}/{name}/wav.scp", "--output_dir", f"{output}/{name}"]
            codec_tokenize.main([*options, "--name", f"codes_spk{n}"])
    return output


def _enter(command: Sequence[str], log: str, program: str) -> None:
    os.setsid()
    # Or data loaders' workers would each import everything again.
    multiprocessing.set_start_method("fork", force=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    sys.argv = [f"{program}.py", *command]
    main = importlib.import_module(f"espnet_tse_gen.bin.{program}").main
    from espnet_tse_gen.utils.errors import run_main

    run_main(lambda: main(command))


def start(command: Sequence[str], log: Path, program: str = "tse_gen_train") -> BaseProcess:
    """Start a training in a process group of its own; what it prints is appended to ``log``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_enter, args=(list(command), str(log), program))
    process.start()
    return process


class Result(NamedTuple):
    status: int
    log: str

    @property
    def error(self) -> str:
        """The last line printed."""
        return self.log.strip().splitlines()[-1]


def finish(process: BaseProcess, log: Path, timeout: float = 120.0) -> Result:
    process.join(timeout)
    if process.exitcode is None:
        kill(process)
        raise TimeoutError(log.read_text())
    return Result(process.exitcode, log.read_text())


def run(command: Sequence[str], log: Path, program: str = "tse_gen_train") -> Result:
    log.unlink(missing_ok=True)
    return finish(start(command, log, program), log)


def succeed(command: Sequence[str], log: Path, program: str = "tse_gen_train") -> str:
    """Run a training to its end, and return what it printed."""
    result = run(command, log, program)
    assert result.status == 0, result.log
    return result.log


def refuse(message: str, command: Sequence[str], log: Path, program: str = "tse_gen_train") -> None:
    """Require that a training ends in one line that has ``message``, before it writes anything."""
    result = run(command, log, program)
    assert result.status == 2 and message in result.error and "Traceback" not in result.log, result.log
    assert not Path(command[command.index("--output_dir") + 1]).exists()


def kill(process: BaseProcess) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.join()


def kill_when(process: BaseProcess, log: Path, text: str, timeout: float = 120.0) -> None:
    """Kill the process group once ``text`` has been printed."""
    wait_for(log, text, process, timeout)
    kill(process)


def wait_for(log: Path, text: str, process: BaseProcess, timeout: float = 120.0) -> None:
    """Wait until ``text`` has been printed."""
    end = time.monotonic() + timeout
    while process.exitcode is None and time.monotonic() < end:
        if log.exists() and text in log.read_text():
            return
        time.sleep(0.002)
    raise AssertionError(f"ended before '{text}':\n{log.read_text()}")


def results(log: str) -> dict[int, dict[str, str]]:
    """Every epoch's printed figures but the times and the memory, as they were printed."""
    table: dict[int, dict[str, str]] = {}
    for epoch, line in re.findall(r"(\d+)epoch results: (.*)", log):
        figures = table.setdefault(int(epoch), {})
        for part, own in re.findall(r"\[(\w+)\] ([^\[]*)", line):
            found = re.findall(r"(\w+)=([^,\s]+)", own)
            figures |= {f"{part}/{name}": value for name, value in found if not re.search("time$|cached", name)}
    return table


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every file below ``folder``."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE) -> str:
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return str(path)
