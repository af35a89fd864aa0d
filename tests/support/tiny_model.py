"""A tiny exp directory for the tests of the doors: a fitted codec of 4 codebooks and a random extractor, made in a second."""

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from espnet_tse_gen import TargetSpeakerExtractor
from espnet_tse_gen.codec.mel import MelCodec
from espnet_tse_gen.codec.registry import save_codec
from espnet_tse_gen.masked.build import build_model
from espnet_tse_gen.utils.files import write_yaml

RATE = 8000
HOP = 160
CONFIG = {
    "codec": "mel",
    "codec_conf": {},
    "codec_dir": None,
    "extractor": "masked",
    "extractor_conf": {"width": 32, "layers": 2, "heads": 2, "mixture_layers": 1, "max_enroll_seconds": 3.0},
    "model_conf": {"drop_enroll": 0.1},
    "preprocessor": "tse_gen",
    "preprocessor_conf": {},
    "output_dir": "/somewhere/exp/tiny",
    "train_data_path_and_name_and_type": [["/somewhere/dump/wav.scp", "speech_mix", "sound"]],
    "version": "202511",
}


@pytest.fixture
def exp_dir(tmp_path: Path) -> Path:
    """A copy of the exp directory, for a test that changes it."""
    return shutil.copytree(tiny_exp_dir(), tmp_path / "exp")


def load(decode: Any = None, **options: Any) -> TargetSpeakerExtractor:
    """The model with its decoding, and whatever else ``from_pretrained`` takes."""
    return TargetSpeakerExtractor.from_pretrained(tiny_exp_dir(), decode=decode, **options)


def voice(seconds: float, pitch: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A hum of ``pitch`` Hz with harmonics whose loudness wanders: float32 at about -20 dBFS."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    knots = draw.uniform(0.0, 1.0, (6, int(seconds * 5) + 2))
    grid = np.linspace(0, seconds, knots.shape[1])
    tones = [
        np.interp(time, grid, knots[n]) * np.sin(2 * np.pi * pitch * (n + 1) * time) / (n + 1)
        for n in range(6)
        if pitch * (n + 1) < 0.45 * rate
    ]
    return (0.1 * np.sum(tones, axis=0) + 1e-3 * draw.standard_normal(len(time))).astype(np.float32)


def mixture(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    return voice(seconds, 110.0, seed, rate) + voice(seconds, 197.0, seed + 100, rate)


def fitted_codec(seed: int = 0, num_codebooks: int = 4) -> MelCodec:
    codec = MelCodec(
        RATE, HOP, n_fft=512, num_mels=16, num_codebooks=num_codebooks, codebook_size=16, griffin_lim_iterations=4
    )
    signals = [voice(2.0, pitch, seed=int(pitch) + seed) for pitch in (90.0, 140.0, 210.0)]
    codec.fit([torch.from_numpy(signal) for signal in signals], seed=seed, iterations=4)
    return codec


@functools.cache
def tiny_exp_dir() -> Path:
    """The exp directory, made once per test run. Tests that change it copy it first."""
    keeper = tempfile.TemporaryDirectory(prefix="tiny_exp_")
    tiny_exp_dir.keeper = keeper  # lives as long as the process
    directory = Path(keeper.name) / "exp" / "tiny"
    codec = fitted_codec()
    save_codec(codec, directory / "codec", {"codec": "mel", "wav_scp": ["/somewhere/spk1.scp"], "seed": 0})
    write_yaml(directory / "config.yaml", CONFIG)
    torch.manual_seed(1)
    model = build_model(codec, CONFIG)
    # Heads start at zero, where all tokens are equally good and every decoding gives the same.
    torch.nn.init.normal_(model.extractor.heads, std=0.5)
    torch.save(model.state_dict(), directory / "valid.loss.ave.pth")
    return directory
