"""Token extraction: several tables in one call, jobs, batches, errors, latents, manifests, and going on after an error."""

import itertools
import json
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
from codec_corpus import SIZES, write_corpus
from codec_families import make, make_mel
from refused import files_of_at_most, refused

from espnet_tse_gen.audio.level import mixture_gain
from espnet_tse_gen.bin import codec_tokenize
from espnet_tse_gen.codec.registry import load_codec, save_codec
from espnet_tse_gen.utils.files import read_scp, write_scp


@pytest.fixture(scope="module")
def codec_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exp") / "codec_small"
    save_codec(make("mel"), directory)
    return directory


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Five mixtures with one target each, and a second table of targets that shares two recordings with the first."""
    root = write_corpus(tmp_path / "corpus")
    first, mixtures = read_scp(root / "spk1.scp"), read_scp(root / "wav.scp")
    second = {"a": first["a"], "b": mixtures["b"], "c": mixtures["c"], "d": first["d"], "e": mixtures["e"]}
    write_scp(root / "spk2.scp", second)
    return root


def tokenize(codec_dir: Path, corpus: Path, output: Path, *more: str) -> None:
    """Make codes_spk1 and codes_spk2."""
    command = ["--codec_dir", str(codec_dir), "--output_dir", str(output)]
    for n in (1, 2):
        command += ["--wav_scp", f"{corpus}/spk{n}.scp", "--level_scp", f"{corpus}/wav.scp", "--name", f"codes_spk{n}"]
    codec_tokenize.main([*command, *more])


def refuse(message: str, *arguments: Any) -> str:
    return refused(message, tokenize, *arguments)


def jobs(codec_dir: Path, corpus: Path, output: Path, count: int, *more: str) -> None:
    fresh = not output.exists()
    for job in range(count, 0, -1):
        assert not (fresh and (output / "codes_spk1.scp").exists())
        tokenize(codec_dir, corpus, output, "--job", str(job), "--num_jobs", str(count), *more)


def codes(table: Path) -> dict[str, np.ndarray]:
    return dict(kaldiio.load_scp(str(table)))


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def encoded(capsys: pytest.CaptureFixture[str]) -> int:
    """Return how many recordings were encoded since the last look."""
    lines = capsys.readouterr().out.splitlines()
    return sum(int(line.split(": ")[1].split()[0]) for line in lines if "recording(s) encoded" in line)


def test_tokens_are_those_of_the_codec_at_the_mixtures_level(codec_dir, corpus, tmp_path) -> None:
    tokenize(codec_dir, corpus, tmp_path / "out", "--batch_size", "3")
    codec, found = load_codec(codec_dir), codes(tmp_path / "out/codes_spk1.scp")
    manifest = json.loads((tmp_path / "out/codes_spk1.json").read_text())
    assert manifest["codec"] == "mel" and manifest["codec_tag"] == "small" and manifest["missing"] == {}
    assert manifest["fingerprint"] == codec.fingerprint()
    assert (manifest["codebooks"], manifest["codebook_sizes"], manifest["dtype"]) == (4, [16] * 4, "int16")
    assert sorted(found) == sorted(SIZES)
    for key, size in SIZES.items():
        target, _ = soundfile.read(corpus / f"wavs/{key}_spk1.wav", dtype="float32")
        mixture, _ = soundfile.read(corpus / f"wavs/{key}_wav.wav", dtype="float32")
        wav = torch.from_numpy(target.reshape(1, -1) * np.float32(mixture_gain(mixture)))
        assert found[key].dtype == np.int16 and found[key].shape == (codec.num_frames(size), codec.num_codebooks)
        np.testing.assert_array_equal(found[key], codec.encode(wav).codes[0].T.numpy())
    from espnet2.train.dataset import ESPnetDataset

    data = ESPnetDataset([(str(tmp_path / "out/codes_spk1.scp"), "codes_ref1", "kaldi_ark")], int_dtype="int64")
    np.testing.assert_array_equal(data["d"][1]["codes_ref1"], found["d"].astype(np.int64))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_recording_is_encoded_once_however_many_tables_name_it(codec_dir, corpus, tmp_path, count, capsys) -> None:
    jobs(codec_dir, corpus, tmp_path / "out", count)
    assert encoded(capsys) == 8
    tables = [read_scp(tmp_path / f"out/codes_spk{n}.scp") for n in (1, 2)]
    assert all(sorted(table) == sorted(SIZES) for table in tables)
    # 'a' and 'd' of the second table are the first's recordings, and refer to the first's arks.
    assert {key for key in SIZES if tables[0][key] == tables[1][key]} == {"a", "d"}
    manifests = [json.loads((tmp_path / f"out/codes_spk{n}.json").read_text()) for n in (1, 2)]
    assert [(one["recordings"], one["encoded"]) for one in manifests] == [(5, 5), (5, 3)]
    arks = [kaldiio.load_ark(str(path)) for path in sorted((tmp_path / "out").glob("*.ark")) if path.stat().st_size]
    assert sorted(key for key, _ in itertools.chain(*arks)) == sorted([*SIZES, "b", "c", "e"])
    for n in (1, 2):  # and each is what the table alone would have got
        alone = ["--codec_dir", str(codec_dir), "--wav_scp", f"{corpus}/spk{n}.scp", "--level_scp", f"{corpus}/wav.scp"]
        codec_tokenize.main([*alone, "--output_dir", str(tmp_path / "alone"), "--name", f"x{n}"])
        found, wanted = codes(tmp_path / f"out/codes_spk{n}.scp"), codes(tmp_path / f"alone/x{n}.scp")
        for key in SIZES:
            np.testing.assert_array_equal(found[key], wanted[key])
    before = content(tmp_path / "out")
    tokenize(codec_dir, corpus, tmp_path / "out", "--job", str(count), "--num_jobs", str(count))
    assert "complete and up to date; kept" in capsys.readouterr().out and content(tmp_path / "out") == before


def test_own_level_beside_a_table_with_mixtures_and_keys_of_one_recording(codec_dir, corpus, tmp_path) -> None:
    paths = read_scp(corpus / "spk1.scp")
    write_scp(corpus / "same.scp", {"x": paths["d"], "y": paths["d"], "z": paths["a"]})
    mixtures = {key: f"{corpus}/wavs/{name}_wav.wav" for key, name in zip("xyz", "dda", strict=True)}
    write_scp(corpus / "mixtures.scp", mixtures)
    command = ["--codec_dir", str(codec_dir), "--output_dir", str(tmp_path / "out")]
    for level, name in ((f"{corpus}/mixtures.scp", "mixture"), ("own", "own")):
        command += ["--wav_scp", f"{corpus}/same.scp", "--level_scp", level, "--name", name]
    codec_tokenize.main(command)
    mixture, own = (codes(tmp_path / f"out/{name}.scp") for name in ("mixture", "own"))
    assert any((mixture[key] != own[key]).any() for key in "xyz")
    table = read_scp(tmp_path / "out/own.scp")
    assert table["x"] == table["y"] != table["z"]


def test_key_file_chooses_the_keys(codec_dir, corpus, tmp_path) -> None:
    given = (codec_dir, corpus, tmp_path / "out", "--key_file", str(tmp_path / "keys"))
    (tmp_path / "keys").write_text("a x\nd y\n")
    tokenize(*given)
    assert sorted(read_scp(tmp_path / "out/codes_spk1.scp")) == ["a", "d"]
    (tmp_path / "keys").write_text("a\nzzz\n")
    refuse("'zzz'", *given)


@pytest.mark.parametrize(
    "more", ["--batch_size 1", "--batch_size 2", "--batch_seconds 0.3", "--batch_seconds 1000", "--batched true"]
)
def test_batches_change_not_a_byte(codec_dir, corpus, tmp_path, more) -> None:
    if "batched" in more:
        codec_dir = tmp_path / "codec"
        save_codec(make("encodec"), codec_dir)
    tokenize(codec_dir, corpus, tmp_path / "one")
    tokenize(codec_dir, corpus, tmp_path / "two", *more.split())
    assert (tmp_path / "one/codes_spk1.1.ark").read_bytes() == (tmp_path / "two/codes_spk1.1.ark").read_bytes()


def test_latents_beside_the_codes(codec_dir, corpus, tmp_path) -> None:
    tokenize(codec_dir, corpus, tmp_path / "out")
    plain = content(tmp_path / "out")
    jobs(codec_dir, corpus, tmp_path / "out", 2, "--latents", "true")
    codec = load_codec(codec_dir)
    latents, found = (codes(tmp_path / f"out/codes_spk2{kind}.scp") for kind in ("_latents", ""))
    for key in SIZES:
        assert latents[key].dtype == np.float16 and latents[key].shape == (len(found[key]), codec.latent_dim)
        # Up to rounding, the codes are the latents' own.
        again = codec.quantize(torch.from_numpy(latents[key].astype(np.float32))).numpy()
        assert (again == found[key]).mean() > 0.99
    # Without them again: those on disk would no longer be looked after.
    tokenize(codec_dir, corpus, tmp_path / "out")
    assert content(tmp_path / "out") == plain


def test_tokens_follow_recordings_lists_jobs_and_codec(codec_dir, corpus, tmp_path, capsys) -> None:
    output = tmp_path / "out"
    jobs(codec_dir, corpus, output, 7)
    jobs(codec_dir, corpus, output, 2)
    assert encoded(capsys) == 8  # by the seven; the two found all of it
    soundfile.write(corpus / "wavs/a_spk1.wav", np.zeros(640), 16000)
    tokenize(codec_dir, corpus, output, "--job", "2", "--num_jobs", "2")
    assert not (output / "codes_spk1.scp").exists()  # the changed recording is the other job's
    tokenize(codec_dir, corpus, output, "--job", "1", "--num_jobs", "2")
    assert codes(output / "codes_spk2.scp")["a"].shape[0] == 2 and encoded(capsys) == 1
    write_scp(corpus / "spk1.scp", {key: path for key, path in read_scp(corpus / "spk1.scp").items() if key != "e"})
    tokenize(codec_dir, corpus, output)
    assert sorted(read_scp(output / "codes_spk1.scp")) == ["a", "b", "c", "d"] and encoded(capsys) == 0
    save_codec(make_mel(num_mels=40, num_codebooks=4, codebook_size=8), tmp_path / "codec_other")
    tokenize(tmp_path / "codec_other", corpus, output)
    assert encoded(capsys) == 7 and all(found.max() < 8 for found in codes(output / "codes_spk1.scp").values())
    assert {path.suffixes[0] for path in output.glob("*.ark")} == {".1"}, "arks of another codec are gone"


def test_unreadable_recordings_are_all_named_and_only_the_mended_one_is_encoded(
    codec_dir, corpus, tmp_path, capsys
) -> None:
    good = (corpus / "wavs/b_spk1.wav").read_bytes()
    (corpus / "wavs/b_spk1.wav").write_bytes(b"no audio")
    for _ in range(2):
        message = r"1 of 8 recordings cannot be encoded, first: .*b_spk1.wav.*codes_spk1.1.errors.*--max_errors 1"
        refuse(message, codec_dir, corpus, tmp_path / "out")
        assert "key 'b'" in (tmp_path / "out/codes_spk1.1.errors").read_text()
        assert not (tmp_path / "out/codes_spk1.scp").exists()
    (corpus / "wavs/b_spk1.wav").write_bytes(good)
    encoded(capsys)
    tokenize(codec_dir, corpus, tmp_path / "out")
    assert encoded(capsys) == 1 and not list((tmp_path / "out").glob("*.errors"))
    tokenize(codec_dir, corpus, tmp_path / "fresh")
    for key, wanted in codes(tmp_path / "fresh/codes_spk1.scp").items():
        np.testing.assert_array_equal(codes(tmp_path / "out/codes_spk1.scp")[key], wanted)


def test_errors_that_are_allowed_leave_keys_out(codec_dir, corpus, tmp_path, capsys) -> None:
    (corpus / "wavs/a_spk1.wav").write_bytes(b"no audio")
    (corpus / "wavs/e_spk1.wav").unlink()
    refuse("2 of 8 recordings cannot", codec_dir, corpus, tmp_path / "out", "--max_errors", "1")
    tokenize(codec_dir, corpus, tmp_path / "out", "--max_errors", "2")
    assert "2 recording(s) have no tokens and are missing" in capsys.readouterr().out
    assert sorted(read_scp(tmp_path / "out/codes_spk1.scp")) == ["b", "c", "d"]
    assert sorted(read_scp(tmp_path / "out/codes_spk2.scp")) == ["b", "c", "d", "e"]
    manifest = json.loads((tmp_path / "out/codes_spk2.json").read_text())
    assert list(manifest["missing"]) == ["a"] and "is not a readable audio file" in manifest["missing"]["a"]
    assert len((tmp_path / "out/codes_spk1.1.errors").read_text().splitlines()) == 2
    # The limit holds for all jobs together, and the stage tries again.
    good = (corpus / "wavs/b_spk1.wav").read_bytes()
    (corpus / "wavs/b_spk1.wav").unlink()
    refused("3 of 8 recordings of all jobs cannot", jobs, codec_dir, corpus, tmp_path / "two", 2, "--max_errors", "2")
    # A job with nothing to do does not answer for what another is about to try again.
    (corpus / "wavs/b_spk1.wav").write_bytes(good)
    write_scp(corpus / "spk1.scp", dict.fromkeys("ae", f"{corpus}/wavs/b_spk1.wav") | {"b": str(corpus / "gone")})
    write_scp(corpus / "spk2.scp", {"a": f"{corpus}/wavs/c_wav.wav"})
    jobs(codec_dir, corpus, tmp_path / "three", 2, "--max_errors", "1")
    (corpus / "gone").write_bytes(good)
    for job in ("1", "2", "1"):
        tokenize(codec_dir, corpus, tmp_path / "three", "--job", job, "--num_jobs", "2")
    assert sorted(read_scp(tmp_path / "three/codes_spk1.scp")) == ["a", "b", "e"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--batch_size", "0"], "--batch_size: 0 is not in the range x>=1"),
        (["--batch_seconds", "0"], "--batch_seconds: 0.0 is not in the range x>0"),
        (["--max_errors", "-1"], "--max_errors: -1 is not in the range x>=0"),
        (["--name", "more"], r"--name: expected one for each --wav_scp \(2\), got 3"),
        (["--level_scp", "more"], "--level_scp: expected none or one for each"),
        (["--device", "cuda:77"], "device 'cuda:77': this machine has"),
        (["--device", "gpu"], "device 'gpu': unknown"),
        (["--job", "8", "--num_jobs", "7"], r"--job: expected 1\.\.7"),
        (["--wav_scp", "x.scp", "--level_scp", "own", "--name", "codes_spk1"], "x.scp: no such file"),
        (["--wav_scp", "spk1.scp", "--level_scp", "own", "--name", "codes_spk1"], "--name codes_spk1: given twice"),
        (["--output_dir", "spk1.scp/out"], "cannot be written"),
    ],
)
def test_mistakes_are_one_line(codec_dir, corpus, tmp_path, arguments, message, monkeypatch) -> None:
    monkeypatch.chdir(corpus)
    refuse(message, codec_dir, corpus, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line_and_costs_nothing(codec_dir, corpus, tmp_path, capsys) -> None:
    with files_of_at_most(700):
        message = r"codes_spk1.1.ark: cannot be written \(.*\); check free space"
        refuse(message, codec_dir, corpus, tmp_path / "out", "--batch_size", "1")
    tokenize(codec_dir, corpus, tmp_path / "out")
    assert 0 < encoded(capsys) < 8
    tokenize(codec_dir, corpus, tmp_path / "fresh")
    assert (tmp_path / "out/codes_spk1.1.ark").read_bytes() == (tmp_path / "fresh/codes_spk1.1.ark").read_bytes()


def test_progress_in_a_log(codec_dir, corpus, tmp_path, capsys) -> None:
    tokenize(codec_dir, corpus, tmp_path / "out", "--log_interval", "0", "--batch_size", "1")
    lines = capsys.readouterr().err.splitlines()
    assert any("codes_spk1, job 1 of 1: 1 of 1 s of audio, " in line and "00:00 left" in line for line in lines)
