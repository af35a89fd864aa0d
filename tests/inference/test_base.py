"""One pair of recordings from Python: paths and arrays, what is known of a voice, and callers on several threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from refused import refused
from tiny_discriminative import CONFIGS, discriminative_exp_dir
from tiny_model import RATE, mixture, tiny_exp_dir, voice

from espnet_tse_gen import TargetSpeakerExtractor
from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.recordings import resample

KINDS = ["masked", "dual_path", "spex_plus"]
ENROLL = voice(1.0, 110.0, seed=5)
every_kind = pytest.mark.parametrize("kind", KINDS)


def load(kind: str, **decode: Any) -> TargetSpeakerExtractor:
    return TargetSpeakerExtractor.from_pretrained(
        tiny_exp_dir() if kind == "masked" else discriminative_exp_dir(kind), decode=decode
    )


def in_parts(kind: str, seconds: float, overlap: float) -> dict[str, float]:
    """The options that have long recordings extracted in parts of this length."""
    names = ("chunk_seconds", "chunk_overlap_seconds") if kind == "masked" else ("segment_seconds", "overlap_seconds")
    return dict(zip(names, (seconds, overlap), strict=True))


@pytest.mark.parametrize("kind", ["masked", *CONFIGS])
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 48000])
def test_the_output_is_as_long_as_the_mixture(kind: str, rate: int) -> None:
    for seconds in (0.021, 0.7123):
        mixed = mixture(seconds, rate=rate)
        out = load(kind)(mixed, voice(1.0, 110.0, seed=5, rate=rate), rate)
        assert out.shape == mixed.shape and out.dtype == np.float32 and np.isfinite(out).all() and out.any()


@pytest.mark.parametrize(
    ("kind", "decode"),
    [
        ("masked", {"reconstruction": "mixture"}),
        *(("spex_plus", {"scale": one}) for one in ("mixture", "peak", "none")),
    ],
)
def test_the_output_follows_the_level_of_the_mixture_only(kind: str, decode: dict[str, str]) -> None:
    extractor, mixed = load(kind, **decode), mixture(0.6)
    out = extractor(mixed, ENROLL)
    for factor in (1e-3, 0.25, 8.0):
        louder = extractor(factor * mixed, ENROLL) / factor
        for other in (louder, extractor(mixed, max(factor, 0.05) * ENROLL)):
            np.testing.assert_allclose(other, out, rtol=1e-3, atol=1e-3 * np.abs(out).max())


@every_kind
@pytest.mark.parametrize("channels", [1, 2])
def test_a_path_is_what_is_in_the_file(kind: str, channels: int, tmp_path: Path) -> None:
    more = {"steps": 2, "temperature": 1.0, "choice_temperature": 1.0} if kind == "masked" else {}
    extractor = load(kind, **in_parts(kind, 0.6, 0.2), **more)
    given = 0.02 + np.stack([mixture(1.7, seed, 44100) for seed in range(channels)], axis=1)
    soundfile.write(tmp_path / "m.flac", given, 44100)
    for name, rate in (("a", RATE), ("b", 16000)):
        soundfile.write(tmp_path / f"{name}.wav", voice(1.0, 110.0, 5, rate), rate)
    mixed = read_audio(tmp_path / "m.flac", channel=0)[0]
    first, second = (resample(*read_audio(tmp_path / f"{name}.wav"), 44100) for name in "ab")
    one = extractor(tmp_path / "m.flac", str(tmp_path / "a.wav"))
    assert one.shape == mixed.shape and one.dtype == np.float32 and one.any()
    request = extractor.request(mixed, read_audio(tmp_path / "a.wav")[0], 44100, enroll_sample_rate=RATE)
    np.testing.assert_array_equal(one, extractor.extract([request])[0].samples)
    np.testing.assert_array_equal(one, extractor.extract_batch([tmp_path / "m.flac"], [tmp_path / "a.wav"])[0])
    # Each enrolment goes from its own rate to the model's.
    arrays = [read_audio(tmp_path / f"{name}.wav")[0] for name in "ab"]
    request = extractor.request(mixed, arrays, 44100, enroll_sample_rate=[RATE, 16000])
    named = extractor(tmp_path / "m.flac", [tmp_path / "a.wav", tmp_path / "b.wav"])
    np.testing.assert_array_equal(named, extractor.extract([request])[0].samples)
    refused("2 enrolments", extractor.request, mixed, arrays, 44100, enroll_sample_rate=[RATE])
    # A file has its own rate, an array that of the call; what was resampled twice differs by that.
    both = extractor(mixed, [tmp_path / "a.wav", second], 44100)
    assert np.corrcoef(both, extractor(mixed, [first, tmp_path / "b.wav"], 44100))[0, 1] > 0.9
    assert not np.array_equal(both, one)


@every_kind
def test_what_is_known_of_a_voice(kind: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "m.wav", mixture(1.0, 0, 16000), 16000, subtype="FLOAT")
    extractor = load(kind)
    found = extractor.extract_one(tmp_path / "m.wav", ENROLL)
    assert found.sample_rate == 16000 and found.samples.shape == (16000,)
    np.testing.assert_array_equal(found.samples, extractor(tmp_path / "m.wav", ENROLL))
    assert (found.codes is None) == (kind != "masked") and (found.activity is None) == (kind != "dual_path")
    assert extractor.extract_one(mixture(1.0), ENROLL).sample_rate == RATE
    silent, other = extractor.extract_batch([np.zeros(12345), mixture(0.5, 0, 16000)], [ENROLL] * 2, 16000)
    assert silent.shape == (12345,) and not silent.any() and other.any()


@every_kind
def test_the_voice_is_written_as_it_is_made(kind: str) -> None:
    extractor = load(kind, **({} if kind == "masked" else in_parts(kind, 0.5, 0.1)))
    for mixed in (mixture(2.0, 0, 11025), np.zeros(2500000)):
        request, parts = extractor.request(mixed, ENROLL, 11025, enroll_sample_rate=RATE), []
        found = extractor.extract([request], write=parts.append)[0]
        assert len(found.samples) == 0 and (len(parts) > 1 or kind == "masked")
        np.testing.assert_array_equal(np.concatenate(parts), extractor.extract([request])[0].samples)


@pytest.mark.parametrize("kind", ["masked", "dual_path"])
def test_progress_is_told_part_by_part(kind: str) -> None:
    extractor, told = load(kind, **in_parts(kind, 1.0, 0.2)), list[float]()
    extractor.extract([extractor.request(mixture(seconds), ENROLL) for seconds in (0.5, 4.0)], progress=told.append)
    assert told == sorted(told) and told[-1] == 1.0 and len(set(told)) >= 5 and told[0] < 0.3


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    extractor, good = load("dual_path"), voice(1.0, 110.0)
    soundfile.write(tmp_path / "short.wav", np.ones(3), RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "slow.wav", good, 500)
    (tmp_path / "no.wav").write_bytes(b"no audio")
    refused(f"^{tmp_path}: is a folder", extractor, tmp_path, good)
    for name, message in {"no": "is not a readable audio file", "slow": "sampling rate 500 is not"}.items():
        refused(f"^{tmp_path}/{name}.wav: {message}", extractor, tmp_path / f"{name}.wav", good)
        refused(f"^{tmp_path}/{name}.wav: {message}", extractor, good, [good, str(tmp_path / f"{name}.wav")])
    refused(f"^{tmp_path}/silent.wav: is silent", extractor, good, tmp_path / "silent.wav")
    refused(f"^{tmp_path}/short.wav: is 0.375 ms long", extractor, good, tmp_path / "short.wav")


@every_kind
def test_threads_share_an_extractor(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Enrolments that are kept and let go all the time.
    monkeypatch.setattr("espnet_tse_gen.inference.waveform.KEPT_ENROLL_SECONDS", 1.0)
    mixed = [mixture(0.7, seed) for seed in range(24)]
    enrolls = [voice(0.5, 110.0, seed % 3) for seed in range(24)]
    alone = list(map(load(kind), mixed, enrolls))
    extractor = load(kind)
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(extractor, mixed, enrolls))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
