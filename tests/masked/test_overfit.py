"""Short trainings of the whole model: it can learn a batch by heart (P19), and it listens to both conditions (P18)."""

import pytest
import torch
from overfit import Batch, decode, make_batch, overfit

from espnet_tse_gen.masked.extractor import MaskedExtractor
from espnet_tse_gen.masked.model import MaskedTSEModel

pytestmark = pytest.mark.slow

PITCHES = (110.0, 230.0)


@pytest.mark.parametrize(("masking", "steps"), [("joint", 250), ("codebook", 300)])
def test_one_batch_is_learned_by_heart(codec, voice, masking, steps):
    batch = make_batch(
        [voice(2.0, 100.0 + 40 * n, n) for n in range(4)],
        [voice(2.0, 230.0 - 20 * n, 50 + n) for n in range(4)],
        [voice(2.0, 100.0 + 40 * n, 90 + n) for n in range(4)],
    )
    result = overfit(codec, batch, masking, "tiny", steps)
    assert result.cross_entropy < 0.05 and result.accuracy > 0.99


def both_targets(voice, seeds: range) -> Batch:
    """Mixtures of a low and a high voice, each with one and then with the other as target: only the enrolment tells."""
    rows: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for seed in seeds:
        low, high = (voice(1.0, pitch, 10 * seed + k) for k, pitch in enumerate(PITCHES))
        low_enroll, high_enroll = (voice(1.0, pitch, 50000 + 10 * seed + k) for k, pitch in enumerate(PITCHES))
        rows += [(low, high, low_enroll), (high, low, high_enroll)]
    return make_batch(*zip(*rows, strict=True))


def test_after_a_toy_training_enrolment_and_mixture_decide_the_tokens(codec, voice):
    steps, rate = 200, 3e-3
    extractor = MaskedExtractor(codec, dropout=0.0, width=64, layers=2, heads=4, mixture_layers=1)
    model = MaskedTSEModel(codec, extractor, masking="mixed", drop_enroll=0.0, drop_both=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    batches = [both_targets(voice, range(seed, seed + 2)) for seed in range(0, 40, 2)]
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20, 2 * (steps - step) / steps)
        optimizer.zero_grad()
        model(**batches[step % len(batches)])[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    unseen = both_targets(voice, range(1000, 1008))
    partner = torch.arange(16) ^ 1
    tokens = decode(model, unseen, joint=False)
    exchanged = decode(model, {**unseen, "enroll_ref1": unseen["enroll_ref1"][partner]}, joint=False)
    silent = decode(model, {**unseen, "speech_mix": torch.zeros_like(unseen["speech_mix"])}, joint=False)
    assert (tokens != exchanged)[:, 0].float().mean() > 0.2
    assert (tokens != silent)[:, 0].float().mean() > 0.5
    # More than that: with the exchanged enrolment it extracts the other voice.
    truth = codec.encode(unseen["speech_ref1"], unseen["speech_ref1_lengths"]).codes
    assert (tokens == truth)[:, 0].float().mean() > 0.4
    assert (exchanged == truth[partner])[:, 0].float().mean() > 0.4
    assert (exchanged == truth)[:, 0].float().mean() < 0.1
