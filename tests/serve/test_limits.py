"""Recordings that the page refuses before they cost memory or time."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from broken_audio import encoded, with_total
from hypothesis import given
from hypothesis import strategies as st
from refused import refused

from espnet_tse_gen.serve.worker import HIGHEST_RATE, read_limited

RATE = 1000


@given(length=st.integers(1, 700), minutes=st.sampled_from([0.001, 0.005, 0.01]), flac=st.booleans())
def test_a_recording_is_taken_if_and_only_if_it_is_short_enough(
    tmp_path_factory: pytest.TempPathFactory, length: int, minutes: float, flac: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "some.audio"
    path.write_bytes(encoded(np.full(length, 0.25), RATE, "FLAC" if flac else "WAV"))
    if length <= minutes * 60 * RATE:
        audio = read_limited(path, minutes)
        assert len(audio.samples) == length and audio.rate == RATE
    else:
        refused("some.audio: is longer than .* --max-minutes", read_limited, path, minutes)


@pytest.mark.parametrize("total", [0, 100, 2**36 - 1])
def test_more_than_a_header_says_is_not_decoded_without_end(
    tmp_path: Path, total: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = tmp_path / "day.flac"
    day.write_bytes(with_total(encoded(np.zeros(3600 * RATE), RATE, "FLAC"), total))
    assert day.stat().st_size < 20000
    decoded = []
    read = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda *given, **more: decoded.append(read(*given, **more)) or decoded[-1]
    )
    if total == 100:
        # libsndfile itself ends where this header says.
        assert len(read_limited(day, 0.1).samples) == 100
    else:
        refused("day.flac: is longer than 0.1 minutes", read_limited, day, 0.1)
    assert sum(map(len, decoded)) <= 2**20


def test_what_is_refused_by_its_header_and_what_is_no_audio(tmp_path: Path) -> None:
    huge, fast, text = (tmp_path / name for name in ("huge.flac", "fast.wav", "text.wav"))
    huge.write_bytes(with_total(encoded(np.zeros(RATE), RATE, "FLAC"), 10 * 2**30))
    soundfile.write(fast, np.zeros(9), HIGHEST_RATE + 1)
    text.write_text("not audio")
    refused("huge.flac: is longer than 30 minutes, or its header says so", read_limited, huge, 30)
    refused(f"fast.wav: sampling rate is {HIGHEST_RATE + 1} Hz", read_limited, fast, 1)
    refused("text.wav: is not a readable audio file", read_limited, text, 1)
