"""Recordings: read with errors that name file and key, written whole or not at all."""

import os
import re
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from refused import refused

from espnet_tse_gen.audio.files import MEAN, AudioFile, read_audio
from espnet_tse_gen.audio.recordings import resample, resampled, resampled_length
from espnet_tse_gen.audio.writing import write_audio, writing_audio
from espnet_tse_gen.utils.errors import UserError


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_16"), ("a.flac", "PCM_16"), ("a.wav", "FLOAT")])
def test_a_recording_comes_back_as_written(tmp_path: Path, name: str, subtype: str) -> None:
    samples = np.linspace(-1.2, 1.2, 1000, dtype=np.float32)
    write_audio(tmp_path / name, samples, 16000, subtype)
    read, rate = read_audio(tmp_path / name, sample_rate=16000)
    assert rate == 16000 and read.dtype == np.float32
    wanted, error = (samples, 0.0) if subtype == "FLOAT" else (samples.clip(-1, 1), 2 / 32768)
    np.testing.assert_allclose(read, wanted, atol=error, rtol=0)
    assert [path.name for path in tmp_path.iterdir()] == [name]


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


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_16"), ("a.wav", "PCM_24"), ("a.flac", "PCM_16")])
def test_a_recording_written_in_parts_is_the_same_file(tmp_path: Path, name: str, subtype: str) -> None:
    samples = np.random.default_rng(0).normal(0.0, 0.5, 20000).astype(np.float32)
    write_audio(tmp_path / name, samples, 16000, subtype)
    whole = (tmp_path / name).read_bytes()
    with writing_audio(tmp_path / name, 16000, subtype) as file:
        for part in np.split(samples, [1, 5000, 5000, 12345]):
            file.write(part)
        assert (tmp_path / name).read_bytes() == whole and file.frames == len(samples)
    assert (tmp_path / name).read_bytes() == whole
    assert file.clipped == np.count_nonzero(np.abs(samples) > 1.0) > 0
    assert file.peak == np.abs(samples).max()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("channel", [MEAN, 2])
def test_a_recording_read_in_parts_is_the_same(tmp_path: Path, channel: int) -> None:
    samples = np.random.default_rng(0).normal(0.05, 0.2, (300007, 2))
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    whole = read_audio(tmp_path / "a.wav", channel=channel)[0]
    file = AudioFile(tmp_path / "a.wav", channel=channel)
    assert (file.rate, file.subtype, len(file)) == (16000, "PCM_16", len(whole))
    assert file.level.mean == pytest.approx(whole.mean(dtype=np.float64))
    for _ in range(2):
        parts = list(file.parts())
        assert len(parts) > 1
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(file[150000:250000], whole[150000:250000])


def test_reading_holds_a_recording_once(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0.0, 0.2, 4_000_003), 16000)
    tracemalloc.start()
    samples = read_audio(tmp_path / "a.wav")[0]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(samples) == 4_000_003 and most < 1.5 * samples.nbytes


def test_readers_of_one_pipe_do_not_disturb_one_another(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(0.0, 0.2, 600001)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "a.wav").read_bytes())).start()
    file = AudioFile(tmp_path / "pipe")
    ahead = file.parts()
    next(ahead)
    np.testing.assert_array_equal(file[:600001], read_audio(tmp_path / "a.wav")[0])
    rest = np.concatenate([*ahead])
    np.testing.assert_array_equal(rest, read_audio(tmp_path / "a.wav")[0][-len(rest) :])


def test_a_rate_that_a_format_does_not_hold_is_one_line(tmp_path: Path) -> None:
    refused("a.flac: its format cannot hold 700000 Hz", write_audio, tmp_path / "a.flac", np.zeros(10), 700000)
    assert not list(tmp_path.iterdir())


def test_a_recording_that_changes_while_it_is_read(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", np.full(20000, 0.1), 16000)
    file = AudioFile(tmp_path / "a.wav")
    write_audio(tmp_path / "a.wav", np.full(30000, 0.1), 16000)
    assert sum(map(len, file.parts())) == 20000
    write_audio(tmp_path / "a.wav", np.full(10000, 0.1), 16000)
    refused("a.wav: became shorter while it was read; start again", list, file.parts())
    (tmp_path / "a.wav").unlink()
    refused("a.wav: no such file", list, file.parts())


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("wanted", [8000, 16000, 22050, 44100])
def test_a_recording_resampled_in_parts_is_the_same(rate: int, wanted: int) -> None:
    samples = np.random.default_rng(0).normal(0.0, 0.1, 50021).astype(np.float32)
    for length in (1, 2, 777, 50021):
        whole = resample(samples[:length], rate, wanted)
        parts = resampled(np.split(samples[:length], [1, 1, 5000, 30000]), rate, wanted)
        joined = np.concatenate(list(parts))
        assert len(whole) == resampled_length(length, rate, wanted)
        np.testing.assert_array_equal(joined if len(joined) else np.zeros(1), whole)
