"""The discriminative models that ship: their cards and sizes, extraction through the command line, and as a front end."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_model import voice

from espnet_tse_gen import cli, load_extractor
from espnet_tse_gen.inference.front_end import load_front_end
from espnet_tse_gen.inference.loading import shipped_models
from espnet_tse_gen.inference.waveform import WaveformInference
from espnet_tse_gen.utils.checkpoints import read_checkpoint
from espnet_tse_gen.utils.model_files import find_checkpoint

NAMES, RATE = ("mc_spex_16k", "dual_path_16k"), 16000


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_card_is_that_of_the_weights_and_they_are_small(name: str) -> None:
    folder = shipped_models()[name]
    weights = find_checkpoint(folder)
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in (folder / "README.md").read_text()
    assert weights.stat().st_size < 15_000_000
    state = read_checkpoint(weights)
    assert all(
        value.dtype == torch.float16
        for key, value in state.items()
        if "running" not in key and value.is_floating_point()
    )


def test_extraction_depends_on_the_enrolment_and_keeps_rate_and_length(name: str) -> None:
    extractor = load_extractor(name)
    assert isinstance(extractor, WaveformInference) and extractor.sample_rate == RATE
    first, second = voice(2.0, 110.0, 1, RATE), voice(2.0, 210.0, 2, RATE)
    outputs = [extractor(first + second, voice(2.0, pitch, 3, RATE), sample_rate=RATE) for pitch in (110.0, 210.0)]
    assert all(len(output) == len(first) and np.isfinite(output).all() for output in outputs)
    assert np.linalg.norm(outputs[0] - outputs[1]) > 0.01 * np.linalg.norm(outputs[0])


def test_the_command_line_takes_it_by_name(name: str, tmp_path: Path) -> None:
    for kind, seed in (("mixture", 1), ("enroll", 2)):
        soundfile.write(tmp_path / f"{kind}.wav", voice(1.5, 140.0, seed, 8000), 8000)
    command = ["extract", "--mixture", f"{tmp_path}/mixture.wav", "--enroll", f"{tmp_path}/enroll.wav"]
    cli.main([*command, "-o", f"{tmp_path}/voice.wav", "--model", name])
    assert soundfile.info(tmp_path / "voice.wav").frames == 12000


def test_it_can_stand_in_front_of_a_masked_extractor() -> None:
    front_end = load_front_end("mc_spex_16k", RATE)
    mixture = torch.from_numpy(np.stack([voice(1.0, 110.0, 1, RATE), voice(1.0, 210.0, 2, RATE)]))
    lengths = torch.tensor([RATE, RATE // 2])
    estimate = front_end(mixture, lengths, mixture, torch.tensor([RATE, RATE]))
    assert estimate.shape == mixture.shape and bool(torch.isfinite(estimate).all()) and not estimate.requires_grad
