"""The losses that follow hearing, beside the measures that they stand for, on real speech."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import espnet_tse_gen
from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.losses import RATE, WaveformLoss

SPEECH = Path(espnet_tse_gen.__file__).parent / "speech"
SAMPLES = 3 * RATE


@pytest.fixture(scope="module")
def loss():
    return WaveformLoss(si_sdr_weight=0.0, likeness_weight=30.0)


def parts_of(loss, estimate, target):
    """The quality and the intelligibility loss, of means."""
    return [loss.part(name, estimate, target).mean() for name in ("quality", "intelligibility")]


@pytest.fixture(scope="module")
def voices():
    """Three seconds of six people ``[6, L]``."""
    paths = [sorted(folder.rglob("*.opus"))[0] for folder in sorted((SPEECH / "dev-clean").iterdir())]
    paths += [sorted(folder.rglob("*.opus"))[0] for folder in sorted((SPEECH / "train-clean-5").iterdir())]
    rows = [read_audio(path, RATE)[0][RATE // 2 : RATE // 2 + SAMPLES] for path in paths[:6]]
    return torch.from_numpy(np.stack(rows))


def test_they_order_mixtures_as_the_measures_do(loss, voices):
    pesq, pystoi = pytest.importorskip("pesq"), pytest.importorskip("pystoi")
    found, true = [], []
    for number, voice in enumerate(voices):
        other = voices[(number + 1) % len(voices)]
        for ratio in (0.02, 0.1, 0.3, 1.0):
            heard = voice + ratio * other * voice.norm() / other.norm()
            quality, intelligibility = parts_of(loss, heard[None], voice[None])
            found.append((float(quality), float(intelligibility)))
            measures = pesq.pesq(RATE, voice.numpy(), heard.numpy(), "wb")
            true.append((measures, pystoi.stoi(voice.numpy(), heard.numpy(), RATE, extended=True)))
    disturbance, missing = np.transpose(found)
    # The opinion that P.862.2 maps a disturbance to.
    opinions = 0.999 + 4.0 / (1.0 + np.exp(-1.3669 * (4.5 - disturbance) + 3.8224))
    for ours, theirs in zip((opinions, 1.0 - missing), np.transpose(true), strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 0.95
    assert np.abs(opinions - np.transpose(true)[0]).mean() < 0.35


@given(gain=st.floats(0.01, 30.0), row=st.integers(0, 5))
@settings(max_examples=10)
def test_the_level_of_an_estimate_is_free(loss, voices, gain, row):
    target, other = voices[row : row + 1], voices[row - 1 : row] if row else voices[-1:]
    heard = target + 0.2 * other
    for one, same in zip(parts_of(loss, gain * heard, target), parts_of(loss, heard, target), strict=True):
        assert float(one) == pytest.approx(float(same), rel=0.01, abs=1e-3)
    perfect = parts_of(loss, gain * target, target)
    assert float(perfect[0]) < 0.1 and float(perfect[1]) < 0.01


@pytest.mark.parametrize("samples", [1, 400, 4000, RATE])
@pytest.mark.parametrize("level", [0.0, 1e-4, 1.0])
def test_gradients_are_finite_for_short_and_for_silent_estimates(loss, voices, samples, level):
    target = voices[:2, RATE : RATE + samples]
    estimate = (level * target + level * 0.1 * voices[2:4, :samples]).requires_grad_()
    total, parts = loss(estimate, target)
    total.backward()
    assert torch.isfinite(estimate.grad).all() and all(torch.isfinite(part) for part in parts.values())


def test_a_step_along_the_gradient_helps(loss, voices):
    target = voices[:2]
    estimate = (target + voices[2:4]).requires_grad_()
    before, _ = loss(estimate, target)
    (gradient,) = torch.autograd.grad(before, estimate)
    with torch.no_grad():
        assert loss(estimate - 0.01 * estimate.norm() * gradient / gradient.norm(), target)[0] < before


def test_the_loss_is_the_weighted_sum_of_parts_over_what_is_heard(loss, voices):
    target, estimate = voices[:3].clone(), voices[:3] + 0.3 * voices[3:]
    target[1] = 0.0
    total, parts = loss(estimate, target)
    rows = torch.tensor([0, 2])
    alone, same = loss(estimate[rows], target[rows])
    torch.testing.assert_close((total, parts), (alone, same))
    wanted = 10 * parts["quality"] + 60 * parts["intelligibility"] + 30 * parts["unlikeness"]
    torch.testing.assert_close(total, wanted)
    assert list(parts) == ["si_sdr", "quality", "intelligibility", "unlikeness"]
    # Another voice is less like the target than the target in a mixture.
    assert loss.part("unlikeness", voices[3:], target[:1].expand(3, -1)).min() > parts["unlikeness"] > 0
    total, parts = loss(estimate, torch.zeros_like(target))
    assert float(total) == 0 and all(torch.isnan(part) for part in parts.values())
    total, parts = WaveformLoss(2.0, 0.0, 0.0, 0.0)(estimate, target)
    assert list(parts) == ["si_sdr"] and float(total) == pytest.approx(-2 * float(parts["si_sdr"]))


def test_nothing_of_them_is_saved_or_trained(loss):
    assert not loss.state_dict() and not [*loss.parameters()]
