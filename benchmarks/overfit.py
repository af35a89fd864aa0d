"""Can the extractor learn one batch by heart? Property P19: four mixtures of two seconds, at most 500 steps.

    python benchmarks/overfit.py --librispeech /data/LibriSpeech/train-clean-100 --size S

Without dropout and condition dropout, the masked cross-entropy must fall below 0.05 nats, and decoding with
one pass (masking ``joint``) or one pass per codebook (``codebook``) must give over 99 % of the tokens. A model that fails has
a fault in its masks, its positions or its heads. ``--size S`` (width 384, 8 layers) takes about ten minutes on a CPU core.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.level import mixture_gain
from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.mel import MelCodec
from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.decoding.sampler import Sampler
from espnet_tse_gen.masked.extractor import MaskedExtractor
from espnet_tse_gen.masked.model import MaskedTSEModel
from espnet_tse_gen.utils.errors import UserError, run_main

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"width": 96, "layers": 2, "heads": 4, "mixture_layers": 1},
    "S": {"width": 384, "layers": 8, "heads": 6, "mixture_layers": 2},
}
LEARNING_RATES = {"tiny": 2e-3, "S": 5e-4}
SECONDS, ENROLL_SECONDS = 2.0, 3.0

Batch = dict[str, Tensor]


class Outcome(NamedTuple):
    cross_entropy: float  # mean over 20 draws of masks, in nats
    accuracy: float  # share of the target's tokens that decoding gives


def make_batch(targets: Sequence[Tensor], others: Sequence[Tensor], enrolments: Sequence[Tensor]) -> Batch:
    """Return a batch of mixtures of signals of equal length, at the common level."""
    mixtures, clean = torch.stack([*targets]) + torch.stack([*others]), torch.stack([*targets])
    gains = torch.tensor([mixture_gain(mixture.numpy()) for mixture in mixtures])[:, None]
    enrolls = torch.stack([enroll * mixture_gain(enroll.numpy()) for enroll in enrolments])
    batch = {"speech_mix": mixtures * gains, "speech_ref1": clean * gains, "enroll_ref1": enrolls}
    return batch | {f"{name}_lengths": torch.full((len(rows),), rows.shape[1]) for name, rows in batch.items()}


def real_batch(librispeech: Path, codec: MelCodec, items: int = 4) -> Batch:
    """Fit ``codec`` to and return a batch of real mixtures; the enrolment is a later part of the target's recording."""
    chosen: dict[str, Tensor] = {}
    start, end, needed = (round(t * codec.sample_rate) for t in (1.0, 1.0 + SECONDS, 1.0 + SECONDS + ENROLL_SECONDS))
    for path in sorted(librispeech.rglob("*.flac")):
        speaker = path.name.split("-")[0]
        if speaker not in chosen and len(chosen) < 4 * items:
            samples = resample(*read_audio(path), codec.sample_rate)
            if len(samples) >= needed:
                chosen[speaker] = torch.from_numpy(samples * np.float32(mixture_gain(samples)))[:needed]
    if len(chosen) < 4 * items:
        raise UserError(f"{librispeech}: expected at least {4 * items} speakers with 6 seconds of FLAC recordings")
    recordings = list(chosen.values())
    codec.fit(recordings, iterations=5)
    targets, others = ([wav[start:end] for wav in part] for part in (recordings[:items], recordings[items : 2 * items]))
    return make_batch(targets, others, [wav[end:] for wav in recordings[:items]])


def overfit(codec: AbsCodec, batch: Batch, masking: str, size: str, steps: int, verbose: bool = False) -> Outcome:
    """Train on ``batch`` alone and measure; the rate falls linearly to zero over the second half of the steps."""
    torch.manual_seed(0)
    model = MaskedTSEModel(
        codec, MaskedExtractor(codec, dropout=0.0, **SIZES[size]), masking=masking, codebook_distribution="uniform",
        drop_enroll=0.0, drop_both=0.0,
    )  # fmt: skip
    codes = codec.encode(batch["speech_ref1"], batch["speech_ref1_lengths"]).codes
    lengths = torch.full((len(codes),), codes.shape[2])
    batch = {**batch, "codes_ref1": codes.transpose(1, 2), "codes_ref1_lengths": lengths}
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATES[size], betas=(0.9, 0.98), weight_decay=0.0)
    begin = time.monotonic()
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATES[size] * min(1.0, (step + 1) / 30, 2 * (steps - step) / steps)
        loss = model(**batch)[0]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if verbose and (step + 1) % 25 == 0:
            print(f"{masking} step {step + 1}: loss {loss.item():.4f}, {time.monotonic() - begin:.0f} s", flush=True)
    with torch.no_grad():
        cross_entropy = sum(float(model(**batch)[0]) for _ in range(20)) / 20
    accuracy = (decode(model.eval(), batch, masking == "joint") == codes).float().mean().item()
    return Outcome(cross_entropy, accuracy)


def decode(model: MaskedTSEModel, batch: Batch, joint: bool) -> Tensor:
    """Return the tokens ``[B, K, T]`` that one pass gives, or one pass per codebook."""
    mixture = model.encode(batch["speech_mix"], batch["speech_mix_lengths"])
    conditions = model.conditions(mixture, model.encode(batch["enroll_ref1"], batch["enroll_ref1_lengths"]))
    valid = torch.ones_like(mixture.valid)
    sampler = Sampler(DecodingOptions(steps=1, joint=joint), model.codec.num_codebooks, model.codec.codebook_size)
    return sampler.decode(model.predictor(conditions), valid, None, list(range(len(valid))), None)


def main(cmd: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--librispeech", type=Path, required=True, help="folder with FLAC recordings of LibriSpeech")
    parser.add_argument("--size", choices=SIZES, default="S", help="size of the extractor")
    parser.add_argument("--masking", choices=("joint", "codebook"), nargs="+", default=["joint", "codebook"])
    parser.add_argument("--steps", type=int, default=500)
    args = parser.parse_args(cmd)
    codec = MelCodec()
    batch = real_batch(args.librispeech, codec)
    missed = False
    for masking in args.masking:
        result = overfit(codec, batch, masking, args.size, args.steps, verbose=True)
        good = result.cross_entropy < 0.05 and result.accuracy > 0.99
        missed |= not good
        print(
            f"{masking}: masked cross-entropy {result.cross_entropy:.4f} (below 0.05), tokens {result.accuracy:.2%}"
            f" (over 99 %): {'ok' if good else 'MISSED'}"
        )
    return int(missed)


if __name__ == "__main__":
    run_main(main)
