"""The scoring command on real files, with ESPnet's own scorer in its subprocess."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from espnet_tse_gen.audio.files import read_audio, write_audio
from espnet_tse_gen.bin import make_results, score
from espnet_tse_gen.data.enrolment.protocol import Protocol, write_protocol
from espnet_tse_gen.scoring.decode_facts import read_rtf, rtf_files
from espnet_tse_gen.scoring.espnet_scorer import run_enh_scoring
from espnet_tse_gen.scoring.items import gender_pair, read_mixtures
from espnet_tse_gen.scoring.own_metrics import Scorer, score_items
from espnet_tse_gen.scoring.run import ScoringJob, choose_delay
from espnet_tse_gen.scoring.table import Row, read_scores
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_scp, write_scp

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


@pytest.fixture(scope="module")
def scored(make_world: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world that has been scored, which no test changes."""
    world = make_world(tmp_path_factory.mktemp("scored"))
    (world / "exp/m/greedy/test/rtf.json").write_text(json.dumps({"rtf": 0.25, "device": "cpu", "batch_size": 1}))
    accuracy = "key,level1,level2\nanna_carl,0.5,0.25\nanna_berta,1.0,0.0\n"
    (world / "exp/m/greedy/test/spk1.1.token_accuracy.csv").write_text(accuracy)
    score.main(arguments(world))
    return world


def table_of(path: Path) -> dict[tuple[str, int], Row]:
    return {(row.key, row.speaker_index): row for row in read_scores(path)}


@pytest.mark.slow
def test_every_item_has_a_row_with_its_facts_and_scores(scored: Path) -> None:
    rows = table_of(scored / "exp/m/scores.csv")
    assert len(rows) == 8
    good = rows["anna_carl", 1]
    assert (good.set, good.target, good.gender_pair) == ("test", "anna", "different")
    assert (good.note, good.fault, good.tools) == ("device cpu, batch_size 1", "", "")
    assert rows["anna_berta", 1].gender_pair == "female+female"
    assert good.input_sir == pytest.approx(-rows["anna_carl", 2].input_sir, abs=0.1)
    assert good.metrics["RTF"] == 0.25
    assert (good.metrics["token_accuracy"], good.metrics["token_accuracy_level2"]) == (0.375, 0.25)
    # ESPnet's SI-SNR removes means; these signals have next to none.
    assert good.metrics["SI_SDR"] == pytest.approx(good.metrics["SI_SNR"], abs=0.05)
    measures = {"SDR", "SIR", "SAR", "STOI", "ESTOI", "PESQ_NB", "similarity", "similarity_interferer", "confused"}
    assert measures <= good.metrics.keys()
    assert good.metrics["SI_SDRi"] > 5
    assert (scored / "exp/m/greedy/test/scoring/SDR_spk1").exists()


@pytest.mark.slow
def test_the_same_run_again_does_no_work(scored: Path) -> None:
    table = scored / "exp/m/scores.csv"
    stamp = table.stat().st_mtime_ns
    score.main(arguments(scored))
    assert table.stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_other_options_do_only_what_is_new(scored: Path, tmp_path: Path) -> None:
    work = shutil.copytree(scored / "exp/m/greedy/test/scoring", tmp_path / "scoring")
    stamps = {name: (work / name).stat().st_mtime_ns for name in ("own.json", "enh_scoring.json")}
    score.main(arguments(scored, "--output_dir", str(work), "--scores", str(tmp_path / "s.csv"), "--delay", "1"))
    assert (work / "own.json").stat().st_mtime_ns != stamps["own.json"]
    assert (work / "enh_scoring.json").stat().st_mtime_ns == stamps["enh_scoring.json"]
    before, after = table_of(scored / "exp/m/scores.csv"), table_of(tmp_path / "s.csv")
    for key, row in after.items():
        assert row.metrics["SDR"] == before[key].metrics["SDR"]
        assert row.metrics["SI_SDR_aligned"] < before[key].metrics["SI_SDR_aligned"] - 1
        assert row.tools == "delay of 1 samples undone"


@pytest.mark.slow
def test_results_name_conditions_and_convention(scored: Path, tmp_path: Path) -> None:
    output = tmp_path / "RESULTS.md"
    protocol = Protocol(mixtures=4, target_rows=8, seed=7)
    write_protocol(tmp_path, protocol)
    command = ["--exp_dir", str(scored / "exp/m"), "--output", str(output), "--resamples", "50"]
    make_results.main([*command, "--data_dirs", f"test={tmp_path}"])
    text = output.read_text()
    conditions = ("RTF of greedy: device cpu, batch_size 1.", "espnet 202", "both speakers of every mixture")
    for part in (*conditions, protocol.describe()):
        assert part in text
    assert "### Token accuracy by level" in text


@pytest.mark.slow
def test_items_without_a_score_are_counted_and_the_others_are_scored_all_the_same(
    world: Path, scored: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A silent output, one of another length, a silent reference, and a reference without speech for PESQ and STOI."""
    data, outputs = world / "data/test", world / "exp/m/greedy/test"
    sound = table_of(scored / "exp/m/scores.csv")
    first, second = read_scp(outputs / "spk1.scp"), read_scp(outputs / "spk2.scp")
    write_audio(second["anna_berta"], np.zeros(2 * RATE), RATE)
    write_audio(first["berta_dirk"], np.ones(100), RATE)
    write_audio(read_scp(data / "spk2.scp")["carl_dirk"], np.zeros(2 * RATE), RATE)
    click = np.zeros(2 * RATE)
    click[0] = 0.5
    write_audio(read_scp(data / "spk1.scp")["anna_carl"], click, RATE)
    capsys.readouterr()
    score.main(arguments(world))
    printed = capsys.readouterr().out
    assert "8 items, 3 without scores" in printed
    for line in ("silent output (first 'anna_berta')", "output of another length (first 'berta_dirk')"):
        assert f"1 of 8 items have no scores: {line}" in caplog.text
    for measure in ("STOI", "PESQ"):
        assert f"{measure} has no value on 1 of 5 items: it finds no speech (first 'anna_carl')" in caplog.text

    rows = table_of(world / "exp/m/scores.csv")
    faults = {key: row.fault for key, row in rows.items() if row.fault}
    assert faults == {
        ("anna_berta", 2): "silent output",
        ("berta_dirk", 1): "output of another length",
        ("carl_dirk", 2): "silent reference",
    }
    assert all(not rows[key].metrics for key in faults)
    assert not {"STOI", "ESTOI", "PESQ_NB"} & rows["anna_carl", 1].metrics.keys()
    assert "SDR" in rows["anna_carl", 1].metrics
    # What is wrong with one speaker of a mixture changes nothing for the other, except what needs both references.
    for key in (("anna_berta", 1), ("berta_dirk", 2)):
        before = sound[key].metrics
        assert rows[key].metrics == pytest.approx({name: before[name] for name in rows[key].metrics}, abs=1e-6)
    before, alone = sound["carl_dirk", 1].metrics, rows["carl_dirk", 1].metrics
    assert before.keys() - alone.keys() == {"SIR", "similarity_interferer", "confused", "RTF"}
    # BSS Eval counts as artefacts what only the other reference explains.
    same = alone.keys() - {"SAR"}
    assert {name: alone[name] for name in same} == pytest.approx({name: before[name] for name in same}, abs=1e-3)

    make_results.main(["--exp_dir", str(world / "exp/m"), "--resamples", "50"])
    text = (world / "exp/m/RESULTS.md").read_text()
    reasons = "1 output of another length, 1 silent output, 1 silent reference"
    assert f"greedy: 3 of 8 items have no scores ({reasons})." in text
    assert "n=4" in text and "n=5" in text


@pytest.mark.slow
def test_only_the_first_speaker_as_target_gives_the_scores_that_both_give(world: Path, scored: Path) -> None:
    both = table_of(scored / "exp/m/scores.csv")
    keep(world, "anna_carl", "berta_dirk")
    command = arguments(world)
    second = command.index(str(world / "exp/m/greedy/test/spk2.scp"))
    score.main([*command[: second - 1], *command[second + 1 :]])
    rows = table_of(world / "exp/m/scores.csv")
    assert rows.keys() == {("anna_carl", 1), ("berta_dirk", 1)}
    for key, row in rows.items():
        assert row.metrics.keys() >= {"SIR", "SAR"}
        assert row.metrics == pytest.approx({name: both[key].metrics[name] for name in row.metrics}, abs=1e-6)
    make_results.main(["--exp_dir", str(world / "exp/m"), "--resamples", "50"])
    assert "speaker 1 of every mixture only" in (world / "exp/m/RESULTS.md").read_text()


@pytest.mark.slow
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


def test_the_delay_is_measured_once_on_clean_speech_through_the_codec(
    world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, outputs = world / "data/test", world / "exp/m/greedy/test"
    for number in (1, 2):
        coded = {}
        for key, path in read_scp(data / f"spk{number}.scp").items():
            samples, _ = read_audio(path)
            coded[key] = str(world / f"coded/{number}/{key}.wav")
            write_audio(coded[key], np.concatenate([np.zeros(5, np.float32), samples[:-5]]), RATE)
        write_scp(world / f"coded/spk{number}.scp", coded)
    scps = [data / "wav.scp", [data / "spk1.scp", data / "spk2.scp"], [outputs / "spk1.scp", outputs / "spk2.scp"]]
    job = ScoringJob(
        *("greedy", "test", *scps, world / "out", world / "scores.csv"),  # type: ignore[arg-type]
        delay=None,
        ceiling_scps=[world / "coded/spk1.scp", world / "coded/spk2.scp"],
    )
    caplog.set_level("INFO")
    assert choose_delay(job, read_mixtures(*scps)) == 5  # type: ignore[arg-type]
    assert "measured on 8 clean recordings" in caplog.text


@pytest.mark.slow
def test_the_full_preset_adds_dnsmos_and_ci_sdr(world: Path) -> None:
    keep(world, "anna_carl")
    data, outputs = world / "data/test", world / "exp/m/greedy/test"
    items = read_mixtures(data / "wav.scp", [data / "spk1.scp", data / "spk2.scp"], [outputs / "spk1.scp"], data)
    (row,) = Scorer("full")(items[0])
    assert {"OVRL", "SIG", "BAK", "P808", "CI_SDR"} <= row.keys()
    assert 1.0 <= row["OVRL"] <= 5.0
    assert row["CI_SDR"] >= row["SI_SDR"] - 0.5
    # ESPnet runs the same networks in its own way.
    scores = run_enh_scoring(items, world / "espnet", use_dnsmos=True)["anna_carl", 1]
    for column in ("OVRL", "SIG", "BAK", "P808"):
        assert scores[f"{column}_espnet"] == pytest.approx(row[column], abs=0.02)


@pytest.mark.parametrize("case", ["missing", "extra", "rate", "preset", "delay", "auto", "count", "asr"])
def test_bad_input_ends_in_one_line_and_changes_nothing(world: Path, case: str) -> None:
    outputs, more = world / "exp/m/greedy/test/spk2.scp", []
    table = read_scp(outputs)
    message = "anna_carl"
    if case == "missing":
        write_scp(outputs, {key: value for key, value in table.items() if key != "anna_carl"})
    elif case == "extra":
        write_scp(outputs, {**table, "nobody": table["anna_carl"]})
        message = "nobody"
    elif case == "rate":
        write_audio(table["anna_carl"], np.ones(100), 2 * RATE)
    elif case == "preset":
        more, message = ["--preset", "signals"], "did you mean 'signal'"
    elif case == "delay":
        more, message = ["--delay", "99999"], "--delay"
    elif case == "auto":
        more, message = ["--delay", "auto"], "--ceiling_scp"
    elif case == "asr":
        more, message = ["--score_with_asr", "true"], "--asr_exp"
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
