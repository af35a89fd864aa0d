"""What the shipped models make of one mixture is what it was when it was recorded.

The recorded figures are in ``recorded.json`` beside this file. After a change that is meant to alter them, and says so:

    PYTHONPATH=.:tests/support python tests/inference/test_recorded.py
"""

import functools
import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import voice

from espnet_tse_gen import TargetSpeakerExtractor
from espnet_tse_gen.codec.registry import load_codec

RECORDED = Path(__file__).with_name("recorded.json")
RATE = 16000
TOLERANCE = 1e-3
"""Of the error's norm to that of the signal: other processors round otherwise, by about 1e-5."""
SHARE = 0.98
"""Of codes that are the recorded ones: where two are all but equally good, another processor may take the other one."""


def recordings() -> tuple[np.ndarray, np.ndarray]:
    """Return a mixture of two voices and an enrolment of the first, float32 ``[L]``."""
    return voice(2.0, 110.0, 1, RATE) + voice(2.0, 210.0, 2, RATE), voice(2.0, 110.0, 3, RATE)


def machine() -> str:
    """Name what rounding depends on."""
    flags = Path("/proc/cpuinfo")
    lines = flags.read_text().splitlines() if flags.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, torch {torch.__version__}, numpy {np.__version__}"


def waveform(name: str) -> dict[str, Any]:
    """Return what a model of waveforms extracts."""
    return figures(TargetSpeakerExtractor.from_pretrained(name)(*recordings(), sample_rate=RATE))


def tokens() -> dict[str, Any]:
    """Return the codes that the masked generative model predicts, and what its codec makes of them."""
    extractor = TargetSpeakerExtractor.from_pretrained("tse_gen_16k", dtype="float64")
    made = extractor.extract([extractor.request(*recordings(), RATE, row_id=0)])[0]
    return {"codes": made.codes.tolist(), **figures(made.samples)}


def codec() -> dict[str, Any]:
    """Return the codes that the codec which ships gives to the mixture, and what it makes of them."""
    shipped = load_codec(Path(__file__).parents[2] / "espnet_tse_gen/pretrained/codec_mini_16k")
    codes = shipped.encode(torch.from_numpy(recordings()[0])[None]).codes
    return {"codes": codes[0].tolist(), **figures(shipped.decode(codes)[0].numpy())}


def figures(samples: np.ndarray) -> dict[str, Any]:
    """Return some samples, spread over a recording, and a digest of all."""
    return {
        "samples": [round(float(sample), 9) for sample in samples[150::301]],
        "sha256": hashlib.sha256(samples.tobytes()).hexdigest(),
    }


CASES = {name: functools.partial(waveform, name) for name in ("dual_path_16k", "mc_spex_16k")}
CASES |= {"tse_gen_16k": tokens, "codec_mini_16k": codec}


@pytest.mark.parametrize("name", CASES)
def test_the_shipped_models_give_what_was_recorded(name: str) -> None:
    content = json.loads(RECORDED.read_text())
    made, recorded = CASES[name](), content["models"][name]
    codes = np.array(made.get("codes", 0)) == np.array(recorded.get("codes", 0))
    assert codes.mean() >= SHARE
    if codes.all():
        samples, expected = np.array(made["samples"]), np.array(recorded["samples"])
        assert np.linalg.norm(samples - expected) <= TOLERANCE * np.linalg.norm(expected)
    if machine() == content["machine"]:
        assert made == recorded


if __name__ == "__main__":
    torch.set_num_threads(1)
    content = {"machine": machine(), "models": {name: make() for name, make in CASES.items()}}
    RECORDED.write_text(json.dumps(content) + "\n")
