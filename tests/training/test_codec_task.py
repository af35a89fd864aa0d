"""Training a codec through the command line, going on after a kill, and taking the result as a codec."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from training_runs import PRELOAD, kill_when, refuse, results, start, succeed

from espnet_tse_gen.bin.codec_prepare import main as codec_prepare
from espnet_tse_gen.codec.registry import build_codec, load_codec
from espnet_tse_gen.utils.files import read_yaml, write_scp, write_yaml

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "tests" / "conf" / "soundstream_test.yaml"
RATE = 16000


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine training and three validation recordings of tones in noise."""
    root = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    for name, count in (("train", 9), ("valid", 3)):
        table = {}
        for n in range(count):
            time = np.arange(int(RATE * (0.3 + 0.1 * n))) / RATE
            wav = 0.1 * np.sin(2 * np.pi * (100 + 40 * n) * time) + 0.02 * rng.standard_normal(len(time))
            table[f"{name}{n}"] = str(root / f"{name}{n}.wav")
            soundfile.write(table[f"{name}{n}"], wav, RATE)
        write_scp(root / name / "wav.scp", table)
    return root


def training(speech: Path, output: Path, *options: str) -> list[str]:
    data = [f"--{kind}_data_path_and_name_and_type={speech}/{kind}/wav.scp,audio,sound" for kind in ("train", "valid")]
    return ["--config", str(FIXTURE), "--output_dir", str(output), *data, *options]


@pytest.fixture(scope="module")
def trained(speech: Path) -> tuple[Path, str]:
    output = speech / "straight"
    return output, succeed(training(speech, output), output.with_suffix(".log"), "codec_train")


@pytest.mark.slow
def test_what_a_training_leaves(trained: tuple[Path, str]) -> None:
    exp, log = trained
    names = {path.name for path in exp.iterdir()}
    assert {"config.yaml", "1epoch.pth", "2epoch.pth", "latest.pth", "valid.mel_loss.best.pth"} <= names
    assert "checkpoint.previous.pth" not in names
    assert read_yaml(exp / "config.yaml")["codec_conf"] == read_yaml(FIXTURE)["codec_conf"]
    figures = results(log)
    assert sorted(figures) == [1, 2]
    assert all(np.isfinite(float(figures[2][f"{part}/loss"])) for part in ("train", "valid"))
    states = [torch.load(exp / f"{n}epoch.pth", weights_only=True) for n in (1, 2)]
    for part in ("generator.encoder", "generator.decoder", "discriminator"):
        keys = [key for key in states[0] if key.startswith(f"codec.{part}")]
        assert not all(torch.equal(states[0][key], states[1][key]) for key in keys)


@pytest.mark.slow
def test_a_killed_training_goes_on_as_if_it_had_not_been(trained: tuple[Path, str], speech: Path) -> None:
    log, command = speech / "killed.log", training(speech, speech / "killed", "--resume", "true")
    kill_when(start(command, log, "codec_train"), log, "2epoch:train:1-1batch")
    assert results(succeed(command, log, "codec_train"))[2] == results(trained[1])[2]
    wanted, found = (torch.load(speech / name / "2epoch.pth", weights_only=True) for name in ("straight", "killed"))
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)


def _in_a_process(target: Callable[..., None], *args: str) -> int | None:
    """Call ``target`` in a process that has ESPnet imported already, and return its exit status."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=target, args=args)
    process.start()
    process.join(120)
    return process.exitcode


def _train_every_design(speech: str) -> None:
    torch.set_num_threads(1)
    from espnet_codec_maker import CONFS, conf_of

    from espnet_tse_gen.training.codec_task import CodecTask

    base = read_yaml(FIXTURE)
    small = {"max_epoch": 1, "num_iters_per_epoch": 1, "batch_size": 2, "segment_seconds": 0.25}
    for design in sorted(CONFS.keys() - {base["codec"]}):
        conf = {**base, **small, "codec": design, "codec_conf": {**conf_of(design), "use_dual_decoder": False}}
        write_yaml(f"{speech}/{design}.yaml", conf)
        CodecTask.main(cmd=training(Path(speech), Path(speech) / design, "--config", f"{speech}/{design}.yaml"))


@pytest.mark.slow
def test_every_design_of_espnet_trains_and_becomes_a_codec(speech: Path) -> None:
    """Each for a step; the test above trains SoundStream."""
    assert _in_a_process(_train_every_design, str(speech)) == 0
    for design in ("encodec", "dac", "funcodec", "hificodec"):
        codec = build_codec("espnet", {"exp_dir": str(speech / design)})
        codec.load_pretrained(speech / design)
        assert codec.design == design


def _codes_of_espnet(exp: str, wav: str, output: str) -> None:
    from espnet2.tasks.gan_codec import GANCodecTask

    model, _ = GANCodecTask.build_model_from_file(f"{exp}/config.yaml", f"{exp}/valid.mel_loss.best.pth")
    with torch.no_grad():
        samples = torch.from_numpy(soundfile.read(wav, dtype="float32")[0])
        torch.save(model.eval().encode(samples[: len(samples) // 320 * 320]), output)


@pytest.mark.slow
def test_the_trained_codec_has_the_codes_of_espnet(trained: tuple[Path, str], speech: Path) -> None:
    config, exp, made = f"{ROOT}/conf/codec/espnet.yaml", str(trained[0]), str(speech / "codec")
    codec_prepare(["--codec_config", config, "--weights", exp, "--output_dir", made])
    wav = str(speech / "valid2.wav")
    assert _in_a_process(_codes_of_espnet, exp, wav, str(speech / "codes.pth")) == 0
    want = torch.load(speech / "codes.pth", weights_only=True)
    samples = torch.from_numpy(soundfile.read(wav, dtype="float32")[0])
    found = load_codec(made).encode(samples[: len(samples) // 320 * 320].unsqueeze(0))
    assert torch.equal(found.codes[0], want[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--codec", "soundsteam"], "did you mean 'soundstream'"),
        (["--codec_conf", "sampling_rte=8000"], "'sampling_rte': did you mean 'sampling_rate'"),
        (["--codec_conf", "generator_params={hidden_dim: x}"], "codec 'soundstream': cannot be built"),
        (["--codec_conf", "sampling_rate=8000"], "sampling rate is 16000 Hz, expected 8000 Hz"),
        (["--optim2", "adm"], "did you mean 'adam'"),
        (["--iterator_type", "chunk"], "--iterator_type: 'chunk' cannot be used"),
        (["--segment_seconds", "0"], "--segment_seconds: expected more than 0"),
        (["--gain_db", "3", "1"], "--gain_db: expected the lowest and the highest"),
        (["--valid_data_path_and_name_and_type", "wav.scp,speech,sound"], "'speech': valid: audio"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_written(speech: Path, options: list[str], message: str) -> None:
    refuse(message, training(speech, speech / "mistake", *options), speech / "mistake.log", "codec_train")


@pytest.mark.slow
def test_data_that_is_not_there(tmp_path: Path) -> None:
    command = ["--config", str(FIXTURE), "--output_dir", str(tmp_path / "exp")]
    refuse("--train_data_path_and_name_and_type is missing", command, tmp_path / "log", "codec_train")
