"""The benchmarks at a tiny size: they run, and their tables name every system."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_model import RATE, tiny_exp_dir, voice

from espnet_tse_gen.audio.writing import write_audio
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import write_scp, write_yaml

SIZES = ["--repeats", "1", "--threads", "1"]


def report(repository, output, benchmark, *options):
    """Return what a benchmark printed, which it also wrote."""
    run = subprocess.run(
        [sys.executable, f"benchmarks/{benchmark}.py", *SIZES, *options, "--output", output],
        cwd=repository, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    text = output.read_text()
    assert run.stdout.strip().endswith(text.strip())  # after what ESPnet prints on import
    return text


@pytest.mark.slow
def test_decoding_benchmark(repository, tmp_path):
    sizes = {"width": 32, "layers": 1, "heads": 2, "mixture_layers": 1}
    write_yaml(tmp_path / "tiny.yaml", {"extractor": "masked", "extractor_conf": sizes, "model_conf": {}})
    options = ["--seconds", "0.3", "--enroll_seconds", "0.2", "--batch_size", "1", "2"]
    text = report(repository, tmp_path / "table.md", "decoding", *options, "--config", tmp_path / "tiny.yaml")
    assert "peer: TD-SpeakerBeam of ESPnet, 16.2 M parameters" in text
    rows = re.findall(r"^\| (.+?) \| (float32|bfloat16) \| (\d+) \|", text, flags=re.MULTILINE)
    systems = {
        "TD-SpeakerBeam": "1",
        "ours, 16 passes": "16",
        "ours, 1 pass": "1",
        "ours, 16 passes, nothing cached": "16",
    }
    precisions = ("float32", "bfloat16")
    assert rows == 2 * [(name, precision, passes) for name, passes in systems.items() for precision in precisions]
    assert text.count("- caching, float32: ") == 2
    assert "100.00 % of the tokens equal" in text


@pytest.mark.slow
def test_decoding_benchmark_of_a_trained_model(repository, tmp_path):
    options = ["--seconds", "0.5", "--enroll_seconds", "0.5", "--model", "tse_gen_16k"]
    text = report(repository, tmp_path / "table.md", "decoding", *options)
    rows = re.findall(r"^\| (.+?) \| (float32|bfloat16) \| (\d+) \| \d+\.\d+ .*? \|  \|", text, flags=re.MULTILINE)
    systems = {"ours, 16 steps": "16", "ours, 1 step, soft": "1"}
    assert rows == [(name, each, steps) for each in ("float32", "bfloat16") for name, steps in systems.items()]


@pytest.mark.slow
def test_tokenization_benchmark(repository, tmp_path):
    options = ["--codecs", "encodec", "--num_files", "1", "--seconds", "0.3", "0.5"]
    text = report(repository, tmp_path / "table.md", "tokenization", *options)
    assert "1 recordings (made of noise like speech)" in text and "### encodec, random weights" in text
    rows = re.findall(r"^\| (.+?) \| [\d.]+ \[", text, flags=re.MULTILINE)
    assert rows == ["`encodec` per file", "`encodec`, model loaded once", "ours, one process of 1 thread(s)"]
    assert re.search(r"^- encodec, ours, .* times the audio per second of the command per file, ", text, re.MULTILINE)


@pytest.mark.slow
def test_extraction_benchmark(repository, tmp_path):
    options = ["--width", "0.0625", "--seconds", "0.2", "--enroll_seconds", "0.2", "--extractors", "spex_plus"]
    text = report(repository, tmp_path / "table.md", "extraction", *options, "--batch_size", "1", "2")
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) M \| [\d.]+ \[", text, flags=re.MULTILINE)
    systems = ["ESPnet, TD-SpeakerBeam of the size of SpEx+", "ours, the same model (size of SpEx+)", "ours, SpEx+"]
    assert [name for name, _ in rows] == 2 * systems
    assert rows[0][1] == rows[1][1] and float(rows[2][1]) == pytest.approx(float(rows[0][1]), abs=0.01)
    assert float(re.search(r"outputs differ by at most (\S+) of the peak", text)[1]) < 1e-4


@pytest.mark.slow
def test_extraction_benchmark_of_the_dual_path(repository, tmp_path):
    options = ["--width", "0.0625", "--seconds", "0.2", "--enroll_seconds", "0.3", "--extractors", "dual_path"]
    text = report(repository, tmp_path / "table.md", "extraction", *options, "--batch_size", "1")
    names = re.findall(r"^\| (.+?) \| [\d.]+ M \| [\d.]+ \[", text, flags=re.MULTILINE)
    ours = ["ours, the same model", "ours, dual path", "ours, dual path, two extractions averaged"]
    assert names == ["ESPnet, TD-SpeakerBeam", *ours]
    assert "at 16000 Hz" in text


@pytest.mark.slow
def test_many_files_benchmark(repository, tmp_path):
    options = ["--files", "3", "--calls", "2", "--seconds", "0.5", "--model", tiny_exp_dir()]
    for number, pitch in enumerate((110.0, 197.0)):
        soundfile.write(tmp_path / f"{number}.flac", voice(1.0, pitch), RATE)
    text = report(repository, tmp_path / "table.md", "many_files", *options, "--speech", tmp_path)
    rows = re.findall(r"^\| (.+?) \| 3 \| ([\d.]+) \| ([\d.]+) \| (.+?) \|$", text, flags=re.MULTILINE)
    assert [row[0] for row in rows] == ["one call", "a call each: 2, scaled"]
    assert float(rows[1][3]) == pytest.approx(float(rows[1][1]) / float(rows[0][1]), rel=0.1) and float(rows[1][3]) > 1


def test_impossible_numbers_end_in_one_line(repository):
    command = [sys.executable, "benchmarks/many_files.py", "--calls", "0"]
    run = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert run.returncode == 2 and run.stderr.strip().count("\n") == 0 and "--calls" in run.stderr


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory):
    """Two mixtures of four speakers, as a data directory."""
    folder, rng = tmp_path_factory.mktemp("mixtures"), np.random.default_rng(0)
    tables = {name: {} for name in ("spk1", "spk2", "enroll_spk1", "enroll_spk2")}
    speakers = {f"target_spk{n}": {} for n in (1, 2)}
    for key in ("a", "b"):
        for name, table in tables.items():
            table[key] = str(folder / f"{name}_{key}.wav")
            write_audio(Path(table[key]), 0.1 * rng.standard_normal(16000), 16000)
        for name, table in speakers.items():
            table[key] = name + key
    for name, table in {**tables, **speakers}.items():
        write_scp(folder / (f"{name}.scp" if name in tables else name), table)
    return folder


@pytest.mark.parametrize(("benchmark", "model"), [("robustness", "dual_path_16k"), ("generation", "tse_gen_16k")])
def test_a_row_that_does_not_exist_ends_in_one_line(mixtures, benchmark, model):
    module = importlib.import_module(benchmark)
    with pytest.raises(UserError, match="--only: no row '32 stepps'; expected some of"):
        module.main(["--data_dir", str(mixtures), "--model", model, "--only", "32 stepps"])


def test_rows_that_are_asked_for_are_all_that_is_made(mixtures):
    robustness = importlib.import_module("robustness")
    items = robustness.read_items(mixtures)
    found = robustness.conditions(items, 2, None, 0, ["SIR 5 dB", "as they are"])
    assert [*found] == ["as they are", "SIR 5 dB"]
    power = [np.mean(np.square(one)) for one in (found["SIR 5 dB"][0].target, found["SIR 5 dB"][0].interferer)]
    assert 10 * np.log10(power[0] / power[1]) == pytest.approx(5.0, abs=1e-3)


def test_a_table_of_decoding_options_needs_a_model_that_decodes(mixtures):
    generation = importlib.import_module("generation")
    with pytest.raises(UserError, match="dual_path_16k is not masked generative"):
        generation.main(["--data_dir", str(mixtures), "--model", "dual_path_16k", "--items", "1"])
