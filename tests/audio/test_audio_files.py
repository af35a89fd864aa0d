"""Recordings: read with errors that name file and key, written whole or not at all."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from refused import refused

from espnet_tse_gen.audio.files import read_audio, write_audio
from espnet_tse_gen.utils.errors import UserError


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_recording_comes_back_as_written(tmp_path: Path, suffix: str) -> None:
    samples = np.linspace(-1.2, 1.2, 1000)
    write_audio(tmp_path / f"a{suffix}", samples, 16000)
    read, rate = read_audio(tmp_path / f"a{suffix}", sample_rate=16000)
    assert rate == 16000
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, samples.clip(-1, 1), atol=2 / 32768)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_float_recordings_are_exact(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(size=100).astype(np.float32)
    write_audio(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav")[0], samples)


def test_a_bad_recording_is_named_with_its_key(tmp_path: Path) -> None:
    bad = {
        "corrupt": b"not audio at all", "stereo": np.zeros((10, 2)), "empty": np.zeros(0), "nan": np.full(10, np.nan),
        "infinite": np.full(10, np.inf), "fine": np.zeros(10),
    }  # fmt: skip
    for name, content in bad.items():
        if isinstance(content, bytes):
            (tmp_path / f"{name}.wav").write_bytes(content)
        else:
            soundfile.write(tmp_path / f"{name}.wav", content, 8000, subtype="FLOAT")
    says = {
        "corrupt": "is not a readable audio file", "stereo": "has 2 channels, expected 1", "empty": "has no samples",
        "nan": "holds NaN", "infinite": "holds NaN or infinite", "absent": "no such file",
        "fine": "sampling rate is 8000 Hz, expected 16000 Hz",
    }  # fmt: skip
    for name, text in says.items():
        rate, where = 16000 if name == "fine" else None, re.escape(f"{tmp_path / name}.wav (key 'utt1'): ")
        refused(f"^{where}.*{text}", read_audio, tmp_path / f"{name}.wav", rate, "utt1")


def test_a_cut_recording_is_an_error_or_shorter_but_never_a_crash(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", np.sin(np.arange(20000) / 9) * 0.5, 8000)
    whole = (tmp_path / "a.flac").read_bytes()
    for part in (10, 50, len(whole) // 2, len(whole) - 3):
        (tmp_path / "b.flac").write_bytes(whole[:part])
        try:
            samples, _ = read_audio(tmp_path / "b.flac")
            assert len(samples) <= 20000
        except UserError as error:
            assert "b.flac" in str(error)
