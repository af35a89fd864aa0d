#!/usr/bin/env python3
"""How fast extraction is beside ESPnet's own: discriminative models, and ESPnet's `enh_tse_inference` with TD-SpeakerBeam.

The peer is ESPnet's `SeparateSpeech`, which its `enh_tse_inference` calls for every batch, with a TD-SpeakerBeam of as many
parameters as the model beside it. Ours is what the recipe and the command line call: the same TD-SpeakerBeam with the same
weights, and SpEx+ and MC-SpEx at their published sizes. All run in turn on the same recordings, round after round. Weights are
random: they do not change the time. No enrolment comes twice, so that no kept embedding helps.

    python benchmarks/extraction.py --threads 2 --repeats 3
    python benchmarks/extraction.py --threads 2 --repeats 3 --extractors dual_path --seconds 10 --batch_size 1

The dual-path extractor, at 16 kHz, stands beside a TD-SpeakerBeam of the size of ESPnet's recipes, of 16 M parameters.

The real-time factor is computing time over the duration of the mixtures, from arrays to arrays; ours includes the checks of
the input, its level, and the fit of the output's level.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common
from common import System, head, markdown, measure, parse, set_threads, speakerbeam, spread, write_report

from espnet_tse_gen.utils.errors import UserError, run_main

if TYPE_CHECKING:
    import numpy as np

Clips = tuple[list["np.ndarray"], list["np.ndarray"]]
"""Mixtures and enrolments, float32 ``[L]`` each."""
TITLES = {"spex_plus": "SpEx+", "mc_spex": "MC-SpEx"}
DUAL_PATH = "dual_path"


def options() -> argparse.ArgumentParser:
    parser = common.get_parser(str(__doc__))
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of a mixture")
    parser.add_argument("--enroll_seconds", type=float, default=2.0, help="duration of an enrolment")
    parser.add_argument("--batch_size", type=int, nargs="+", default=[1, 8], help="recordings at a time; a table each")
    parser.add_argument("--extractors", nargs="+", default=list(TITLES), choices=[*TITLES, DUAL_PATH],
                        help="models; dual_path alone, because of its rate")  # fmt: skip
    parser.add_argument("--width", type=float, default=1.0, help="share of the published widths, for trying this out")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser


def published(name: str, width: float) -> dict[str, Any]:
    """Return the configuration of an extractor with ``width`` times its published widths, without a classifier."""
    side = round(256 * width)
    ends = {"channel": side, "kernel_sizes": [20, 80, 160], "stride": 10}
    sizes = {"bottleneck_channel": side, "hidden_channel": round(512 * width), "embedding_dim": side,
             "speaker_channel": side, "speaker_wide_channel": round(512 * width)}  # fmt: skip
    return {"encoder": "ms_conv", "encoder_conf": ends, "decoder": "ms_conv", "decoder_conf": ends,
            "extractor": name, "extractor_conf": sizes}  # fmt: skip


def parameters(config: Mapping[str, Any]) -> int:
    """Return how many parameters the model of a configuration has, without making them."""
    import torch

    from espnet_tse_gen.training.tse_model import build_model

    with torch.device("meta"):
        return sum(value.numel() for value in build_model(config).parameters())


def size(config: Mapping[str, Any]) -> str:
    return f"{parameters(config) / 1e6:.2f} M"


def speakerbeam_of(wanted: int, width: float) -> dict[str, Any]:
    """Return the configuration of a TD-SpeakerBeam of as nearly ``wanted`` parameters as its blocks' width allows."""
    side = round(256 * width)
    low, high = (parameters(speakerbeam(hidden, side)) for hidden in (8, 16))
    return speakerbeam(round(8 + (wanted - low) / ((high - low) / 8)), side)


def our_system(
    name: str, config: Mapping[str, Any], peer: System, args: argparse.Namespace, augmentations: int = 1
) -> System:
    import torch

    from espnet_tse_gen.inference.waveform import WaveformInference
    from espnet_tse_gen.training.tse_model import build_model

    torch.manual_seed(0)
    extractor = WaveformInference(build_model({**config, "sample_rate": args.fs}).to(args.device))

    def run(clips: Clips) -> list["np.ndarray"]:
        extractor.options = {"batch_size": len(clips[0]), "augmentations": augmentations}
        return extractor.extract_batch(*clips, sample_rate=args.fs)

    return System(name, [size(config)], run, peer)


def peer_system(name: str, config: Mapping[str, Any], args: argparse.Namespace) -> System:
    """Return ESPnet's row: a model of its own task, loaded by its own inference."""
    import numpy as np
    import torch

    from espnet_tse_gen.training.tse_model import build_model
    from espnet_tse_gen.utils.files import write_yaml
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
        write_yaml(Path(folder, "config.yaml"), whole)
        torch.save(model.state_dict(), Path(folder, "model.pth"))
        separate = SeparateSpeech(f"{folder}/config.yaml", f"{folder}/model.pth", device=args.device)

    def run(clips: Clips) -> list["np.ndarray"]:
        mixtures, enrolls = map(np.stack, clips)
        return list(separate(mixtures, args.fs, enroll_ref1=enrolls)[0])

    return System(name, [size(config)], run)


def build_systems(args: argparse.Namespace) -> list[System]:
    """For each of our models a peer of its size, and the peer's own model through our code."""
    if DUAL_PATH in args.extractors:
        same = speakerbeam(512, round(256 * args.width), kernel_size=40)
        peer = peer_system("ESPnet, TD-SpeakerBeam", same, args)
        config = {"extractor": DUAL_PATH, "sample_rate": args.fs}
        return [
            peer,
            our_system("ours, the same model", same, peer, args),
            our_system("ours, dual path", config, peer, args),
            our_system("ours, dual path, two extractions averaged", config, peer, args, 2),
        ]
    systems = []
    for extractor in args.extractors:
        config, title = published(extractor, args.width), TITLES[extractor]
        same = speakerbeam_of(parameters(config), args.width)
        peer = peer_system(f"ESPnet, TD-SpeakerBeam of the size of {title}", same, args)
        systems += [
            peer,
            our_system(f"ours, the same model (size of {title})", same, peer, args),
            our_system(f"ours, {title}", config, peer, args),
        ]
    return systems


def make_clips(rows: int, seconds: tuple[float, float], seeds: tuple[int, int], fs: int) -> Clips:
    """Return mixtures and enrolments: noise with a speech-like envelope, as loud as extraction makes its input."""
    import numpy as np

    found: Clips = ([], [])
    for part, length, seed in zip(found, seconds, seeds, strict=True):
        draw = np.random.default_rng(seed)
        time = np.linspace(0, 1, round(length * fs))
        envelopes = [np.interp(time, np.linspace(0, 1, 9), draw.uniform(0.1, 1, 9)) for _ in range(rows)]
        for envelope in envelopes:
            noise = draw.standard_normal(len(time)) * envelope
            # Without a mean, which extraction removes and the peer does not.
            noise -= noise.mean()
            part.append((0.05 * noise / np.sqrt(np.mean(noise**2))).astype(np.float32))
    return found


def table(systems: Sequence[System], rows: int, args: argparse.Namespace) -> list[str]:
    """Time the systems, and return a table in Markdown and what it says."""
    for system in systems:
        system.seconds.clear()
    seconds = args.seconds, args.enroll_seconds
    measure(
        systems,
        args.repeats,
        lambda number: make_clips(rows, seconds, (2 * number, 100 * rows + 2 * number + 1), args.fs),
    )
    cells, found = [], []
    for system in systems:
        factor = spread([value / (rows * args.seconds) for value in system.seconds], 4)
        cells.append([system.name, *system.facts, factor, system.shown_ratio()])
        if system.peer:
            times = statistics.median(system.times_as_fast())
            found.append(f"- batch of {rows}, {system.name}: {times:.2f} times as fast")
    headings = ["system", "parameters", "RTF: median [min, max]", "times as fast as ESPnet's"]
    return [f"### Batch of {rows}", "", *markdown(headings, cells), "", *found, ""]


def same_output(systems: Sequence[System], fs: int) -> str:
    """Return how far the peer's model through our code is from the peer, as text: their shapes, whatever their scale."""
    import numpy as np

    clips = make_clips(1, (0.5, 0.5), (8, 9), fs)
    (theirs,), (ours,) = (np.asarray(system.run(clips)) for system in systems[:2])
    theirs = theirs * np.dot(ours, theirs) / np.dot(theirs, theirs)
    return f"{np.abs(ours - theirs).max() / np.abs(theirs).max():.1e}"


def main(cmd: Sequence[str] | None = None) -> None:
    args = parse(options(), cmd)
    if DUAL_PATH in args.extractors and len(args.extractors) > 1:
        raise UserError("--extractors: dual_path is timed alone, as its rate is 16 kHz and that of the others 8 kHz")
    args.fs = 16000 if DUAL_PATH in args.extractors else 8000
    set_threads(args.threads)
    systems = build_systems(args)
    text = (
        f"Mixtures of {args.seconds:g} s with enrolments of {args.enroll_seconds:g} s at {args.fs} Hz on {args.device}, in "
        f"{args.repeats} rounds with every system once in each. Of the same model through ESPnet's code and ours, outputs differ "
        f"by at most {same_output(systems, args.fs)} of the peak."
    )
    report = head("Speed of extraction", text, args.threads)
    for rows in args.batch_size:
        report += table(systems, rows, args)
    write_report(report, args.output)


if __name__ == "__main__":
    run_main(main)
