"""Measures of a codec's round trip, on codecs whose figures are known beforehand."""

import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from codec_study.quality import _Job, _score, choose_codebooks, evaluate_codec, measure_speed
from refused import refused
from tiny_codecs import RATE, PcmCodec, speech, write_speech

from espnet_tse_gen.audio.recordings import Recordings
from espnet_tse_gen.audio.writing import write_audio
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.mel import MelCodec
from espnet_tse_gen.utils.files import write_scp


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speech(tmp_path_factory.mktemp("quality"), range(2), seconds=1.5)


def measured(codec: AbsCodec, table: Path, measures: Sequence[str], codebook: int = 2) -> list[dict[str, float]]:
    rows = evaluate_codec(codec, Recordings(table), [codebook], measures, tag="one")
    assert {row.system for row in rows} == {f"one/{codebook}"}
    return [row.metrics for row in rows]


@pytest.mark.slow
def test_codec_that_loses_nothing_has_the_best_figures_and_half_of_it_less(table: Path) -> None:
    recordings = Recordings(table)
    del recordings["s01-0"]
    rows = evaluate_codec(PcmCodec(), recordings, [1, 2], tag="pcm", speakers={"s00-0": "anna"})
    assert [(row.system, row.target, row.key) for row in rows] == [
        (name, "anna", "s00-0") for name in ("original", "pcm/1", "pcm/2")
    ]
    whole, half = rows[2].metrics, rows[1].metrics
    assert whole["SI_SDR"] > 55 and whole["similarity"] > 0.999 and whole["PESQ_WB"] > 4.6
    assert whole["STOI"] == pytest.approx(100, abs=0.1) and whole["ESTOI"] == pytest.approx(100, abs=0.5)
    assert whole["OVRL_change"] == pytest.approx(0, abs=0.02)
    assert whole["OVRL"] - whole["OVRL_change"] == pytest.approx(rows[0].metrics["OVRL"])
    assert whole["lag"] == half["lag"] == 0
    assert half["SI_SDR"] < whole["SI_SDR"] - 30 and half["PESQ_WB"] < whole["PESQ_WB"]


def test_more_codebooks_of_a_residual_codec_are_not_worse(table: Path) -> None:
    codec = MelCodec(num_mels=40, num_codebooks=4, codebook_size=16, split="residual", griffin_lim_iterations=8)
    codec.fit([torch.from_numpy(speech(speaker, 2.0)) for speaker in range(4)], iterations=4)
    few, every = (np.mean([row["ESTOI"] for row in measured(codec, table, ["stoi"], codebook)]) for codebook in (1, 4))
    assert few <= every


def test_codec_at_another_rate_is_judged_at_the_rate_of_the_recordings_and_lag_is_not_undone(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in measured(PcmCodec(sample_rate=24000), table, ["si_sdr"]):
        assert row["SI_SDR"] > 40 and row["lag"] == 0
    monkeypatch.setattr(PcmCodec, "_decode_row", lambda _, latents, *__: torch.nn.functional.pad(latents[0], (7, 0)))
    for row in measured(PcmCodec(), table, ["si_sdr"]):
        assert row["SI_SDR"] < 30 and row["lag"] == 7


@pytest.mark.slow
def test_mute_codec_does_not_escape_the_average(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PcmCodec, "_decode_row", lambda _, latents, *__: torch.zeros_like(latents[0]))
    for row in measured(PcmCodec(), table, ["si_sdr", "similarity", "stoi"]):
        assert row["SI_SDR"] < -20 and row["similarity"] == 0 and "lag" not in row


def test_speed_leaves_the_number_of_threads_as_it_was(table: Path) -> None:
    before = torch.get_num_threads()
    speed = measure_speed(PcmCodec(), Recordings(table), threads=2, max_seconds=1.0, repeats=2)
    assert torch.get_num_threads() == before and speed.threads == 2
    assert speed.seconds == pytest.approx(1.5) and 0 < speed.both < min(speed.encode, speed.decode)


def test_items_can_be_handed_to_other_processes(table: Path) -> None:
    job = _Job("s00-0", RATE, speech(0, 1.0), [speech(0, 1.0)])
    function = pickle.loads(pickle.dumps(partial(_score, measures=("si_sdr",))))
    ((original, row),) = [found for _, found in [function(pickle.loads(pickle.dumps(job)))]]
    assert not original and row.keys() == measured(PcmCodec(), table, ["si_sdr"])[0].keys()


def test_mistakes_end_in_one_line(tmp_path: Path) -> None:
    write_audio(tmp_path / "quiet.wav", np.zeros(RATE, dtype=np.float32), RATE)
    write_scp(tmp_path / "wav.scp", {"quiet": str(tmp_path / "quiet.wav")})
    refused("found '0'", choose_codebooks, PcmCodec(), ["0"])
    refused("is silent", measured, PcmCodec(), tmp_path / "wav.scp", ["si_sdr"])
