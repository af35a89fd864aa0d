#!/usr/bin/env python3
"""What a trained model does with recordings that are not two clean voices: a table of conditions.

    python benchmarks/robustness.py --data_dir data/test_a --model dual_path_16k --noise NOISE_DIR --output robustness.md

Every condition is made from the mixtures of a data directory (``spk1.scp``, ``spk2.scp``, ``enroll_spk1.scp``,
``enroll_spk2.scp``; as ``local/test_sets.sh`` makes them) and their clean sources: both speakers are targets, and what is drawn
follows from the seed. SI-SDR is that to the target as it is in the mixture; where the target is absent, the output's energy
relative to the mixture stands instead.
"""

import argparse
import io
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import SAMPLE_RATE as RATE
from common import markdown, write_report

from espnet_tse_gen.utils.errors import UserError, run_main

LONG, LONG_SECONDS = "10 minutes", 600.0


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


def get_parser(description: str, items: int, models: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data_dir", type=Path, required=True, help="mixtures, sources and enrolments")
    parser.add_argument("--model", required=True, nargs=models, help="exp directory, packed zip file, or shipped model")
    parser.add_argument("--items", type=int, default=items, help="targets")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    return parser


def read_items(folder: Path, count: int | None = None) -> list[Item]:
    """Return the first targets of a data directory."""
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
    """Return for each of ``items`` one of ``among`` whose speakers are both others, in turn."""
    found = []
    for place, item in enumerate(items):
        others = (among[(place + step) % len(among)] for step in range(1, len(among)))
        stranger = next((one for one in others if not {*one.speakers} & {*item.speakers}), None)
        if stranger is None:
            raise UserError(f"--data_dir: no mixture without the speakers {' and '.join(item.speakers)}")
        found.append(stranger)
    return found


def coded(samples: np.ndarray) -> np.ndarray:
    """Return ``samples`` after MP3 at about 32 kbit/s; at a variable rate, libsndfile undoes the coder's delay."""
    import soundfile

    buffer, kind = io.BytesIO(), {"format": "MP3", "compression_level": 0.9, "bitrate_mode": "VARIABLE"}
    soundfile.write(buffer, samples, RATE, "MPEG_LAYER_III", **kind)
    buffer.seek(0)
    return np.resize(soundfile.read(buffer, dtype="float32")[0], len(samples))


def conditions(
    every: Sequence[Item], count: int, noise: str | None, seed: int, only: Sequence[str] = ()
) -> dict[str, list[Item]]:
    """Return the first ``count`` items in every condition, or in those of ``only``, by its name."""
    from espnet_tse_gen.audio.recordings import resample
    from espnet_tse_gen.data.degradation import reverberate, synthetic_response
    from espnet_tse_gen.data.sources import read_audio_list, read_piece

    rng = np.random.default_rng(seed)
    items = every[:count]
    third = dict(zip(map(id, items), strangers(items, every), strict=True))
    noises = read_audio_list(noise, "--noise") if noise else []

    def at_ratio(item: Item, ratio_db: float) -> Item:
        power = [float(np.mean(np.square(one, dtype=np.float64))) for one in (item.target, item.interferer)]
        other = item.interferer * np.float32(np.sqrt(power[0] / power[1]) * 10 ** (-ratio_db / 20))
        return replace(item, mixture=item.target + other, interferer=other)

    def with_third(item: Item) -> Item:
        return replace(item, mixture=item.mixture + np.resize(third[id(item)].target, len(item.mixture)))

    def noisy(item: Item) -> Item:
        source = noises[int(rng.integers(len(noises)))]
        piece = read_piece(source, 0.0, int(source.seconds * RATE), RATE, first_channel=True)
        piece = np.resize(piece, len(item.mixture))
        factor = np.sqrt(np.mean(item.mixture**2) / max(float(np.mean(piece**2)), 1e-12) / 10.0)
        return replace(item, mixture=item.mixture + np.float32(factor) * piece)

    def in_room(item: Item) -> Item:
        heard = [reverberate(one, synthetic_response(rng, RATE, 0.4, 5.0)) for one in (item.target, item.interferer)]
        return replace(item, mixture=heard[0] + heard[1], target=heard[0], interferer=heard[1])

    def signals(item: Item, change: Callable[[np.ndarray], np.ndarray], rate: int = RATE) -> Item:
        mixture, target, interferer = map(change, (item.mixture, item.target, item.interferer))
        return replace(item, mixture=mixture, target=target, interferer=interferer, rate=rate)

    def absent(item: Item) -> Item:
        return replace(item, enrolls=third[id(item)].enrolls, target=np.zeros_like(item.mixture))

    made: dict[str, Callable[[Item], Item]] = {"as they are": lambda item: item}
    made |= {f"SIR {ratio} dB": partial(at_ratio, ratio_db=ratio) for ratio in (-10, -5, 0, 5, 10)}
    made |= {
        "three speakers": with_third,
        **({"noise at 10 dB": noisy} if noise else {}),
        "a room (RT60 0.4 s)": in_room,
        "8 kHz": lambda item: signals(item, lambda one: resample(one, RATE, 8000), 8000),
        "MP3 at about 32 kbit/s": lambda item: replace(item, mixture=coded(item.mixture)),
        "enrolment of 1 s": lambda item: replace(item, enrolls=[item.enrolls[0][:RATE]]),
        "enrolment of 60 s (repeated)": lambda item: replace(item, enrolls=[np.resize(item.enrolls[0], 60 * RATE)]),
        "three enrolments of 5 s": lambda item: replace(
            item, enrolls=[np.resize(item.enrolls[0][n * RATE :], 5 * RATE) for n in range(3)]
        ),
        "enrolment of the interferer": lambda item: replace(
            item, enrolls=[item.other_enroll], target=item.interferer, interferer=item.target
        ),
        "target absent": absent,
    }
    wanted = [*only] or [*made, LONG]
    unknown = {*wanted} - {*made, LONG}
    if unknown:
        raise UserError(f"--only: no row '{min(unknown)}'; expected some of {', '.join([*made, LONG])}")
    found = {name: [change(item) for item in items] for name, change in made.items() if name in wanted}
    if LONG in wanted:
        found[LONG] = [signals(items[0], lambda one: np.resize(one, int(LONG_SECONDS * RATE)))]
    return found


def measure(name: str, items: Sequence[Item], extract: Callable[[Item], Any]) -> list[str]:
    """Extract the items of a condition and return its row."""
    from espnet_tse_gen.scoring.signal import energy_ratio_db, si_sdr

    mixtures, outputs, wrong, confidences, spent, seconds = [], [], [], [], 0.0, 0.0
    for item in items:
        start = time.perf_counter()
        found = extract(item)
        spent += time.perf_counter() - start
        seconds += len(item.mixture) / item.rate
        if found.confidence is not None:
            confidences.append(found.confidence)
        if item.target.any():
            mixtures.append(si_sdr(item.target, item.mixture))
            outputs.append(si_sdr(item.target, found.samples))
            wrong.append(si_sdr(item.interferer, found.samples) > outputs[-1])
        else:
            outputs.append(energy_ratio_db(found.samples, item.mixture))
    return [
        name,
        str(len(items)),
        f"{np.mean(mixtures):.1f}" if mixtures else "",
        f"{np.mean(outputs):.1f}",
        f"{np.mean(wrong):.1%}" if mixtures else "",
        f"{np.median(confidences):.2f}" if confidences else "",
        f"{spent / seconds:.3f}",
    ]


def main(cmd: Sequence[str] | None = None) -> None:
    parser = get_parser(str(__doc__), items=40)
    parser.set_defaults(threads=2)
    parser.add_argument("--noise", help="folder or table of noises; without it, that row is left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="rows to keep, such as 'as they are'; all")
    parser.add_argument(
        "--without", choices=["embedding", "frames"], help="part of the enrolment that a dual-path model is denied"
    )
    parser.add_argument("--output", type=Path, help="write the table there, too")
    args = parser.parse_args(cmd)
    import torch

    from espnet_tse_gen import TargetSpeakerExtractor

    torch.set_num_threads(args.threads)
    extractor = TargetSpeakerExtractor.from_pretrained(args.model)

    def extract(item: Item) -> Any:
        request = extractor.request(item.mixture, item.enrolls, item.rate, enroll_sample_rate=RATE)
        return extractor.extract([request])[0]

    if args.without:
        network = extractor.model.extractor
        if getattr(network, "voice", None) is None or not network.enroll_frames:
            raise UserError(
                f"--without: {args.model} does not have both; give a dual-path model with frames and embedding"
            )
        if args.without == "embedding":
            network.modulation = None
        else:
            network.enroll_frames = False
    rows = []
    for name, items in conditions(read_items(args.data_dir), args.items, args.noise, args.seed, args.only).items():
        rows.append(measure(name, items, extract))
        print(f"{name}: {rows[-1][3]} dB", file=sys.stderr, flush=True)
    headings = ["condition", "targets", "mixture", "output", "wrong speaker", "confidence", "real-time factor"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report = [
        f"Model: {args.model}{f' without {args.without}' if args.without else ''}. SI-SDR in dB, means over targets; of absent "
        "targets, the output's energy relative to the mixture.",
        "",
        *markdown(headings, rows),
        "",
        f"Peak memory of the process: {peak:.0f} MiB.",
    ]
    write_report(report, args.output)


if __name__ == "__main__":
    run_main(main)
