"""Data directories: made from a tree, formatted, filtered and checked; every fault ends in a line that names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from librispeech import enrolled_utterance, make_corpus, tone

from espnet_tse_gen.bin import check_data, format_wav, prepare_libri2mix, remove_short
from espnet_tse_gen.data.librimix.drawing import make_metadata, write_metadata
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_scp, write_scp

TABLES = {
    "wav.scp",
    "spk1.scp",
    "spk2.scp",
    "enroll_spk1.scp",
    "enroll_spk2.scp",
    "target_spk1",
    "target_spk2",
    "utt2spk",
    "spk2utt",
    "spk2gender",
}
FIXED = {"protocol", "utterances_spk1", "utterances_spk2"}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of mixtures of two sets with its corpus and metadata, and the data directories of both."""
    root = tmp_path_factory.mktemp("corpus")
    speech = root / "speech"
    make_corpus(speech, "train-clean-100", {"11": 3, "12": 3, "13": 3})
    make_corpus(speech, "dev-clean", {"21": 3, "22": 3, "23": 1})
    write_metadata(
        root / "metadata" / "libri2mix_train-clean-100.csv", make_metadata(speech, {"train-clean-100": None}, 8)
    )
    write_metadata(
        root / "metadata" / "libri2mix_dev-clean.csv", make_metadata(speech, {"dev-clean": None}, 12, min_utterances=1)
    )
    prepare_libri2mix.main(options(root, "train-100,dev", "--metadata", str(root / "metadata")))
    return root


def options(root: Path, sets: str, *more: str, output: str | Path = "data") -> list[str]:
    return ["--libri2mix", str(root / "mix"), "--librispeech", str(root / "speech"), "--sets", sets,
            "--data_dir", str(root / output), *more]  # fmt: skip


@pytest.fixture
def data(corpus: Path, tmp_path: Path) -> Path:
    """A copy of the data directories, to break; recordings stay where they are."""
    return Path(shutil.copytree(corpus / "data", tmp_path / "data"))


def edit(table: Path, change: Callable[[dict[str, str]], object]) -> str:
    """Apply ``change`` to a table and return its first key."""
    content = read_scp(table)
    first = min(content)
    change(content)
    write_scp(table, content)
    return first


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
            assert Path(path).stem != target
            assert Path(path).stem.split("-")[0] == target.split("-")[0] == read_scp(dev / f"target_spk{number}")[key]
            assert "/dev-clean/" in path
    assert read_scp(train / "spk2gender") == {"11": "m", "12": "f", "13": "m"}
    assert all(key == value for key, value in read_scp(dev / "utt2spk").items())


def test_a_speaker_with_one_recording_is_left_out(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dev = read_scp(corpus / "data" / "dev" / "wav.scp")
    assert dev
    assert not any("23-7-0000" in key for key in dev)
    prepare_libri2mix.main(options(corpus, "dev", output="again"))
    assert f"{12 - len(dev)} left out because a speaker has no second recording" in capsys.readouterr().out
    # The same choice for the same seed, another for another.
    tables = [corpus / folder / "dev" / "enroll_spk1.scp" for folder in ("data", "again", "other")]
    prepare_libri2mix.main(options(corpus, "dev", "--seed", "1", output="other"))
    assert tables[0].read_text() == tables[1].read_text() != tables[2].read_text()


def test_without_librispeech_other_mixtures_serve(corpus: Path, tmp_path: Path) -> None:
    cmd = ["--libri2mix", str(corpus / "mix"), "--sets", "train-100 dev", "--data_dir", str(tmp_path)]
    prepare_libri2mix.main(cmd)
    for key, path in read_scp(tmp_path / "dev" / "enroll_spk2.scp").items():
        assert enrolled_utterance(path) != key.split("_")[1]
        assert enrolled_utterance(path).split("-")[0] == key.split("_")[1].split("-")[0]
    assert not (tmp_path / "dev" / "spk2gender").exists()
    format_wav.main([str(tmp_path / "dev"), str(tmp_path / "dump")])
    check_data.main([str(tmp_path / "train"), str(tmp_path / "dev"), str(tmp_path / "dump")])


def test_three_speakers(tmp_path: Path) -> None:
    """Libri3Mix: metadata with a third source, and a list whose recordings are sources of three-speaker mixtures."""
    make_corpus(tmp_path / "speech", "test-clean", {"31": 2, "32": 2, "33": 2}, seconds=0.3)
    lines = ["mixture_ID," + ",".join(f"source_{k}_path,source_{k}_gain" for k in (1, 2, 3)) + ",noise_path,noise_gain"]
    names = []
    for order, number in ((("31", "32", "33"), 0), (("33", "31", "32"), 1)):
        utterances = [f"{speaker}-7-000{number}" for speaker in order]
        names.append("_".join(utterances))
        paths = [f"test-clean/{one[:2]}/7/{one}.flac,0.5" for one in utterances]
        lines.append(f"{names[-1]},{','.join(paths)},,")
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "libri3mix_test-clean.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "list").write_text(
        "".join(f"{names[0]} 3{k}-7-0000 s{1 + k % 3}/{names[1]}\n" for k in (1, 2, 3))
        + "".join(f"{names[1]} 3{k}-7-0001 s{k}/{names[0]}\n" for k in (1, 2, 3))
    )
    prepare_libri2mix.main(
        options(tmp_path, "test", "--metadata", str(tmp_path / "metadata"), "--enroll_list", str(tmp_path / "list"))
    )
    data = tmp_path / "data" / "test"
    assert {path.name for path in data.iterdir()} == TABLES | {
        "spk3.scp",
        "enroll_spk3.scp",
        "target_spk3",
        "utterances_spk3",
        *FIXED,
    }
    check_data.main(["--ref_num", "3", str(data)])
    assert read_scp(data / "target_spk3") == {names[0]: "33", names[1]: "32"}
    assert enrolled_utterance(read_scp(data / "enroll_spk3.scp")[names[0]]) == "33-7-0001"
    assert read_scp(data / "protocol")["target_rows"] == "6"


def test_formatting_lists_what_fits_and_converts_the_rest(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = corpus / "data" / "train", tmp_path / "train"
    format_wav.main(["--fs", "16000", str(source), str(output)])
    assert "24 files listed as they are, 9 converted" in capsys.readouterr().out
    assert read_scp(output / "wav.scp") == read_scp(source / "wav.scp")
    before = json.loads((source / "spk2enroll.json").read_text())
    after = json.loads((output / "spk2enroll.json").read_text())
    for speaker, own in before.items():
        for (utterance, path), (name, formatted) in zip(own, after[speaker], strict=True):
            assert name == utterance == Path(formatted).stem
            np.testing.assert_array_equal(soundfile.read(path)[0], soundfile.read(formatted)[0])
    for name in ("utt2spk", "spk2gender", "target_spk1", "enroll_spk1.scp"):
        assert (output / name).read_text() == (source / name).read_text()
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*.wav")}
    format_wav.main(["--fs", "16000", str(source), str(output)])
    assert "kept" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.wav")} == times
    Path(after["11"][0][1]).unlink()
    format_wav.main(["--fs", "16000", str(source), str(output)])
    check_data.main(["--fs", "16000", str(output)])


def test_formatting_to_another_rate(corpus: Path, tmp_path: Path) -> None:
    format_wav.main(["--fs", "8000", "--nj", "2", str(corpus / "data" / "dev"), str(tmp_path / "dev")])
    check_data.main(["--fs", "8000", str(tmp_path / "dev")])
    for key, path in read_scp(tmp_path / "dev" / "spk1.scp").items():
        source = soundfile.info(read_scp(corpus / "data" / "dev" / "spk1.scp")[key])
        assert abs(soundfile.info(path).frames - source.frames / 2) <= 1
        assert soundfile.info(path).subtype == "PCM_16"


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "stereo": (lambda path: soundfile.write(path, np.full((800, 2), 0.1), 16000), "has 2 channels, expected 1"),
    "nan": (lambda path: soundfile.write(path, np.full(800, np.nan), 16000, subtype="FLOAT"), "holds NaN"),
    "empty": (lambda path: soundfile.write(path, np.zeros(0), 16000), "has no samples"),
    "corrupt": (lambda path: path.write_bytes(b"RIFF, but not really"), "is not a readable audio file"),
    "nothing": (lambda path: path.write_bytes(b""), "is not a readable audio file"),
    "missing": (lambda path: None, "no such file"),
}


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("table", ["wav.scp", "spk2.scp", "enroll_spk1.scp"])
def test_formatting_names_the_broken_file(data: Path, tmp_path: Path, fault: str, table: str) -> None:
    make, message = BROKEN[fault]
    path = tmp_path / "broken.wav"
    make(path)
    format_wav.main([str(data / "dev"), str(tmp_path / "dump")])
    before = {file: file.read_bytes() for file in (tmp_path / "dump").rglob("*") if file.is_file()}
    key = edit(data / "dev" / table, lambda content: content.update({min(content): str(path)}))
    with pytest.raises(UserError) as caught:
        format_wav.main([str(data / "dev"), str(tmp_path / "dump")])
    assert f"{path} (key '{key}')" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {file: file.read_bytes() for file in (tmp_path / "dump").rglob("*") if file.is_file()} == before


def test_a_silent_enrolment_is_refused(data: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    key = edit(
        data / "dev" / "enroll_spk2.scp", lambda content: content.update({min(content): f"{tmp_path}/silent.wav"})
    )
    with pytest.raises(UserError, match=rf"silent\.wav \(key '{key}'\): is silent"):
        format_wav.main([str(data / "dev"), str(tmp_path / "dump")])


def test_short_mixtures_leave_every_table(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = data / "train"
    lengths = {key: soundfile.info(path).duration for key, path in read_scp(train / "wav.scp").items()}
    border = sorted(lengths.values())[3]
    remove_short.main(["--min_seconds", str(border), str(train)])
    kept = {key for key, seconds in lengths.items() if seconds >= border}
    assert 0 < len(kept) < len(lengths)
    assert f"{len(kept)} mixtures kept, {len(lengths) - len(kept)} shorter" in capsys.readouterr().out
    for table in TABLES - {"spk2gender"}:
        assert read_scp(train / table).keys() == kept
    check_data.main([str(train)])
    before = {path: path.read_bytes() for path in train.iterdir()}
    with pytest.raises(UserError, match=r"all \d+ mixtures are shorter than 60.0 s"):
        remove_short.main(["--min_seconds", "60", str(train)])
    edit(train / "spk2.scp", lambda content: content.pop(max(content)))
    broken = {**before, train / "spk2.scp": (train / "spk2.scp").read_bytes()}
    with pytest.raises(UserError, match=r"spk2\.scp: 1 key\(s\) of .*wav.scp are missing"):
        remove_short.main(["--min_seconds", str(sorted(lengths.values())[4]), str(train)])
    assert {path: path.read_bytes() for path in train.iterdir()} == broken


def test_sound_directories_pass(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_data.main(["--ref_num", "2", "--fs", "16000", str(corpus / "data" / "train"), str(corpus / "data" / "dev")])
    assert "no fault found (8 mixtures, 3 speakers" in capsys.readouterr().out


@pytest.mark.parametrize("table", ["spk1.scp", "spk2.scp", "enroll_spk1.scp", "utt2spk", "target_spk2", "spk2utt"])
def test_keys_must_agree(data: Path, table: str) -> None:
    path = data / "dev" / table
    original = path.read_text()
    key = edit(path, lambda content: content.pop(min(content)))
    with pytest.raises(UserError, match=rf"{table}: 1 key\(s\) of .*wav\.scp are missing, first '{key}'"):
        check_data.main([str(data / "dev")])
    path.write_text(original + "zzz_zzz value\n")
    with pytest.raises(UserError, match=rf"{table}: 1 key\(s\) are not in .*wav\.scp, first 'zzz_zzz'"):
        check_data.main([str(data / "dev")])
    path.write_text(original + original.splitlines()[0] + "\n")
    with pytest.raises(UserError, match=rf"{table}:\d+: key '{key}' appears twice"):
        check_data.main([str(data / "dev")])
    path.unlink()
    if table not in ("target_spk2", "spk2utt"):
        with pytest.raises(UserError, match=rf"{table}: no such file"):
            check_data.main([str(data / "dev")])


def test_lengths_and_rates_must_agree(data: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", tone(0.5, 200), 16000)
    key = edit(data / "dev" / "spk2.scp", lambda content: content.update({min(content): f"{tmp_path}/short.wav"}))
    with pytest.raises(UserError, match=rf"spk2\.scp: key '{key}': .*short\.wav has 8000 samples, its mixture \d+"):
        check_data.main([str(data / "dev")])
    soundfile.write(tmp_path / "short.wav", tone(0.5, 200), 22050)
    with pytest.raises(UserError, match=rf"short\.wav \(key '{key}'\): sampling rate is 22050 Hz, expected 16000"):
        check_data.main([str(data / "dev")])
    soundfile.write(tmp_path / "short.wav", np.zeros((100, 2)), 16000)
    with pytest.raises(UserError, match=rf"short\.wav \(key '{key}'\): has 2 channels"):
        check_data.main([str(data / "dev")])
    with pytest.raises(UserError, match="sampling rate is 16000 Hz, expected 8000 Hz; run format_wav"):
        check_data.main(["--fs", "8000", str(data / "train")])
    with pytest.raises(UserError, match=r"there are 2 speakers, but --ref_num is 1"):
        check_data.main(["--ref_num", "1", str(data / "train")])
    with pytest.raises(UserError, match=r"spk3\.scp: no such file"):
        check_data.main(["--ref_num", "3", str(data / "train")])


@pytest.mark.parametrize("formatted", [False, True])
def test_an_enrolment_is_never_the_target(data: Path, tmp_path: Path, corpus: Path, formatted: bool) -> None:
    table = data / "dev" / "enroll_spk2.scp"
    key = min(read_scp(table))
    target = key.split("_")[1]
    speaker = target.split("-")[0]
    clean = corpus / "speech" / "dev-clean" / speaker / "7" / f"{target}.flac"
    cut = read_scp(data / "dev" / "spk2.scp")[key]
    for path in (str(clean), cut):
        edit(table, lambda content, path=path: content.update({key: path}))
        folder = data / "dev"
        if formatted:
            folder = tmp_path / "dump"
            format_wav.main([str(data / "dev"), str(folder)])
        with pytest.raises(
            UserError, match=rf"enroll_spk2\.scp: key '{key}': the enrolment .* is the target utterance"
        ):
            check_data.main([str(folder)])
    other = read_scp(data / "dev" / "enroll_spk1.scp")[key]
    edit(table, lambda content: content.update({key: other}))
    with pytest.raises(UserError, match=rf"key '{key}': the enrolment .* is of speaker \d+, the target is {speaker}"):
        check_data.main([str(data / "dev")])


def test_enrolments_drawn_on_the_fly_must_have_a_choice(data: Path) -> None:
    train = data / "train"
    pool = json.loads((train / "spk2enroll.json").read_text())
    key = min(read_scp(train / "enroll_spk1.scp"))
    utterance = key.split("_")[0]
    speaker = utterance.split("-")[0]
    only = {**pool, speaker: [own for own in pool[speaker] if own[0] == utterance]}
    without = {name: own for name, own in pool.items() if name != speaker}
    for content, message in (
        (only, rf"speaker '{speaker}' has no recording but the target '{utterance}'"),
        (without, rf"has no speaker '{speaker}', whom .*enroll_spk1\.scp asks for with key '{key}'"),
        ({**pool, speaker: "x"}, "expected JSON {speaker:"),
        ({**pool, speaker: [["a", "/nowhere/a.wav"], *pool[speaker]]}, r"/nowhere/a\.wav \(key 'a'\): no such file"),
    ):
        (train / "spk2enroll.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            check_data.main([str(train)])
    (train / "spk2enroll.json").unlink()
    with pytest.raises(UserError, match=r"spk2enroll\.json: no such file"):
        check_data.main([str(train)])


def test_missing_folders_are_named(tmp_path: Path, corpus: Path) -> None:
    for command in (check_data, remove_short):
        with pytest.raises(UserError, match="nowhere"):
            command.main([str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match=r"nowhere/wav\.scp: no such file"):
        format_wav.main([str(tmp_path / "nowhere"), str(tmp_path / "dump")])
    with pytest.raises(UserError, match="--fs is 0"):
        format_wav.main(["--fs", "0", str(corpus / "data" / "dev"), str(tmp_path / "dump")])
    with pytest.raises(UserError, match="--libri2mix is missing"):
        prepare_libri2mix.main([])
    with pytest.raises(UserError, match=r"test/mix_clean: no such folder"):
        prepare_libri2mix.main(options(corpus, "test", output=tmp_path))
