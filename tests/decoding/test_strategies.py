"""Tokens, orders, filters and guidance, each by itself."""

from __future__ import annotations

import math

import pytest
import torch

from espnet_tse_gen.decoding.guidance import ConstantGuidance, LinearGuidance, guided_logits
from espnet_tse_gen.decoding.noise import RowNoise
from espnet_tse_gen.decoding.strategies import (
    CoarseFirst,
    ConfidenceOrder,
    GreedyTokens,
    HaltonOrder,
    Places,
    SampledTokens,
    Step,
    filter_top_k,
    filter_top_p,
    log_confidence,
    van_der_corput,
)
from espnet_tse_gen.utils.errors import UserError


def places(frames: int, levels: int = 1) -> Places:
    frame = torch.arange(frames).repeat(levels).unsqueeze(0)
    return Places(frame, torch.arange(levels).repeat_interleave(frames), levels)


def test_sampled_tokens_follow_the_softmax():
    """Frequencies within 3 sigma of softmax(logits / temperature)."""
    frames, temperature = 40_000, 0.7
    logits = torch.tensor([0.5, -1.0, 2.0, 0.0, -math.inf])
    noise = RowNoise(0, ["a"])
    chosen = SampledTokens(temperature).choose(logits.expand(1, frames, -1), Step(0, 1, 1.0), places(frames), noise)
    share = torch.bincount(chosen.flatten(), minlength=5) / frames
    probability = (logits / temperature).softmax(dim=-1)
    assert ((share - probability).abs() <= 3 * (probability * (1 - probability) / frames).sqrt()).all()


def test_the_first_of_equal_logits_is_chosen():
    logits = torch.zeros(2, 3, 7)
    assert (GreedyTokens().choose(logits, Step(0, 1, 1.0), places(3), RowNoise(0, [0, 1])) == 0).all()


def test_sampling_without_heat_is_greedy():
    logits = torch.randn(1, 9, 5, generator=torch.Generator().manual_seed(0))
    chosen = SampledTokens(1.0).choose(logits, Step(0, 1, 0.0), places(9), RowNoise(0, [0]))
    assert torch.equal(chosen, logits.argmax(-1))


def test_top_k_keeps_exactly_k_and_equals():
    logits = torch.tensor([[3.0, 1.0, 2.0, 2.0, 0.0]])
    assert filter_top_k(logits, 1).isfinite().sum() == 1
    assert filter_top_k(logits, 2).isfinite().tolist() == [[True, False, True, True, False]]
    assert torch.equal(filter_top_k(logits, 5), logits)


@pytest.mark.parametrize(("top_p", "kept"), [(0.05, 1), (0.5, 1), (0.51, 2), (0.79, 2), (0.81, 3), (1.0, 4)])
def test_top_p_keeps_the_smallest_sufficient_set(top_p, kept):
    logits = torch.tensor([[0.15, 0.5, 0.05, 0.3]], dtype=torch.float64).log()
    assert filter_top_p(logits, top_p).isfinite().sum() == kept


def test_confidence_is_the_log_probability():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    tokens = logits.argmax(-1)
    torch.testing.assert_close(log_confidence(logits, tokens), logits.softmax(-1).amax(-1).log())


def test_choice_noise_fades_with_the_heat():
    confidence = torch.linspace(-1, 0, 50).unsqueeze(0)
    noise, order = RowNoise(0, [0]), ConfidenceOrder(2.0)
    assert torch.equal(order.score(confidence, Step(0, 3, 0.0), places(50), noise), confidence)
    hot = order.score(confidence, Step(0, 3, 1.0), places(50), noise) - confidence
    half = order.score(confidence, Step(0, 3, 0.5), places(50), noise) - confidence
    torch.testing.assert_close(hot, 2 * half)
    assert hot.std() > 1


def test_halton_order_is_the_van_der_corput_permutation():
    assert van_der_corput(torch.arange(8)).tolist() == [0.0, 0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875]
    score = HaltonOrder().score(torch.zeros(1, 8), Step(0, 1, 1.0), places(8), RowNoise(0, [0]))
    assert score.argsort(descending=True).tolist() == [[0, 4, 2, 6, 1, 5, 3, 7]]
    both = HaltonOrder().score(torch.zeros(1, 8), Step(None, 1, 1.0), places(4, levels=2), RowNoise(0, [0]))
    assert both.argsort(descending=True).tolist() == [[0, 2, 1, 3, 4, 6, 5, 7]]


def test_coarse_first_lowers_fine_levels():
    order = CoarseFirst(ConfidenceOrder(), 0.5)
    score = order.score(torch.zeros(1, 6), Step(None, 1, 1.0), places(2, levels=3), RowNoise(0, [0]))
    assert score.tolist() == [[0.0, 0.0, -0.5, -0.5, -1.0, -1.0]]


def test_p13_guidance_conventions():
    """P13: g = 0 is the unconditional network, and (1 + w) l_c - w l_u is g = 1 + w."""
    generator = torch.Generator().manual_seed(0)
    with_condition, without = torch.randn(2, 1, 5, 7, generator=generator, dtype=torch.float64)
    codes = torch.zeros(1, 1, 5, dtype=torch.int64)

    def guided(scale: float) -> torch.Tensor:
        return guided_logits(lambda codes, level: with_condition, lambda codes, level: without, codes, 0, scale)

    assert guided(1.0) is with_condition
    assert guided(0.0) is without
    for weight in (0.25, 1.0, 2.5):
        expected = (1 + weight) * with_condition - weight * without
        torch.testing.assert_close(guided(1.0 + weight), expected, rtol=0, atol=1e-12)


def test_guidance_schedules():
    assert ConstantGuidance(3.0).scale(0.2) == 3.0
    assert LinearGuidance(3.0).scale(1.0) == 3.0
    assert LinearGuidance(3.0).scale(0.5) == 2.0
    assert LinearGuidance(3.0).scale(0.0) == 1.0


def test_guidance_without_an_unconditional_network():
    with pytest.raises(UserError, match="guidance 2 needs a model trained with condition dropout"):
        guided_logits(lambda codes, level: torch.zeros(1), None, torch.zeros(1), 0, 2.0)


def test_half_precision_logits_become_float32():
    half = torch.zeros(1, 2, 3, dtype=torch.bfloat16)
    assert guided_logits(lambda codes, level: half, None, torch.zeros(1), 0, 1.0).dtype == torch.float32
