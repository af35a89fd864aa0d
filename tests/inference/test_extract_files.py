"""From files to files: many recordings in one call, what is left, enrolments from the mixture, and what is said where."""

import dataclasses
import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from refused import files_of_at_most, refused_command
from tiny_discriminative import discriminative_exp_dir
from tiny_model import RATE, mixture, tiny_exp_dir, voice

from espnet_tse_gen.cli import main
from espnet_tse_gen.discriminative.halves import halves_of
from espnet_tse_gen.inference import files, loading, waveform


@pytest.fixture
def wavs(tmp_path: Path) -> Path:
    """Two mixtures of two folders, and an enrolment."""
    for name, seed, rate, subtype in (("a/a.wav", 0, 16000, "PCM_24"), ("a/b.flac", 1, RATE, "PCM_16")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, mixture(0.8, seed, rate), rate, subtype=subtype)
    soundfile.write(tmp_path / "e.wav", voice(1.0, 110.0, seed=5), RATE, subtype="FLOAT")
    return tmp_path


def words(*given: Path | str) -> list[str]:
    return ["extract", *map(str, given), "--model", str(tiny_exp_dir())]


def extract(wavs: Path, *given: Path | str) -> Any:
    return main(words(*given, "--enroll", wavs / "e.wav"))


def refuse(message: str, wavs: Path, *given: Path | str) -> None:
    """Require one line, and that no file is written or changed."""
    before = contents(wavs)
    refused_command(message, main, *words(*given, "--enroll", wavs / "e.wav"))
    assert contents(wavs) == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_several_give_what_one_each_gives(wavs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not extract(wavs, wavs / "a/a.wav", "-o", wavs / "one.wav", "--residual", wavs / "l.wav")
    assert not extract(wavs, wavs / "a/b.flac", "-o", wavs / "one.flac")
    first = f"{wavs / 'one.wav'}: 0.80 s at 16000 Hz\n{wavs / 'l.wav'}: what is left\n"
    assert capsys.readouterr().out.startswith(first)
    assert extract(wavs, wavs / "a/a.wav", wavs / "a/b.flac", "-o", wavs / "out", "--residual", wavs / "left") == 0
    told = capsys.readouterr()
    assert names(wavs / "out") == names(wavs / "left") == ["a.wav", "b.flac"] and told.err == ""
    assert (wavs / "out/a.wav").read_bytes() == (wavs / "one.wav").read_bytes()
    assert (wavs / "out/b.flac").read_bytes() == (wavs / "one.flac").read_bytes()
    assert (wavs / "left/a.wav").read_bytes() == (wavs / "l.wav").read_bytes()
    head, *rows = told.out.splitlines()
    assert head.split() == ["file", "seconds", "confidence", "output"]
    assert [row.split() for row in rows] == [
        [str(wavs / "a/a.wav"), "0.80", str(wavs / "out/a.wav")],
        [str(wavs / "a/b.flac"), "0.80", str(wavs / "out/b.flac")],
    ]


def test_a_folder_and_a_table_and_one_into_a_folder(wavs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (wavs / "a/._a.wav").write_bytes(b"what macOS puts there")
    for name in ("notes.txt", "more.txt", "below/c.wav"):
        (wavs / "a" / name).parent.mkdir(exist_ok=True)
        (wavs / "a" / name).write_text("no recording")
    assert extract(wavs, wavs / "a", "-o", wavs / "of_folder") == 0
    said = f"{wavs}/a: files left out, which are no recordings by their names: 2, first 'more.txt'"
    assert capsys.readouterr().err == f"{said}\n"
    assert extract(wavs, wavs / "a", "-o", wavs / "of_folder", "--overwrite", "--json", "--quiet") == 0
    told = capsys.readouterr()
    assert told.err == "" and [one["warnings"] for one in json.loads(told.out)["results"]] == [[said], [said]]
    (wavs / "wav.scp").write_text(f"\ufeffk1 {wavs}/a/a.wav\r\nk.2 {wavs}/a/b.flac\r\n")
    assert extract(wavs, wavs / "wav.scp", "-o", wavs / "of_table") == 0
    assert names(wavs / "of_folder") == ["a.wav", "b.flac"] and names(wavs / "of_table") == ["k.2.flac", "k1.wav"]
    assert (wavs / "of_table/k1.wav").read_bytes() == (wavs / "of_folder/a.wav").read_bytes()
    (wavs / "there").mkdir()
    assert extract(wavs, wavs / "a/a.wav", "-o", wavs / "there") == 0
    assert (wavs / "there/a.wav").read_bytes() == (wavs / "of_folder/a.wav").read_bytes()


def test_model_and_enrolment_are_prepared_once(wavs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(function: Any) -> Any:
        return lambda *given: calls.append(function.__name__) or function(*given)

    def halves(model: Any) -> Any:
        made = halves_of(model)
        return dataclasses.replace(made, enroll=counted(made.enroll))

    monkeypatch.setattr(waveform, "halves_of", halves)
    monkeypatch.setattr(loading.ModelDir, "load", counted(loading.ModelDir.load))
    model = str(discriminative_exp_dir("dual_path"))
    main(["extract", str(wavs / "a"), "-o", str(wavs / "o"), "--enroll", str(wavs / "e.wav"), "--model", model])
    assert names(wavs / "o") == ["a.wav", "b.flac"] and calls == ["load", "enroll"]


def test_one_that_is_broken_is_named_and_the_others_go_on(wavs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (wavs / "a/aa.wav").write_bytes(b"not audio")
    soundfile.write(wavs / "a/ab.wav", np.zeros(8), 16000)
    (wavs / "wav.scp").write_text("m sox x.wav -t wav - |\n")
    assert extract(wavs, wavs / "a", wavs / "missing.wav", wavs / "wav.scp", "-o", wavs / "o") == 2
    told = capsys.readouterr()
    assert names(wavs / "o") == ["a.wav", "b.flac"]
    errors = told.err.splitlines()
    assert [line.split(": ")[2] for line in errors[:3]] == [
        str(wavs / n) for n in ("a/aa.wav", "a/ab.wav", "missing.wav")
    ]
    assert all(line.startswith("tse-gen: error: ") for line in errors) and "commands in tables are not run" in errors[3]
    assert told.out.count("none, see its error") == 4 and told.out.endswith("\n4 of 6 could not be used\n")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("m {0}/a/a.wav\nm {0}/a/b.flac\n", "key 'm' appears twice"),
        ("", "is empty"),
        ("../m {0}/a/a.wav\n", "no file can be called so"),
    ],
)
def test_tables_that_cannot_be_used(wavs: Path, table: str, message: str) -> None:
    (wavs / "wav.scp").write_text(table.format(wavs))
    refuse(message, wavs, wavs / "wav.scp", "-o", wavs / "o")


def test_places_that_cannot_be_used_are_refused_before_anything_is_computed(wavs: Path) -> None:
    both = wavs / "a/a.wav", wavs / "a/b.flac"
    soundfile.write(wavs / "a.mp3", mixture(0.8, rate=16000), 16000)
    said = "o/a.wav: would be that of .*a/a.wav and of .*a.mp3; rename one"
    refuse(said, wavs, both[0], wavs / "a.mp3", "-o", wavs / "o")
    refuse("o/standard_input.wav: would be that of - and of -", wavs, "-", "-", "-o", wavs / "o")
    refuse("expected a folder, as there are 2 mixtures", wavs, *both, "-o", wavs / "o.wav")
    refuse("e.wav: expected a folder", wavs, *both, "-o", wavs / "e.wav")
    refuse("--residual .*l.wav: expected a folder", wavs, *both, "-o", wavs / "o", "--residual", wavs / "l.wav")
    refuse("is the file of the mixture", wavs, *both, "-o", wavs / "a", "--overwrite")
    refuse("is the file of --enroll", wavs, both[0], "-o", wavs / "e.wav", "--overwrite")
    refuse("--residual .*: is the file of the mixture", wavs, both[0], "-o", wavs / "o.wav", "--residual", both[0])
    named = both[0], "-o", wavs / "o.wav", "--residual", wavs / "a/../o.wav"
    refuse("--residual .*: is the file of --output", wavs, *named)
    refuse("--residual .*: is the file of --output", wavs, *both, "-o", wavs / "o", "--residual", wavs / "o")
    named = both[0], "-o", wavs / "o.wav", "--residual", wavs / "l.mp3"
    refuse("--residual .*l.mp3: expected a name that ends in .wav or .flac", wavs, *named)
    refuse("--output .*o.mp3: expected a name that ends in .wav or .flac", wavs, both[0], "-o", wavs / "o.mp3")
    refuse("cannot be written into .*e.wav", wavs, *both, "-o", wavs / "e.wav/below")
    (wavs / "empty").mkdir()
    refuse("empty: is a folder without audio files", wavs, wavs / "empty", "-o", wavs / "o")
    assert extract(wavs, *both, "-o", wavs / "o") == 0
    refuse("o/a.wav: is there already; .* --overwrite", wavs, *both, "-o", wavs / "o")
    assert extract(wavs, *both, "-o", wavs / "o", "--overwrite") == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_folder_that_is_read_only_is_refused(wavs: Path) -> None:
    (wavs / "o").mkdir(mode=0o500)
    refuse("o/a.wav: cannot be written into .*o; check its permissions", wavs, wavs / "a", "-o", wavs / "o")


def test_names_of_every_kind(wavs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = ["two words", "né → 声", "two\nlines", "- dash", os.fsdecode(b"no \xff utf8"), "quote's \"", "-o", "%s{0}"]
    for kind in kinds:
        (wavs / "k" / f"{kind}.wav").parent.mkdir(exist_ok=True)
        (wavs / "k" / f"{kind}.wav").write_bytes((wavs / "a/a.wav").read_bytes())
    (wavs / "k/broken\nname.wav").write_bytes(b"")
    assert extract(wavs, wavs / "k", "-o", wavs / "o") == 2
    assert names(wavs / "o") == sorted(f"{kind}.wav" for kind in kinds)
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 1 + len(kinds) + 2 and len(told.err.splitlines()) == 1
    assert "two\\nlines.wav" in told.out and "né → 声.wav" in told.out and "\\udcff" in told.out
    assert extract(wavs, wavs / "k/two\nlines.wav", "-o", wavs / "one\nline.wav") == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_a_full_disk_ends_it_with_what_was_done(wavs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(wavs / "a/c.wav", mixture(4.0), RATE, subtype="FLOAT")
    command = words(wavs / "a", "-o", wavs / "o", "--enroll", wavs / "e.wav")
    with files_of_at_most(60000):
        refused_command("o/c.wav: cannot be written", main, *command)
    assert names(wavs / "o") == ["a.wav", "b.flac"]
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("name", ["l.wav", "l.flac"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("model", ["masked", "dual_path"])
def test_voice_and_what_is_left_add_up_to_the_mixture(wavs: Path, name: str, channels: int, model: str) -> None:
    where = tiny_exp_dir() if model == "masked" else discriminative_exp_dir(model)
    given = 0.02 + np.stack([mixture(1.1, seed, 44100) for seed in range(channels)], axis=1)
    soundfile.write(wavs / "m.wav", given, 44100)
    main(["extract", str(wavs / "m.wav"), "--enroll", str(wavs / "e.wav"), "-o", str(wavs / "o.wav"), "--residual",
          str(wavs / name), "--model", str(where)])  # fmt: skip
    (voice_made, rate), (left, left_rate) = soundfile.read(wavs / "o.wav"), soundfile.read(wavs / name)
    assert rate == left_rate == 44100 and len(left) == len(given) and np.abs(voice_made).max() > 0.001
    mixdown = soundfile.read(wavs / "m.wav", always_2d=True)[0].mean(axis=1)
    assert np.abs(voice_made + left - mixdown).max() <= 2.0**-15 * (1 + 1e-6)


def test_voice_and_what_is_left_are_written_both_or_not_at_all(wavs: Path) -> None:
    soundfile.write(wavs / "m.wav", mixture(1.0), RATE, subtype="FLOAT")
    (wavs / "l.wav").write_bytes(b"of before")
    with files_of_at_most(32000):  # samples alone take 32000 bytes
        command = words(wavs / "m.wav", "-o", wavs / "o.flac", "--residual", wavs / "l.wav", "--overwrite")
        refused_command("l.wav: cannot be written", main, *command, "--enroll", wavs / "e.wav")
    assert names(wavs) == ["a", "e.wav", "l.wav", "m.wav"] and (wavs / "l.wav").read_bytes() == b"of before"


def test_json_is_all_that_is_printed(wavs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dual = ["--enroll", str(wavs / "e.wav"), "--model", "dual_path_16k", "--json"]
    assert main(["extract", str(wavs / "a/a.wav"), "-o", str(wavs / "o.wav"), *dual]) == 0
    (one,) = json.loads(capsys.readouterr().out)["results"]
    assert one.keys() == {"file", "output", "seconds", "rate", "confidence", "warnings"}
    assert (one["file"], one["output"]) == (str(wavs / "a/a.wav"), str(wavs / "o.wav"))
    assert (one["seconds"], one["rate"]) == (0.8, 16000) and 0 <= one["confidence"] <= 1
    assert [line for line in one["warnings"] if "probably not" in line] == one["warnings"]
    (wavs / "a/a.wav").write_bytes(b"broken")
    soundfile.write(wavs / "a/c.wav", np.zeros((8000, 2)), RATE)
    soundfile.write(wavs / "a/d.wav", 9 * mixture(0.8), RATE)
    told = []
    for quiet in ([], ["--quiet"]):
        status = main(["extract", str(wavs / "a"), "-o", str(wavs / "o"), "--overwrite", *dual, *quiet])
        told.append(capsys.readouterr())
        assert status == 2
    assert told[0].out == told[1].out and "--overwrite" not in told[0].out
    broken, fine, silent, loud = json.loads(told[0].out)["results"]
    assert broken["output"] is None and broken["rate"] is None and "is not a readable audio file" in broken["error"]
    assert "error" not in fine and fine["output"] == str(wavs / "o/b.flac")
    assert silent["confidence"] is None and len(silent["warnings"]) == 2 and "is silent" in silent["warnings"][1]
    stored = soundfile.read(wavs / "o/d.wav", dtype="int16")[0]
    clipped = (stored == 32767).any() or (stored == -32768).any()
    assert any("samples were clipped" in line for line in loud["warnings"]) == clipped
    assert "their mean is used" in told[0].err and "is silent" in told[0].err
    assert told[1].err.startswith("tse-gen: error: ") and told[1].err.count("\n") == 1


def test_channels(wavs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left, right = mixture(0.8, 0, 16000), mixture(0.8, 3, 16000)
    for name, samples in (("two", np.stack([left, right], 1)), ("mean", (left + right) / 2), ("right", right)):
        soundfile.write(wavs / f"{name}.wav", samples, 16000, subtype="FLOAT")
    made, told = [], []
    for name, *more in (("two",), ("mean",), ("two", "--channel", "2"), ("right",)):
        extract(wavs, wavs / f"{name}.wav", "-o", wavs / "o.wav", "--overwrite", *more)
        made.append(soundfile.read(wavs / "o.wav")[0])
        told.append(capsys.readouterr().err)
    assert told == [f"{wavs / 'two.wav'}: has 2 channels; their mean is used\n", "", "", ""]
    np.testing.assert_allclose(made[0], made[1], atol=1e-6)
    np.testing.assert_array_equal(made[2], made[3])
    assert np.abs(made[0] - made[2]).max() > 1e-3
    refuse(
        "two.wav: has no channel 3; choose one of 1 to 2",
        wavs,
        wavs / "two.wav",
        "--channel",
        "3",
        "-o",
        wavs / "x.wav",
    )


def test_an_enrolment_that_is_part_of_the_mixture(wavs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = np.concatenate([voice(1.5, 110.0, 5, 16000), mixture(1.0, 0, 16000), voice(0.7, 110.0, 6, 16000)])
    soundfile.write(wavs / "m.wav", samples, 16000, subtype="FLOAT")
    for name, (start, end) in {"p": (0.25, 1.5), "q": (2.5, 3.2)}.items():
        part = samples[round(start * 16000) : round(end * 16000)]
        soundfile.write(wavs / f"{name}.wav", part, 16000, subtype="FLOAT")

    def made(*more: str) -> list[float]:
        main(words(wavs / "m.wav", "-o", wavs / "o.wav", "--overwrite", *more))
        return soundfile.read(wavs / "o.wav")[0].tolist()

    parts = {name: ("--enroll", str(wavs / f"{name}.wav")) for name in "pq"}
    assert made("--enroll-range", "0.25-1.5") == made(*parts["p"])
    assert made("--enroll-range", "0.25-1.5", "--enroll-range", "2.5-3.2") == made(*parts["p"], *parts["q"])
    assert made(*parts["p"], "--enroll-range", "2.5-3.204") == made(*parts["p"], *parts["q"])
    for text, message in (
        ("1.5-0.25", "1.5-0.25: ends before it begins"),
        ("1", "expected START-END in seconds"),
        ("3-3.3", "3-3.3: .*m.wav ends at 3.20 s"),
        ("1-1.001", "m.wav: --enroll-range: is 1 ms long"),
    ):
        refused_command(message, main, *words(wavs / "m.wav", "-o", wavs / "x.wav"), f"--enroll-range={text}")
    refuse("--enroll-range: is of one mixture", wavs, wavs / "a", "-o", wavs / "o", "--enroll-range", "0-1")
    assert not (wavs / "x.wav").exists()


@pytest.mark.parametrize("more", [[], ["--quiet"], ["--json"]])
def test_a_bar_is_shown_on_a_terminal_only(wavs: Path, more: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(wavs / "m.wav", np.tile(mixture(0.8), 60), RATE)
    model = str(discriminative_exp_dir("dual_path"))
    given = [str(wavs / "m.wav"), "--enroll", str(wavs / "e.wav"), "-o", str(wavs / "o.wav"), "--model", model, *more]
    monkeypatch.setattr(files, "BAR_AFTER", 0.0)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 100, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert not main(["extract", *given])
        terminal.write("end")
        terminal.flush()
        told = os.read(ours, 100000).decode()
    os.close(ours)
    assert bool(re.search(r"m\.wav: +\d+%\|.*\| [\d:]+ gone, [\d:?]+ left", told)) == (not more)
