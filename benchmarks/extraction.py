#!/usr/bin/env python3
"""How fast extraction is beside ESPnet's own: discriminative models, and ESPnet's `enh_tse_inference` with TD-SpeakerBeam.

The peer is ESPnet's `SeparateSpeech`, which its `enh_tse_inference` calls for every batch, with a TD-SpeakerBeam whose width
is chosen so that it has as many parameters as the model beside it. Ours is what the recipe and the command line call: the
same TD-SpeakerBeam with the same weights, and SpEx+ and MC-SpEx at their published sizes. All run in turn on the same
recordings, round after round, so that whatever else the machine does meets all of them alike; the order moves by one place
per round. Weights are random: they do not change the time. No enrolment comes twice, so that no kept embedding helps.

    python benchmarks/extraction.py --threads 2 --repeats 3

The real-time factor is computing time over the duration of the mixtures, from arrays to arrays; ours includes the checks of
the input, its level, and the fit of the output's level.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common
from common import machine, parse, rounds, set_threads, spread, write_report

if TYPE_CHECKING:
    import numpy as np

SAMPLE_RATE = 8000
PEER = "ESPnet, TD-SpeakerBeam"
SCALES = {"channel": 256, "kernel_sizes": [20, 80, 160], "stride": 10}
WINDOWS = {"channel": 256, "kernel_size": 16, "stride": 8}
PUBLISHED: dict[str, dict[str, Any]] = {
    name: {
        "encoder": "ms_conv",
        "encoder_conf": SCALES,
        "decoder": "ms_conv",
        "decoder_conf": SCALES,
        "extractor": name,
    }
    for name in ("spex_plus", "mc_spex")
}
"""Sizes of the defaults, without the classifier of speakers, which extraction does not use."""
TITLES = {"spex_plus": "SpEx+", "mc_spex": "MC-SpEx"}


@dataclass
class System:
    """One row of the table."""

    name: str
    parameters: int
    peer: str  # the row that its speed is compared with; its own name for a peer
    run: Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], Any]
    seconds: list[float] = field(default_factory=list)


def options() -> argparse.ArgumentParser:
    parser = common.get_parser("Speed of extraction beside ESPnet's enh_tse_inference with TD-SpeakerBeam.")
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of a mixture")
    parser.add_argument("--enroll_seconds", type=float, default=2.0, help="duration of an enrolment")
    parser.add_argument("--batch_size", type=int, nargs="+", default=[1, 8], help="recordings at a time; a table each")
    parser.add_argument("--extractors", nargs="+", default=list(PUBLISHED), choices=list(PUBLISHED), help="models")
    parser.add_argument("--width", type=float, default=1.0, help="share of the published widths, for trying this out")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser


def scaled(config: Mapping[str, Any], width: float) -> dict[str, Any]:
    """Return a configuration with all widths multiplied by ``width``."""
    sizes = {"bottleneck_channel": 256, "hidden_channel": 512, "embedding_dim": 256, "speaker_channel": 256,
             "speaker_wide_channel": 512}  # fmt: skip
    ends = {key: {**config[key], "channel": round(256 * width)} for key in ("encoder_conf", "decoder_conf")}
    return {**config, **ends, "extractor_conf": {key: round(value * width) for key, value in sizes.items()}}


def speakerbeam(hidden: int, width: float) -> dict[str, Any]:
    """Return the configuration of ESPnet's LibriMix recipe at 8 kHz with another number of channels in its blocks."""
    side = round(256 * width)
    ends = {**WINDOWS, "channel": side}
    sizes = {"layer": 8, "stack": 4, "bottleneck_dim": side, "skip_dim": side, "hidden_dim": hidden, "kernel": 3,
             "causal": False, "norm_type": "gLN", "pre_nonlinear": "prelu", "nonlinear": "relu", "i_adapt_layer": 7,
             "adapt_layer_type": "mul", "adapt_enroll_dim": side}  # fmt: skip
    return {"encoder": "conv", "encoder_conf": ends, "decoder": "conv", "decoder_conf": ends,
            "extractor": "td_speakerbeam", "extractor_conf": sizes}  # fmt: skip


def parameters(config: Mapping[str, Any]) -> int:
    """Return how many parameters the model of a configuration has, without making them."""
    import torch

    from espnet_tse_gen.training.tse_model import build_model

    with torch.device("meta"):
        return sum(value.numel() for value in build_model(config).parameters())


def speakerbeam_of(size: int, width: float) -> dict[str, Any]:
    """Return the configuration of a TD-SpeakerBeam with as close to ``size`` parameters as its blocks' width allows."""
    low, high = (speakerbeam(hidden, width) for hidden in (8, 16))
    step = (parameters(high) - parameters(low)) / 8
    return speakerbeam(round(8 + (size - parameters(low)) / step), width)


def our_system(name: str, config: Mapping[str, Any], peer: str, device: str) -> System:
    """Return a row of ours."""
    import torch

    from espnet_tse_gen.inference.waveform import WaveformInference
    from espnet_tse_gen.training.tse_model import build_model

    torch.manual_seed(0)
    model = build_model({**config, "sample_rate": SAMPLE_RATE})
    size = sum(value.numel() for value in model.parameters())
    extractor = WaveformInference(model.to(device))

    def run(mixtures: Sequence[np.ndarray], enrolls: Sequence[np.ndarray]) -> list[np.ndarray]:
        extractor.options = {"batch_size": len(mixtures)}
        return extractor.extract_batch(mixtures, enrolls)

    return System(name, size, peer, run)


def peer_system(name: str, config: Mapping[str, Any], device: str) -> System:
    """Return ESPnet's row: a model of its own task, loaded by its own inference."""
    import numpy as np
    import torch
    import yaml

    from espnet_tse_gen.training.tse_model import build_model
    from espnet_tse_gen.utils.quiet import import_quietly

    import_quietly()
    from espnet2.bin.enh_tse_inference import SeparateSpeech
    from espnet2.tasks.enh_tse import TargetSpeakerExtractionTask

    torch.manual_seed(0)
    model = build_model(config)
    whole = {**TargetSpeakerExtractionTask.get_default_config(), **config}
    whole["criterions"] = [{"name": "si_snr", "conf": {}, "wrapper": "fixed_order", "wrapper_conf": {}}]
    whole["model_conf"] = {"num_spk": 1, "share_encoder": True}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
        torch.save(model.state_dict(), Path(folder, "model.pth"))
        separate = SeparateSpeech(f"{folder}/config.yaml", f"{folder}/model.pth", device=device)

    def run(mixtures: Sequence[np.ndarray], enrolls: Sequence[np.ndarray]) -> list[np.ndarray]:
        return list(separate(np.stack(mixtures), SAMPLE_RATE, enroll_ref1=np.stack(enrolls))[0])

    return System(name, sum(value.numel() for value in model.parameters()), name, run)


def build_systems(args: argparse.Namespace) -> list[System]:
    """Return all rows: for each of our models a peer of its size, and the peer's own model through our code."""
    systems = []
    for extractor in args.extractors:
        config = scaled(PUBLISHED[extractor], args.width)
        same = speakerbeam_of(parameters(config), args.width)
        peer = peer_system(f"{PEER} of the size of {TITLES[extractor]}", same, args.device)
        systems += [
            peer,
            our_system(f"ours, the same model (size of {TITLES[extractor]})", same, peer.name, args.device),
            our_system(f"ours, {TITLES[extractor]}", config, peer.name, args.device),
        ]
    return systems


def clips(count: int, seconds: float, seed: int) -> list[np.ndarray]:
    """Return noise with a speech-like envelope, float32 ``[L]`` each, as loud as extraction makes its input."""
    import numpy as np

    draw = np.random.default_rng(seed)
    size = round(seconds * SAMPLE_RATE)
    envelope = [np.interp(np.linspace(0, 1, size), np.linspace(0, 1, 9), draw.uniform(0.1, 1, 9)) for _ in range(count)]
    found = [draw.standard_normal(size) * each for each in envelope]
    # Without a mean, which extraction removes and the peer does not.
    found = [each - each.mean() for each in found]
    return [(0.05 * each / np.sqrt(np.mean(each**2))).astype(np.float32) for each in found]


def measure(systems: Sequence[System], rows: int, args: argparse.Namespace) -> None:
    """Run every system once per round, on the round's recordings; the first round only warms up."""
    for number, order in rounds(systems, args.repeats + 1):
        mixtures = clips(rows, args.seconds, 2 * number)
        enrolls = clips(rows, args.enroll_seconds, 100 * rows + 2 * number + 1)
        for system in order:
            start = time.perf_counter()
            system.run(mixtures, enrolls)
            if number:
                system.seconds.append(time.perf_counter() - start)


def ratios(system: System, systems: Sequence[System]) -> list[float]:
    """Return how many times as fast as its peer a system was in each round."""
    peer = next(each for each in systems if each.name == system.peer)
    return [theirs / own for own, theirs in zip(system.seconds, peer.seconds, strict=True)]


def table(systems: Sequence[System], rows: int, seconds: float) -> list[str]:
    """Return a Markdown table; ratios are taken within a round, so that they hold under a drifting load."""
    lines = [
        f"### Batch of {rows}",
        "",
        "| system | parameters | RTF: median [min, max] | times as fast as ESPnet's, of the same size |",
        "|---|---|---|---|",
    ]
    for system in systems:
        factor = spread([value / (rows * seconds) for value in system.seconds], 4)
        ratio = "1 (the peer)" if system.peer == system.name else spread(ratios(system, systems), 2)
        lines.append(f"| {system.name} | {system.parameters / 1e6:.2f} M | {factor} | {ratio} |")
    return lines


def findings(systems: Sequence[System], rows: int) -> list[str]:
    """Return how fast each of our rows is beside its peer, one line each."""
    lines = []
    for system in systems:
        if system.peer != system.name:
            lines.append(
                f"- batch of {rows}, {system.name}: {statistics.median(ratios(system, systems)):.2f} times as fast"
            )
    return lines


def same_output(systems: Sequence[System]) -> str:
    """Return how far the peer's model through our code is from the peer, as text: their shapes, whatever their scale."""
    import numpy as np

    mixtures, enrolls = clips(1, 0.5, 8), clips(1, 0.5, 9)
    (theirs,), (ours,) = (np.asarray(system.run(mixtures, enrolls)) for system in systems[:2])
    theirs = theirs * np.dot(ours, theirs) / np.dot(theirs, theirs)
    return f"{np.abs(ours - theirs).max() / np.abs(theirs).max():.1e}"


def main(cmd: Sequence[str] | None = None) -> None:
    """Measure, print the report and write it to ``--output``."""
    args = parse(options(), cmd, "threads", "repeats")
    set_threads(args.threads)
    systems = build_systems(args)
    report = [
        "## Speed of extraction",
        "",
        f"Mixtures of {args.seconds:g} s with enrolments of {args.enroll_seconds:g} s at {SAMPLE_RATE} Hz on {args.device}, in "
        f"{args.repeats} rounds with every system once in each.",
        "",
        *machine(args.threads),
        f"- the same model through ESPnet's code and ours: outputs differ by at most {same_output(systems)} of the peak",
        "",
    ]
    print("\n".join(report), flush=True)
    for rows in args.batch_size:
        for system in systems:
            system.seconds.clear()
        measure(systems, rows, args)
        # Each table as soon as it is there: batches take long.
        part = [*table(systems, rows, args.seconds), "", *findings(systems, rows), ""]
        print("\n".join(part), flush=True)
        report += part
    write_report("\n".join(report), args.output)


if __name__ == "__main__":
    from espnet_tse_gen.utils.errors import run_main

    run_main(main)
