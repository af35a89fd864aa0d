"""Whatever is wrong with a training's input ends in one line that names it, with status 2, and changes nothing on disk."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny_model import RATE, fitted_codec
from training_runs import kill, results, run, start, state, succeed, tokenize, training, wait_for, write_wav

from espnet_tse_gen.codec.registry import save_codec
from espnet_tse_gen.utils.checkpoints import check_finite, read_checkpoint
from espnet_tse_gen.utils.files import read_scp, write_scp

pytestmark = pytest.mark.slow
Refused = Callable[..., str]


@pytest.fixture
def refused(corpus: Path, trained: tuple[Path, str], tmp_path: Path) -> Refused:
    """Run a training that goes on in a copy of a trained directory; return the line with which it is refused."""
    output = tmp_path / "exp"
    shutil.copytree(trained[0], output, symlinks=True)

    def check(*options: str, arguments: list[str] | None = None, unchanged: bool = True) -> str:
        before = state(output)
        command = training(corpus, output, "--resume", "true", "--max_epoch", "5") if arguments is None else arguments
        result = run([*command, *options], tmp_path / "log")
        assert result.status == 2, result.log
        assert result.error.startswith("tse_gen_train: error: "), result.log
        if unchanged:
            assert "Traceback" not in result.log
            assert state(output) == before
        return result.error.removeprefix("tse_gen_train: error: ")

    return check


def edited(corpus: Path, folder: Path, change: Callable[[dict[str, str]], object], *tables: str) -> list[str]:
    """The command of a training whose training tables ``tables`` are changed copies."""
    command = training(corpus, folder / "exp", "--resume", "true", "--max_epoch", "5")
    for table in tables:
        entries = read_scp(corpus / "train" / table)
        change(entries)
        write_scp(folder / table, entries)
        command = [word.replace(f"{corpus}/train/{table},", f"{folder}/{table},") for word in command]
    return command


@pytest.mark.parametrize(
    ("table", "change", "says"),
    [
        *((table, lambda entries: entries.pop("train03"), "'train03'") for table in ("wav.scp", "spk2.scp", "enroll_spk1.scp")),
        ("spk1.scp", lambda entries: entries.update(other="x.wav"), "spk1.scp: 1 key(s) are not in"),
    ],
)  # fmt: skip
def test_keys_that_differ(refused: Refused, corpus: Path, tmp_path: Path, table: str, change: Any, says: str) -> None:
    line = refused(arguments=edited(corpus, tmp_path, change, table))
    assert says in line and f"{tmp_path}/{table}" in line


def test_tables_that_do_not_fit(refused: Refused, corpus: Path, tmp_path: Path) -> None:
    line = refused("--train_shape_file", f"{corpus}/stats/valid/speech_mix_shape")
    assert "speech_mix_shape" in line and "statistics stage" in line
    line = refused("--valid_data_path_and_name_and_type", f"{corpus}/valid/wav.scp,speech_mic,sound")
    assert "'speech_mic': did you mean 'speech_mix'" in line
    assert "enroll_ref3 is missing" in refused("--ref_num", "3")
    line = refused("--sample_rate", "16000")
    assert "sampling rate is 8000 Hz, expected 16000 Hz" in line and "wav.scp" in line
    command = edited(corpus, tmp_path, lambda entries: None, "spk1.scp")
    (tmp_path / "spk1.scp").unlink()
    assert f"{tmp_path}/spk1.scp: no such file" in refused(arguments=command)
    assert "--output_dir is missing" in refused(arguments=[])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "corrupt": (lambda path: path.write_bytes(b"RIFF this is not a recording"), "not recognised"),
    "empty": (lambda path: write_wav(path, np.zeros(0)), "is empty"),
    "absent": (lambda path: None, "no such file"),
    "nan": (lambda path: write_wav(path, np.full(8000, np.nan)), "NaN"),
    "stereo": (lambda path: write_wav(path, np.full((8000, 2), 0.1)), "2 channels"),
    "other rate": (lambda path: write_wav(path, np.full(16000, 0.1), 2 * RATE), "000 != "),
    "shorter than its mixture": (lambda path: write_wav(path, np.full(4000, 0.1)), "4000 samples, its mixture"),
}


@pytest.mark.parametrize(("damage", "workers"), [*((damage, 0) for damage in DAMAGE), ("corrupt", 1), ("nan", 1)])
def test_a_recording_that_cannot_be_used(
    refused: Refused, corpus: Path, tmp_path: Path, damage: str, workers: int
) -> None:
    bad = tmp_path / "bad.wav"
    DAMAGE[damage][0](bad)
    tables = ["wav.scp", "spk1.scp", "spk2.scp"] if damage != "shorter than its mixture" else ["spk1.scp", "spk2.scp"]
    # Not the first one, which is looked at before the training starts.
    command = edited(corpus, tmp_path, lambda entries: entries.update(train07=str(bad)), *tables)
    # Some epochs of a training may lie before the error; what they wrote stays.
    line = refused("--num_workers", str(workers), arguments=command, unchanged=False)
    assert ("'train07'" in line or str(bad) in line) and DAMAGE[damage][1] in line


def test_statistics_meet_a_bad_recording(refused: Refused, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no")
    command = edited(corpus, tmp_path, lambda entries: entries.update(train09=str(tmp_path / "bad.wav")), "wav.scp")
    command = [word for word in command if "shape" not in word]
    line = refused("--collect_stats", "true", "--output_dir", f"{tmp_path}/stats", arguments=command, unchanged=False)
    assert "'train09'" in line


@pytest.fixture
def codes(corpus: Path, tmp_path: Path) -> Path:
    return tokenize(corpus, tmp_path / "codes")


def test_tokens_of_another_length(refused: Refused, corpus: Path, codes: Path, tmp_path: Path) -> None:
    for n in (1, 2):
        entries = read_scp(codes / "train" / f"codes_spk{n}.scp")
        entries["train02"] = entries["train08"]
        write_scp(codes / "train" / f"codes_spk{n}.scp", entries)
    line = refused(arguments=training(corpus, tmp_path / "new", codes=codes), unchanged=False)
    assert "of 'train02' has" in line and "extract the tokens again" in line


def test_tokens_of_another_codec(refused: Refused, corpus: Path, codes: Path, tmp_path: Path) -> None:
    save_codec(fitted_codec(seed=5), tmp_path / "other")
    command = training(corpus, tmp_path / "new", "--codec_dir", f"{tmp_path}/other", codes=codes)
    assert "codes_spk1.scp: holds the tokens of another codec" in refused(arguments=command)
    assert not (tmp_path / "new").exists()


def test_weights_of_another_codec_or_size(
    refused: Refused, corpus: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    save_codec(fitted_codec(seed=5), tmp_path / "other")
    line = refused("--codec_dir", f"{tmp_path}/other")
    assert "checkpoint.pth: checkpoint was trained on the tokens of another codec" in line
    given = trained[0] / "3epoch.pth"
    command = training(corpus, tmp_path / "new", "--init_param", str(given), "--codec_dir", f"{tmp_path}/other")
    assert f"--init_param {given}: checkpoint was trained on the tokens of another codec" in refused(arguments=command)
    assert not (tmp_path / "new").exists()
    assert "checkpoint.pth: does not fit the configuration" in refused("--extractor_conf", "width=64")


def test_half_a_checkpoint(refused: Refused, tmp_path: Path) -> None:
    checkpoint = tmp_path / "exp" / "checkpoint.pth"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    assert f"{checkpoint}: is not a readable checkpoint" in refused()


def test_weights_that_are_no_numbers(refused: Refused, corpus: Path, trained: tuple[Path, str], tmp_path: Path) -> None:
    weights = torch.load(trained[0] / "3epoch.pth", weights_only=True)
    weights["extractor.heads"][0, 0, 0] = float("nan")
    torch.save(weights, tmp_path / "nan.pth")
    line = refused(arguments=training(corpus, tmp_path / "new", "--init_param", f"{tmp_path}/nan.pth"))
    assert f"{tmp_path}/nan.pth: weight 'extractor.heads' holds NaN" in line


def test_a_pickle_is_not_run(refused: Refused, corpus: Path, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    line = refused(arguments=training(corpus, tmp_path / "new", "--init_param", f"{tmp_path}/evil.pth"))
    assert f"{tmp_path}/evil.pth: is not a readable checkpoint" in line
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--codec", "mle", "--codec_dir", "none"], "did you mean 'mel'"),
        (["--extractor_conf", "widht=3"], "did you mean 'width'"),
        (["--extractor_conf", "width=wide"], "extractor 'masked' (extractor_conf): cannot be built from its options"),
        (["--model_conf", "maskng=joint"], "did you mean 'masking'"),
        (["--preprocessor_conf", "crop_second=3"], "did you mean 'crop_seconds'"),
        (["--optim_conf", "learning=1"], "unknown key of --optim_conf 'learning'"),
        (["--preprocessor", "tse_gn"], "did you mean 'tse_gen'"),
        (["--optim", "adamm"], "did you mean 'adam"),
        (["--scheduler_conf", "warmup_step=1"], "did you mean 'warmup_steps'"),
        (["--optim_conf", "lr=1e-3"], "--optim_conf lr: '1e-3' is text to yaml; write the number as 0.001"),
        (["--optim", "adam"], "/exp began with 'adamw'; give that, or another --output_dir"),
        (["--scheduler", "none"], "--scheduler: is 'None', but"),
        (["--optim_conf", "lr=-1.0"], "--optim_conf: Invalid learning rate: -1.0"),
        (["--scheduler_conf", "warmup_steps=many"], "--scheduler_conf:"),
        (["--dist_world_size", "2", "--valid_batch_size", "1"], "--valid_batch_size: 1 items cannot be split over 2"),
        (["--max_epochs", "3"], "did you mean '--max_epoch'"),
        (["--codec_dir", "/nowhere"], "/nowhere: is not a codec directory"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["--train_spk2enroll", "/nowhere.json"], "/nowhere.json: no such file"),
        (["--init_param", "/nowhere.pth", "--resume", "false"], "/nowhere.pth: no such checkpoint"),
    ],
)
def test_unknown_names_and_files(refused: Refused, options: list[str], says: str) -> None:
    assert says in refused(*options)


def test_a_number_that_is_advised_is_one(refused: Refused) -> None:
    for text in ("1e30", "1.0e30", "-.5E7", "3.e2", "1e+2"):
        advice = refused("--optim_conf", f"lr={text}").split("number as ")[1]
        assert yaml.safe_load(advice) == float(text)


@pytest.mark.parametrize(("highest", "says"), [(1e-3, 0), (5e-4, 1)])
def test_a_learning_rate_that_the_scheduler_overrides_is_said(
    capsys: pytest.CaptureFixture[str], highest: float, says: int
) -> None:
    from espnet_tse_gen.training.checks import check_options
    from espnet_tse_gen.training.tse_gen_task import TSEGenTask

    args = TSEGenTask.get_parser().parse_args(["--output_dir", "exp", "--optim", "adamw", "--optim_conf", "lr=0.001"])
    args.scheduler = "cosineannealingwarmuprestarts"
    args.scheduler_conf = {"first_cycle_steps": 100, "warmup_steps": 10, "max_lr": highest, "min_lr": 1e-6}
    check_options(args)
    assert capsys.readouterr().err.count("--optim_conf lr: warning: 0.001 has no effect") == says


def test_another_learning_rate_is_said_to_change_nothing(
    corpus: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    output = shutil.copytree(trained[0], tmp_path / "exp", symlinks=True)
    log = succeed(training(corpus, output, "--resume", "true", "--optim_conf", "lr=0.5"), tmp_path / "log")
    assert log.count("warning: was changed since the training in") == log.count("--optim_conf: warning: was") == 1


def test_a_second_training_in_one_folder_is_refused(corpus: Path, tmp_path: Path) -> None:
    output, log, other = tmp_path / "exp", tmp_path / "log", tmp_path / "other.log"
    command = training(corpus, output, "--resume", "true", "--max_epoch", "40")
    first = start(command, log)
    try:
        wait_for(log, "1epoch results", first)
        (tmp_path / "link").symlink_to(output)
        tried = ["--output_dir", str(output), "--train_data_path_and_name_and_type", "x,speech_mix,sound"]
        for again, program in (
            (training(corpus, output, "--resume", "true"), "tse_gen_train"),
            (training(corpus, tmp_path / "link", "--resume", "true"), "tse_gen_train"),
            (tried, "tse_train"),
        ):
            result = run(again, other, program)
            assert result.status == 2 and "Traceback" not in result.log
            assert f"another training writes into it (process {first.pid} of " in result.error
    finally:
        kill(first)
    assert results(log.read_text())
    assert "training was resumed" in succeed(training(corpus, output, "--resume", "true", "--max_epoch", "41"), log)


@pytest.mark.parametrize("rate", ["1.0e+38", "1.0e+20"])
def test_a_training_that_diverges_says_so(corpus: Path, trained: tuple[Path, str], tmp_path: Path, rate: str) -> None:
    options = ["--optim", "sgd", "--optim_conf", f"lr={rate}", "--scheduler", "none", "--grad_clip", "1.0e+30"]
    result = run(training(corpus, tmp_path / "exp", "--resume", "true", *options), tmp_path / "log")
    assert result.status == 2 and "Traceback" not in result.log, result.log
    assert re.search(r"error: the training diverged in epoch \d: .* lower learning rate", result.error)
    for path in (tmp_path / "exp").glob("*.pth"):  # what is there can be decoded with
        check_finite(read_checkpoint(path), path)
