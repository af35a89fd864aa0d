"""The scoring command on real files, with ESPnet's own scorer in its subprocess."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from espnet_tse_gen.bin import make_results, score
from espnet_tse_gen.errors import UserError
from espnet_tse_gen.fileio import read_audio, read_scp, write_audio, write_scp
from espnet_tse_gen.scoring.decode_facts import read_rtf, rtf_files
from espnet_tse_gen.scoring.items import gender_pair, read_mixtures
from espnet_tse_gen.scoring.own_metrics import Scorer, score_items
from espnet_tse_gen.scoring.table import read_scores

RATE = 8000


def arguments(world: Path, *more: str) -> list[str]:
    outputs = world / "exp/m/greedy/test"
    command = ["--data_dir", str(world / "data/test"), "--system", "greedy", "--output_dir", str(outputs / "scoring")]
    command += ["--inf_scp", str(outputs / "spk1.scp"), "--inf_scp", str(outputs / "spk2.scp")]
    return [*command, "--scores", str(world / "exp/m/scores.csv"), *more]


def keep(world: Path, *keys: str) -> None:
    """Cut the set down to ``keys``."""
    for path in [*(world / "data/test").glob("*.scp"), *(world / "exp/m/greedy/test").glob("*.scp")]:
        table = read_scp(path)
        write_scp(path, {key: table[key] for key in keys})


def test_two_mixtures_are_scored_with_a_silent_output_and_the_same_run_does_no_work(
    world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep(world, "anna_berta", "anna_carl")
    silent = read_scp(world / "exp/m/greedy/test/spk2.scp")["anna_berta"]
    write_audio(silent, np.zeros(2 * RATE), RATE)
    (world / "exp/m/greedy/test/rtf.json").write_text(json.dumps({"rtf": 0.25, "device": "cpu", "batch_size": 1}))
    accuracy = "key,level1,level2\nanna_carl,0.5,0.25\nanna_berta,1.0,0.0\n"
    (world / "exp/m/greedy/test/spk1.1.token_accuracy.csv").write_text(accuracy)
    score.main(arguments(world))
    assert "1 of 4 outputs are digital silence" in caplog.text
    rows = {(row.key, row.speaker_index): row for row in read_scores(world / "exp/m/scores.csv")}
    assert len(rows) == 4
    good, mute = rows["anna_carl", 1], rows["anna_berta", 2]
    assert (good.set, good.target, good.gender_pair, good.note) == (
        "test",
        "anna",
        "different",
        "device cpu, batch_size 1",
    )
    assert rows["anna_berta", 1].gender_pair == "female+female"
    assert good.input_sir == pytest.approx(-rows["anna_carl", 2].input_sir, abs=0.1)
    assert good.metrics["RTF"] == 0.25
    assert (good.metrics["token_accuracy"], good.metrics["token_accuracy_level2"]) == (0.375, 0.25)
    # ESPnet's SI-SNR removes means; these signals have next to none.
    assert good.metrics["SI_SDR"] == pytest.approx(good.metrics["SI_SNR"], abs=0.05)
    assert {"SDR", "SIR", "SAR", "STOI", "ESTOI", "PESQ_NB", "similarity", "confused"} <= good.metrics.keys()
    assert good.metrics["SI_SDRi"] > 5
    assert all(np.isfinite(value) for value in mute.metrics.values())
    assert mute.metrics["SI_SDR"] < -20
    assert mute.metrics["similarity"] == 0.0
    assert mute.metrics["level"] < -50
    assert (world / "exp/m/greedy/test/scoring/SDR_spk1").exists()

    table = world / "exp/m/scores.csv"
    stamp = table.stat().st_mtime_ns
    score.main(arguments(world))
    assert table.stat().st_mtime_ns == stamp
    make_results.main(["--exp_dir", str(world / "exp/m"), "--resamples", "50"])
    text = (world / "exp/m/RESULTS.md").read_text()
    assert "RTF of greedy: device cpu, batch_size 1." in text
    assert "espnet 202" in text


def test_a_swapped_output_is_not_forgiven_and_processes_do_not_change_the_scores(world: Path) -> None:
    keep(world, "anna_carl", "berta_dirk")
    data, outputs = world / "data/test", world / "exp/m/greedy/test"
    references = [data / "spk1.scp", data / "spk2.scp"]
    swapped = read_mixtures(data / "wav.scp", references, [outputs / "spk2.scp", outputs / "spk1.scp"], data)
    scores = score_items(swapped, "signal", delay=0)
    assert scores == score_items(swapped, "signal", delay=0, nj=2)
    assert np.mean([row["SI_SDRi"] for row in scores.values()]) < -5
    assert np.mean([row["confused"] for row in scores.values()]) > 0.5


def test_delay_is_undone_in_the_aligned_column_only(world: Path) -> None:
    keep(world, "anna_carl")
    data, outputs = world / "data/test", world / "exp/m/greedy/test"
    scps = [data / "wav.scp", [data / "spk1.scp", data / "spk2.scp"], [outputs / "spk1.scp", outputs / "spk2.scp"]]
    plain = Scorer("signal")(read_mixtures(*scps)[0])  # type: ignore[arg-type]
    for number in (1, 2):
        path = read_scp(outputs / f"spk{number}.scp")["anna_carl"]
        samples, _ = read_audio(path)
        # The output leads the reference by 8 samples.
        write_audio(path, np.concatenate([samples[8:], np.zeros(8, np.float32)]), RATE)
    shifted = Scorer("signal", delay=-8)(read_mixtures(*scps)[0])  # type: ignore[arg-type]
    for before, after in zip(plain, shifted, strict=True):
        assert after["SI_SDR"] < before["SI_SDR"] - 5
        assert after["SI_SDR_aligned"] == pytest.approx(before["SI_SDR"], abs=0.2)


@pytest.mark.slow
def test_the_full_preset_adds_dnsmos_and_ci_sdr(world: Path) -> None:
    keep(world, "anna_carl")
    data, outputs = world / "data/test", world / "exp/m/greedy/test"
    items = read_mixtures(data / "wav.scp", [data / "spk1.scp", data / "spk2.scp"], [outputs / "spk1.scp"], data)
    (row,) = Scorer("full")(items[0])
    assert {"OVRL", "SIG", "BAK", "P808", "CI_SDR"} <= row.keys()
    assert 1.0 <= row["OVRL"] <= 5.0
    assert row["CI_SDR"] >= row["SI_SDR"] - 0.5


@pytest.mark.parametrize("case", ["missing", "extra", "length", "silent reference", "rate", "preset", "delay", "count"])
def test_bad_input_ends_in_one_line_and_changes_nothing(world: Path, case: str) -> None:
    outputs, more = world / "exp/m/greedy/test/spk2.scp", []
    table = read_scp(outputs)
    message = "anna_carl"
    if case == "missing":
        write_scp(outputs, {key: value for key, value in table.items() if key != "anna_carl"})
    elif case == "extra":
        write_scp(outputs, {**table, "nobody": table["anna_carl"]})
        message = "nobody"
    elif case == "length":
        write_audio(table["anna_carl"], np.ones(100), RATE)
    elif case == "silent reference":
        write_audio(read_scp(world / "data/test/spk1.scp")["anna_carl"], np.zeros(2 * RATE), RATE)
    elif case == "rate":
        write_audio(table["anna_carl"], np.ones(100), 2 * RATE)
    elif case == "preset":
        more, message = ["--preset", "signals"], "did you mean 'signal'"
    elif case == "delay":
        more, message = ["--delay", "99999"], "--delay"
    else:
        more, message = ["--inf_scp", str(outputs)], "3 time"
    before = sorted(path for path in world.rglob("*"))
    with pytest.raises(UserError, match=message) as error:
        score.main(arguments(world, *more))
    assert "\n" not in str(error.value)
    assert sorted(path for path in world.rglob("*")) == before


def test_gender_pairs() -> None:
    assert gender_pair("fm") == gender_pair("mf") == "different"
    assert gender_pair("ff") == "female+female"
    assert gender_pair("mm") == "male+male"
    assert gender_pair(["m", ""]) == gender_pair("m") == ""


def test_timing_of_several_jobs_is_combined(tmp_path: Path) -> None:
    scps = [tmp_path / "spk1.scp", tmp_path / "spk2.scp"]
    assert read_rtf(rtf_files(scps)) == (None, "")
    for name, wall in (("spk1.1", 3), ("spk1.2", 1), ("spk2.1", 2)):
        content = {"wall_seconds": wall, "audio_seconds": 12, "rtf": wall / 12, "device": "cpu", "steps": [8, 2]}
        (tmp_path / f"{name}.rtf.json").write_text(json.dumps(content))
    assert read_rtf(rtf_files(scps)) == (6 / 36, "device cpu, steps 8/2")
    (tmp_path / "rtf.json").write_text("[]")
    with pytest.raises(UserError, match="expected"):
        read_rtf(rtf_files(scps))
    with pytest.raises(UserError, match="no such file"):
        read_rtf([tmp_path / "none.json"])
