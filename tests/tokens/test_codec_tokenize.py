"""Token extraction: several tables in one call, batches, errors, latents, manifests, and going on after an error."""

from __future__ import annotations

import itertools
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import torch
from codec_families import make_encodec, make_mel
from test_codec_bins import RATE, SIZES, write_corpus

from espnet_tse_gen.bin import codec_tokenize
from espnet_tse_gen.codec.registry import load_codec, save_codec
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import check_same_keys, read_scp, write_scp


@pytest.fixture(scope="module")
def codec_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exp") / "codec_small"
    save_codec(make_mel(num_mels=40, num_levels=4, codebook_size=16), directory)
    return directory


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Five mixtures with one target each, and a second table of targets that shares two recordings with the first."""
    root = write_corpus(tmp_path / "corpus")
    first, mixtures = read_scp(root / "spk1.scp"), read_scp(root / "wav.scp")
    second = {"a": first["a"], "b": mixtures["b"], "c": mixtures["c"], "d": first["d"], "e": mixtures["e"]}
    write_scp(root / "spk2.scp", second)
    return root


def options(codec_dir: Path, corpus: Path, output: Path, *more: str) -> list[str]:
    """Return the options that make codes_spk1 and codes_spk2."""
    command = ["--codec_dir", str(codec_dir), "--output_dir", str(output)]
    for n in (1, 2):
        command += ["--wav_scp", f"{corpus}/spk{n}.scp", "--level_scp", f"{corpus}/wav.scp", "--name", f"codes_spk{n}"]
    return [*command, *more]


def tokenize(codec_dir: Path, corpus: Path, output: Path, *more: str) -> None:
    codec_tokenize.main(options(codec_dir, corpus, output, *more))


def jobs(codec_dir: Path, corpus: Path, output: Path, count: int, *more: str) -> None:
    for job in range(1, count + 1):
        tokenize(codec_dir, corpus, output, "--job", str(job), "--num_jobs", str(count), *more)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_recording_is_encoded_once_however_many_tables_name_it(codec_dir, corpus, tmp_path, count) -> None:
    jobs(codec_dir, corpus, tmp_path / "out", count)
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
        wanted, found = (
            kaldiio.load_scp(str(tmp_path / name)) for name in (f"alone/x{n}.scp", f"out/codes_spk{n}.scp")
        )
        for key in SIZES:
            np.testing.assert_array_equal(found[key], wanted[key])


def test_keys_of_one_table_share_a_recording(codec_dir, corpus, tmp_path) -> None:
    path = read_scp(corpus / "spk1.scp")["d"]
    write_scp(corpus / "same.scp", {"x": path, "y": path, "z": read_scp(corpus / "spk1.scp")["a"]})
    command = ["--codec_dir", str(codec_dir), "--wav_scp", f"{corpus}/same.scp", "--output_dir", str(tmp_path / "out")]
    codec_tokenize.main([*command, "--name", "codes"])
    table = read_scp(tmp_path / "out/codes.scp")
    assert table["x"] == table["y"] != table["z"]
    assert json.loads((tmp_path / "out/codes.json").read_text())["encoded"] == 2


def test_own_level_beside_a_table_with_mixtures(codec_dir, corpus, tmp_path) -> None:
    command = ["--codec_dir", str(codec_dir), "--output_dir", str(tmp_path / "out")]
    for level, name in ((f"{corpus}/wav.scp", "mixture"), ("own", "own")):
        command += ["--wav_scp", f"{corpus}/spk1.scp", "--level_scp", level, "--name", name]
    codec_tokenize.main(command)
    mixture, own = (kaldiio.load_scp(str(tmp_path / f"out/{name}.scp")) for name in ("mixture", "own"))
    assert any((mixture[key] != own[key]).any() for key in SIZES)


@pytest.mark.parametrize("limits", [("1", "60"), ("2", "60"), ("16", "0.3"), ("16", "1000")])
def test_batches_change_not_a_byte(codec_dir, corpus, tmp_path, limits) -> None:
    tokenize(codec_dir, corpus, tmp_path / "one")
    tokenize(codec_dir, corpus, tmp_path / "two", "--batch_size", limits[0], "--batch_seconds", limits[1])
    assert (tmp_path / "one/codes_spk1.1.ark").read_bytes() == (tmp_path / "two/codes_spk1.1.ark").read_bytes()


def test_recordings_computed_together_have_the_same_codes(corpus, tmp_path) -> None:
    save_codec(make_encodec(), tmp_path / "codec")
    for batched in ("true", "false"):
        tokenize(tmp_path / "codec", corpus, tmp_path / batched, "--batched", batched)
    assert (tmp_path / "true/codes_spk1.1.ark").read_bytes() == (tmp_path / "false/codes_spk1.1.ark").read_bytes()


def test_latents_beside_the_codes(codec_dir, corpus, tmp_path) -> None:
    tokenize(codec_dir, corpus, tmp_path / "out")
    plain = (tmp_path / "out/codes_spk1.1.ark").read_bytes()
    jobs(codec_dir, corpus, tmp_path / "out", 2, "--latents", "true")
    codec = load_codec(codec_dir)
    latents = kaldiio.load_scp(str(tmp_path / "out/codes_spk2_latents.scp"))
    codes = kaldiio.load_scp(str(tmp_path / "out/codes_spk2.scp"))
    for key in SIZES:
        assert latents[key].dtype == np.float16 and latents[key].shape == (len(codes[key]), codec.latent_dim)
        # Up to rounding, the codes are the latents' own.
        again = codec.quantize(torch.from_numpy(latents[key].astype(np.float32))).numpy()
        assert (again == codes[key]).mean() > 0.99
    assert read_scp(tmp_path / "out/codes_spk1_latents.scp")["a"] == latents._dict["a"]
    # Without them again: those on disk would no longer be looked after.
    tokenize(codec_dir, corpus, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*latents*"))
    assert (tmp_path / "out/codes_spk1.1.ark").read_bytes() == plain


def test_manifest_says_whose_tokens_these_are(codec_dir, corpus, tmp_path) -> None:
    tokenize(codec_dir, corpus, tmp_path / "out")
    manifest = json.loads((tmp_path / "out/codes_spk1.json").read_text())
    codec = load_codec(codec_dir)
    assert manifest["codec"] == "mel" and manifest["codec_tag"] == "small"
    assert manifest["fingerprint"] == codec.fingerprint()
    assert (manifest["levels"], manifest["codebook_sizes"], manifest["dtype"]) == (4, [16] * 4, "int16")
    assert manifest["seconds"] == pytest.approx(sum(SIZES.values()) / RATE, abs=1e-3)
    assert manifest["missing"] == {}


def test_more_jobs_than_recordings_and_then_fewer(codec_dir, corpus, tmp_path, capsys) -> None:
    jobs(codec_dir, corpus, tmp_path / "out", 7)
    jobs(codec_dir, corpus, tmp_path / "out", 2)
    assert "0 recording(s) encoded" in capsys.readouterr().out  # all were copied
    jobs(codec_dir, corpus, tmp_path / "fresh", 2)
    found, wanted = content(tmp_path / "out"), content(tmp_path / "fresh")
    assert found.keys() == wanted.keys()
    for name in wanted:
        if name.endswith(".ark"):
            assert found[name] == wanted[name]


def test_a_mended_recording_is_all_that_is_encoded_again(codec_dir, corpus, tmp_path, capsys) -> None:
    good = (corpus / "wavs/b_spk1.wav").read_bytes()
    (corpus / "wavs/b_spk1.wav").write_bytes(b"no audio")
    for _ in range(2):
        with pytest.raises(UserError, match=r"1 of 8 recordings cannot be encoded, first: .*b_spk1.wav") as caught:
            tokenize(codec_dir, corpus, tmp_path / "out")
        assert "\n" not in str(caught.value) and "--max_errors 1" in str(caught.value)
        assert "key 'b'" in (tmp_path / "out/codes_spk1.1.errors").read_text()
        assert not (tmp_path / "out/codes_spk1.scp").exists()
    (corpus / "wavs/b_spk1.wav").write_bytes(good)
    capsys.readouterr()
    tokenize(codec_dir, corpus, tmp_path / "out")
    assert "codes_spk1, job 1 of 1: 1 recording(s) encoded" in capsys.readouterr().out
    tokenize(codec_dir, corpus, tmp_path / "fresh")
    assert {name for name in content(tmp_path / "out") if not name.endswith(".journal")} == {
        name for name in content(tmp_path / "fresh") if not name.endswith(".journal")
    }
    assert (tmp_path / "out/codes_spk1.1.ark").read_bytes() == (tmp_path / "fresh/codes_spk1.1.ark").read_bytes()


def test_errors_that_are_allowed_leave_keys_out(codec_dir, corpus, tmp_path, capsys) -> None:
    (corpus / "wavs/a_spk1.wav").write_bytes(b"no audio")
    (corpus / "wavs/e_spk1.wav").unlink()
    with pytest.raises(UserError, match="2 of 8 recordings cannot"):
        tokenize(codec_dir, corpus, tmp_path / "out", "--max_errors", "1")
    tokenize(codec_dir, corpus, tmp_path / "out", "--max_errors", "2")
    assert "2 recording(s) have no tokens and are missing" in capsys.readouterr().out
    assert sorted(read_scp(tmp_path / "out/codes_spk1.scp")) == ["b", "c", "d"]
    assert sorted(read_scp(tmp_path / "out/codes_spk2.scp")) == ["b", "c", "d", "e"]
    manifest = json.loads((tmp_path / "out/codes_spk2.json").read_text())
    assert list(manifest["missing"]) == ["a"] and "is not a readable audio file" in manifest["missing"]["a"]
    assert len((tmp_path / "out/codes_spk1.1.errors").read_text().splitlines()) == 2
    with pytest.raises(UserError, match=r"codes_spk1.scp: 2 key\(s\) of .*wav.scp are missing, first 'a'"):
        check_same_keys(corpus / "wav.scp", tmp_path / "out/codes_spk1.scp")
    # The limit holds for all jobs together, and the stage tries again.
    good = (corpus / "wavs/b_spk1.wav").read_bytes()
    jobs(codec_dir, corpus, tmp_path / "two", 2, "--max_errors", "2")
    (corpus / "wavs/b_spk1.wav").unlink()
    with pytest.raises(UserError, match="3 of 8 recordings of all jobs cannot"):
        jobs(codec_dir, corpus, tmp_path / "two", 2, "--max_errors", "2")
    # A job with nothing to do does not answer for what another is about to try again.
    (corpus / "wavs/b_spk1.wav").write_bytes(good)
    write_scp(corpus / "spk1.scp", dict.fromkeys("ae", f"{corpus}/wavs/b_spk1.wav") | {"b": str(corpus / "gone")})
    write_scp(corpus / "spk2.scp", {"a": f"{corpus}/wavs/c_wav.wav"})
    jobs(codec_dir, corpus, tmp_path / "three", 2, "--max_errors", "1")
    (corpus / "gone").write_bytes(good)
    for job in ("1", "2", "1"):
        tokenize(codec_dir, corpus, tmp_path / "three", "--job", job, "--num_jobs", "2")
    assert sorted(read_scp(tmp_path / "three/codes_spk1.scp")) == ["a", "b", "e"]


@pytest.mark.parametrize("lost", [["codes_spk1.1.json"], ["codes_spk1.1.json", "codes_spk1.1.scp"], ["codes_spk2.scp"]])
def test_killed_after_the_last_batch(codec_dir, corpus, tmp_path, capsys, lost) -> None:
    """Arks have their names, but tables and manifests are not all written yet."""
    tokenize(codec_dir, corpus, tmp_path / "out")
    before = content(tmp_path / "out")
    for name in lost:
        (tmp_path / "out" / name).unlink()
    capsys.readouterr()
    tokenize(codec_dir, corpus, tmp_path / "out")
    assert " recording(s) encoded" not in capsys.readouterr().out.replace(" 0 recording(s) encoded", "")
    assert content(tmp_path / "out") == before


def test_a_changed_list_leaves_no_stale_table(codec_dir, corpus, tmp_path) -> None:
    jobs(codec_dir, corpus, tmp_path / "out", 2)
    table = read_scp(corpus / "spk1.scp")
    table.pop("e")
    write_scp(corpus / "spk1.scp", table)
    tokenize(codec_dir, corpus, tmp_path / "out", "--job", "1", "--num_jobs", "2")
    assert not (tmp_path / "out/codes_spk1.scp").exists()  # the other job's part is still that of the old list
    tokenize(codec_dir, corpus, tmp_path / "out", "--job", "2", "--num_jobs", "2")
    assert sorted(read_scp(tmp_path / "out/codes_spk1.scp")) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--batch_size", "0"], "--batch_size: expected at least 1"),
        (["--batch_seconds", "0"], "--batch_seconds: expected more than 0"),
        (["--max_errors", "-1"], "--max_errors: expected at least 0"),
        (["--name", "more"], r"--name: expected one for each --wav_scp \(2\), got 3"),
        (["--level_scp", "more"], "--level_scp: expected none or one for each"),
        (["--device", "cuda:77"], "--device cuda:77: cannot be used"),
        (["--device", "gpu"], "--device gpu: cannot be used"),
    ],
)
def test_mistakes_are_one_line(codec_dir, corpus, tmp_path, arguments, message) -> None:
    with pytest.raises(UserError, match=message) as caught:
        tokenize(codec_dir, corpus, tmp_path / "out", *arguments)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_two_tables_of_one_name(codec_dir, corpus, tmp_path) -> None:
    command = options(codec_dir, corpus, tmp_path / "out")
    with pytest.raises(UserError, match="--name codes_spk1: given twice"):
        codec_tokenize.main([word.replace("codes_spk2", "codes_spk1") for word in command])


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Let no file of this process grow beyond 700 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_costs_nothing(codec_dir, corpus, tmp_path, request, capsys) -> None:
    request.getfixturevalue("small_disk")
    with pytest.raises(UserError, match=r"codes_spk1.1.ark: cannot be written \(.*\); check free space") as caught:
        tokenize(codec_dir, corpus, tmp_path / "out", "--batch_size", "1")
    assert "\n" not in str(caught.value)
    resource.setrlimit(resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)[1:] * 2)
    capsys.readouterr()
    tokenize(codec_dir, corpus, tmp_path / "out")
    assert "were there already" in capsys.readouterr().out
    tokenize(codec_dir, corpus, tmp_path / "fresh")
    assert (tmp_path / "out/codes_spk1.1.ark").read_bytes() == (tmp_path / "fresh/codes_spk1.1.ark").read_bytes()


def test_an_output_directory_that_cannot_be(codec_dir, corpus, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written") as caught:
        tokenize(codec_dir, corpus, tmp_path / "file" / "out")
    assert "\n" not in str(caught.value)


def test_progress_in_a_log(codec_dir, corpus, tmp_path, capsys) -> None:
    tokenize(codec_dir, corpus, tmp_path / "out", "--log_interval", "0", "--batch_size", "1")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 8 and "codes_spk1, job 1 of 1: 5 of 5 recordings, 0.00 of 0.00 h, " in lines[4]
    assert "s of audio/s, 0:00:00 left" in lines[4]
