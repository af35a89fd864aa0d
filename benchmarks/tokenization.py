#!/usr/bin/env python3
"""How fast tokens are extracted: seconds of audio per second on the CPU, beside the codec packages' own commands.

Systems, for the same recordings, the same codec and the same weights, each timed as whole commands from their start to
their end:

- the package's command, once per file, which is the peer that ratios are taken to (`encodec FILE OUT`,
  `python -m dac encode FILE`);
- the package at its best: one process that loads the model once and takes one file after the other (`dac` does so for a
  folder; for `encodec` a loop over its Python functions);
- ours: `codec_tokenize`, one process with all threads;
- ours as the recipe starts it: as many jobs as threads, of one thread each.

All run in turn, round after round, so that whatever else the machine does meets all of them alike; the order moves by one
place per round. Weights are random unless given, in the format of the released ones: they do not change the time.

    python benchmarks/tokenization.py --wavs /path/to/LibriSpeech/dev-clean --threads 2 --repeats 3

Without --wavs, recordings are made of noise with the spectrum and the rhythm of speech.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common
from common import ROOT, SAMPLE_RATE, machine, parse, rounds, speech_like, spread, write_report

if TYPE_CHECKING:
    from espnet_tse_gen.codec.base import AbsCodec

ENCODEC_WEIGHTS = "encodec_24khz-d7cc33bc.th"
READ_WITH_SOUNDFILE = """
import sys, soundfile, torch, torchaudio
def load(path):
    samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    return torch.from_numpy(samples.T.copy()), rate
torchaudio.load = load
"""
"""torchaudio reads through TorchCodec and FFmpeg since 2.9; where these are not installed, the package cannot read files.
Reading with libsndfile costs it no time."""
ENCODEC_COMMAND = READ_WITH_SOUNDFILE + "from encodec.__main__ import main\nmain()\n"
ENCODEC_LOOP = (
    READ_WITH_SOUNDFILE
    + """
from pathlib import Path
from encodec.compress import MODELS, compress
from encodec.utils import convert_audio
model = MODELS["encodec_24khz"]()
model.set_target_bandwidth(6.0)
for path in map(Path, sys.argv[2:]):
    wav, rate = torchaudio.load(path)
    wav = convert_audio(wav, rate, model.sample_rate, model.channels)
    (Path(sys.argv[1]) / f"{path.stem}.ecdc").write_bytes(compress(model, wav))
"""
)


@dataclass
class System:
    """One row of the table: commands that run one after the other, or all at once."""

    name: str
    commands: list[list[str]]
    environment: dict[str, str]
    at_once: bool = False
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self, place: Path) -> None:
        """Run the commands in an empty folder and note the seconds."""
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        before, start = os.times(), time.perf_counter()
        running: list[subprocess.Popen[str]] = []
        for command in self.commands:
            process = subprocess.Popen(
                command, cwd=place, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            running.append(process)
            if not self.at_once:
                self._finish(running.pop())
        for process in running:
            self._finish(process)
        self.wall.append(time.perf_counter() - start)
        after = os.times()
        self.cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)

    def _finish(self, process: subprocess.Popen[str]) -> None:
        from espnet_tse_gen.utils.errors import UserError

        printed = process.communicate()[0]
        if process.returncode:
            last = (printed.strip().splitlines() or ["nothing printed"])[-1]
            raise UserError(f"{self.name}: a command ended with status {process.returncode}: {last}")


def options() -> argparse.ArgumentParser:
    parser = common.get_parser("Seconds of audio per second of token extraction beside the packages' commands.")
    parser.add_argument("--wavs", type=Path, help="folder with mono recordings (wav or flac), of which some are drawn")
    parser.add_argument("--num_files", type=int, default=24, help="recordings")
    parser.add_argument("--seconds", type=float, nargs=2, default=[4.0, 16.0], help="durations of those that are made")
    parser.add_argument("--codecs", nargs="+", default=["encodec", "dac"], choices=["encodec", "dac"])
    parser.add_argument("--encodec_weights", type=Path, help="file of released weights, 24 kHz")
    parser.add_argument("--dac_weights", type=Path, help="file of released weights, 16 kHz")
    parser.add_argument("--seed", type=int, default=0, help="of recordings and weights")
    return parser


def find_recordings(args: argparse.Namespace, place: Path) -> list[Path]:
    """Return the recordings, copied or made below ``place``."""
    import soundfile

    from espnet_tse_gen.utils.errors import UserError

    place.mkdir()
    generator = random.Random(args.seed)
    made = []
    if args.wavs is None:
        for number in range(args.num_files):
            samples = speech_like(round(generator.uniform(*args.seconds) * SAMPLE_RATE), args.seed + number)
            made.append(place / f"{number}.wav")
            soundfile.write(made[-1], samples.numpy(), SAMPLE_RATE, subtype="PCM_16")
        return made
    found = sorted(path for path in args.wavs.rglob("*") if path.suffix in (".wav", ".flac"))
    if len(found) < args.num_files:
        raise UserError(f"--wavs {args.wavs}: holds {len(found)} wav and flac files, expected {args.num_files} or more")
    for path in generator.sample(found, args.num_files):
        made.append(place / path.name)
        shutil.copy(path, made[-1])
    return made


def save(codec: AbsCodec, weights: Path, place: Path) -> None:
    """Make the codec directory of ours from the file of weights that the package gets too."""
    from espnet_tse_gen.codec.registry import save_codec

    codec.load_pretrained(weights)
    save_codec(codec, place)


def encodec_systems(args: argparse.Namespace, files: list[Path], place: Path) -> list[System]:
    """Return EnCodec's systems, 24 kHz at 6 kbit/s."""
    import torch

    from espnet_tse_gen.codec.registry import build_codec

    codec: Any = build_codec("encodec", {"bandwidth": 6.0})
    # Where the package looks for its weights first; it checks no hash of a file that is there.
    cached = place / "torch" / "hub" / "checkpoints" / ENCODEC_WEIGHTS
    cached.parent.mkdir(parents=True)
    if args.encodec_weights is not None:
        shutil.copy(args.encodec_weights, cached)
        save(codec, cached, place / "codec")
    else:
        for layer in codec.model.quantizer.vq.layers:
            torch.nn.init.normal_(layer._codebook.embed, std=0.05)
        torch.save(codec.model.state_dict(), cached)
        save(codec, Path(shutil.copy(cached, place / "weights.th")), place / "codec")
    python, environment = sys.executable, environment_of(args.threads, TORCH_HOME=str(place / "torch"))
    per_file = [[python, "-c", ENCODEC_COMMAND, str(file), f"{file.stem}.ecdc"] for file in files]
    loop = [python, "-c", ENCODEC_LOOP, ".", *map(str, files)]
    return [
        System("`encodec` per file", per_file, environment),
        System("`encodec`, model loaded once", [loop], environment),
        *our_systems(args, files, place),
    ]


def dac_systems(args: argparse.Namespace, files: list[Path], place: Path) -> list[System]:
    """Return DAC's systems, 16 kHz with 12 levels."""
    from dac import DAC

    from espnet_tse_gen.codec.dac import RELEASES
    from espnet_tse_gen.codec.registry import build_codec

    place.mkdir()
    weights = place / "weights.pth"
    if args.dac_weights is not None:
        shutil.copy(args.dac_weights, weights)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            DAC(**RELEASES[16000].model_conf, sample_rate=16000).save(weights, package=False)
    save(build_codec("dac"), weights, place / "codec")
    environment = environment_of(args.threads)
    encode = [sys.executable, "-m", "dac", "encode"]
    options = ["--weights_path", str(weights), "--device", "cpu", "--output", "codes"]
    return [
        System("`dac encode` per file", [[*encode, str(file), *options] for file in files], environment),
        System("`dac encode` of the folder", [[*encode, str(files[0].parent), *options]], environment),
        *our_systems(args, files, place),
    ]


def our_systems(args: argparse.Namespace, files: list[Path], place: Path) -> list[System]:
    """Return ours: one process, and one for each thread."""
    table = place / "wav.scp"
    table.write_text("".join(f"{file.stem} {file}\n" for file in files))
    command = [sys.executable, "-m", "espnet_tse_gen.bin.codec_tokenize", "--codec_dir", str(place / "codec")]
    command += ["--wav_scp", str(table), "--name", "codes", "--output_dir", "tokens"]
    systems = [System(f"ours, one process of {args.threads} thread(s)", [command], environment_of(args.threads))]
    if args.threads > 1:
        jobs = [[*command, "--job", str(job + 1), "--num_jobs", str(args.threads)] for job in range(args.threads)]
        systems.append(System(f"ours, {args.threads} jobs of 1 thread", jobs, environment_of(1), at_once=True))
    return systems


def environment_of(threads: int, **more: str) -> dict[str, str]:
    """Return the environment of a command with so many threads; the tree this file lies in is what is measured."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONPATH": str(ROOT),
        **more,
    }


def measure(systems: Sequence[System], repeats: int, place: Path) -> None:
    """Run every system once per round."""
    for number, order in rounds(systems, repeats):
        for system in order:
            print(f"round {number + 1} of {repeats}: {system.name}", file=sys.stderr, flush=True)
            system.run(place)


def table(systems: Sequence[System], seconds: float) -> list[str]:
    """Return a Markdown table; ratios are taken within a round, so that they hold under a drifting load."""
    peer = systems[0]
    lines = [
        "| system | wall s: median [min, max] | CPU s | audio s per s | times as fast as per file |",
        "|---|---|---|---|---|",
    ]
    for system in systems:
        ratio = "1 (the peer)" if system is peer else spread(ratios(system, peer), 2)
        rate = seconds / statistics.median(system.wall)
        lines.append(
            f"| {system.name} | {spread(system.wall, 1)} | {statistics.median(system.cpu):.1f} | {rate:.2f} | {ratio} |"
        )
    return lines


def ratios(system: System, peer: System) -> list[float]:
    """Return how many times as fast as the peer a system was in each round."""
    return [theirs / own for own, theirs in zip(system.wall, peer.wall, strict=True)]


def finding(name: str, systems: Sequence[System]) -> str:
    """Return what the table says, in one line."""
    files, best = (statistics.median(ratios(systems[-1], peer)) for peer in systems[:2])
    return (
        f"- {name}, {systems[-1].name}: {files:.2f} times the audio per second of the command per file, {best:.2f} times that of"
        " the package at its best"
    )


def main(cmd: Sequence[str] | None = None) -> None:
    """Measure, print the report and write it to ``--output``."""
    args = parse(options(), cmd, "threads", "repeats", "num_files")
    import soundfile
    import torch

    torch.manual_seed(args.seed)
    makers = {"encodec": encodec_systems, "dac": dac_systems}
    with tempfile.TemporaryDirectory() as folder:
        files = find_recordings(args, Path(folder) / "wavs")
        durations = [soundfile.info(str(file)).duration for file in files]
        source = "real recordings" if args.wavs else "made of noise like speech"
        report = [
            "## Token extraction",
            "",
            f"{len(files)} recordings ({source}), {sum(durations):.1f} s together, {min(durations):.1f} to {max(durations):.1f} "
            f"s each; {args.repeats} rounds with every system once in each; whole commands, from start to end.",
            "",
            *machine(args.threads),
            "",
        ]
        findings = []
        for name in args.codecs:
            if importlib.util.find_spec(name) is None:
                report += [f"### {name}", "", f"Not measured: the package of codec '{name}' is not installed.", ""]
                continue
            systems = makers[name](args, files, Path(folder) / name)
            measure(systems, args.repeats, Path(folder) / "run")
            released = getattr(args, f"{name}_weights") is not None
            report += [
                f"### {name}, {'released' if released else 'random'} weights",
                "",
                *table(systems, sum(durations)),
                "",
            ]
            findings.append(finding(name, systems))
    text = "\n".join([*report, *findings, ""])
    print(text)
    write_report(text, args.output)


if __name__ == "__main__":
    from espnet_tse_gen.utils.errors import run_main

    run_main(main)
