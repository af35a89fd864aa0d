"""Fixed evaluation sets by local/test_sets.sh: of held-out speakers, within a collection, the same for the same seed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from librispeech import make_corpus, write_mixtures
from programs import ROOT, output_of, refused_in, start

from espnet_tse_gen.bin import check_data
from espnet_tse_gen.utils.files import read_scp

RECIPE = ROOT / "egs2" / "librispeech" / "tse_gen1"
SPLITS = {
    "train": {"dev-clean": ["11", "12"]},
    "dev": {"dev-clean": ["13", "14"]},
    "test": {"test-other": ["21", "22"], "voices": ["31", "32"]},
}


def run_script(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [f"{RECIPE}/local/test_sets.sh", "--python", sys.executable, "--datadir", f"{place}/data", "--nj", "1"]
    command += ["--librispeech", f"{place}/speech", "--speakers_json", f"{place}/splits.json", "--num_mixtures", "4"]
    command += ["--downloads", f"{place}/downloads", *arguments]
    return start(*command)


def mixtures(place: Path, name: str) -> list[list[str]]:
    return [key.split("_") for key in read_scp(place / "data" / name / "wav.scp")]


@pytest.mark.slow
def test_every_set_is_of_held_out_speakers_of_one_collection(tmp_path: Path) -> None:
    for split in SPLITS.values():
        for subset, speakers in split.items():
            make_corpus(tmp_path / "speech", subset, dict.fromkeys(speakers, 3), seconds=2.1)
    table = tmp_path / "speech" / "SPEAKERS.TXT"
    table.write_text("".join(line for line in table.open() if not line.startswith("32 ")))
    (tmp_path / "splits.json").write_text(json.dumps(SPLITS))
    official = tmp_path / "libri2mix_dev-clean.csv"
    pairs = [("11", "13"), ("13", "14"), ("14", "12"), ("14", "13"), ("13", "15")]
    write_mixtures(official, [[f"{a}-7-0000", f"{b}-7-0001"] for a, b in pairs], ["noise.wav"] * len(pairs))

    first, sets = ["--sets", "test_a=test-other"], ["--sets", "test_a=test-other test_b=voices dev_a=dev-clean"]
    result = run_script(tmp_path, *first, "--metadata", str(official))
    assert result.returncode == 2 and "13-7-0000_15-7-0001" in result.stderr, "a recording that is not there"
    whole = [*sets, "--metadata", str(official), "--allow_missing", "true"]
    output_of(run_script(tmp_path, *whole))
    for name, speakers in (("test_a", ["21", "22"]), ("test_b", ["31", "32"]), ("dev_a", ["13", "14"])):
        pairs_of_set = [[utterance.split("-")[0] for utterance in key] for key in mixtures(tmp_path, name)]
        assert len(pairs_of_set) == 4 and all(sorted(pair) == speakers for pair in pairs_of_set)
    assert mixtures(tmp_path, "dev_c") == [["13-7-0000", "14-7-0001"], ["14-7-0000", "13-7-0001"]]
    # A draw that another version of the program made must not change.
    assert mixtures(tmp_path, "test_a") == [
        ["21-7-0001", "22-7-0001"], ["21-7-0001", "22-7-0002"], ["22-7-0000", "21-7-0002"], ["22-7-0001", "21-7-0000"],
    ]  # fmt: skip
    check_data.main([str(tmp_path / "data" / name) for name in ("test_a", "test_b", "dev_a", "dev_c")])
    # One of unknown sex does not hide the others'.
    assert read_scp(tmp_path / "data" / "test_b" / "spk2gender") == {"31": "m"}

    before = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    output_of(run_script(tmp_path, *whole))
    assert before == {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    run_script(tmp_path, *first, "--seed", "1")
    assert (tmp_path / "data" / "test_a" / "wav.scp").read_bytes() != before[tmp_path / "data" / "test_a" / "wav.scp"]


def test_mistakes_end_in_one_line(tmp_path: Path) -> None:
    for arguments, message in (
        (["--sets", "test-other"], "--sets: expected SPLIT_NAME=SUBSET, without a dash in NAME, found 'test-other'"),
        (["--sets", "test_a-b=test-other"], "without a dash in NAME, found 'test_a-b=test-other'"),
        (["--num_mixtures", "0"], "--num_mixtures"),
        (["--speakers_json="], "--speakers_json is missing"),
        (["--set", "test_a=test-other"], "unknown option '--set'; did you mean '--sets'"),
    ):
        refused_in(run_script(tmp_path, *arguments), message)
