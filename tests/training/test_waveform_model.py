"""The loss of the dual-path extractor, and its ESPnet model."""

import math

import pytest
import torch
from refused import refused
from tiny_discriminative import tiny_dual_path

from espnet_tse_gen.dual_path.losses import extraction_loss
from espnet_tse_gen.training.waveform_model import ESPnetWaveformModel

WINDOW, HOP, SAMPLES = 64, 32, 3200


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loss(estimate: torch.Tensor, target: torch.Tensor, mixture: torch.Tensor, valid=None, logits=None):
    valid = torch.ones_like(estimate, dtype=torch.bool) if valid is None else valid
    logits = torch.zeros(len(estimate), SAMPLES // HOP + 1) if logits is None else logits
    return extraction_loss(estimate, target, mixture, valid, logits, WINDOW, HOP)


@pytest.mark.parametrize("ratio_db", [0.0, 10.0, 20.0])
def test_the_waveform_part_is_the_error_in_db(ratio_db: float) -> None:
    target, error = noise(4, SAMPLES), noise(4, SAMPLES, seed=1)
    error *= (target.norm(dim=1) / error.norm(dim=1)).unsqueeze(1) * 10 ** (-ratio_db / 20)
    expected = 10 * math.log10(10 ** (-ratio_db / 10) + 1e-3)
    parts = loss(target + error, target, target)
    assert float(parts.waveform) == pytest.approx(expected, abs=0.01)
    assert float(parts.silence) == 0.0


def test_perfect_estimates_are_bounded_and_keep_finite_gradients() -> None:
    target = noise(2, SAMPLES)
    estimate = target.clone().requires_grad_()
    parts = loss(estimate, target, target)
    (parts.si_sdr + parts.waveform + parts.spectrum).backward()
    assert float(parts.waveform.detach()) == pytest.approx(-30.0, abs=0.01)
    assert torch.isfinite(estimate.grad).all()


@pytest.mark.parametrize(("ratio_db", "factor"), [(10.0, 1.0), (10.0, 7.0), (-5.0, 0.1)])
def test_the_scale_of_an_estimate_is_free_in_one_part_only(ratio_db: float, factor: float) -> None:
    target, error = noise(4, SAMPLES), noise(4, SAMPLES, seed=1)
    error -= (error * target).sum(1, keepdim=True) / target.square().sum(1, keepdim=True) * target
    error *= (target.norm(dim=1) / error.norm(dim=1)).unsqueeze(1) * 10 ** (-ratio_db / 20)
    parts = loss(factor * (target + error), target, target)
    assert float(parts.si_sdr) == pytest.approx(-ratio_db, abs=0.3)
    assert (abs(float(parts.waveform) + ratio_db) < 0.3) == (factor == 1.0)
    # Another speaker is the worst there is, but no infinite loss.
    assert 15 < float(loss(error, target, target).si_sdr) < 21


def test_absent_targets_count_by_what_is_left_of_the_mixture() -> None:
    mixture, target = noise(2, SAMPLES), noise(2, SAMPLES, seed=1)
    target[1] = 0
    estimate = torch.stack([target[0], 0.1 * mixture[1]])
    parts = loss(estimate, target, mixture)
    assert float(parts.silence) == pytest.approx(10 * math.log10(0.01 + 1e-3), abs=0.01)
    assert float(parts.waveform) == pytest.approx(-30.0, abs=0.01)
    parts = loss(torch.zeros_like(estimate), torch.zeros_like(target), mixture)
    assert float(parts.silence) == pytest.approx(-30.0, abs=0.01)
    assert float(parts.waveform) == float(parts.spectrum) == 0.0


def test_padding_counts_nowhere() -> None:
    target, mixture = noise(2, SAMPLES), noise(2, SAMPLES, seed=1)
    valid = torch.arange(SAMPLES) < torch.tensor([[SAMPLES], [1600]])
    target, estimate = target * valid, noise(2, SAMPLES, seed=2)
    changed = torch.where(valid, estimate, estimate + 1)
    logits = noise(2, SAMPLES // HOP + 1, seed=3)
    other = logits.clone()
    other[1, 1600 // HOP :] += 5
    for one, two in zip(
        loss(estimate, target, mixture, valid, logits), loss(changed, target, mixture, valid, other), strict=True
    ):
        assert torch.equal(one, two)


def test_activity_knows_when_the_target_speaks() -> None:
    target = noise(1, SAMPLES)
    target[:, 1600:] = 0
    right = torch.where(torch.arange(SAMPLES // HOP + 1) <= 1600 // HOP, 20.0, -20.0).unsqueeze(0)
    assert float(loss(target, target, target, logits=right).activity) < 0.1
    assert float(loss(target, target, target, logits=-right).activity) > 15
    silent = torch.zeros_like(target)
    assert float(loss(silent, silent, target, logits=torch.full_like(right, -20.0)).activity) < 0.1


def test_the_model_weighs_the_parts_by_their_share() -> None:
    model = ESPnetWaveformModel(tiny_dual_path().eval(), 0.2, 0.5, 0.3, 2.0)
    refs = [noise(2, 8000, seed=n) for n in (1, 2)]
    refs[1][0] = 0
    batch = {"speech_mix": noise(2, 8000), "speech_ref1": refs[0], "speech_ref2": refs[1],
             "enroll_ref1": noise(2, 6000, seed=3), "enroll_ref2": noise(2, 5000, seed=4)}  # fmt: skip
    total, stats, weight = model(**batch, enroll_ref1_lengths=torch.tensor([6000, 4000]))
    present = stats["si_sdr_loss"] + 0.2 * stats["waveform"] + 0.5 * stats["spectrum"]
    expected = 0.75 * present + 0.25 * 0.3 * stats["silence"] + 2 * stats["activity"]
    torch.testing.assert_close(total.detach(), expected)
    assert float(weight) == 2.0
    total.backward()


@pytest.mark.parametrize("weights", [{"quality": 10.0, "intelligibility": 60.0}, {"likeness": 30.0}])
def test_losses_that_follow_hearing_count_for_present_targets_alone_and_pass_gradients(weights) -> None:
    if "likeness" in weights:
        pytest.importorskip("resemblyzer")
    model = ESPnetWaveformModel(tiny_dual_path().eval(), **{f"{name}_weight": one for name, one in weights.items()})
    plain = ESPnetWaveformModel(model.extractor)
    batch = {"speech_mix": noise(2, 16000)} | {f"enroll_ref{n}": noise(2, 9000, seed=2 + n) for n in (1, 2)}
    refs = [noise(2, 16000, seed=n) for n in (1, 2)]
    refs[1][0] = 0
    total, stats, _ = model(**batch, speech_ref1=refs[0], speech_ref2=refs[1])
    alone = total - plain(**batch, speech_ref1=refs[0], speech_ref2=refs[1])[0]
    own = {name.replace("likeness", "unlikeness"): one for name, one in weights.items()}
    added = 0.75 * sum(weight * stats[name] for name, weight in own.items())
    torch.testing.assert_close(alone.detach(), added, atol=1e-4, rtol=1e-4)
    assert all(float(stats[name]) > 0 for name in own)
    # The part alone moves the network: gradients come through frozen encoders.
    alone.backward()
    assert max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) > 0
    # Processes gather the figures of one another, so all have the same ones, whatever they were given.
    total, others, _ = model(**batch, speech_ref1=0 * refs[0], speech_ref2=0 * refs[1])
    nothing = {name for name, value in others.items() if torch.isnan(value)}
    assert nothing == {"si_sdr", "si_sdr_loss", "waveform", "spectrum", *own}
    assert torch.isfinite(total) and others.keys() == stats.keys()
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_what_cannot_be_used() -> None:
    refused("unknown precision 'int8'", ESPnetWaveformModel, tiny_dual_path(), precision="int8")
    narrow = tiny_dual_path(sample_rate=8000, speaker_embedding=False)
    says = "likeness_weight are for 16000 Hz, the extractor is for 8000"
    refused(says, ESPnetWaveformModel, narrow, intelligibility_weight=1.0)
