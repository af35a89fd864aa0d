"""What the Slurm launcher asks for, and the script that it submits: neither needs a cluster."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import ROOT

UTILS = ROOT / "egs2" / "TEMPLATE" / "tse_gen1" / "utils"
sys.path.insert(0, str(UTILS))

from run_jobs import Call  # noqa: E402
from slurm_array import script_of  # noqa: E402
from slurm_jobs import get_parser, main  # noqa: E402
from slurm_options import read_config, resolve, sbatch_options  # noqa: E402


def asked(*arguments: str, config: str | None = None) -> list[str]:
    """The options of sbatch that a command line and a file of options make."""
    if config is not None:
        Path("slurm.yaml").write_text(config)
        arguments = ("--config", "slurm.yaml", *arguments)
    options = get_parser().parse_args([*arguments, "log", "true"])
    return sbatch_options(resolve(options), options.num_nodes)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_a_file() -> None:
    assert asked() == ["--cpus-per-task=1"]
    assert asked("--gpu", "2") == ["--cpus-per-task=8", "--gres=gpu:2"]
    assert asked("--num_threads", "3", "--mem", "2G") == ["--cpus-per-task=3", "--mem=2G"]
    assert "--no-requeue" in asked("--num_nodes", "2") and "--nodes=2" in asked("--num-nodes", "2")


def test_the_command_line_wins_over_gpu_and_that_over_the_rest() -> None:
    config = """
# A comment
partition: cpu   # another
time: 12:00:00
account: 'my account'
exclusive: true
requeue: false
qos:
gpu:
  partition: "gpu # 1"
  gres: gpu:a100:{gpu}
  cpus-per-gpu: 6
constraint: avx2
"""
    common = ["--time=12:00:00", "--account=my account", "--exclusive", "--constraint=avx2"]
    plain = asked(config=config)
    assert sorted(plain) == sorted(["--cpus-per-task=1", "--partition=cpu", *common])
    with_gpu = asked("--gpu", "2", config=config)
    assert sorted(with_gpu) == sorted(["--cpus-per-task=12", "--partition=gpu # 1", "--gres=gpu:a100:2", *common])
    given_here = asked("--gpu", "2", "--partition", "big", "--option", "gres=", config=config)
    assert sorted(given_here) == sorted(["--cpus-per-task=12", "--partition=big", *common])


def test_the_file_that_is_there_is_used_and_leaves_to_the_cluster_what_it_does_not_say(tmp_path: Path) -> None:
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    assert sorted(asked()) == ["--cpus-per-task=1", "--mem=4G"]
    assert sorted(asked("--gpu", "2")) == ["--cpus-per-task=8", "--gres=gpu:2", "--mem=32G"]


@pytest.mark.parametrize(
    "config, message",
    [
        ("partition cpu", "slurm.yaml, line 1: expected 'option: value', found 'partition cpu'"),
        ("\n  partition: cpu", "line 2: expected 'option: value'"),
        ("array: 1-3", "line 1: 'array' is set by slurm_jobs.py itself"),
        ("gpu: 2", "'gpu:' takes indented lines below it, not '2'"),
        ("gpu:\n  job-name: x", "line 2: 'job_name' is set by slurm_jobs.py itself"),
        ("cpus_per_task: many", "cpus_per_task: expected a whole number, got 'many'"),
        ("max_jobs_run: -1", "max_jobs_run: expected a whole number, got '-1'"),
    ],
)
def test_mistakes_in_the_file_are_one_line(capsys: pytest.CaptureFixture[str], config: str, message: str) -> None:
    Path("slurm.yaml").write_text(config)
    assert main(["--config", "slurm.yaml", "log", "true"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "expected [JOB=1:N] LOG COMMAND"),
        (["--config", "none.yaml", "x.log", "true"], "none.yaml: cannot be read"),
        (["--num-nodes", "0", "x.log", "true"], "--num-nodes: expected at least 1, got 0"),
        (["--option", "output=x", "x.log", "true"], "--option output=x: 'output' is set by slurm_jobs.py itself"),
        (["x.log", "true"], "there is no sbatch on this machine"),
    ],
)
def test_wrong_use_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], message: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


names = st.text("abcXYZ_-", min_size=1, max_size=8)
characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
values = st.text("abc:/.{}=-019", max_size=12)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(names.filter(lambda name: name[0].isalpha()), values, max_size=5))
def test_what_is_written_into_the_file_is_read(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("conf") / "slurm.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in content.items()))
    expected = {name.replace("-", "_"): value for name, value in content.items()}
    assert read_config(path) == (expected, {})


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(characters | st.just("JOB"), max_size=8)))
def test_any_argument_reaches_the_program_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[str]]
) -> None:
    words = ["".join(word) for word in pieces]
    folder = tmp_path_factory.mktemp("a 'folder'")
    call = Call("JOB", range(1, 9), "x.JOB.log", ["printf", r"<%s>\0", "JOB", *words])
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "7", "SLURM_JOB_ID": "1"}
    script = script_of(call, folder, cpus=1, gpu=0)
    result = subprocess.run(["bash"], input=script.encode(), capture_output=True, check=True, env=environment)
    expected = "".join(f"<{word.replace('JOB', '7')}>\0" for word in ["JOB", *words])
    assert b"\n#\n" + expected.encode() + b"# Accounting" in result.stdout
    assert (folder / "7").read_text() == "0\n"
