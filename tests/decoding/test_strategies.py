"""Schedule, tokens, orders, filters and guidance, each by itself."""

import math

import pytest
import torch
from refused import refused

from espnet_tse_gen.decoding.noise import RowNoise
from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.decoding.strategies import (
    Places,
    Step,
    choose_tokens,
    filter_top_k,
    filter_top_p,
    guided_logits,
    mask_counts,
    order_score,
    van_der_corput,
)

NOISE = RowNoise(0, ["a"])


def places(frames: int, codebooks: int = 1) -> Places:
    frame = torch.arange(frames).repeat(codebooks).unsqueeze(0)
    return Places(frame, torch.arange(codebooks).repeat_interleave(frames), codebooks)


def test_sampled_tokens_follow_the_softmax():
    """Frequencies within 3 sigma of softmax(logits / temperature)."""
    frames, temperature = 40_000, 0.7
    logits = torch.tensor([0.5, -1.0, 2.0, 0.0, -math.inf])
    chosen = choose_tokens(logits.expand(1, frames, -1), temperature, Step(0, 1, 1.0), places(frames), NOISE)
    share = torch.bincount(chosen.flatten(), minlength=5) / frames
    probability = (logits / temperature).softmax(dim=-1)
    assert ((share - probability).abs() <= 3 * (probability * (1 - probability) / frames).sqrt()).all()


def test_top_k_keeps_exactly_k_and_equals():
    logits = torch.tensor([[3.0, 1.0, 2.0, 2.0, 0.0]])
    assert filter_top_k(logits, 2).isfinite().tolist() == [[True, False, True, True, False]]
    assert torch.equal(filter_top_k(logits, 5), logits)


@pytest.mark.parametrize(("top_p", "kept"), [(0.05, 1), (0.5, 1), (0.51, 2), (0.79, 2), (0.81, 3), (1.0, 4)])
def test_top_p_keeps_the_smallest_sufficient_set(top_p, kept):
    logits = torch.tensor([[0.15, 0.5, 0.05, 0.3]], dtype=torch.float64).log()
    assert filter_top_p(logits, top_p).isfinite().sum() == kept


def scored(confidence: torch.Tensor, step: Step, where: Places, **options) -> torch.Tensor:
    return order_score(DecodingOptions(**options), confidence, step, where, NOISE)


def test_choice_noise_fades_with_the_heat():
    confidence = torch.linspace(-1, 0, 50).unsqueeze(0)
    cold, half, hot = (
        scored(confidence, Step(0, 3, heat), places(50), choice_temperature=2.0) for heat in (0.0, 0.5, 1.0)
    )
    assert torch.equal(cold, confidence)
    torch.testing.assert_close(hot - cold, 2 * (half - cold))
    assert (hot - cold).std() > 1


def test_halton_order_is_the_van_der_corput_permutation():
    assert van_der_corput(torch.arange(8)).tolist() == [0.0, 0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875]
    score = scored(torch.zeros(1, 8), Step(0, 1, 1.0), places(8), order="halton")
    assert score.argsort(descending=True).tolist() == [[0, 4, 2, 6, 1, 5, 3, 7]]
    both = scored(torch.zeros(1, 8), Step(None, 1, 1.0), places(4, codebooks=2), order="halton")
    assert both.argsort(descending=True).tolist() == [[0, 2, 1, 3, 4, 6, 5, 7]]


def test_coarse_first_lowers_fine_codebooks():
    score = scored(torch.zeros(1, 6), Step(None, 1, 1.0), places(2, codebooks=3), joint=True, steps=1, coarse_first=0.5)
    assert score.tolist() == [[0.0, 0.0, -0.5, -0.5, -1.0, -1.0]]


def test_p13_guidance_conventions():
    """P13: g = 0 is the unconditional network, and (1 + w) l_c - w l_u is g = 1 + w."""
    generator = torch.Generator().manual_seed(0)
    with_condition, without = torch.randn(2, 1, 5, 7, generator=generator, dtype=torch.float64)
    codes = torch.zeros(1, 1, 5, dtype=torch.int64)

    def guided(scale: float, share: float = 0.3, **more: str) -> torch.Tensor:
        networks = (lambda codes, codebook: with_condition), (lambda codes, codebook: without)
        return guided_logits(DecodingOptions(guidance=scale, **more), share, *networks, codes, 0)

    assert guided(1.0) is with_condition
    assert guided(0.0) is without
    for weight in (0.25, 1.0, 2.5):
        expected = (1 + weight) * with_condition - weight * without
        torch.testing.assert_close(guided(1.0 + weight), expected, rtol=0, atol=1e-12)
    for share, scale in ((1.0, 3.0), (0.5, 2.0), (0.0, 1.0)):
        torch.testing.assert_close(guided(3.0, share, guidance_schedule="linear"), guided(scale))
    message = "guidance 2 needs a model trained with condition dropout"
    refused(message, guided_logits, DecodingOptions(guidance=2.0), 1.0, lambda codes, codebook: without, None, codes, 0)


def test_p01_schedule_exhaustively():
    """P1: n_s strictly decreasing, n_S == 0, every pass commits at least one, for all N in 1..600 and S in 1..64."""
    for masked in range(1, 601):
        for steps in range(1, 65):
            counts = mask_counts(masked, steps)
            before = (masked, *counts[:-1])
            assert counts[-1] == 0
            assert all(left > right >= 0 for left, right in zip(before, counts, strict=True))
            assert len(counts) <= min(steps, masked)
            # No pass is lost either, except where there are more passes than tokens.
            assert len(counts) == steps or steps > masked


def test_p01_published_counts():
    assert mask_counts(500, 8) == (490, 461, 415, 353, 277, 191, 97, 0)
    assert mask_counts(0, 8) == ()


def test_p01_half_is_the_exact_floor():
    """The one cosine inside the interval that is rational (Niven), where a rounded one could cross a whole number."""
    assert all(mask_counts(masked, 3)[1] == masked // 2 for masked in range(4, 6001, 2))
