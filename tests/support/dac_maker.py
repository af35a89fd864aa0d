"""A small model of the real DAC architecture, saved by its own package in the format of the released weights."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.registry import build_codec

RATE = 16000
SMALL: dict[str, Any] = {
    "encoder_dim": 4,
    "encoder_rates": [2, 4, 5, 8],
    "decoder_dim": 32,
    "decoder_rates": [8, 5, 4, 2],
    "n_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 4,
}


def need_dac() -> Any:
    """Return the package, or skip the test."""
    return pytest.importorskip("dac", reason="needs descript-audio-codec, which the Makefile installs")


def write_dac(path: Path) -> Any:
    """Write random weights as the package saves them (not as a torch package), and return the model."""
    dac = need_dac()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = dac.DAC(**SMALL, sample_rate=RATE, quantizer_dropout=0.5)
    model.save(path, package=False)
    return model.eval()


def make_dac() -> AbsCodec:
    """Return a codec that was loaded from such a file."""
    with tempfile.TemporaryDirectory() as folder:
        write_dac(Path(folder) / "weights.pth")
        codec = build_codec("dac", {"sample_rate": RATE, "model_conf": SMALL})
        codec.load_pretrained(Path(folder) / "weights.pth")
    return codec
