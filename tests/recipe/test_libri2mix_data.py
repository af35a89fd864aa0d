"""Libri2Mix's local/data.sh as its run.sh starts it: options reach the data, and mistakes end in one line."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from librispeech import write_mixtures
from programs import ROOT, output_of, refused_in, start

from espnet_tse_gen.audio.writing import write_audio
from espnet_tse_gen.utils.files import read_scp

RECIPE = ROOT / "egs2" / "libri2mix" / "tse_gen1"


def data_sh(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(RECIPE / "local" / "data.sh"), "--python", sys.executable, "--datadir", f"{place}/data", "--nj", "1"]
    command += ["--libri2mix", f"{place}/mix", "--librispeech", f"{place}/speech", "--metadata", f"{place}/metadata"]
    command += ["--sets", "test", "--downloads", f"{place}/downloads", *arguments]
    return start(*command, folder=RECIPE)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two speakers with two recordings each, four mixtures of them, and a list in which one row leaks."""
    generator = np.random.default_rng(0)
    for name in ("1-1-0000", "1-1-0001", "2-1-0000", "2-1-0001"):
        path = tmp_path / "speech" / "test-clean" / name[0] / "1" / f"{name}.flac"
        write_audio(path, 0.1 * generator.standard_normal(3000).astype(np.float32), 16000)
    (tmp_path / "speech" / "SPEAKERS.TXT").write_text("1 | F | test-clean |\n2 | M | test-clean |\n")
    mixtures, enrolments = [], []
    for one, two in itertools.product((0, 1), (0, 1)):
        mixtures.append([f"1-1-000{one}", f"2-1-000{two}"])
        own, other = "_".join(mixtures[-1]), f"1-1-000{1 - one}_2-1-000{1 - two}"
        enrolments.append(f"{own} {mixtures[-1][0]} s1/{other}\n")
        enrolments.append(f"{own} {mixtures[-1][1]} s2/{other if one or two else own}\n")
    write_mixtures(tmp_path / "metadata" / "libri2mix_test-clean.csv", mixtures)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "but_test_map_mixture2enrollment").write_text("".join(enrolments))
    return tmp_path


@pytest.mark.slow
def test_options_reach_the_data(place: Path) -> None:
    told = output_of(data_sh(place, "--download", "false"))
    assert re.search(r"in all +12 files", told)
    assert "8 targets (every speaker of 4 mixtures); enrolment: the list 'but'" in told
    assert "In 1 of 8 rows the list enrols with the target utterance itself (1 with the identical file): 1 repl" in told
    data = place / "data" / "test"
    assert read_scp(data / "protocol")["leaks_replaced"] == "1"
    assert read_scp(data / "spk2gender") == {"1": "f", "2": "m"}
    assert read_scp(data / "target_spk2")["1-1-0000_2-1-0001"] == "2"
    result = data_sh(place, "--enroll_list", "tselm", "--sample_rate", "8k", "--min_or_max", "max")
    assert "4 targets (speaker 1 only of 4 mixtures); enrolment: drawn" in result.stdout
    assert "/wav8k/max/" in read_scp(data / "wav.scp")["1-1-0000_2-1-0001"]
    # What the stages of evaluation make of it.
    functions = 'ref_num=2; . utils/recipe_functions.sh; targets_of "$1"; protocol_of "$1" enroll_list'
    for folder, wanted in ((data, "1 tselm"), ("none", "1 2")):
        assert output_of(start("bash", "-c", functions, "-", folder, folder=RECIPE)).split() == wanted.split()


def test_mistakes_end_in_one_line(place: Path) -> None:
    for arguments, message in (
        (["--enroll_list", "bat"], "unknown --enroll_list 'bat': did you mean 'but'"),
        (["--mix_type", "mix_both"], "needs noise; give --wham"),
        (["--enrol_list", "but"], "unknown option '--enrol_list'; did you mean '--enroll_list'"),
    ):
        refused_in(data_sh(place, *arguments), message)
        assert not (place / "mix").exists()
