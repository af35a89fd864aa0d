#!/usr/bin/env python3
"""What generation brings on top of its condition: a table of decoding options, judged by decoded speech.

    python benchmarks/generation.py --data_dir dump/raw/dev --model exp/tse_gen_16k --items 32

Models are masked generative ones, with or without a front end; several stand in one table, as those of other codecs or other
conditions do. First come the mixture, the front end's estimate and the ceilings, which are the target's own tokens, decoded with
the phase of the mixture or of the estimate. Then every model is decoded in 1 to 32 steps, greedily and by sampling, from nothing
and from half of the estimate's tokens, with guidance, and with the mean of what is predicted in the place of tokens. Where the
codec can use a phase, that of the estimate serves, and the mixture's in one row. Of the models of --few, such as short trainings
that are to be compared, only three rows are made. Use the validation set: options are chosen by it.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, write_report
from robustness import RATE, Item, get_parser, read_items

from espnet_tse_gen.utils.errors import UserError, run_main

STEPS = (1, 2, 4, 8, 16, 32)
SAMPLED = {"temperature": 1.0, "choice_temperature": 1.0, "top_p": 0.9}
OPTIONS: dict[str, dict[str, Any]] = {
    **{f"{steps} step{'s' * (steps > 1)}": {"joint": True, "steps": steps} for steps in STEPS},
    "1 step, soft": {"joint": True, "steps": 1, "soft": True},
    "16 steps, soft": {"joint": True, "steps": 16, "soft": True},
    "16 steps, from half of the estimate": {"joint": True, "steps": 16, "start": 0.5},
    "16 steps, sampled": {"joint": True, "steps": 16, **SAMPLED},
    **{f"1 step, guidance {scale:g}": {"joint": True, "steps": 1, "guidance": scale} for scale in (1.25, 1.5, 2.0)},
    "codebook by codebook": {"steps": 1},
}
FEW = ("1 step", "16 steps", "1 step, soft")
HEADINGS = ["model", "decoding", "SI-SDR (dB)", "PESQ-WB", "ESTOI (%)", "similarity", "DNSMOS OVRL", "wrong", "RTF"]
Scored = list[tuple[float, ...]]


def judge() -> Callable[[Item, np.ndarray], tuple[float, ...]]:
    """Return what scores an output: SI-SDR, PESQ, ESTOI, similarity, DNSMOS, and whether the other speaker is nearer."""
    from pesq import pesq
    from pystoi import stoi

    from espnet_tse_gen.audio.voice_encoder import VoiceEncoder
    from espnet_tse_gen.scoring.metrics.mos import dnsmos
    from espnet_tse_gen.scoring.signal import si_sdr

    encoder, opinion = VoiceEncoder(), dnsmos()
    encoder.load_pretrained()

    def score(item: Item, output: np.ndarray) -> tuple[float, ...]:
        import torch

        own, other = si_sdr(item.target, output), si_sdr(item.interferer, output)
        voices = encoder([torch.from_numpy(np.ascontiguousarray(one)) for one in (item.target, output)])
        intelligible = 100 * float(stoi(item.target, output, RATE, extended=True))
        likeness = float(voices[0] @ voices[1])
        quality = opinion(output, RATE)["OVRL"]
        return own, float(pesq(RATE, item.target, output, "wb")), intelligible, likeness, quality, float(other > own)

    return score


def row(model: str, decoding: str, scored: Scored, factor: float | None = None) -> list[str]:
    sdr, quality, intelligible, likeness, opinion, wrong = np.mean(scored, axis=0)
    cells = [f"{sdr:.2f}", f"{quality:.2f}", f"{intelligible:.1f}", f"{likeness:.3f}", f"{opinion:.2f}", f"{wrong:.1%}"]
    return [model, decoding, *cells, "" if factor is None else f"{factor:.3f}"]


def ceilings(extractor: Any, items: Sequence[Item], score: Callable[..., tuple[float, ...]]) -> dict[str, Scored]:
    """Return the front end's estimates, and the target's tokens, decoded in every way that the codec knows, scored."""
    import torch

    codec, found = extractor.codec, dict[str, Scored]()
    for item in items:
        request = extractor.request(item.mixture, item.enrolls, RATE)
        mixture = torch.from_numpy(np.asarray(request.mixture[:]))[None]
        lengths, gain = torch.tensor([mixture.shape[1]]), float(request.gain)
        phases = {"": {}, **({", phase of the mixture": {"mixture": mixture}} if codec.supports_mixture else {})}
        with torch.inference_mode():
            enroll, enroll_lengths = extractor._enrolled([request])
            estimate = extractor.model.estimate(mixture, lengths, enroll.wav, enroll_lengths)
            outputs = {}
            if estimate is not None:
                outputs["estimate of the front end"] = estimate.wav
                if codec.supports_mixture:
                    phases[", phase of the estimate"] = {"estimate": estimate.wav}
            codes = codec.encode(torch.from_numpy(item.target)[None] * gain).codes
            for name, guide in phases.items():
                outputs[f"tokens of the target{name}"] = codec.decode(codes, **guide)
        for name, made in outputs.items():
            samples = made[0, : len(item.target)].numpy() / gain
            found.setdefault(name, []).append(score(item, np.asarray(samples, dtype=np.float32)))
    return found


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = get_parser(str(__doc__), items=32, models="+")
    parser.add_argument("--only", nargs="+", default=[], help="rows of decoding to keep, such as '1 step, soft'; all")
    parser.add_argument(
        "--few", nargs="+", default=[], metavar="MODEL", help=f"further models, of which these are kept: {FEW}"
    )
    parser.add_argument("--output", type=Path, help="write the table there, too")
    args = parser.parse_args(cmd)
    unknown = {*args.only} - {*OPTIONS}
    if unknown:
        raise UserError(f"--only: no row '{min(unknown)}'; expected some of {', '.join(OPTIONS)}")
    import torch

    from espnet_tse_gen import TargetSpeakerExtractor
    from espnet_tse_gen.inference.masked import MaskedInference

    torch.set_num_threads(args.threads)
    items, score = read_items(args.data_dir, args.items), judge()
    seen = set[tuple[str, str | None]]()
    rows = [row("", "mixture", [score(item, item.mixture) for item in items])]
    for name in (*args.model, *args.few):
        extractor, model = TargetSpeakerExtractor.from_pretrained(name), Path(name).name
        if not isinstance(extractor, MaskedInference):
            option = "--few" if name in args.few else "--model"
            raise UserError(f"{option}: {name} is not masked generative; give one that is, such as tse_gen_16k")
        front_end = extractor.model.front_end
        if (own := (extractor.codec.fingerprint(), front_end and front_end.fingerprint())) not in seen:
            rows += [row(model, what, scored) for what, scored in ceilings(extractor, items, score).items()]
        seen.add(own)
        guided = front_end is not None and extractor.codec.supports_mixture
        source = {"reconstruction": "estimate"} if guided else {}
        kept = FEW if name in args.few else args.only or (*OPTIONS,)
        chosen = {what: {**source, **OPTIONS[what]} for what in kept}
        if guided and kept == (*OPTIONS,):
            chosen["1 step, soft, phase of the mixture"] = {**OPTIONS["1 step, soft"], "reconstruction": "mixture"}
        for what, options in chosen.items():
            if "estimate" in what and front_end is None:
                continue
            if "guidance" in what and extractor.model.drop_enroll + extractor.model.drop_both <= 0:
                continue
            extractor.options, scored, spent = options, [], 0.0
            for item in items:
                start = time.perf_counter()
                made = extractor.extract([extractor.request(item.mixture, item.enrolls, RATE)])[0].samples
                spent += time.perf_counter() - start
                scored.append(score(item, made))
            rows.append(row(model, what, scored, spent / sum(len(item.mixture) / RATE for item in items)))
            print(" | ".join(rows[-1]), flush=True)
    report = [
        f"{len(items)} targets of {args.data_dir}, {args.threads} thread(s), float32; means.",
        "",
        *markdown(HEADINGS, rows),
    ]
    write_report(report, args.output)


if __name__ == "__main__":
    run_main(main)
