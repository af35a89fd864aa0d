#!/usr/bin/env python3
"""What a trained model does with recordings that are not two clean voices: a table of conditions.

    python benchmarks/robustness.py --data_dir data/test_a --model dual_path_16k --noise NOISE_DIR --output robustness.md

Every condition is made from the mixtures of a data directory (``spk1.scp``, ``spk2.scp``, ``enroll_spk1.scp``,
``enroll_spk2.scp``; as ``local/test_sets.sh`` makes them) and their clean sources: both speakers are targets, and what is drawn
follows from the seed. SI-SDR is that to the target as it is in the mixture; where the target is absent, the output's energy
relative to the mixture stands instead.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import SAMPLE_RATE as RATE
from common import write_report

from espnet_tse_gen.utils.errors import UserError, run_main

LONG_SECONDS = 600.0


@dataclass(frozen=True, eq=False)
class Item:
    """One target of one mixture, all float32 at 16 kHz."""

    mixture: np.ndarray
    target: np.ndarray
    interferer: np.ndarray
    enrolls: list[np.ndarray]
    other_enroll: np.ndarray  # an enrolment of the interferer
    rate: int = RATE  # Hz at which mixture, target and interferer are; enrolments stay at 16 kHz
    speakers: tuple[str, ...] = ()  # the two that are heard


@dataclass(frozen=True)
class Row:
    """What came out of one condition."""

    name: str
    items: int
    mixture_db: float  # SI-SDR of the mixture, or NaN
    output_db: float  # SI-SDR of the output; of absent targets, its energy relative to the mixture
    wrong: float  # share of items nearer to the interferer by SI-SDR, or NaN
    confidence: float  # median, or NaN of a model that does not say
    rtf: float


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="mixtures, sources and enrolments")
    parser.add_argument("--model", required=True, help="exp directory, packed zip file, or shipped model")
    parser.add_argument("--noise", help="folder or table of noises; without it, that row is left out")
    parser.add_argument("--items", type=int, default=40, help="targets per condition (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the table there, too")
    return parser


def read_items(folder: Path, count: int | None = None) -> list[Item]:
    """Return the first targets of a data directory.

    Raises:
        UserError: If a table or recording cannot be read.
    """
    from espnet_tse_gen.audio.files import read_audio
    from espnet_tse_gen.utils.files import read_scp

    tables = {name: read_scp(folder / f"{name}.scp") for name in ("spk1", "spk2", "enroll_spk1", "enroll_spk2")}
    names = [read_scp(folder / f"target_spk{n}") for n in (1, 2)]
    items: list[Item] = []
    for key in tables["spk1"]:
        sources, enrolls = (
            [read_audio(tables[f"{kind}{n}"][key], RATE, key)[0] for n in (1, 2)] for kind in ("spk", "enroll_spk")
        )
        for target, other in ((0, 1), (1, 0)):
            heard = (sources[0] + sources[1], sources[target], sources[other], [enrolls[target]], enrolls[other])
            items.append(Item(*heard, speakers=(names[0][key], names[1][key])))
    if len(items) < 4:
        raise UserError(f"{folder}: holds {len(items) // 2} mixtures, expected at least 2")
    return items[:count]


def strangers(items: Sequence[Item], among: Sequence[Item]) -> list[Item]:
    """Return for each of ``items`` one of ``among`` whose speakers are both others, in turn.

    Raises:
        UserError: If an item has none.
    """
    found = []
    for place, item in enumerate(items):
        others = (among[(place + step) % len(among)] for step in range(1, len(among)))
        stranger = next((one for one in others if not {*one.speakers} & {*item.speakers}), None)
        if stranger is None:
            raise UserError(f"--data_dir: no mixture without the speakers {' and '.join(item.speakers)}")
        found.append(stranger)
    return found


def at_ratio(item: Item, ratio_db: float) -> Item:
    """Return the item with its target ``ratio_db`` above the interferer."""
    power = [float(np.mean(np.square(one, dtype=np.float64))) for one in (item.target, item.interferer)]
    other = item.interferer * np.float32(np.sqrt(power[0] / power[1]) * 10 ** (-ratio_db / 20))
    return replace(item, mixture=item.target + other, interferer=other)


def fitted(samples: np.ndarray, length: int) -> np.ndarray:
    """Return ``samples`` repeated or cut to ``length``."""
    return np.resize(samples, length)


def coded(samples: np.ndarray) -> np.ndarray:
    """Return ``samples`` after MP3 at about 32 kbit/s; at a variable rate, libsndfile undoes the coder's delay."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(
        buffer, samples, RATE, "MPEG_LAYER_III", format="MP3", compression_level=0.9, bitrate_mode="VARIABLE"
    )
    buffer.seek(0)
    return fitted(soundfile.read(buffer, dtype="float32")[0], len(samples))


def conditions(every: Sequence[Item], count: int, noise: str | None, seed: int) -> dict[str, list[Item]]:
    """Return the first ``count`` items in every condition, by its name."""
    from espnet_tse_gen.audio.recordings import resample
    from espnet_tse_gen.data.degradation import reverberate, synthetic_response
    from espnet_tse_gen.data.sources import read_audio_list, read_piece

    rng = np.random.default_rng(seed)
    items = every[:count]
    third = strangers(items, every)
    made: dict[str, list[Item]] = {"as they are": list(items)}
    for ratio in (-10, -5, 0, 5, 10):
        made[f"SIR {ratio} dB"] = [at_ratio(item, ratio) for item in items]
    three = []
    for item, more in zip(items, third, strict=True):
        extra = fitted(more.target, len(item.mixture))
        three.append(replace(item, mixture=item.mixture + extra))
    made["three speakers"] = three
    if noise:
        noises, noisy = read_audio_list(noise, "--noise"), []
        for item in items:
            source = noises[int(rng.integers(len(noises)))]
            piece = read_piece(source, 0.0, int(source.seconds * RATE), RATE, first_channel=True)
            piece = fitted(piece, len(item.mixture))
            factor = np.sqrt(np.mean(item.mixture**2) / max(float(np.mean(piece**2)), 1e-12) / 10.0)
            noisy.append(replace(item, mixture=item.mixture + np.float32(factor) * piece))
        made["noise at 10 dB"] = noisy
    rooms = []
    for item in items:
        heard = [reverberate(one, synthetic_response(rng, RATE, 0.4, 5.0)) for one in (item.target, item.interferer)]
        rooms.append(replace(item, mixture=heard[0] + heard[1], target=heard[0], interferer=heard[1]))
    made["a room (RT60 0.4 s)"] = rooms
    narrow = []
    for item in items:
        low = [resample(one, RATE, 8000) for one in (item.mixture, item.target, item.interferer)]
        narrow.append(replace(item, mixture=low[0], target=low[1], interferer=low[2], rate=8000))
    made["8 kHz"] = narrow
    made["MP3 at about 32 kbit/s"] = [replace(item, mixture=coded(item.mixture)) for item in items]
    made["enrolment of 1 s"] = [replace(item, enrolls=[item.enrolls[0][:RATE]]) for item in items]
    made["enrolment of 60 s (repeated)"] = [
        replace(item, enrolls=[fitted(item.enrolls[0], 60 * RATE)]) for item in items
    ]
    made["three enrolments of 5 s"] = [
        replace(item, enrolls=[fitted(item.enrolls[0][n * RATE :], 5 * RATE) for n in range(3)]) for item in items
    ]
    made["enrolment of the interferer"] = [
        replace(item, enrolls=[item.other_enroll], target=item.interferer, interferer=item.target) for item in items
    ]
    made["target absent"] = [
        replace(item, enrolls=more.enrolls, target=np.zeros_like(item.mixture))
        for item, more in zip(items, third, strict=True)
    ]
    repeats = int(LONG_SECONDS * RATE // len(items[0].mixture)) + 1
    made["10 minutes"] = [
        replace(
            items[0],
            **{
                name: np.tile(getattr(items[0], name), repeats)[: int(LONG_SECONDS * RATE)]
                for name in ("mixture", "target", "interferer")
            },
        )
    ]
    return made


def measure(name: str, items: Sequence[Item], extract: Callable[[Item], Any]) -> Row:
    """Extract the items of a condition and return its row."""
    from espnet_tse_gen.scoring.signal import si_sdr

    mixtures, outputs, wrong, confidences, spent, seconds = [], [], [], [], 0.0, 0.0
    for item in items:
        start = time.perf_counter()
        found = extract(item)
        spent += time.perf_counter() - start
        seconds += len(item.mixture) / item.rate
        confidences.append(np.nan if found.confidence is None else found.confidence)
        if item.target.any():
            mixtures.append(si_sdr(item.target, item.mixture))
            outputs.append(si_sdr(item.target, found.samples))
            wrong.append(si_sdr(item.interferer, found.samples) > outputs[-1])
        else:
            energies = [float(np.sum(np.square(one, dtype=np.float64))) for one in (found.samples, item.mixture)]
            outputs.append(10 * np.log10(max(energies[0], 1e-12) / energies[1]))
    known = bool(mixtures)
    return Row(
        name,
        len(items),
        float(np.mean(mixtures)) if known else np.nan,
        float(np.mean(outputs)),
        float(np.mean(wrong)) if known else np.nan,
        float(np.median(confidences)),
        spent / seconds,
    )


def table(rows: Sequence[Row], model: str, peak_bytes: int) -> str:
    """Return the rows as Markdown."""

    def cell(value: float, form: str) -> str:
        return "" if np.isnan(value) else format(value, form)

    lines = [
        f"Model: {model}. SI-SDR in dB, means over targets; of absent targets, the output's energy relative to the mixture.",
        "",
        "| condition | targets | mixture | output | wrong speaker | confidence | real-time factor |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.items} | {cell(row.mixture_db, '.1f')} | {cell(row.output_db, '.1f')} | {cell(row.wrong, '.1%')} |"
        f" {cell(row.confidence, '.2f')} | {row.rtf:.3f} |"
        for row in rows
    ]
    return "\n".join([*lines, "", f"Peak memory of the process: {peak_bytes / 2**20:.0f} MiB.", ""])


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    args = get_parser().parse_args(cmd)
    import torch

    from espnet_tse_gen import TargetSpeakerExtractor

    torch.set_num_threads(args.threads)
    extractor = TargetSpeakerExtractor.from_pretrained(args.model)
    items = read_items(args.data_dir)

    def extract(item: Item) -> Any:
        request = extractor.request(item.mixture, item.enrolls, item.rate, enroll_sample_rate=RATE)
        return extractor.extract([request])[0]

    rows = []
    for name, own in conditions(items, args.items, args.noise, args.seed).items():
        rows.append(measure(name, own, extract))
        print(f"{name}: {rows[-1].output_db:.1f} dB", file=sys.stderr, flush=True)
    text = table(rows, args.model, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    print(text, end="")
    write_report(text, args.output)


if __name__ == "__main__":
    run_main(main)  # type: ignore[arg-type]
