"""Corpora that are not LibriSpeech: names with dashes, underscores, spaces and marks; what a user sees at the commands' doors."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from librispeech import tone
from programs import ROOT, output_of, start
from refused import refused, refused_command

from espnet_tse_gen.bin import check_data, format_wav, prepare_libri2mix, prepare_sources, prepare_speech_lists
from espnet_tse_gen.utils.files import read_scp, write_scp

# Speaker, chapter, and the utterance of a number.
CORPORA = {
    "dashes": (["test-spk-0", "test-spk-1", "test-spk"], "s1", "{}-{}"),
    "underscores": (["p225", "p226", "p22"], "mic1", "{}_{:03d}"),
    "both": (["a_b-c", "a_b", "a-b_c"], "2", "{}_{}-x"),
    "other names": (["anna", "bert", "carl"], "1", "take-{1}_of_{0}"),
    "a chapter like a speaker": (["40", "222", "7"], "222", "{}-222-{:04d}"),
}


def make(root: Path, kind: str, subset: str = "test", number: int = 3) -> Path:
    speakers, chapter, form = CORPORA[kind]
    for speaker in speakers:
        for take in range(number):
            path = root / subset / speaker / chapter / f"{form.format(speaker, take)}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(2.1 + 0.1 * take, 100 + 40 * speakers.index(speaker), seed=take), 16000)
    return root


def prepare(root: Path, *more: str, metadata: bool = True, speech: bool = True) -> Path:
    common = ["--libri2mix", f"{root}/mix", "--sets", "test", "--data_dir", f"{root}/data", *more]
    common += ["--librispeech", f"{root}/speech"] if speech else []
    prepare_libri2mix.main([*common, *(["--metadata", f"{root}/metadata"] if metadata else [])])
    return root / "data" / "test"


def mixtures_of(root: Path, number: int = 4, *more: str) -> None:
    """Draw mixtures of the speakers of ``root/speech``."""
    command = ["--make_metadata", "--librispeech", f"{root}/speech", "--metadata", f"{root}/metadata"]
    command += ["--set_name", "test", "--num_mixtures", str(number)]
    prepare_libri2mix.main([*command, *(more or ("--subsets", "test"))])


@pytest.fixture(scope="module", params=CORPORA)
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    make(root / "speech", request.param)
    mixtures_of(root, 9)
    prepare(root)
    return root


def speaker_of(root: Path, path: str) -> str:
    """By the folder of the only recording that begins with these samples, scaled."""
    samples = soundfile.read(path, frames=1000)[0]
    recordings = list((root / "speech").glob("*/*/*/*.flac"))
    alike = [np.corrcoef(samples, soundfile.read(other, frames=1000)[0])[0, 1] for other in recordings]
    assert max(alike) > 0.999
    return recordings[int(np.argmax(alike))].parts[-3]


def test_enrolments_are_of_the_target_whatever_the_names(corpus: Path) -> None:
    """Speakers by the metadata, by the record of a generated tree, or by the folders of the recordings."""
    record = corpus / "mix/wav16k/min/metadata/.test.json"
    content = record.read_text()
    for known, speech in (("metadata", True), ("record", True), ("record", False), ("folders", True)):
        if known == "folders":
            record.unlink()
        data = prepare(corpus, metadata=known == "metadata", speech=speech)
        format_wav.main([str(data), f"{corpus}/dump"])
        for folder in (data, corpus / "dump"):
            check_data.main([str(folder)])
            for number in (1, 2):
                targets, sources = read_scp(folder / f"target_spk{number}"), read_scp(folder / f"spk{number}.scp")
                for key, path in read_scp(folder / f"enroll_spk{number}.scp").items():
                    assert speaker_of(corpus, path) == targets[key] == speaker_of(corpus, sources[key])
                    own, enrolled = read_scp(folder / f"utterances_spk{number}")[key].split()
                    assert own != enrolled and own.split("/")[0] == enrolled.split("/")[0] == targets[key]
    record.write_text(content)


def test_faults_are_found_whatever_the_names(corpus: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(corpus / "data", tmp_path / "data")) / "test"
    rows, sources, targets = (read_scp(data / name) for name in ("enroll_spk1.scp", "spk1.scp", "target_spk1"))
    key = min(rows)
    stranger = next(other for other in rows if targets[other] != targets[key])
    own = read_scp(data / "utterances_spk1")[key].split()[0].split("/")[1]
    whole = next((corpus / "speech").glob(f"*/*/*/{own}.flac"))
    of_stranger = f"is of speaker {targets[stranger]}, the target is {targets[key]}"
    is_target = "is the target utterance itself"
    for path, message in ((sources[key], is_target), (whole, is_target), (rows[stranger], of_stranger)):
        write_scp(data / "enroll_spk1.scp", {**rows, key: str(path)})
        refused_command(message, check_data.main, data)
    write_scp(data / "enroll_spk1.scp", rows)
    write_scp(data / "target_spk2", targets)
    refused_command(rf"mixture '{key}': speaker '{targets[key]}' is in it more than once", check_data.main, data)


def test_a_tree_whose_names_tell_nothing_is_refused(tmp_path: Path) -> None:
    for kind in ("s1", "s2", "mix_clean"):
        path = tmp_path / "mix/wav16k/min/test" / kind / "p225_001_p226_002.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, tone(1.0, 200), 16000)
    message = r"mixture 'p225_001_p226_002' does not tell its speakers; .*give --metadata"
    refused(message, prepare, tmp_path, metadata=False, speech=False)


def test_names_that_tables_cannot_hold_are_named(tmp_path: Path) -> None:
    lists = ["--librispeech", str(tmp_path / "my speech"), "--subsets", "train", "--output_dir", f"{tmp_path}/lists"]
    folder = make(tmp_path / "my speech", "dashes", "train") / "train" / "test-spk"
    # A path may have spaces, and so may a chapter.
    (folder / "s1").rename(folder / "first day")
    prepare_speech_lists.main(lists)
    assert all(Path(path).is_file() for path in read_scp(tmp_path / "lists/wav.scp").values())
    prepare_sources.main(["--speech_dir", f"{tmp_path}/lists", "--output_dir", f"{tmp_path}/my dump", "--fs", "16000"])
    assert all(Path(path).is_file() for path in read_scp(tmp_path / "my dump/wav.scp").values())
    for broken in (folder / "first day" / "one more.flac", folder.with_name("test spk") / "1" / "fine.flac"):
        broken.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(broken, tone(1.0, 100), 16000)
        assert str(broken) in refused("name has a space, which no table can hold", prepare_speech_lists.main, lists)
        broken.unlink()
    soundfile.write(folder / "first day" / "test-spk-0-1.flac", tone(1.0, 100), 16000)
    refused("is called like .*; every recording needs its own name", prepare_speech_lists.main, lists)


def test_what_macos_leaves_is_no_recording(tmp_path: Path) -> None:
    folder = make(tmp_path / "speech", "dashes", "train") / "train" / "test-spk" / "s1"
    (folder / "._test-spk-0.flac").write_bytes(b"Mac OS X")
    (tmp_path / "speech/train/.AppleDouble/x").mkdir(parents=True)
    (tmp_path / "speech/train/.AppleDouble/x/test-spk-7.flac").write_bytes(b"Mac OS X")
    lists = ["--librispeech", f"{tmp_path}/speech", "--subsets", "train", "--output_dir", f"{tmp_path}/lists"]
    prepare_speech_lists.main(lists)
    assert len(read_scp(tmp_path / "lists/wav.scp")) == 9


def test_a_byte_order_mark_is_not_read(tmp_path: Path) -> None:
    speech = make(tmp_path / "speech", "underscores")
    sexes = "p225 | F | test |\np226 | M | test |\np22 | M | test |\n"
    (speech / "SPEAKERS.TXT").write_text(sexes, encoding="utf-8-sig")
    (tmp_path / "splits.json").write_text(json.dumps({"test": {"test": ["p225", "p226", "p22"]}}), encoding="utf-8-sig")
    chapter = speech / "test/p225/mic1"
    lines = [f"p225_{n:03d} WORDS {n}\r\n" for n in range(3)]
    (chapter / "p225.trans.txt").write_text("".join(lines), encoding="utf-8-sig", newline="")
    mixtures_of(tmp_path, 9, "--speakers_json", f"{tmp_path}/splits.json", "--split", "test")
    table = tmp_path / "metadata/libri2mix_test.csv"
    table.write_text(table.read_text(), encoding="utf-8-sig")
    data = prepare(tmp_path, "--min_or_max", "max")
    assert read_scp(data / "spk2gender")["p225"] == "f"
    spoken = {**read_scp(data / "text_spk1"), **read_scp(data / "text_spk2")}
    assert set(spoken.values()) == {"WORDS 0", "WORDS 1", "WORDS 2"}
    rows = [f"{key} {who.split()[0].split('/')[1]} {who.split()[1].split('/')[1]}"
            for n in (1, 2) for key, who in read_scp(data / f"utterances_spk{n}").items()]  # fmt: skip
    (tmp_path / "list").write_text("\r\n".join(rows) + "\r\n", encoding="utf-8-sig", newline="")
    before = {n: read_scp(data / f"enroll_spk{n}.scp") for n in (1, 2)}
    prepare(tmp_path, "--min_or_max", "max", "--enroll_list", f"{tmp_path}/list", "--seed", "7")
    assert before == {n: read_scp(data / f"enroll_spk{n}.scp") for n in (1, 2)}
    for path in data.iterdir():
        path.write_text(path.read_text(), encoding="utf-8-sig")
    format_wav.main([str(data), f"{tmp_path}/dump"])
    check_data.main([str(data), f"{tmp_path}/dump"])


@pytest.mark.parametrize("scale", [10.0, 32767.0])
def test_floats_beyond_full_scale_are_scaled_together_and_said(
    tmp_path: Path, scale: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """As SciPy writes them, in the range of 16 bits; a mixture stays the sum of its sources."""
    make(tmp_path / "speech", "dashes")
    mixtures_of(tmp_path)
    data = prepare(tmp_path)
    key, originals = min(read_scp(data / "wav.scp")), {}
    for name in ("wav", "spk1", "spk2", "enroll_spk2"):
        path = read_scp(data / f"{name}.scp")[key]
        originals[name] = soundfile.read(path)[0]
        loud = tmp_path / f"{name}.wav"
        soundfile.write(loud, originals[name] * scale, 16000, subtype="FLOAT")
        text = (data / f"{name}.scp").read_text()
        (data / f"{name}.scp").write_text(text.replace(f"{key} {path}", f"{key} {loud}"))
    format_wav.main([str(data), f"{tmp_path}/dump"])
    # The mixture with its sources, and the enrolment.
    told = r"beyond full scale and scaled down, each by one factor with its sources: 2, first .*\(key '{}', peak"
    assert re.search(told.format(key), capsys.readouterr().out)
    made = {name: soundfile.read(read_scp(tmp_path / f"dump/{name}.scp")[key])[0] for name in originals}
    factors = {name: np.dot(made[name], one) / np.dot(one, one) for name, one in originals.items()}
    loudest = max(np.abs(made[name]).max() for name in ("wav", "spk1", "spk2"))
    assert loudest == pytest.approx(0.999, abs=1e-3)
    assert [factors["spk1"], factors["spk2"]] == pytest.approx([factors["wav"]] * 2, rel=1e-3)
    for name, one in originals.items():
        np.testing.assert_allclose(made[name], factors[name] * one, atol=2e-4, err_msg=name)
    # Each of the originals was rounded.
    np.testing.assert_allclose(made["wav"], made["spk1"] + made["spk2"], atol=2 / 32768 * factors["wav"])
    check_data.main([f"{tmp_path}/dump"])
    format_wav.main([str(data), f"{tmp_path}/dump"])
    assert "beyond full scale" in capsys.readouterr().out, "it is said again where the files were kept"


def test_speakers_of_the_training_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "speech", "dashes")
    mixtures_of(tmp_path)
    data = prepare(tmp_path)
    train = tmp_path / "train"
    train.mkdir()
    for name, content, warned in (
        ("utt2spk", "a test-spk-0\nb other\n", True),
        ("utt2spk", "a nobody\nb other\n", False),
        ("target_spk1", "m test-spk-1\n", True),
        ("spk2enroll.json", json.dumps({"nobody": [["a", "a.wav"]]}), False),
        ("spk2enroll.json", json.dumps({"test-spk": [["a", "a.wav"]]}), True),
    ):
        (train / name).write_text(content)
        check_data.main(["--train_dir", str(train), str(data)])
        told = capsys.readouterr()
        assert "no fault found" in told.out
        assert ("warning: 1 of its 3 speakers, such as 'test-spk" in told.err) == warned


@pytest.mark.slow
def test_a_corpus_in_a_folder_with_spaces_reaches_the_recipe(tmp_path: Path) -> None:
    """Through --local_data_opts; and the list of clean speech follows --datadir."""
    for subset in ("train", "dev", "test"):
        make(tmp_path / "my speech", "dashes", subset)
    (tmp_path / "elsewhere").mkdir()
    options = f"--librispeech '{tmp_path}/my speech' --train_subsets train --valid_subsets dev --test_subsets test"
    options += f" --dev_mixtures 2 --test_mixtures 2 --downloads {tmp_path}/downloads"
    done = start(
        ROOT / "egs2/librispeech/tse_gen1/run.sh", "--python", sys.executable, "--datadir", f"{tmp_path}/elsewhere/data",
        "--dumpdir", f"{tmp_path}/dump", "--expdir", f"{tmp_path}/exp", "--stop_stage", "3", "--nj", "1", "--tse_config",
        f"{ROOT}/tests/conf/mc_spex_test.yaml", "--local_data_opts", options,
    )  # fmt: skip
    output_of(done)
    assert len(read_scp(tmp_path / "dump/sources/train/wav.scp")) == 9
    assert done.stderr.count("are also in the training data") == 2, "all sets were made of the same speakers"
