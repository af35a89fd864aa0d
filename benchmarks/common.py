"""What the benchmarks share: options, recordings of noise, rounds of systems, and what a report says of the machine."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the tree this file lies in is what is measured, whatever is installed

from espnet_tse_gen.utils.errors import UserError  # noqa: E402
from espnet_tse_gen.utils.files import atomic_write  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE_RATE = 16000
System = TypeVar("System")


def get_parser(description: str, threads: int = 2, repeats: int = 3) -> argparse.ArgumentParser:
    """Return a parser with the options that all have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--threads", type=int, default=threads, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds that are timed")
    parser.add_argument("--output", type=Path, help="file that the table is also written to")
    return parser


def parse(parser: argparse.ArgumentParser, cmd: Sequence[str] | None, *numbers: str) -> argparse.Namespace:
    """Read the options; ``numbers`` must be 1 or more."""
    args = parser.parse_args(cmd)
    for option in numbers:
        if getattr(args, option) < 1:
            raise UserError(f"--{option}: {getattr(args, option)}, expected 1 or more")
    return args


def set_threads(threads: int) -> None:
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    import torch

    torch.set_num_threads(threads)


def rounds(systems: Sequence[System], count: int) -> Iterator[tuple[int, list[System]]]:
    """Yield the number of a round and all systems; the order moves by one place per round."""
    for number in range(count):
        yield number, [systems[(number + place) % len(systems)] for place in range(len(systems))]


def spread(values: Sequence[float], digits: int) -> str:
    """Return median, smallest and largest of ``values`` as text."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def write_report(text: str, output: Path | None) -> None:
    if output is not None:
        with atomic_write(output) as stream:
            stream.write(text)


def speech_like(samples: int, seed: int) -> Tensor:
    """Return noise with a speech-like spectral tilt and a syllable-like envelope, float32 ``[samples]`` at about -26 dBFS."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples, generator=generator)
    tilt = 1.0 / (1.0 + torch.fft.rfftfreq(samples, 1.0 / SAMPLE_RATE) / 500.0)
    coloured = torch.fft.irfft(torch.fft.rfft(noise) * tilt, n=samples)
    syllables = torch.rand(1, 1, max(2, samples * 5 // SAMPLE_RATE), generator=generator)
    envelope = torch.nn.functional.interpolate(syllables, size=samples, mode="linear", align_corners=True)[0, 0]
    sound = coloured * envelope.square()
    return 0.05 * sound / sound.square().mean().sqrt().clamp_min(1e-8)


def processor() -> dict[str, str]:
    """Return what Linux says of the processor, ``model name`` at least."""
    info = {"model name": platform.processor() or platform.machine()}
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        info |= {key.strip(): value.strip() for key, value in (line.split(":", 1) for line in lines if ":" in line)}
    return info


def machine(threads: int) -> list[str]:
    """Return what the figures depend on, one line each."""
    import espnet
    import torch

    info = processor()
    found = sorted(set(info.get("flags", "").split()) & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"})
    features = f" ({', '.join(found)})" if found else ""
    load = f"; load average {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return [
        f"- CPU: {info['model name']}{features}, {os.cpu_count()} logical cores, {threads} threads used{load}",
        f"- Python {platform.python_version()}, torch {torch.__version__}, espnet {espnet.__version__}, {platform.system()}",
        f"- commit {commit()}, {datetime.date.today().isoformat()}",
    ]


def commit() -> str:
    """Return the commit that is measured, and whether the working tree differs from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty= with changes", "--exclude=*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
