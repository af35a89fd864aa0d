"""Lists of clean utterances, and pieces read from them."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from refused import refused

from espnet_tse_gen.bin import prepare_sources
from espnet_tse_gen.data.sources import Source, read_audio_list, read_piece, read_sources
from espnet_tse_gen.utils.files import read_scp, write_scp


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Three utterances of two speakers, two of them FLAC at 16 kHz, one wav at 8 kHz; tables and a pool."""
    rng, rows = np.random.default_rng(0), {}
    for key, rate, suffix in (("ann-1", 16000, "flac"), ("ann-2", 8000, "wav"), ("bob-1", 16000, "flac")):
        rows[key] = str(tmp_path / f"{key}.{suffix}")
        soundfile.write(rows[key], 0.1 * rng.standard_normal(rate * 2 + 1), rate, subtype="PCM_16")
    write_scp(tmp_path / "wav.scp", rows)
    write_scp(tmp_path / "utt2spk", {key: key[:3] for key in rows})
    pool: dict[str, list[list[str]]] = {"ann": [], "bob": []}
    for key, path in rows.items():
        pool[key[:3]].append([key, path])
    (tmp_path / "pool.json").write_text(json.dumps(pool))
    return tmp_path


@pytest.mark.parametrize("given", [["--spk2enroll", "pool.json"], ["--speech_dir", "."]])
def test_utterances_are_listed_with_their_durations(speech: Path, given: list[str], capsys) -> None:
    prepare_sources.main([given[0], str(speech / given[1]), "--output_dir", str(speech / "made")])
    assert "3 utterances of 2 speakers" in capsys.readouterr().out
    made = read_sources(speech / "made" / "wav.scp", speech / "made" / "utt2spk")
    assert [(one.name, one.speaker) for one in made] == [("ann-1", "ann"), ("ann-2", "ann"), ("bob-1", "bob")]
    assert made[0].seconds == pytest.approx(32001 / 16000, abs=2e-6) and made[0].seconds <= 32001 / 16000
    # Without utt2dur, from the headers.
    assert read_sources(speech / "wav.scp", speech / "utt2spk")[0].seconds == 32001 / 16000


def test_conversion_to_wav_keeps_what_is_made_and_what_fits(speech: Path, capsys) -> None:
    command = ["--speech_dir", str(speech), "--output_dir", str(speech / "made"), "--fs", "8000"]
    prepare_sources.main(command)
    assert "1 files listed as they are, 2 converted to 8000 Hz 16-bit wav\n" in capsys.readouterr().out
    paths = read_scp(speech / "made" / "wav.scp")
    assert paths["ann-2"] == str(speech / "ann-2.wav")
    assert paths["ann-1"] == str(speech / "made" / "data" / "ann-1.wav")
    assert soundfile.info(paths["ann-1"]).samplerate == 8000
    before = Path(paths["ann-1"]).stat().st_mtime_ns
    prepare_sources.main(command)
    assert Path(paths["ann-1"]).stat().st_mtime_ns == before
    prepare_sources.main([*command[:-1], "16000"])
    assert soundfile.info(paths["ann-1"]).frames == 32001
    assert soundfile.read(paths["ann-1"])[0] == pytest.approx(soundfile.read(speech / "ann-1.flac")[0], abs=0)


@pytest.mark.parametrize("suffix", ["flac", "wav"])
def test_a_piece_is_what_stands_there(tmp_path: Path, suffix: str) -> None:
    samples = (0.5 * np.sin(np.arange(40000) / 50)).astype(np.float32)
    path = str(tmp_path / f"a.{suffix}")
    soundfile.write(path, samples, 16000, subtype="PCM_16")
    source, whole = Source("a", "s", path, 2.5), soundfile.read(path, dtype="float32")[0]
    for start, length in ((0, 40000), (1, 10), (39990, 10), (12345, 6789)):
        np.testing.assert_array_equal(read_piece(source, start / 16000, length, 16000), whole[start : start + length])
    # At half the rate, up to the edges of the piece.
    half = read_piece(source, 0.5, 4000, 8000)
    np.testing.assert_allclose(half[100:-100], whole[8000:16000:2][100:-100], atol=2e-3)
    # A duration that was rounded up ends in zeros; one that is wrong is named.
    assert not read_piece(source, 2.0, 8100, 16000)[8000:].any()
    message = r"a\.\w+ \(key 'a'\): ends before 4.00 s, expected 2.50 s; correct utt2dur"
    refused(message, read_piece, source, 2.0, 32000, 16000)


def test_noises_are_taken_from_folders_and_tables(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.wav", "deep/a.flac", "c.txt"):
        soundfile.write(tmp_path / name, np.zeros((800, 2)), 8000, format="FLAC" if name.endswith("flac") else "WAV")
    assert [one.name for one in read_audio_list(tmp_path, "--noise")] == ["b.wav", "deep/a.flac"]
    write_scp(tmp_path / "noise.scp", {"n": str(tmp_path / "b.wav")})
    (noise,) = read_audio_list(tmp_path / "noise.scp", "--noise")
    assert noise.seconds == 0.1 and len(read_piece(noise, 0.0, 800, 8000, first_channel=True)) == 800
    refused("has 2 channels", read_piece, noise, 0.0, 800, 8000)
    (tmp_path / "empty").mkdir()
    refused("--noise: .*empty: holds no audio file", read_audio_list, tmp_path / "empty", "--noise")


def test_recordings_and_tables_that_cannot_be_used(speech: Path) -> None:
    bad = speech / "bad.wav"

    def piece(message: str) -> None:
        refused(message, read_piece, Source("k", "s", str(bad), 1.0), 0.0, 100, 8000)

    def pool(message: str, times: int) -> None:
        (speech / "bad.json").write_text(json.dumps({"ann": [["x", str(bad)]] * times}))
        command = ["--spk2enroll", str(speech / "bad.json"), "--output_dir", str(speech / "made")]
        refused(message, prepare_sources.main, command)
        assert not (speech / "made" / "wav.scp").exists()

    piece(r"bad.wav \(key 'k'\): no such file")
    bad.write_bytes(b"RIFF nothing")
    piece(r"bad.wav \(key 'k'\): is not a readable audio file")
    pool("is not a readable audio file", 1)
    soundfile.write(bad, np.full(8000, np.nan), 8000, subtype="FLOAT")
    piece("holds NaN")
    soundfile.write(bad, np.zeros(8000), 4000)
    piece("sampling rate is 4000 Hz, expected at least 8000 Hz")
    pool("'x' is listed twice", 2)
    tables = (speech / "wav.scp", speech / "utt2spk")
    (speech / "utt2dur").write_text("ann-1 2.0\nann-2 two\nbob-1 2.0\n")
    refused("utt2dur: key 'ann-2': expected seconds, found 'two'", read_sources, *tables)
    (speech / "utt2spk").write_text("ann-1 ann\n")
    refused("utt2spk: 2 key", read_sources, *tables)
