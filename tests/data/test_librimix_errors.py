"""What goes wrong in data preparation ends in one line, and nothing half-written is taken for whole afterwards."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from librispeech import make_corpus
from programs import refused_in, start
from refused import files_of_at_most, refused

from espnet_tse_gen.bin import prepare_libri2mix
from espnet_tse_gen.data.librimix.drawing import make_metadata, write_metadata
from espnet_tse_gen.utils.files import read_scp

COMMAND = [sys.executable, "-m", "espnet_tse_gen.bin.prepare_libri2mix"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, metadata of forty mixtures, and their tree and data directory, made without a fault."""
    root = tmp_path_factory.mktemp("corpus")
    make_corpus(root / "speech", "dev-clean", dict.fromkeys(["21", "22", "23"], 6), seconds=0.5)
    rows = make_metadata(root / "speech", {"dev-clean": None}, 40, min_seconds=0.1)
    write_metadata(root / "metadata" / "libri2mix_dev-clean.csv", rows)
    generate(root, root)
    return root


def options(speech: Path, output: Path, metadata: Path | None = None) -> list[str]:
    """Of a tree, a generated one where there are metadata; ``speech`` has a folder of that name."""
    command = ["--libri2mix", f"{output}/mix", "--librispeech", f"{speech}/speech", "--sets", "dev"]
    return [*command, "--data_dir", f"{output}/data", *(["--metadata", f"{metadata}"] if metadata else [])]


def generate(corpus: Path, output: Path) -> None:
    prepare_libri2mix.main(options(corpus, output, corpus / "metadata"))


def wavs(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in sorted(tree.rglob("*.wav"))}


def assert_not_whole(corpus: Path, output: Path) -> None:
    """Nothing is left under a final name that is not as it should be, and what there is does not pass for a set."""
    whole = wavs(corpus / "mix")
    left = wavs(output / "mix")
    assert len(left) < len(whole)
    assert all(whole[name] == content for name, content in left.items() if not Path(name).name.startswith("."))
    assert not list((output / "mix").rglob("*.csv"))
    unfinished = "its generation was not finished; finish it with the --metadata"
    refused(unfinished, prepare_libri2mix.main, options(corpus, output))
    assert not (output / "data" / "dev" / "wav.scp").exists()


def assert_completes(corpus: Path, output: Path) -> None:
    """Running it again makes what is missing and keeps the rest."""
    before = {path: path.stat().st_mtime_ns for path in (output / "mix").rglob("*.wav")}
    generate(corpus, output)
    assert wavs(output / "mix") == wavs(corpus / "mix")
    assert all(path.stat().st_mtime_ns == made for path, made in before.items())
    prepare_libri2mix.main(options(corpus, output))
    assert len(read_scp(output / "data" / "dev" / "wav.scp")) == 40


def test_a_disk_that_fills_up(corpus: Path, tmp_path: Path) -> None:
    longest = max(path.stat().st_size for path in (corpus / "mix").rglob("*.wav"))
    with files_of_at_most(longest - 1):
        refused(r"cannot be written \(.*\); check free", generate, corpus, tmp_path)
    assert wavs(tmp_path / "mix")
    assert_not_whole(corpus, tmp_path)
    assert_completes(corpus, tmp_path)


def test_a_disk_that_is_too_small_is_noticed_before(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_500_000))
    message = r"120 files of 2\.\d MB are to be written, but 1\.5 MB are free; .*nothing was"
    refused(message, generate, corpus, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_killed_run_is_finished_by_the_next(corpus: Path, tmp_path: Path) -> None:
    command = [*COMMAND, *options(corpus, tmp_path, corpus / "metadata")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = tmp_path / "mix" / "wav16k" / "min" / "dev" / "mix_clean"
    while process.poll() is None and not (folder.is_dir() and len(os.listdir(folder)) > 3):
        time.sleep(0.001)
    process.kill()
    process.wait()
    if len(wavs(tmp_path / "mix")) < 120:
        assert_not_whole(corpus, tmp_path)
    assert_completes(corpus, tmp_path)


def test_a_row_of_an_unknown_utterance(corpus: Path, tmp_path: Path) -> None:
    metadata = tmp_path / "metadata" / "libri2mix_dev-clean.csv"
    metadata.parent.mkdir()
    lines = (corpus / "metadata" / "libri2mix_dev-clean.csv").read_text().splitlines()
    lines[5] = lines[5].replace(lines[5].split("_")[0], "21-7-9999")
    metadata.write_text("\n".join(lines) + "\n")
    cmd = options(corpus, tmp_path, metadata.parent)
    # As the shell sees it.
    refused_in(start(*COMMAND, *cmd), "1 of 40 mixtures need recordings that are not there, first '21-7-9999_")
    assert not (tmp_path / "mix").exists() and not (tmp_path / "data").exists()
    prepare_libri2mix.main([*cmd, "--allow_missing", "true"])
    assert len(read_scp(tmp_path / "data" / "dev" / "wav.scp")) == 39


def test_a_source_that_cannot_be_read(corpus: Path, tmp_path: Path) -> None:
    speech = shutil.copytree(corpus / "speech", tmp_path / "speech")
    broken = max((speech / "dev-clean").rglob("*.flac"))
    broken.write_bytes(broken.read_bytes()[:3000])
    cmd = options(tmp_path, tmp_path, corpus / "metadata")
    refused(rf"{broken.name} .*is not a readable audio file", prepare_libri2mix.main, cmd)
    assert_not_whole(corpus, tmp_path)
    assert_completes(corpus, tmp_path)


def test_a_file_that_an_existing_tree_lacks(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus / "mix", tmp_path / "mix")
    cmd = options(corpus, tmp_path)
    prepare_libri2mix.main(cmd)
    path = min((tmp_path / "mix/wav16k/min/dev/s2").iterdir())
    path.unlink()
    refused(rf"s2/{path.name} .*: no such file; complete the Libri2Mix tree", prepare_libri2mix.main, cmd)
    # The directory of before is still whole, as nothing was written.
    assert len(read_scp(tmp_path / "data" / "dev" / "wav.scp")) == 40


def test_a_tree_of_the_official_scripts(corpus: Path, tmp_path: Path) -> None:
    """Their tables hold paths of another machine, and in later versions one column more; they leave no record."""
    shutil.copytree(corpus / "mix", tmp_path / "mix")
    folder = tmp_path / "mix" / "wav16k" / "min" / "metadata"
    (folder / ".dev.json").unlink()
    table = folder / "mixture_dev_mix_clean.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    lines = [[line[0], line[0], *(word.replace(str(corpus), "/elsewhere") for word in line[1:])] for line in lines[:31]]
    lines[0][1] = "original_mixture_ID"
    table.write_text("".join(",".join([*line[:-1], f"{line[-1]}.0"]) + "\n" for line in lines))
    cmd = options(corpus, tmp_path)
    prepare_libri2mix.main(cmd)
    mixtures = read_scp(tmp_path / "data" / "dev" / "wav.scp")
    assert len(mixtures) == 30 and all(path.startswith(str(tmp_path)) for path in mixtures.values())
    # Without a table, the files are what there is.
    table.unlink()
    prepare_libri2mix.main(cmd)
    assert len(read_scp(tmp_path / "data" / "dev" / "wav.scp")) == 40
    # Never generated into: who knows from what it was made.
    refused("was not made from", generate, corpus, tmp_path)


def test_a_directory_that_changes_has_no_table_of_before(corpus: Path, tmp_path: Path) -> None:
    """From two speakers to one (mix_single), and back."""
    shutil.copytree(corpus / "mix", tmp_path / "mix")
    dev = tmp_path / "mix" / "wav16k" / "min" / "dev"
    shutil.copytree(dev / "s1", dev / "mix_single")
    folder = tmp_path / "mix" / "wav16k" / "min" / "metadata"
    shutil.copyfile(folder / "mixture_dev_mix_clean.csv", folder / "mixture_dev_mix_single.csv")
    tables = []
    for kind in ("mix_clean", "mix_single", "mix_clean"):
        prepare_libri2mix.main([*options(corpus, tmp_path), "--mix_type", kind])
        tables.append({path.name for path in (tmp_path / "data" / "dev").iterdir()})
    of_two = {"spk2.scp", "enroll_spk2.scp", "target_spk2", "utterances_spk2"}
    assert tables[0] == tables[2] and tables[0] - tables[1] == of_two
