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

All run in turn, round after round. Weights are random, in the format of the released ones: they do not change the time.

    python benchmarks/tokenization.py --wavs /path/to/LibriSpeech/dev-clean --threads 2 --repeats 3

Without --wavs, recordings are made of noise with the spectrum and the rhythm of speech.
"""

import argparse
import importlib.util
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common
from common import ROOT, SAMPLE_RATE, System, head, markdown, measure, ratios, speech_like, spread

from espnet_tse_gen.utils.errors import UserError, run_main
from espnet_tse_gen.utils.files import write_scp

if TYPE_CHECKING:
    from espnet_tse_gen.codec.base import AbsCodec

# torchaudio reads through TorchCodec and FFmpeg since 2.9; where these are not installed, the package cannot read files.
# Reading with libsndfile costs it no time.
READ_WITH_SOUNDFILE = """
import sys, soundfile, torch, torchaudio
def load(path):
    samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    return torch.from_numpy(samples.T.copy()), rate
torchaudio.load = load
"""
ENCODEC_COMMAND = READ_WITH_SOUNDFILE + "from encodec.__main__ import main\nmain()\n"
ENCODEC_LOOP = f"""{READ_WITH_SOUNDFILE}
from pathlib import Path
from encodec.compress import MODELS, compress
from encodec.utils import convert_audio
model = MODELS["encodec_24khz"]()
model.set_target_bandwidth(6.0)
for path in map(Path, sys.argv[2:]):
    wav, rate = torchaudio.load(path)
    wav = convert_audio(wav, rate, model.sample_rate, model.channels)
    (Path(sys.argv[1]) / (path.stem + ".ecdc")).write_bytes(compress(model, wav))
"""


def system(
    name: str,
    commands: list[list[str]],
    threads: int,
    peer: System | None = None,
    at_once: bool = False,
    **variables: str,
) -> System:
    """Return a row of the table: commands that run one after the other, or all at once, each with ``threads``."""
    environment = {**os.environ, **common.thread_variables(threads), "PYTHONPATH": str(ROOT), **variables}

    def run(place: Path) -> float:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        before = sum(os.times()[2:4])
        settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        for wave in [commands] if at_once else [[words] for words in commands]:
            for process in [subprocess.Popen(words, cwd=place, env=environment, **settings) for words in wave]:
                printed = process.communicate()[0]
                if process.returncode:
                    last = (printed.strip().splitlines() or ["nothing printed"])[-1]
                    raise UserError(f"{name}: a command ended with status {process.returncode}: {last}")
        return sum(os.times()[2:4]) - before

    return System(name, [], run, peer)


def options() -> argparse.ArgumentParser:
    parser = common.get_parser(str(__doc__))
    parser.add_argument("--wavs", type=Path, help="folder with mono recordings (wav or flac), of which some are drawn")
    parser.add_argument("--num_files", type=int, default=24, help="recordings")
    parser.add_argument("--seconds", type=float, nargs=2, default=[4.0, 16.0], help="durations of those that are made")
    parser.add_argument("--codecs", nargs="+", default=["encodec", "dac"], choices=["encodec", "dac"])
    return parser


def find_recordings(args: argparse.Namespace, place: Path) -> list[Path]:
    """Return the recordings, copied or made below ``place``."""
    import soundfile

    place.mkdir()
    generator = random.Random(0)
    if args.wavs is None:
        made = [place / f"{number}.wav" for number in range(args.num_files)]
        for number, path in enumerate(made):
            samples = speech_like(round(generator.uniform(*args.seconds) * SAMPLE_RATE), number)
            soundfile.write(path, samples.numpy(), SAMPLE_RATE, subtype="PCM_16")
        return made
    found = sorted(path for path in args.wavs.rglob("*") if path.suffix in (".wav", ".flac"))
    if len(found) < args.num_files:
        raise UserError(f"--wavs {args.wavs}: holds {len(found)} wav and flac files, expected {args.num_files} or more")
    return [Path(shutil.copy(path, place)) for path in generator.sample(found, args.num_files)]


def save(codec: "AbsCodec", weights: Path, place: Path) -> None:
    """Make ours of the file of weights that the package gets too."""
    from espnet_tse_gen.codec.registry import save_codec

    codec.load_pretrained(weights)
    save_codec(codec, place)


def encodec_systems(threads: int, files: list[Path], place: Path) -> list[System]:
    """Return EnCodec's systems, 24 kHz at 6 kbit/s."""
    import torch

    from espnet_tse_gen.codec.registry import build_codec

    codec: Any = build_codec("encodec", {"bandwidth": 6.0})
    # Where the package looks for its weights first; it checks no hash of a file that is there.
    cached = place / "torch/hub/checkpoints/encodec_24khz-d7cc33bc.th"
    cached.parent.mkdir(parents=True)
    for layer in codec.model.quantizer.vq.layers:
        torch.nn.init.normal_(layer._codebook.embed, std=0.05)
    torch.save(codec.model.state_dict(), cached)
    # Under that name, ours would want the hash of the released file.
    save(codec, Path(shutil.copy(cached, place / "weights.th")), place / "codec")
    home = str(place / "torch")
    per_file = [[sys.executable, "-c", ENCODEC_COMMAND, str(file), f"{file.stem}.ecdc"] for file in files]
    loop = [sys.executable, "-c", ENCODEC_LOOP, ".", *map(str, files)]
    peer = system("`encodec` per file", per_file, threads, TORCH_HOME=home)
    return [peer, system("`encodec`, model loaded once", [loop], threads, peer, TORCH_HOME=home)]


def dac_systems(threads: int, files: list[Path], place: Path) -> list[System]:
    """Return DAC's systems, 16 kHz with 12 codebooks."""
    from dac import DAC

    from espnet_tse_gen.codec.dac import RELEASES
    from espnet_tse_gen.codec.registry import build_codec

    place.mkdir()
    weights = place / "weights.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        DAC(**RELEASES[16000].model_conf, sample_rate=16000).save(weights, package=False)
    save(build_codec("dac"), weights, place / "codec")
    encode = [sys.executable, "-m", "dac", "encode"]
    further = ["--weights_path", str(weights), "--device", "cpu", "--output", "codes"]
    peer = system("`dac encode` per file", [[*encode, str(file), *further] for file in files], threads)
    return [peer, system("`dac encode` of the folder", [[*encode, str(files[0].parent), *further]], threads, peer)]


def our_systems(threads: int, files: list[Path], place: Path, peer: System) -> list[System]:
    """Return ours: one process, and one for each thread."""
    write_scp(place / "wav.scp", {file.stem: str(file) for file in files})
    command = [sys.executable, "-m", "espnet_tse_gen.bin.codec_tokenize", "--codec_dir", str(place / "codec")]
    command += ["--wav_scp", str(place / "wav.scp"), "--name", "codes", "--output_dir", "tokens"]
    systems = [system(f"ours, one process of {threads} thread(s)", [command], threads, peer)]
    if threads > 1:
        jobs = [[*command, "--job", str(job + 1), "--num_jobs", str(threads)] for job in range(threads)]
        systems.append(system(f"ours, {threads} jobs of 1 thread", jobs, 1, peer, at_once=True))
    return systems


def table(systems: Sequence[System], seconds: float) -> list[str]:
    cells = []
    for one in systems:
        rate, cpu = seconds / statistics.median(one.seconds), statistics.median(one.results)
        cells.append([one.name, spread(one.seconds, 1), f"{cpu:.1f}", f"{rate:.2f}", one.shown_ratio()])
    headings = "system", "wall s: median [min, max]", "CPU s", "audio s per s", "times as fast as per file"
    return markdown(headings, cells)


def finding(name: str, systems: Sequence[System]) -> str:
    """Return what the table says, in one line."""
    files, best = (statistics.median(ratios(systems[-1].seconds, peer.seconds)) for peer in systems[:2])
    return (
        f"- {name}, {systems[-1].name}: {files:.2f} times the audio per second of the command per file, {best:.2f} times that of"
        " the package at its best"
    )


def main(cmd: Sequence[str] | None = None) -> None:
    args = common.parse(options(), cmd, "num_files")
    import soundfile
    import torch

    torch.manual_seed(0)
    makers = {"encodec": encodec_systems, "dac": dac_systems}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = find_recordings(args, folder / "wavs")
        durations = [soundfile.info(str(file)).duration for file in files]
        source = "real recordings" if args.wavs else "made of noise like speech"
        text = (
            f"{len(files)} recordings ({source}), {sum(durations):.1f} s together, {min(durations):.1f} to {max(durations):.1f} "
            f"s each; {args.repeats} rounds with every system once in each; whole commands, from start to end."
        )
        report = head("Token extraction", text, args.threads)
        findings = []
        for name in args.codecs:
            if importlib.util.find_spec(name) is None:
                report += [f"### {name}", "", f"Not measured: the package of codec '{name}' is not installed.", ""]
                continue
            systems = makers[name](args.threads, files, folder / name)
            systems += our_systems(args.threads, files, folder / name, systems[0])
            measure(systems, args.repeats, lambda _: folder / "run", warm_up=0)
            report += [f"### {name}, random weights", "", *table(systems, sum(durations)), ""]
            findings.append(finding(name, systems))
    common.write_report([*report, *findings], args.output)


if __name__ == "__main__":
    run_main(main)
