"""The losses that follow hearing, beside the measures that they stand for, on real speech."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import espnet_tse_gen
from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.losses import RATE, PerceptualLoss

SPEECH = Path(espnet_tse_gen.__file__).parent / "speech"
SAMPLES = 3 * RATE


@pytest.fixture(scope="module")
def loss():
    return PerceptualLoss()


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
            quality, intelligibility = loss(heard[None], voice[None])
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
    for one, same in zip(loss(gain * heard, target), loss(heard, target), strict=True):
        assert float(one) == pytest.approx(float(same), rel=0.01, abs=1e-3)
    perfect = loss(gain * target, target)
    assert float(perfect[0]) < 0.1 and float(perfect[1]) < 0.01


@pytest.mark.parametrize("samples", [1, 400, 4000, RATE])
@pytest.mark.parametrize("level", [0.0, 1e-4, 1.0])
def test_gradients_are_finite_for_short_and_for_silent_estimates(loss, voices, samples, level):
    target = voices[:2, RATE : RATE + samples]
    estimate = (level * target + level * 0.1 * voices[2:4, :samples]).requires_grad_()
    quality, intelligibility = loss(estimate, target)
    (quality + intelligibility).backward()
    assert torch.isfinite(estimate.grad).all() and torch.isfinite(quality) and torch.isfinite(intelligibility)


def test_a_step_along_the_gradient_helps(loss, voices):
    target = voices[:2]
    estimate = (target + voices[2:4]).requires_grad_()
    before = sum(loss(estimate, target))
    (gradient,) = torch.autograd.grad(before, estimate)
    with torch.no_grad():
        assert sum(loss(estimate - 0.01 * estimate.norm() * gradient / gradient.norm(), target)) < before


def test_nothing_of_them_is_saved_or_trained(loss):
    assert not loss.state_dict() and not [*loss.parameters()]
