#!/usr/bin/env python3
"""How fast decoding is: real-time factor at full size beside ESPnet's TD-SpeakerBeam, in one run, on the same recordings.

Systems: TD-SpeakerBeam at the size and rate of ESPnet's LibriMix recipe (the peer that ratios are taken to); our model with
the decoding presets, once for each precision; and our own loop without caching, which encodes the mixture and the enrolment
again in every pass. All run in turn, round after round, so that whatever else the machine does meets all of them alike; the
order moves by one place per round. Weights are random: they do not change the time.

    python benchmarks/decoding.py --threads 2 --repeats 5

The real-time factor is computing time over the duration of the mixtures. "With codec" counts everything from the waveform
to the waveform: encoding mixture and enrolment, the network, the codec's decoder.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import common
from common import ROOT, SAMPLE_RATE, machine, parse, rounds, set_threads, speech_like, spread, write_report

if TYPE_CHECKING:
    from torch import Tensor

    from espnet_tse_gen.masked.model import MaskedTSEModel

LEVELS, CODEBOOK_SIZE, HOP = 8, 1024, 320
PRESETS = {"greedy_16": "16 passes", "one_pass": "1 pass"}
PEER = "TD-SpeakerBeam"


class Clips(NamedTuple):
    """Recordings of one round: ``[B, L]`` mixtures and ``[B, Le]`` enrolments at ``SAMPLE_RATE``."""

    mixture: Tensor
    enroll: Tensor

    def lengths(self) -> tuple[Tensor, Tensor]:
        """Return the samples of each mixture and each enrolment."""
        import torch

        rows = self.mixture.shape[0]
        return torch.full((rows,), self.mixture.shape[1]), torch.full((rows,), self.enroll.shape[1])


class Timing(NamedTuple):
    """Seconds of one call."""

    total: float
    network: float  # without the codec
    codes: Tensor | None = None


@dataclass
class System:
    """One row of the table."""

    name: str
    precision: str
    passes: int
    run: Callable[[Clips], Timing]
    timings: list[Timing] = field(default_factory=list)


def options() -> argparse.ArgumentParser:
    parser = common.get_parser("Real-time factor of decoding beside TD-SpeakerBeam's.", repeats=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of a mixture")
    parser.add_argument("--enroll_seconds", type=float, default=5.0, help="duration of an enrolment")
    parser.add_argument(
        "--batch_size", type=int, nargs="+", default=[1], help="mixtures decoded together; a table each"
    )
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument(
        "--config", type=Path, default=ROOT / "conf/train/masked.yaml", help="our model's configuration"
    )
    parser.add_argument(
        "--skip_uncached", action="store_true", help="leave out the loop without caching, the slowest row"
    )
    parser.add_argument("--seed", type=int, default=0, help="of recordings and weights")
    return parser


def make_clips(rows: int, seconds: float, enroll_seconds: float, seed: int) -> Clips:
    """Return mixtures of two voices, and the enrolments."""
    import torch

    samples, enroll_samples = round(seconds * SAMPLE_RATE), round(enroll_seconds * SAMPLE_RATE)
    first = 1000 * (seed + 1)
    mixture = [speech_like(samples, first + n) + speech_like(samples, first + 300 + n) for n in range(rows)]
    enroll = [speech_like(enroll_samples, first + 600 + n) for n in range(rows)]
    return Clips(torch.stack(mixture), torch.stack(enroll))


def autocast(precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which the peer runs in ``precision``."""
    import torch

    return contextlib.nullcontext() if precision == "float32" else torch.autocast("cpu", dtype=torch.bfloat16)


def build_peer() -> Any:
    """Return TD-SpeakerBeam (Delcroix et al. 2020) with the sizes of ESPnet's recipe for 16 kHz LibriMix, random weights."""
    import torch
    from espnet2.enh.decoder.conv_decoder import ConvDecoder
    from espnet2.enh.encoder.conv_encoder import ConvEncoder
    from espnet2.enh.extractor.td_speakerbeam_extractor import TDSpeakerBeamExtractor

    return torch.nn.ModuleDict(
        {
            "encoder": ConvEncoder(channel=256, kernel_size=32, stride=16),
            "extractor": TDSpeakerBeamExtractor(
                input_dim=256, layer=8, stack=4, bottleneck_dim=256, hidden_dim=512, skip_dim=256, kernel=3, causal=False,
                norm_type="gLN", pre_nonlinear="prelu", nonlinear="relu", i_adapt_layer=7, adapt_layer_type="mul",
                adapt_enroll_dim=256,
            ),
            "decoder": ConvDecoder(channel=256, kernel_size=32, stride=16),
        }
    ).eval()  # fmt: skip


def peer_system(peer: Any, precision: str) -> System:
    """Return the peer, which encodes the enrolment in each call as it does in ESPnet."""

    def run(clips: Clips) -> Timing:
        lengths, enroll_lengths = clips.lengths()
        start = time.perf_counter()
        with autocast(precision):
            feature, frames = peer["encoder"](clips.mixture, lengths)
            enroll, enroll_frames = peer["encoder"](clips.enroll, enroll_lengths)
            target, _, _ = peer["extractor"](feature, frames, enroll, enroll_frames)
            peer["decoder"](target, lengths)
        seconds = time.perf_counter() - start
        return Timing(seconds, seconds)

    return System(PEER, precision, 1, run)


def build_ours(config: Mapping[str, Any], seed: int) -> MaskedTSEModel:
    """Return our model as ``config`` describes it, around a codec fitted in seconds to the noise of this script."""
    import torch

    from espnet_tse_gen.codec.mel import MelCodec
    from espnet_tse_gen.masked.build import build_model

    codec = MelCodec(SAMPLE_RATE, HOP, num_levels=LEVELS, codebook_size=CODEBOOK_SIZE)
    codec.fit(
        [speech_like(20 * SAMPLE_RATE, seed + n) for n in range(2)],
        max_frames=2000,
        frames_per_recording=1000,
        iterations=1,
    )
    model = build_model(codec, config).eval()
    # Heads start at zero, where all tokens are equally good; a spread of logits makes the order of tokens a real sort.
    heads = getattr(model.extractor, "heads", None)
    if isinstance(heads, torch.Tensor):
        torch.nn.init.normal_(heads, std=0.05)
    return model


def our_system(model: MaskedTSEModel, preset: str, precision: str, cached: bool = True) -> System:
    """Return our model with a decoding preset; without ``cached``, every pass encodes mixture and enrolment again."""
    from espnet_tse_gen.decoding.options import DecodingOptions
    from espnet_tse_gen.decoding.sampler import Sampler

    sampler = Sampler(DecodingOptions.preset(preset), model.codec.num_levels, model.codec.codebook_size)

    def run(clips: Clips) -> Timing:
        model.precision = precision
        lengths, enroll_lengths = clips.lengths()
        start = time.perf_counter()
        mixture, enroll = model.encode(clips.mixture, lengths), model.encode(clips.enroll, enroll_lengths)
        encoded = time.perf_counter()
        if cached:
            predict = model.predictor(model.conditions(mixture, enroll))
        else:

            def predict(codes: Tensor, level: int | None) -> Tensor:
                return model.predictor(model.conditions(mixture, enroll))(codes, level)

        codes = sampler.decode(predict, mixture.valid)
        decoded = time.perf_counter()
        model.codec.decode(codes, mixture=clips.mixture if model.codec.supports_mixture else None)
        return Timing(time.perf_counter() - start, decoded - encoded, codes)

    name = f"ours, {PRESETS[preset]}" + ("" if cached else ", nothing cached")
    return System(name, precision, sampler.passes, run)


def measure(systems: Sequence[System], rows: int, args: argparse.Namespace) -> None:
    """Run every system once per round, on the round's recordings; the first round only warms up."""
    import torch

    for number, order in rounds(systems, args.repeats + 1):
        clips = make_clips(rows, args.seconds, args.enroll_seconds, args.seed + number)
        for system in order:
            with torch.inference_mode():
                timing = system.run(clips)
            if number:
                system.timings.append(timing)
        if sys.stderr.isatty():
            print(
                f"\rbatch {rows}: round {number} of {args.repeats}",
                end="\n" * (number == args.repeats),
                file=sys.stderr,
            )


def same_tokens(system: System, other: System) -> float:
    """Return the share of tokens that two systems decoded alike."""
    pairs = [(a.codes, b.codes) for a, b in zip(system.timings, other.timings, strict=True)]
    return statistics.fmean(float((a == b).double().mean()) for a, b in pairs if a is not None and b is not None)


def speedups(system: System, peer: System) -> list[float]:
    """Return how many times as fast as the peer a system was in each round."""
    return [theirs.total / own.total for own, theirs in zip(system.timings, peer.timings, strict=True)]


def table(systems: Sequence[System], rows: int, seconds: float) -> list[str]:
    """Return a Markdown table; ratios are taken within a round, so that they hold under a drifting load."""
    peer = systems[0]
    lines = [
        f"### Batch of {rows}",
        "",
        "| system | precision | passes | RTF with codec: median [min, max] | RTF without codec | times as fast as the peer |",
        "|---|---|---|---|---|---|",
    ]
    for system in systems:
        total = spread([timing.total / (rows * seconds) for timing in system.timings], 4)
        network = statistics.median(timing.network / (rows * seconds) for timing in system.timings)
        ratio = "1 (the peer)" if system is peer else spread(speedups(system, peer), 2)
        lines.append(f"| {system.name} | {system.precision} | {system.passes} | {total} | {network:.4f} | {ratio} |")
    return lines


def findings(systems: Sequence[System]) -> list[str]:
    """Return what the table says about speed and about the cache, one line each."""
    peer, lines = systems[0], []
    named = {(system.name, system.precision): system for system in systems}
    for steps in PRESETS.values():
        for system in systems:
            if system.name == f"ours, {steps}":
                ratio = statistics.median(speedups(system, peer))
                lines.append(
                    f"- {steps}, {system.precision}: {ratio:.2f} times as fast as the peer in {peer.precision}"
                )
    for (name, precision), system in named.items():
        cached = named.get((name.removesuffix(", nothing cached"), precision))
        if cached is not None and cached is not system:
            saved = statistics.median(
                slow.network / fast.network for slow, fast in zip(system.timings, cached.timings, strict=True)
            )
            equal = 100 * same_tokens(cached, system)
            lines.append(f"- caching, {precision}: {saved:.2f} times as fast, {equal:.2f} % of the tokens equal")
    return lines


def parameters(module: Any) -> str:
    """Return a module's number of parameters in millions, as text."""
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f} M"


def sizes(peer: Any, model: MaskedTSEModel, config: Path) -> list[str]:
    """Return the sizes of what is compared, one line each."""
    body = getattr(model.extractor, "backbone", None)
    parts = f" (token transformer {parameters(body)})" if body is not None else ""
    codec = model.codec
    return [
        f"- peer: {PEER} of ESPnet, {parameters(peer)} parameters",
        f"- ours: {config.name}, {parameters(model.extractor)} parameters{parts}; codec '{codec.name}', {codec.num_levels} "
        f"levels of {codec.codebook_size} entries, {codec.frame_rate:g} frames/s",
    ]


def main(cmd: Sequence[str] | None = None) -> None:
    """Measure, print the report and write it to ``--output``."""
    args = parse(options(), cmd, "threads", "repeats")
    set_threads(args.threads)
    import torch

    from espnet_tse_gen.utils.files import read_yaml

    torch.manual_seed(args.seed)
    peer, model = build_peer(), build_ours(read_yaml(args.config), args.seed)
    report = [
        "## Real-time factor of decoding",
        "",
        f"Mixtures of {args.seconds:g} s with enrolments of {args.enroll_seconds:g} s at {SAMPLE_RATE} Hz, in "
        f"{args.repeats} rounds with every system once in each.",
        "",
        *sizes(peer, model, args.config),
        *machine(args.threads),
        "",
    ]
    for rows in args.batch_size:
        systems = [peer_system(peer, "float32")]
        if "bfloat16" in args.precision:
            systems.append(peer_system(peer, "bfloat16"))
        systems += [our_system(model, preset, precision) for preset in PRESETS for precision in args.precision]
        if not args.skip_uncached:
            systems += [our_system(model, "greedy_16", precision, cached=False) for precision in args.precision]
        measure(systems, rows, args)
        report += [*table(systems, rows, args.seconds), "", *findings(systems), ""]
    text = "\n".join(report)
    print(text)
    write_report(text, args.output)


if __name__ == "__main__":
    from espnet_tse_gen.utils.errors import run_main

    run_main(main)
