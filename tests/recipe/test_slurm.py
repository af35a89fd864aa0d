"""The Slurm launcher and the recipe through it, on a cluster of two nodes that is started on this machine."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from programs import ROOT, refused_in, running
from slurm_cluster import Unavailable, cluster

from espnet_tse_gen.utils.files import read_scp, write_scp

RECIPE = ROOT / "egs2" / "mini_librimix" / "tse_gen1"
LAUNCHER = RECIPE / "utils" / "slurm_jobs.py"

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

Environment = dict[str, str]
# Seconds; on a machine that has nothing else to do, everything here takes a small part of it.
PATIENCE = 600.0


@pytest.fixture(scope="module")
def slurm() -> Iterator[Environment]:
    """The environment of a cluster."""
    try:
        with cluster() as environment:
            yield environment
    except Unavailable as reason:
        pytest.skip(str(reason))


def begin(slurm: Environment, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return popen([sys.executable, str(LAUNCHER), *arguments], slurm, folder)


def popen(command: list[str], slurm: Environment, folder: Path | None = None) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=slurm, text=True, start_new_session=True, **pipes)


def end(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    try:
        out, error = process.communicate(timeout=PATIENCE)
    except BaseException:
        # Not only the shell of a recipe: each is the first of a group of its own.
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def launch(slurm: Environment, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return end(begin(slurm, folder, *arguments))


def wait_until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


def ask(slurm: Environment, *command: str) -> str:
    return subprocess.run(command, env=slurm, capture_output=True, text=True, check=True).stdout


def jobs_in_queue(slurm: Environment) -> list[str]:
    """Ids of all jobs that wait or run, as in 12_3."""
    return ask(slurm, "squeue", "--noheader", "--array", "--format=%i").split()


def left_over(folder: Path) -> list[Path]:
    return list(folder.rglob(".slurm.*"))


def test_every_job_gets_its_number_its_log_and_its_arguments(slurm: Environment, tmp_path: Path) -> None:
    odd = ["two words", "*", "$HOME", 'a"b', "a'b", "", "100%", "x JOB y"]
    code = "import sys; print('number', 'JOB', sys.argv[1:])"
    result = launch(slurm, tmp_path, "JOB=3:5", "log dir/JOB/a%.log", sys.executable, "-c", code, *odd)
    assert result.returncode == 0, result.stderr
    assert not result.stdout and not result.stderr
    for number in (3, 4, 5):
        log = (tmp_path / f"log dir/{number}/a%.log").read_text()
        expected = [word.replace("JOB", str(number)) for word in odd]
        assert f"number {number} {expected}\n" in log
        assert "# Started at" in log and "# Ended (code 0)" in log
    assert not left_over(tmp_path)


def test_a_failed_job_shows_its_log_and_stops_the_rest(slurm: Environment, tmp_path: Path) -> None:
    code = "import sys; print('the reason'); sys.exit(3 * ('JOB' == '2'))"
    result = launch(slurm, tmp_path, "--max-jobs-run", "1", "JOB=1:4", "x.JOB.log", sys.executable, "-c", code)
    assert result.returncode == 1
    assert "slurm_jobs.py: 1 of 4 job(s) failed (2: code 3). Log: x.2.log\n" in result.stderr
    assert "  | the reason\n" in result.stderr
    assert (tmp_path / "x.1.log").exists() and not (tmp_path / "x.4.log").exists()
    assert not jobs_in_queue(slurm) and not left_over(tmp_path)


def test_killed_and_cancelled_jobs_are_told_apart(slurm: Environment, tmp_path: Path) -> None:
    process = begin(slurm, tmp_path, "JOB=1:2", "x.JOB.log", "sh", "-c", "echo $$ > JOB.pid; exec sleep 100")
    wait_until(lambda: all((tmp_path / f"{n}.pid").exists() and (tmp_path / f"{n}.pid").read_text() for n in "12"))
    (second,) = (job for job in jobs_in_queue(slurm) if job.endswith("_2"))
    ask(slurm, "scancel", second)
    os.kill(int((tmp_path / "1.pid").read_text()), signal.SIGKILL)
    result = end(process)
    assert result.returncode == 1
    assert "2 of 2 job(s) failed (1: killed, often for want of memory" in result.stderr
    assert "2: cancelled)" in result.stderr
    assert "CANCELLED" in (tmp_path / "x.2.log").read_text()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_ending_the_launcher_ends_its_jobs(slurm: Environment, tmp_path: Path, signum: int) -> None:
    process = begin(slurm, tmp_path, "JOB=1:2", "x.JOB.log", "sh", "-c", "> JOB.started; sleep 100")
    wait_until(lambda: (tmp_path / "1.started").exists() and (tmp_path / "2.started").exists())
    process.send_signal(signum)
    result = end(process)
    assert result.returncode == 128 + signum
    assert result.stderr == "slurm_jobs.py: interrupted; its jobs are cancelled\n"
    assert not jobs_in_queue(slurm) and not left_over(tmp_path)


def test_jobs_of_a_killed_launcher_are_cancelled_by_the_next(slurm: Environment, tmp_path: Path) -> None:
    process = begin(slurm, tmp_path, "x.log", "sh", "-c", "echo $$ > pid; exec sleep 100")
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    beside = launch(slurm, tmp_path, "x.log", "true")
    refused_in(beside, f"x.log: process {process.pid} runs jobs with this log")
    process.kill()
    process.communicate()
    assert jobs_in_queue(slurm)
    result = launch(slurm, tmp_path, "x.log", "echo", "again")
    assert result.returncode == 0, result.stderr
    assert "cancelling jobs that a killed launcher has left" in result.stderr
    assert "again\n" in (tmp_path / "x.log").read_text()
    assert not jobs_in_queue(slurm) and not left_over(tmp_path)
    assert not running(int((tmp_path / "pid").read_text()))


def test_the_file_of_options_and_the_limit_of_jobs_at_once(slurm: Environment, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "slurm.yaml").write_text("partition: all\ncpus_per_task: 2\nmax_jobs_run: 1\ncomment: 'a b'\n")
    # No two jobs can have the folder at once.
    code = "mkdir here && sleep 0.5 && rmdir here && echo threads $OMP_NUM_THREADS; scontrol show job $SLURM_JOB_ID"
    without = {name: value for name, value in slurm.items() if name != "OMP_NUM_THREADS"}
    result = launch(without, tmp_path, "JOB=1:2", "x.JOB.log", "sh", "-c", code)
    assert result.returncode == 0, result.stderr
    for number in (1, 2):
        log = (tmp_path / f"x.{number}.log").read_text()
        assert "threads 2\n" in log and "NumCPUs=2" in log and "Comment=a b" in log


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--partition", "none"], "--partition=none: invalid partition specified: none"),
        (["--option", "partitin=all"], "unrecognized option '--partitin=all'"),
        (["--mem", "10T"], "Memory specification can not be satisfied"),
        (["--gpu", "1"], "Invalid generic resource"),
    ],
)
def test_what_slurm_refuses_is_one_line(slurm: Environment, tmp_path: Path, arguments: list[str], message: str) -> None:
    refused_in(launch(slurm, tmp_path, *arguments, "log", "true"), message)
    assert not left_over(tmp_path)


def test_a_log_that_cannot_be_written(slurm: Environment, tmp_path: Path) -> None:
    (tmp_path / "x.log").mkdir()
    refused_in(launch(slurm, tmp_path, "x.log", "true"), "x.log: cannot be written")


def test_several_nodes(slurm: Environment, tmp_path: Path) -> None:
    code = "echo process $SLURM_PROCID of $SLURM_NTASKS on $SLURMD_NODENAME with $SLURM_CPUS_PER_TASK"
    command = ["--num-nodes", "2", "--num-threads", "3", "x.log", "srun", "sh", "-c", code]
    result = launch(slurm, tmp_path, *command)
    assert result.returncode == 0, result.stderr
    log = (tmp_path / "x.log").read_text()
    assert "process 0 of 2 on one with 3\n" in log and "process 1 of 2 on two with 3\n" in log


# The recipe


def recipe(slurm: Environment, place: Path, stage: int, *options: str, backend: str = "slurm") -> subprocess.Popen[str]:
    """Start one stage of the recipe below ``place``, whose dump/raw and exp are there."""
    command = [str(RECIPE / "run.sh"), "--stage", str(stage), "--stop_stage", str(stage), "--cmd_backend", backend]
    for name in ("data", "dump", "exp"):
        command += [f"--{name}dir", f"{place}/{name}"]
    command += ["--codec_config", "conf/codec/mel_8k.yaml", "--codec_tag", "tiny", "--fs", "8k", "--pretrained_exp", ""]
    command += ["--tse_config", "conf/train/masked_small.yaml", "--tse_args", ""]
    command += ["--codec_dir", "", "--inference_args", ""]
    command += ["--train_set", "train", "--valid_set", "valid", "--test_sets", "valid"]
    command += ["--nj", "2", "--inference_nj", "2"]
    command += ["--inference_config", "conf/decode/greedy_16.yaml", "--tse_tag", "tiny", *options]
    return popen(command, slurm)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Ten mixtures, a codec and a model, as the stages before have left them."""
    from tiny_model import tiny_exp_dir
    from training_runs import make_corpus

    corpus = make_corpus(tmp_path / "corpus")
    # The mixtures of training, with enrolments as an evaluation has them: one file for each.
    raw = tmp_path / "dump" / "raw" / "valid"
    raw.mkdir(parents=True)
    enrolment = (corpus / "valid" / "enroll_spk1.scp").read_text().split()[1]
    for table in ("wav", "spk1", "spk2", "enroll_spk1", "enroll_spk2"):
        given = read_scp(corpus / "train" / f"{table}.scp")
        write_scp(raw / f"{table}.scp", {key: enrolment if "enroll" in table else given[key] for key in given})
    shutil.copytree(tiny_exp_dir(), tmp_path / "exp" / "tiny")
    shutil.copytree(corpus / "codec", tmp_path / "exp" / "codec_tiny")
    return tmp_path


def test_token_extraction_whose_job_was_cancelled_runs_again(slurm: Environment, place: Path) -> None:
    from espnet_tse_gen.bin import codec_tokenize

    options = ["--train_set", "valid"]
    codes = place / "dump" / "codec" / "tiny" / "valid"
    process = recipe(slurm, place, 5, *options)
    wait_until(lambda: process.poll() is not None or (codes / "log" / "tokenize.2.log").exists())
    ask(slurm, "scancel", *(job for job in jobs_in_queue(slurm) if job.endswith("_2")))
    result = end(process)
    assert result.returncode != 0
    assert "1 of 2 job(s) failed (2: cancelled)" in result.stderr
    if (codes / "codes_spk1.scp").exists():
        # Cancelled after its work was done, in the moment before its end: then the table is whole.
        assert read_scp(codes / "codes_spk1.scp").keys() == read_scp(place / "dump/raw/valid/wav.scp").keys()

    result = end(recipe(slurm, place, 5, *options))
    assert result.returncode == 0, result.stderr
    raw, lists = place / "dump" / "raw" / "valid", []
    for n in (1, 2):
        lists += ["--wav_scp", f"{raw}/spk{n}.scp", "--level_scp", f"{raw}/wav.scp", "--name", f"codes_spk{n}"]
    codec_tokenize.main(["--codec_dir", f"{place}/exp/codec_tiny", "--output_dir", f"{place}/local", *lists])
    for n in (1, 2):
        assert matrices(codes / f"codes_spk{n}.scp") == matrices(place / "local" / f"codes_spk{n}.scp")
    begun = (codes / "log" / "tokenize.1.log").stat().st_mtime_ns
    again = end(recipe(slurm, place, 5, *options))
    assert again.returncode == 0, again.stderr
    assert (codes / "log" / "tokenize.1.log").stat().st_mtime_ns == begun


def matrices(scp: Path) -> dict[str, list[list[int]]]:
    import kaldiio

    return {key: codes.tolist() for key, codes in kaldiio.load_scp(str(scp)).items()}


def decoder(log: Path) -> int:
    """Id of the process that writes a log, or 0."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if b"tse_gen_inference" in command and os.readlink(folder / "fd" / "1") == str(log):
                return int(folder.name)
        except OSError:
            continue
    return 0


def test_decoding_whose_job_was_killed_runs_again(slurm: Environment, place: Path) -> None:
    from espnet_tse_gen.bin import tse_gen_inference

    out = place / "exp" / "tiny" / "decode_greedy_16" / "valid"
    process = recipe(slurm, place, 8)
    found: list[int] = []
    wait_until(lambda: found.append(decoder(out / "log" / "decode_spk1.1.log")) or found[-1])
    # After its first recording.
    wait_until(lambda: (out / "wavs" / "spk1" / "train00.wav").exists() or process.poll() is not None)
    os.kill(found[-1], signal.SIGKILL)
    result = end(process)
    assert result.returncode != 0
    assert "1 of 2 job(s) failed (1: killed" in result.stderr and "decode_spk1.1.log" in result.stderr
    assert not (out / "spk1.scp").exists()

    result = end(recipe(slurm, place, 8))
    assert result.returncode == 0, result.stderr
    raw = place / "dump" / "raw" / "valid"
    for n in (1, 2):
        tables = ["--mixture_scp", f"{raw}/wav.scp", "--enroll_scp", f"{raw}/enroll_spk{n}.scp", "--name", f"spk{n}"]
        config = ["--decode_config", str(ROOT / "conf" / "decode" / "greedy_16.yaml")]
        tse_gen_inference.main(["--model_dir", f"{place}/exp/tiny", *tables, *config, "--output_dir", f"{place}/local"])
        keys = [line.split()[0] for line in (out / f"spk{n}.scp").read_text().splitlines()]
        assert len(keys) == 10
        for key in keys:
            name = Path("wavs") / f"spk{n}" / f"{key}.wav"
            assert (out / name).read_bytes() == (place / "local" / name).read_bytes()


@pytest.mark.ddp
def test_training_on_two_nodes_is_that_of_one_process(slurm: Environment, tmp_path: Path) -> None:
    import torch
    from exact_corpus import make_exact_corpus

    root = make_exact_corpus(tmp_path)
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "raw").symlink_to(root)
    (tmp_path / "exp" / "codec_tiny").parent.mkdir()
    (tmp_path / "exp" / "codec_tiny").symlink_to(root / "codec")
    for name in ("train", "valid"):
        (tmp_path / "stats" / name).mkdir(parents=True)
        shutil.copy(root / name / "shape.scp", tmp_path / "stats" / name / "speech_mix_shape")
    options = ["--tse_config", f"{root}/train.yaml", "--tse_stats_dir", f"{tmp_path}/stats", "--use_codes", "false"]
    options += ["--ref_num", "1"]
    exps = {"slurm": tmp_path / "exp" / "together", "local": tmp_path / "exp" / "alone"}
    share = {"slurm": ["--num_nodes", "2"], "local": ["--tse_args", "--valid_batch_size 1"]}
    stats = {}
    for backend, exp in exps.items():
        result = end(recipe(slurm, tmp_path, 7, *options, *share[backend], "--tse_exp", str(exp), backend=backend))
        assert result.returncode == 0, result.stderr + (exp / "train.log").read_text()
        stats[backend] = torch.load(exp / "checkpoint.pth", weights_only=False)["reporter"]["stats"]
    assert ":0/2]" in (exps["slurm"] / "train.log").read_text()
    for epoch in (1, 2):
        for part in ("train", "valid"):
            together, alone = stats["slurm"][epoch][part]["loss"], stats["local"][epoch][part]["loss"]
            assert together == pytest.approx(alone, rel=1e-5)
    assert not list(exps["slurm"].glob(".dist_init_*"))
