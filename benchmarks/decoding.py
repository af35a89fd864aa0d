#!/usr/bin/env python3
"""How fast decoding is: real-time factor at full size beside ESPnet's TD-SpeakerBeam, in one run, on the same recordings.

Systems: TD-SpeakerBeam at the size and rate of ESPnet's LibriMix recipe (the peer that ratios are taken to); our model with
the decoding presets, once for each precision; and our own loop without caching, which encodes the mixture and the enrolment
again in every pass. All run in turn, round after round, so that whatever else the machine does meets all of them alike; the
order moves by one place per round. Weights are random: they do not change the time.

    python benchmarks/decoding.py --threads 2 --repeats 5
    python benchmarks/decoding.py --threads 2 --repeats 5 --model tse_gen_16k

With --model, a trained model takes the place of ours, from arrays to arrays, its front end included: 16 steps, and one with the
mean of what is predicted; what can use an estimate's phase does.

The real-time factor is computing time over the duration of the mixtures. "With codec" counts everything from the waveform
to the waveform: encoding mixture and enrolment, the network, the codec's decoder.
"""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import common
from common import ROOT, SAMPLE_RATE, System, markdown, measure, speech_like, spread

from espnet_tse_gen.utils.errors import UserError, run_main

if TYPE_CHECKING:
    from torch import Tensor

    from espnet_tse_gen.masked.model import MaskedTSEModel

CODEBOOKS, CODEBOOK_SIZE, HOP = 8, 1024, 320
PRESETS = {"greedy_16": "16 passes", "one_step": "1 pass"}
TRAINED = {"16 steps": {"joint": True, "steps": 16}, "1 step, soft": {"joint": True, "steps": 1, "soft": True}}
PEER = "TD-SpeakerBeam"
UNCACHED = ", nothing cached"
PRECISIONS = "float32", "bfloat16"


class Clips(NamedTuple):
    """Recordings of one round: mixtures ``[B, L]``, enrolments ``[B, Le]``, and their lengths ``[B]``."""

    mixture: "Tensor"
    enroll: "Tensor"
    lengths: "Tensor"
    enroll_lengths: "Tensor"


def options() -> argparse.ArgumentParser:
    parser = common.get_parser(str(__doc__), repeats=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of a mixture")
    parser.add_argument("--enroll_seconds", type=float, default=5.0, help="duration of an enrolment")
    parser.add_argument("--batch_size", type=int, nargs="+", default=[1], help="mixtures at a time; a table each")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--config", type=Path, default=ROOT / "conf/train/masked.yaml", help="of our model")
    which.add_argument("--model", help="a trained model in the place of one with random weights")
    return parser


def make_clips(rows: int, number: int, args: argparse.Namespace) -> Clips:
    """Return the mixtures of two voices of a round, and the enrolments."""
    import torch

    samples, enroll_samples = (round(value * SAMPLE_RATE) for value in (args.seconds, args.enroll_seconds))
    first = 1000 * (number + 1)
    mixture = [speech_like(samples, first + n) + speech_like(samples, first + 300 + n) for n in range(rows)]
    enroll = [speech_like(enroll_samples, first + 600 + n) for n in range(rows)]
    lengths = (torch.full((rows,), size) for size in (samples, enroll_samples))
    return Clips(torch.stack(mixture), torch.stack(enroll), *lengths)


def peer_system(peer: Any, precision: str) -> System:
    """Return the peer, which encodes the enrolment in each call as it does in ESPnet."""
    import torch

    from espnet_tse_gen.utils.precision import autocast

    @torch.inference_mode()
    def run(clips: Clips) -> tuple[float, None]:
        start = time.perf_counter()
        with autocast(precision, "cpu"):
            feature, frames = peer.encoder(clips.mixture, clips.lengths)
            enroll, enroll_frames = peer.encoder(clips.enroll, clips.enroll_lengths)
            target, _, _ = peer.extractor(feature, frames, enroll, enroll_frames)
            peer.decoder(target, clips.lengths)
        return time.perf_counter() - start, None

    return System(PEER, [precision, "1"], run)


def build_ours(config: Mapping[str, Any]) -> "MaskedTSEModel":
    """Return our model as ``config`` describes it, around a codec fitted in seconds to the noise of this script."""
    import torch

    from espnet_tse_gen.codec.mel import MelCodec
    from espnet_tse_gen.masked.build import build_model

    codec = MelCodec(SAMPLE_RATE, HOP, num_codebooks=CODEBOOKS, codebook_size=CODEBOOK_SIZE)
    noise = [speech_like(20 * SAMPLE_RATE, n) for n in range(2)]
    codec.fit(noise, max_frames=2000, frames_per_recording=1000, iterations=1)
    model = build_model(codec, config).eval()
    # Heads start at zero, where all tokens are equally good; a spread of logits makes the order of tokens a real sort.
    heads = getattr(model.extractor, "heads", None)
    if isinstance(heads, torch.Tensor):
        torch.nn.init.normal_(heads, std=0.05)
    return model


def our_system(model: "MaskedTSEModel", preset: str, precision: str, peer: System, cached: bool = True) -> System:
    """Return our model with a decoding preset; without ``cached``, every pass encodes mixture and enrolment again."""
    import torch

    from espnet_tse_gen.decoding.options import DecodingOptions
    from espnet_tse_gen.decoding.sampler import Sampler

    sampler = Sampler(DecodingOptions.preset(preset), model.codec.num_codebooks, model.codec.codebook_size)

    @torch.inference_mode()
    def run(clips: Clips) -> "tuple[float, Tensor]":
        model.precision = precision
        mixture = model.encode(clips.mixture, clips.lengths)
        enroll = model.encode(clips.enroll, clips.enroll_lengths)
        start = time.perf_counter()

        def uncached(codes: "Tensor", codebook: int | None) -> "Tensor":
            return model.predictor(model.conditions(mixture, enroll))(codes, codebook)

        predict = model.predictor(model.conditions(mixture, enroll)) if cached else uncached
        codes = sampler.decode(predict, mixture.valid)
        network = time.perf_counter() - start
        model.codec.decode(codes, mixture=clips.mixture if model.codec.supports_mixture else None)
        return network, codes

    name = f"ours, {PRESETS[preset]}{'' if cached else UNCACHED}"
    return System(name, [precision, str(sampler.passes)], run, peer)


def trained_systems(name: str, peer: System, rows: int) -> list[System]:
    """Return the rows of a trained masked generative model, which decodes ``rows`` mixtures at a time."""
    from espnet_tse_gen import TargetSpeakerExtractor
    from espnet_tse_gen.inference.masked import MaskedInference

    def system(extractor: MaskedInference, label: str, precision: str) -> System:
        guided = extractor.model.front_end is not None and extractor.codec.supports_mixture
        options = {**TRAINED[label], **({"reconstruction": "estimate"} if guided else {}), "batch_size": rows}

        def run(clips: Clips) -> tuple[None, None]:
            extractor.options = options
            pairs = zip(clips.mixture.numpy(), clips.enroll.numpy(), strict=True)
            extractor.extract([extractor.request(mixture, enroll, SAMPLE_RATE) for mixture, enroll in pairs])
            return None, None

        return System(f"ours, {label}", [precision, str(TRAINED[label]["steps"])], run, peer)

    made = []
    for precision in PRECISIONS:
        extractor = TargetSpeakerExtractor.from_pretrained(name, dtype=precision)
        if not isinstance(extractor, MaskedInference):
            raise UserError(f"--model: {name} is not masked generative; give one that is, such as tse_gen_16k")
        made += [system(extractor, label, precision) for label in TRAINED]
    return made


def table(systems: Sequence[System], rows: int, seconds: float) -> list[str]:
    """Return a table in Markdown, and below it what it says about speed and about the cache, one line each."""
    cells, found, cached = [], [], {}
    for system in systems:
        name, precision = system.name.removeprefix("ours, "), system.facts[0]
        total = spread([value / (rows * seconds) for value in system.seconds], 4)
        networks = [value / (rows * seconds) for value, _ in system.results if value is not None]
        network = f"{statistics.median(networks):.4f}" if networks else ""
        cells.append([system.name, *system.facts, total, network, system.shown_ratio()])
        if system.peer and not name.endswith(UNCACHED):
            cached[name, precision] = system
            times = statistics.median(system.times_as_fast())
            found.append(f"- {name}, {precision}: {times:.2f} times as fast as the peer in float32")
        elif system.peer:
            pairs = list(zip(system.results, cached[name.removesuffix(UNCACHED), precision].results, strict=True))
            saved = statistics.median(slow / fast for (slow, _), (fast, _) in pairs)
            equal = statistics.fmean(float((slow == fast).double().mean()) for (_, slow), (_, fast) in pairs)
            found.append(f"- caching, {precision}: {saved:.2f} times as fast, {100 * equal:.2f} % of the tokens equal")
    headings = ["system", "precision", "passes", "RTF with codec: median [min, max]", "RTF without codec",
                "times as fast as the peer"]  # fmt: skip
    return [f"### Batch of {rows}", "", *markdown(headings, cells), "", *found, ""]


def parameters(module: Any) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f} M"


def main(cmd: Sequence[str] | None = None) -> None:
    """Measure, print the report and write it to ``--output``."""
    args = common.parse(options(), cmd)
    common.set_threads(args.threads)
    import torch

    from espnet_tse_gen.training.tse_model import build_model
    from espnet_tse_gen.utils.files import read_yaml

    torch.manual_seed(0)
    peer = build_model(common.speakerbeam(512, kernel_size=32)).eval()
    if not args.model:
        model = build_ours(read_yaml(args.config))
        codec, body = model.codec, getattr(model.extractor, "backbone", None)
        parts = f" (token transformer {parameters(body)})" if body is not None else ""
        ours = (
            f"{args.config.name}, {parameters(model.extractor)} parameters{parts}; codec '{codec.name}', "
            f"{codec.num_codebooks} codebooks of {codec.codebook_size} entries, {codec.frame_rate:g} frames/s"
        )
    report = [
        "## Real-time factor of decoding",
        "",
        f"Mixtures of {args.seconds:g} s with enrolments of {args.enroll_seconds:g} s at {SAMPLE_RATE} Hz, in "
        f"{args.repeats} rounds with every system once in each.",
        "",
        f"- peer: {PEER} of ESPnet, {parameters(peer)} parameters",
        f"- ours: {args.model or ours}",
        *common.machine(args.threads),
        "",
    ]
    for rows in args.batch_size:
        first = peer_system(peer, "float32")
        systems = [first, peer_system(peer, "bfloat16")]
        systems[1].peer = first
        if args.model:
            systems += trained_systems(args.model, first, rows)
        else:
            systems += [our_system(model, preset, precision, first) for preset in PRESETS for precision in PRECISIONS]
            systems += [our_system(model, "greedy_16", precision, first, cached=False) for precision in PRECISIONS]
        measure(systems, args.repeats, partial(make_clips, rows, args=args))
        report += table(systems, rows, args.seconds)
    common.write_report(report, args.output)


if __name__ == "__main__":
    run_main(main)
