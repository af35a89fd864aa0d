"""How the recipe starts a training: by itself, or through ESPnet's launcher where there are several GPUs or nodes."""

import sys
from pathlib import Path

import pytest
from programs import ROOT, output_of, refused_in, start

RECIPE = ROOT / "egs2" / "TEMPLATE" / "tse_gen1"
SCRIPT = f"""
set -euo pipefail
. {RECIPE}/utils/recipe_functions.sh
python={sys.executable}
ngpu=$1 num_nodes=$2 cuda_cmd=$3 train_processes=${{train_processes:-1}}
start_training exp "${{python}}" ${{module:--c "$4"}} --config some.yaml
echo finished
"""
SHOW = "import os, sys; print('given', *sys.argv[1:]); print('devices', os.environ['CUDA_VISIBLE_DEVICES'])"


def train(folder: Path, ngpu: int, code: str = SHOW, command: str = "run_jobs.py") -> tuple[int, str]:
    """Return the exit status and what was printed on stderr."""
    words = [str(ngpu), "1", RECIPE / "utils" / command, code]
    result = start("bash", "-c", SCRIPT, "recipe", *words, folder=folder, CUDA_VISIBLE_DEVICES="4,7")
    assert (result.stdout == "finished\n") == (result.returncode == 0)
    return result.returncode, result.stderr


@pytest.mark.parametrize("ngpu, devices", [(0, "4,7"), (1, "4")])
def test_one_process(tmp_path: Path, ngpu: int, devices: str) -> None:
    assert train(tmp_path, ngpu) == (0, "")
    log = (tmp_path / "exp" / "train.log").read_text()
    assert f"given --config some.yaml --ngpu {ngpu}\ndevices {devices}\n" in log


def test_a_process_for_each_gpu_and_the_log_of_the_last_training_is_kept(tmp_path: Path) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "train.log").write_text("the last one\n")
    assert train(tmp_path, 2) == (0, "")
    log = (tmp_path / "exp" / "train.log").read_text()
    assert "given --config some.yaml --ngpu 2 --multiprocessing_distributed True\ndevices 4,7\n" in log
    assert (tmp_path / "exp" / "train.1.log").read_text() == "the last one\n"


@pytest.mark.slow
def test_several_processes_on_the_cpu(tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text(
        "import os, sys; print(*map(os.environ.get, ['RANK', 'WORLD_SIZE']), *sys.argv[1:])"
    )
    words = ["0", "1", RECIPE / "utils" / "run_jobs.py", ""]
    output_of(start("bash", "-c", SCRIPT, "recipe", *words, folder=tmp_path, train_processes="2", module="-m shown"))
    log = (tmp_path / "exp" / "train.log").read_text()
    for rank in "01":
        assert (
            f"{rank} 2 --config some.yaml --dist_backend gloo --dist_world_size 2 --multiprocessing_distributed false"
            in log
        )


def test_a_training_that_fails_is_reported_once(tmp_path: Path) -> None:
    status, error = train(tmp_path, 2, code="raise RuntimeError('the reason')")
    assert status == 1
    first, *lines = error.splitlines()
    assert first == "run_jobs.py: 1 of 1 job(s) failed. Log: exp/train.log"
    assert all(line.startswith("  | ") for line in lines)
    assert error.count("RuntimeError: the reason") == 1


def test_what_the_launcher_itself_refuses(tmp_path: Path) -> None:
    status, error = train(tmp_path, 2, command="none.pl")
    assert status == 1
    assert error.startswith("RuntimeError: The first args of --cmd should be a script path") and error.count("\n") == 1


@pytest.mark.parametrize(
    "settings, message",
    [
        ("num_nodes=2", "--num_nodes 2 needs a cluster, but cmd_backend 'local' starts jobs on this machine"),
        ("cmd_backend=pbs", "cmd_backend 'pbs' is not one of local, slurm, run.pl, queue.pl, slurm.pl"),
        ("cmd_backend=queue.pl", "queue.pl is not below ESPNET_ROOT or KALDI_ROOT"),
    ],
)
def test_a_backend_that_cannot_do_it(settings: str, message: str) -> None:
    script = f"set -euo pipefail; {settings}; . {RECIPE}/cmd.sh; echo not reached"
    result = start("bash", "-c", script, ESPNET_ROOT="", KALDI_ROOT="")
    refused_in(result, message)
    assert not result.stdout


def test_several_nodes_with_slurm() -> None:
    script = (
        f"set -euo pipefail; num_nodes=2 cmd_backend=slurm; . {RECIPE}/cmd.sh; echo $train_cmd $cuda_cmd $decode_cmd"
    )
    commands = output_of(start("bash", "-c", script)).split()
    assert all((RECIPE / command).exists() for command in commands)
    # The name by which espnet2.bin.launch starts jobs of several nodes by srun.
    assert commands[1].endswith("/slurm.pl")
