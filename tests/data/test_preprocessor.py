"""One training item from what ESPnet read: targets, crops, enrolments, rates and levels."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from refused import refused

from espnet_tse_gen.audio.level import mixture_gain
from espnet_tse_gen.audio.recordings import load_recording
from espnet_tse_gen.data.preprocessor import TSEGenPreprocessor

RATE, HOP = 8000, 160


@pytest.fixture(autouse=True)
def voices(tmp_path: Path) -> dict[str, list[list[str]]]:
    """Speakers ``a`` (three utterances) and ``b`` (one of 3 s); sample ``n`` of utterance ``k`` is ``k + n / length``."""
    table: dict[str, list[list[str]]] = {"a": [], "b": []}
    for speaker, utterance in (("a", "a0"), ("a", "a1"), ("a", "a2"), ("b", "b0")):
        length = 3 * RATE
        samples = 0.1 * (1 + int(utterance[1])) + 0.05 * np.arange(length) / length
        soundfile.write(tmp_path / f"{utterance}.wav", samples, RATE, subtype="FLOAT")
        table[speaker].append([utterance, str(tmp_path / f"{utterance}.wav")])
    (tmp_path / "spk2enroll.json").write_text(json.dumps(table))
    return table


def preprocessor(tmp_path: Path, train: bool = True, **options: Any) -> TSEGenPreprocessor:
    options = {
        "codec_sample_rate": RATE, "hop": HOP, "crop_seconds": 0.5, "enroll_seconds": [0.5, 1.0],
        "train_spk2enroll": str(tmp_path / "spk2enroll.json"), **options,
    }  # fmt: skip
    return TSEGenPreprocessor(train, **options)


def item(length: int = 3 * RATE, seed: int = 0, **more: Any) -> dict[str, Any]:
    """A mixture whose sources differ in sign; tokens count the frames."""
    draw = np.random.default_rng(seed)
    first, second = draw.uniform(0.1, 0.4, length), -draw.uniform(0.1, 0.3, length)
    frames = np.arange(-(-length // HOP))[:, None]
    return {
        "speech_mix": first + second, "speech_ref1": first, "speech_ref2": second,
        "enroll_ref1": "*a0 a", "enroll_ref2": "*b0 b", "codes_ref1": frames, "codes_ref2": 1000 + frames, **more,
    }  # fmt: skip


def without(data: dict[str, Any], *prefixes: str) -> dict[str, Any]:
    return {name: value for name, value in data.items() if not name.startswith(prefixes)}


def test_tokens_and_samples_are_cut_at_the_same_frames(tmp_path: Path) -> None:
    make, data = preprocessor(tmp_path), item()
    starts, first = set(), []
    for _ in range(200):
        made = make("utt", data)
        start = int(made["codes_ref1"][0, 0]) % 1000
        starts.add(start)
        first.append(made["codes_ref1"][0, 0] < 1000)
        assert made["codes_ref1"].dtype == np.int64
        np.testing.assert_array_equal(made["codes_ref1"][:, 0] % 1000, start + np.arange(25))
        gain = mixture_gain(data["speech_mix"])
        expected = gain * data["speech_mix"][start * HOP : (start + 25) * HOP]
        np.testing.assert_allclose(made["speech_mix"], expected, rtol=1e-5)
        # Of the same target, for a loss of the waveform beside that of the tokens; not where it is not given.
        source = data["speech_ref1"] if first[-1] else data["speech_ref2"]
        np.testing.assert_allclose(made["speech_ref1"], gain * source[start * HOP : (start + 25) * HOP], rtol=1e-5)
    assert "speech_ref1" not in make("utt", without(data, "speech_ref"))
    assert len(starts) > 20 and starts <= set(range(126))
    assert 0.35 < np.mean(first) < 0.65, "every source is a target"


@pytest.mark.parametrize("length", [1, HOP - 1, HOP, HOP + 1, 4000])
def test_a_mixture_shorter_than_the_crop_stays_whole(tmp_path: Path, length: int) -> None:
    made = preprocessor(tmp_path)("utt", item(length))
    assert len(made["speech_mix"]) == min(length, 4000)
    assert len(made["codes_ref1"]) == -(-min(length, 4000) // HOP)


def test_the_last_frame_of_an_odd_length_can_be_in_the_crop(tmp_path: Path) -> None:
    make, data = preprocessor(tmp_path), item(4001)
    drawn = [make("u", data) for _ in range(40)]
    ends = {(int(made["codes_ref1"][-1, 0]) % 1000, len(made["speech_mix"])) for made in drawn}
    assert ends == {(24, 4000), (25, 3841)}


def test_validation_gives_the_same_item_whatever_was_drawn_before(tmp_path: Path) -> None:
    targets = set()
    for n in range(12):
        one = preprocessor(tmp_path, train=False)(f"utt{n}", item())
        np.random.seed(n)
        other = preprocessor(tmp_path, train=False)(f"utt{n}", item())
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])
        assert one["codes_ref1"][0, 0] % 1000 == 0
        targets.add(int(one["codes_ref1"][0, 0]))
    assert targets == {0, 1000}


def test_the_enrolment_is_never_of_the_target_utterance(tmp_path: Path, voices: dict[str, list[list[str]]]) -> None:
    make, data = preprocessor(tmp_path, ref_num=1), item()
    recordings = {name: soundfile.read(path)[0] for name, path in voices["a"]}
    seen = set()
    for _ in range(60):
        made = make("utt", data)["enroll_ref1"]
        assert 0.5 * RATE <= len(made) <= 1.0 * RATE
        # A slope over 3 s of 0.05 tells the place; the level before scaling tells the utterance.
        level = 0.05 / (3 * RATE) / ((made[-1] - made[0]) / made.mean() / len(made))
        seen.add(min(recordings, key=lambda name: abs(recordings[name].mean() - level)))
    assert seen == {"a1", "a2"}


def test_a_speaker_with_one_utterance_is_enrolled_from_the_rest_of_it(
    tmp_path: Path, voices: dict[str, list[list[str]]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    make = preprocessor(tmp_path, ref_num=1)
    data = item(enroll_ref1="*b0 b")
    whole = soundfile.read(voices["b"][0][1])[0]
    for _ in range(40):
        made = make("utt", data)
        start = int(made["codes_ref1"][0, 0])
        crop = set(range(start * HOP, (start + 25) * HOP))
        enroll = made["enroll_ref1"]
        # The samples rise, so that the scaled piece matches the recording at one place only.
        ratio = enroll[0] / enroll[-1]
        places = np.arange(len(whole) - len(enroll) + 1)
        place = int(places[np.argmin(np.abs(whole[places] / whole[places + len(enroll) - 1] - ratio))])
        assert not crop & set(range(place + 3, place + len(enroll) - 3))
    assert sum("one utterance" in record.message for record in caplog.records) == 1
    # A short one serves whole.
    soundfile.write(tmp_path / "c0.wav", np.full(1000, 0.1), RATE)
    (tmp_path / "spk2enroll.json").write_text(json.dumps({"c": [["c0", str(tmp_path / "c0.wav")]]}))
    assert len(preprocessor(tmp_path, ref_num=1)("utt", item(1000, enroll_ref1="*c0 c"))["enroll_ref1"]) == 1000


def test_a_fixed_enrolment_is_read_from_its_path_at_its_own_rate_and_level(tmp_path: Path) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 200 * np.arange(2 * 16000) / 16000)
    soundfile.write(tmp_path / "enroll.wav", tone, 16000, subtype="FLOAT")
    data = item(enroll_ref1=str(tmp_path / "enroll.wav"))
    made = preprocessor(tmp_path, train=False, ref_num=1)("utt", data)["enroll_ref1"]
    assert len(made) == RATE and mixture_gain(made) == pytest.approx(1.0, rel=0.01)
    assert np.argmax(np.abs(np.fft.rfft(made))) == 200


def test_another_rate_gives_what_token_extraction_encodes(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    mixture = draw.uniform(-0.3, 0.3, 2 * 16000).astype(np.float32)
    target = (0.5 * mixture).astype(np.float32)
    for name, samples in (("mix", mixture), ("target", target)):
        soundfile.write(tmp_path / f"{name}.wav", samples, 16000, subtype="FLOAT")
    data = without(item(speech_mix=mixture, speech_ref1=target), "codes")
    make = preprocessor(tmp_path, train=False, ref_num=1, sample_rate=16000, crop_seconds=0)
    made = make("utt", data)
    for name, part in (("mix", "speech_mix"), ("target", "speech_ref1")):
        expected = load_recording(tmp_path / f"{name}.wav", RATE, tmp_path / "mix.wav").samples
        np.testing.assert_allclose(made[part], expected, atol=1e-6)
    assert len(made["speech_mix"]) == 2 * RATE
    # Tokens made at the codec's rate fit the mixture's frames.
    frames = np.zeros((100, 4), dtype=np.int16)
    assert make("utt", {**data, "codes_ref1": frames})["codes_ref1"].shape == (100, 4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"speech_mix": np.zeros(0)}, "speech_mix of 'utt' is empty"),
        ({"speech_mix": np.full(8000, np.nan)}, "speech_mix of 'utt' is empty or holds NaN"),
        ({"speech_mix": np.zeros((8000, 2))}, "speech_mix of 'utt' has 2 channels"),
        ({"speech_mix": np.zeros((2, 8000, 1))}, "speech_mix of 'utt' has 1 channels"),
        ({"speech_mix": np.ones(8000)}, "expected 50 for this mixture"),
        ({"speech_ref1": np.ones(5), "codes_ref1": None}, "speech_ref1 of 'utt' has 5 samples, its mixture 24000"),
        ({"enroll_ref1": "*a0"}, r"expected '\*UTTERANCE SPEAKER' or a path"),
        ({"enroll_ref1": "*z0 z"}, "speaker 'z' of 'utt' has no utterance"),
        ({"enroll_ref1": "/nowhere.wav"}, r"/nowhere.wav \(key 'utt'\): no such file"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    refused(says, preprocessor(tmp_path, ref_num=1), "utt", item(**change))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"enroll_seconds": [3.0, 2.0]}, "expected .shortest, longest."),
        ({"crop_seconds": -1.0}, "crop_seconds"),
        ({"train_spk2enroll": "none.json"}, "no such file"),
        ({"train_spk2enroll": None}, "needs --train_spk2enroll"),
    ],
)
def test_options_that_cannot_be_used_are_named(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    refused(says, lambda: preprocessor(tmp_path, **options)("utt", item()))
