"""What the benchmarks share: options, recordings of noise, rounds of systems, and what a report says of the machine."""

import argparse
import contextlib
import datetime
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the tree this file lies in is what is measured, whatever is installed

from espnet_tse_gen.utils.errors import UserError  # noqa: E402
from espnet_tse_gen.utils.files import atomic_write  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE_RATE = 16000
Each = TypeVar("Each")


@dataclass
class System:
    """One row of a table: what is timed in every round, beside a peer."""

    name: str
    facts: list[str]  # further cells
    run: Callable[[Any], Any]  # on the recordings of a round
    peer: "System | None" = None  # what its speed is compared with; none of a peer
    seconds: list[float] = field(default_factory=list)  # of each round
    results: list[Any] = field(default_factory=list)

    def times_as_fast(self) -> list[float]:
        return ratios(self.seconds, (self.peer or self).seconds)

    def shown_ratio(self) -> str:
        return spread(self.times_as_fast(), 2) if self.peer else "1 (the peer)"


def get_parser(description: str, threads: int = 2, repeats: int = 3) -> argparse.ArgumentParser:
    """Return a parser with the options that all have; ``description`` is a docstring, whose first line is shown."""
    parser = argparse.ArgumentParser(
        description=description.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=threads, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds that are timed")
    parser.add_argument("--output", type=Path, help="file that the table is also written to")
    return parser


def parse(parser: argparse.ArgumentParser, cmd: Sequence[str] | None, *numbers: str) -> argparse.Namespace:
    """Read the options; those of all and ``numbers`` must be 1 or more."""
    args = parser.parse_args(cmd)
    for option in ("threads", "repeats", *numbers):
        if getattr(args, option) < 1:
            raise UserError(f"--{option}: {getattr(args, option)}, expected 1 or more")
    return args


def thread_variables(threads: int) -> dict[str, str]:
    """Return the variables of the environment that give a program so many threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))


def set_threads(threads: int) -> None:
    os.environ |= thread_variables(threads)
    import torch

    torch.set_num_threads(threads)


def rounds(systems: Sequence[Each], count: int) -> Iterator[tuple[int, list[Each]]]:
    """Yield the number of a round and all systems; the order moves by one place per round."""
    for number in range(count):
        yield number, [systems[(number + place) % len(systems)] for place in range(len(systems))]


def measure(systems: Sequence[System], repeats: int, recordings: Callable[[int], Any], warm_up: int = 1) -> None:
    """Run every system once per round, on the round's recordings; the first rounds only warm up."""
    for number, order in rounds(systems, warm_up + repeats):
        given = recordings(number)
        for system in order:
            print(f"round {number + 1} of {warm_up + repeats}: {system.name}", file=sys.stderr, flush=True)
            start = time.perf_counter()
            result = system.run(given)
            if number >= warm_up:
                system.seconds.append(time.perf_counter() - start)
                system.results.append(result)


def ratios(own: Sequence[float], peer: Sequence[float]) -> list[float]:
    """Return how many times as fast as the peer a system was in each round, which holds under a drifting load."""
    return [theirs / each for each, theirs in zip(own, peer, strict=True)]


def spread(values: Sequence[float], digits: int) -> str:
    """Return median, smallest and largest of ``values`` as text."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def head(title: str, text: str, threads: int) -> list[str]:
    """Return how a report begins."""
    return [f"## {title}", "", text, "", *machine(threads), ""]


def markdown(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table."""
    return [f"| {' | '.join(map(str, row))} |" for row in (headings, ["---"] * len(headings), *rows)]


def write_report(lines: Sequence[str], output: Path | None) -> None:
    """Print the report, and write it to ``output``."""
    text = "\n".join([*lines, ""])
    print(text)
    if output is not None:
        with atomic_write(output) as stream:
            stream.write(text)


def speech_like(samples: int, seed: int) -> "Tensor":
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


def speakerbeam(hidden: int, side: int = 256, kernel_size: int = 16) -> dict[str, Any]:
    """Return the configuration of TD-SpeakerBeam (Delcroix et al. 2020) of ESPnet's LibriMix recipe at 8 kHz.

    ``hidden`` is the width of its blocks, 512 there; at 16 kHz, ``kernel_size`` is 32.
    """
    ends = {"channel": side, "kernel_size": kernel_size, "stride": kernel_size // 2}
    sizes = {"layer": 8, "stack": 4, "bottleneck_dim": side, "skip_dim": side, "hidden_dim": hidden, "kernel": 3,
             "causal": False, "norm_type": "gLN", "pre_nonlinear": "prelu", "nonlinear": "relu", "i_adapt_layer": 7,
             "adapt_layer_type": "mul", "adapt_enroll_dim": side}  # fmt: skip
    return {"encoder": "conv", "encoder_conf": ends, "decoder": "conv", "decoder_conf": ends,
            "extractor": "td_speakerbeam", "extractor_conf": sizes}  # fmt: skip


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
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty= with changes", "--exclude=*"]
    commit = "unknown"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return [
        f"- CPU: {info['model name']}{features}, {os.cpu_count()} logical cores, {threads} threads used; load average "
        f"{os.getloadavg()[0]:.1f} at the start",
        f"- Python {platform.python_version()}, torch {torch.__version__}, espnet {espnet.__version__}, {platform.system()}",
        f"- commit {commit}, {datetime.date.today().isoformat()}",
    ]
