"""Data directories: made from a tree, formatted, filtered and checked; every fault ends in a line that names it."""

import itertools
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from librispeech import enrolled_utterance, make_corpus, tone, write_mixtures
from refused import refused_command

from espnet_tse_gen.bin import check_data, format_wav, prepare_libri2mix, remove_short
from espnet_tse_gen.utils.files import read_scp, write_scp

TABLES = {
    "wav.scp", "spk1.scp", "spk2.scp", "enroll_spk1.scp", "enroll_spk2.scp", "target_spk1", "target_spk2", "utt2spk",
    "spk2utt", "spk2gender",
}  # fmt: skip
FIXED = {"protocol", "utterances_spk1", "utterances_spk2"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of mixtures of two sets with its corpus and metadata, and the data directories of both."""
    root = tmp_path_factory.mktemp("corpus")
    sets = {"train-clean-100": ({"11": 3, "12": 3, "13": 3}, 8), "dev-clean": ({"21": 3, "22": 3, "23": 1}, 12)}
    for name, (speakers, number) in sets.items():
        make_corpus(root / "speech", name, speakers)
        spoken = [f"{speaker}-7-{n:04d}" for speaker, count in speakers.items() for n in range(count)]
        pairs = [pair for pair in itertools.combinations(spoken, 2) if pair[0][:2] != pair[1][:2]]
        write_mixtures(root / "metadata" / f"libri2mix_{name}.csv", random.Random(0).sample(pairs, number))
    prepare_libri2mix.main(options(root, "train-100,dev", "--metadata", str(root / "metadata")))
    return root


def options(root: Path, sets: str, *more: str, output: str | Path = "data") -> list[str]:
    return ["--libri2mix", str(root / "mix"), "--librispeech", str(root / "speech"), "--sets", sets,
            "--data_dir", str(root / output), *more]  # fmt: skip


@pytest.fixture
def data(corpus: Path, tmp_path: Path) -> Path:
    """A copy of the data directories, to break; recordings stay where they are."""
    return Path(shutil.copytree(corpus / "data", tmp_path / "data"))


def edit(table: Path, path: str | Path) -> str:
    """Put ``path`` into the first row of a table, and return its key."""
    content = read_scp(table)
    write_scp(table, {**content, min(content): str(path)})
    return min(content)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_training_draws_and_evaluation_is_fixed(corpus: Path) -> None:
    train, dev = corpus / "data" / "train", corpus / "data" / "dev"
    assert {path.name for path in train.iterdir()} == TABLES | {"spk2enroll.json"}
    assert {path.name for path in dev.iterdir()} == TABLES | FIXED
    pool = json.loads((train / "spk2enroll.json").read_text())
    assert {speaker: len(own) for speaker, own in pool.items()} == {"11": 3, "12": 3, "13": 3}
    for number in (1, 2):
        for key, value in read_scp(train / f"enroll_spk{number}.scp").items():
            utterance = key.split("_")[number - 1]
            assert value == f"*{utterance} {utterance.split('-')[0]}"
        for key, path in read_scp(dev / f"enroll_spk{number}.scp").items():
            target = key.split("_")[number - 1]
            assert Path(path).stem != target and "/dev-clean/" in path
            assert Path(path).stem.split("-")[0] == target.split("-")[0] == read_scp(dev / f"target_spk{number}")[key]
    assert read_scp(train / "spk2gender") == {"11": "m", "12": "f", "13": "m"}
    assert all(key == value for key, value in read_scp(dev / "utt2spk").items())


def test_a_speaker_with_one_recording_is_left_out(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dev = read_scp(corpus / "data" / "dev" / "wav.scp")
    assert dev and not any("23-7-0000" in key for key in dev)
    prepare_libri2mix.main(options(corpus, "dev", output="again"))
    assert f"{12 - len(dev)} left out because a speaker has no second recording" in capsys.readouterr().out
    # The same choice for the same seed, another for another.
    tables = [corpus / folder / "dev" / "enroll_spk1.scp" for folder in ("data", "again", "other")]
    prepare_libri2mix.main(options(corpus, "dev", "--seed", "1", output="other"))
    assert tables[0].read_text() == tables[1].read_text() != tables[2].read_text()


def test_without_librispeech_other_mixtures_serve(corpus: Path, tmp_path: Path) -> None:
    prepare_libri2mix.main(["--libri2mix", f"{corpus}/mix", "--sets", "train-100 dev", "--data_dir", str(tmp_path)])
    for key, path in read_scp(tmp_path / "dev" / "enroll_spk2.scp").items():
        assert enrolled_utterance(path) != key.split("_")[1]
        assert enrolled_utterance(path).split("-")[0] == key.split("_")[1].split("-")[0]
    assert not (tmp_path / "dev" / "spk2gender").exists()
    format_wav.main([str(tmp_path / "dev"), str(tmp_path / "dump")])
    check_data.main([str(tmp_path / "train"), str(tmp_path / "dev"), str(tmp_path / "dump")])


def test_three_speakers(tmp_path: Path) -> None:
    """Libri3Mix: metadata with a third source, and a list whose recordings are sources of three-speaker mixtures."""
    make_corpus(tmp_path / "speech", "test-clean", {"31": 2, "32": 2, "33": 2}, seconds=0.3)
    names = ["31-7-0000_32-7-0000_33-7-0000", "33-7-0001_31-7-0001_32-7-0001"]
    write_mixtures(tmp_path / "metadata" / "libri3mix_test-clean.csv", [name.split("_") for name in names])
    rows = [f"{names[0]} 3{k}-7-0000 s{1 + k % 3}/{names[1]}\n" for k in (1, 2, 3)]
    rows += [f"{names[1]} 3{k}-7-0001 s{k}/{names[0]}\n" for k in (1, 2, 3)]
    (tmp_path / "list").write_text("".join(rows))
    more = ["--metadata", str(tmp_path / "metadata"), "--enroll_list", str(tmp_path / "list")]
    prepare_libri2mix.main(options(tmp_path, "test", *more))
    data = tmp_path / "data" / "test"
    third = {"spk3.scp", "enroll_spk3.scp", "target_spk3", "utterances_spk3"}
    assert {path.name for path in data.iterdir()} == TABLES | FIXED | third
    check_data.main(["--ref_num", "3", str(data)])
    assert read_scp(data / "target_spk3") == {names[0]: "33", names[1]: "32"}
    assert enrolled_utterance(read_scp(data / "enroll_spk3.scp")[names[0]]) == "33-7-0001"
    assert read_scp(data / "protocol")["target_rows"] == "6"


def test_formatting_keeps_recordings_apart_that_differ_by_their_format_alone(corpus: Path, tmp_path: Path) -> None:
    data = tmp_path / "dev"
    shutil.copytree(corpus / "data" / "dev", data)
    wav, flac = tmp_path / "e" / "0001.wav", tmp_path / "e" / "0001.flac"
    wav.parent.mkdir()
    for table, path, level in (("enroll_spk1.scp", wav, 0.1), ("enroll_spk2.scp", flac, 0.2)):
        soundfile.write(path, np.full(16000, level), 16000)
        (data / table).write_text("".join(f"{key} {path}\n" for key in read_scp(data / table)))
    for rate in ("16000", "8000"):
        format_wav.main(["--fs", rate, "--nj", "2", str(data), str(tmp_path / rate)])
        check_data.main(["--fs", rate, str(tmp_path / rate)])
        for number, level in ((1, 0.1), (2, 0.2)):
            for path in read_scp(tmp_path / rate / f"enroll_spk{number}.scp").values():
                assert soundfile.read(path)[0].mean() == pytest.approx(level, rel=0.05)
    for key, path in read_scp(tmp_path / "8000" / "spk1.scp").items():
        source, made = soundfile.info(read_scp(data / "spk1.scp")[key]), soundfile.info(path)
        assert abs(made.frames - source.frames / 2) <= 1 and made.subtype == "PCM_16"


def test_formatting_lists_what_fits_and_converts_the_rest(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = corpus / "data" / "train", tmp_path / "train"
    format_wav.main(["--fs", "16000", str(source), str(output)])
    assert "24 files listed as they are, 9 converted" in capsys.readouterr().out
    before, after = (json.loads((folder / "spk2enroll.json").read_text()) for folder in (source, output))
    for speaker, own in before.items():
        for (utterance, path), (name, formatted) in zip(own, after[speaker], strict=True):
            assert name == utterance == Path(formatted).stem
            np.testing.assert_array_equal(soundfile.read(path)[0], soundfile.read(formatted)[0])
    for name in ("wav.scp", "utt2spk", "spk2gender", "target_spk1", "enroll_spk1.scp"):
        assert (output / name).read_text() == (source / name).read_text()
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*.wav")}
    lost = Path(after["11"][0][1])
    # All of it is kept, and then all but what was lost; the record may hold anything, and end in the middle of a line.
    for missing in (False, True):
        if missing:
            lost.unlink()
            with open(output / ".converted.jsonl", "a") as stream:
                stream.write('{"of": "another program"}\n[]\n{"target": "x", "st')
        format_wav.main(["--fs", "16000", str(source), str(output)])
        assert ("kept" in capsys.readouterr().out) != missing
        made = {path: path.stat().st_mtime_ns for path in output.rglob("*.wav")}
        assert [path for path, time in made.items() if times[path] != time] == [lost] * missing
    check_data.main(["--fs", "16000", str(output)])


BROKEN: dict[str, tuple[bytes | np.ndarray | None, str]] = {
    "stereo": (np.full((800, 2), 0.1), "has 2 channels, expected 1"),
    "nan": (np.full(800, np.nan), "holds NaN"),
    "empty": (np.zeros(0), "has no samples"),
    "corrupt": (b"RIFF, but not really", "is not a readable audio file"),
    "nothing": (b"", "is not a readable audio file"),
    "missing": (None, "no such file"),
    "silent": (np.zeros(16000), "is silent"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_formatting_names_the_broken_file(corpus: Path, tmp_path: Path, fault: str) -> None:
    content, message = BROKEN[fault]
    path, dump = tmp_path / "broken.wav", tmp_path / "dump"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        soundfile.write(path, content, 16000, subtype="FLOAT")
    format_wav.main([str(corpus / "data" / "dev"), str(dump)])
    before = contents(dump)
    for table in ("enroll_spk1.scp",) if fault == "silent" else ("wav.scp", "spk2.scp", "enroll_spk1.scp"):
        data = Path(shutil.copytree(corpus / "data", tmp_path / table))
        key = edit(data / "dev" / table, path)
        refused_command(rf"{path} \(key '{key}'\).*{message}", format_wav.main, data / "dev", dump)
        assert contents(dump) == before


def test_short_mixtures_leave_every_table(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = data / "train"
    lengths = {key: soundfile.info(path).duration for key, path in read_scp(train / "wav.scp").items()}
    border = sorted(lengths.values())[3]
    remove_short.main(["--min_seconds", str(border), str(train)])
    kept = {key for key, seconds in lengths.items() if seconds >= border}
    assert 0 < len(kept) < len(lengths)
    assert f"{len(kept)} mixtures kept, {len(lengths) - len(kept)} shorter" in capsys.readouterr().out
    assert all(read_scp(train / table).keys() == kept for table in TABLES - {"spk2gender"})
    check_data.main([str(train)])
    before = contents(train)
    refused_command(r"all \d+ mixtures are shorter than 60.0 s", remove_short.main, "--min_seconds", "60", train)
    assert contents(train) == before


@pytest.mark.parametrize("table", ["spk1.scp", "spk2.scp", "enroll_spk1.scp", "utt2spk", "target_spk2", "spk2utt"])
def test_keys_must_agree(data: Path, table: str) -> None:
    path = data / "dev" / table
    original = path.read_text()
    first, rest = original.split("\n", 1)
    key = first.split()[0]
    for content, message in (
        (rest, rf"{table}: 1 key\(s\) of .*wav\.scp are missing, first '{key}'"),
        (original + "zzz_zzz value\n", rf"{table}: 1 key\(s\) are not in .*wav\.scp, first 'zzz_zzz'"),
        (original + first + "\n", rf"{table}:\d+: key '{key}' appears twice"),
    ):
        path.write_text(content)
        refused_command(message, check_data.main, data / "dev")
        refused_command(message, remove_short.main, data / "dev")
    path.unlink()
    if table not in ("target_spk2", "spk2utt"):
        refused_command(rf"{table}: no such file", check_data.main, data / "dev")


def test_lengths_and_rates_must_agree(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_data.main(["--ref_num", "2", "--fs", "16000", str(data / "train"), str(data / "dev")])
    assert "no fault found (8 mixtures, 3 speakers" in capsys.readouterr().out
    short = tmp_path / "short.wav"
    key = edit(data / "dev" / "spk2.scp", short)
    for samples, rate, message in (
        (tone(0.5, 200), 16000, rf"spk2\.scp: key '{key}': .*short\.wav has 8000 samples, its mixture \d+"),
        (tone(0.5, 200), 22050, rf"short\.wav \(key '{key}'\): sampling rate is 22050 Hz, expected 16000"),
        (np.zeros((100, 2)), 16000, rf"short\.wav \(key '{key}'\): has 2 channels"),
    ):
        soundfile.write(short, samples, rate)
        refused_command(message, check_data.main, data / "dev")
    train = data / "train"
    refused_command("rate is 16000 Hz, expected 8000 Hz; .*run format_wav", check_data.main, "--fs", "8000", train)
    refused_command(r"spk2.scp: is there, but --ref_num is 1", check_data.main, "--ref_num", "1", train)
    refused_command(r"spk3\.scp: no such file", check_data.main, "--ref_num", "3", train)


@pytest.mark.parametrize("told", [False, True])
def test_an_enrolment_is_never_the_target(data: Path, tmp_path: Path, corpus: Path, told: bool) -> None:
    """Whether a table tells of which utterance it is, or only its name does."""
    if not told:
        for number in (1, 2):
            (data / "dev" / f"utterances_spk{number}").unlink()
    table = data / "dev" / "enroll_spk2.scp"
    key = min(read_scp(table))
    target = key.split("_")[1]
    speaker = target.split("-")[0]
    is_target = rf"enroll_spk2\.scp: key '{key}': the enrolment .* is the target utterance"
    of_other = rf"key '{key}': the enrolment .* is of speaker \d+, the target is {speaker}"
    for path, message in (
        (corpus / "speech" / "dev-clean" / speaker / "7" / f"{target}.flac", is_target),
        (read_scp(data / "dev" / "spk2.scp")[key], is_target),
        (read_scp(data / "dev" / "enroll_spk1.scp")[key], of_other),
    ):
        edit(table, path)
        format_wav.main([str(data / "dev"), str(tmp_path / "dump")])
        for folder in (data / "dev", tmp_path / "dump"):
            refused_command(message, check_data.main, folder)


def test_enrolments_drawn_on_the_fly_must_have_a_choice(data: Path) -> None:
    train = data / "train"
    pool = json.loads((train / "spk2enroll.json").read_text())
    key, value = min(read_scp(train / "enroll_spk1.scp").items())
    utterance, speaker = value[1:].split()
    only = [own for own in pool[speaker] if own[0] == utterance]
    for content, message in (
        ({**pool, speaker: only}, rf"speaker '{speaker}' has no recording but the target '{utterance}'"),
        ({}, rf"has no speaker '{speaker}', whom .*enroll_spk1\.scp asks for with key '{key}'"),
        ({**pool, speaker: "x"}, "expected JSON {speaker:"),
        ({**pool, speaker: [["a", "/nowhere/a.wav"], *pool[speaker]]}, r"/nowhere/a\.wav \(key 'a'\): no such file"),
    ):
        (train / "spk2enroll.json").write_text(json.dumps(content))
        refused_command(message, check_data.main, train)
    (train / "spk2enroll.json").unlink()
    refused_command(r"spk2enroll\.json: no such file", check_data.main, train)


def test_missing_folders_are_named(tmp_path: Path, corpus: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for main, more in ((check_data.main, ()), (remove_short.main, ()), (format_wav.main, (tmp_path / "dump",))):
        refused_command(r"nowhere/wav\.scp: no such file", main, nowhere, *more)
    refused_command("--fs is 0", format_wav.main, "--fs", "0", corpus / "data" / "dev", tmp_path / "dump")
    refused_command("--libri2mix is missing", prepare_libri2mix.main)
    command = options(corpus, "test", output=tmp_path)
    refused_command(r"test/mix_clean: no such folder", prepare_libri2mix.main, *command)
