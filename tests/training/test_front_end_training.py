"""A training with a front end: what it writes, that it goes on, and which mistakes it names before it begins."""

import shutil
from pathlib import Path

import pytest
import torch
from tiny_discriminative import discriminative_exp_dir
from tiny_model import RATE
from training_runs import refuse, run, state, succeed, training

from espnet_tse_gen import TargetSpeakerExtractor
from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.inference.front_end import load_front_end
from espnet_tse_gen.utils.checkpoints import read_checkpoint
from espnet_tse_gen.utils.files import read_scp, read_yaml

pytestmark = pytest.mark.slow

SHORT = ["--max_epoch", "1", "--num_iters_per_epoch", "2"]


@pytest.mark.parametrize(("kind", "features"), [("spex_plus", None), ("dual_path", "features+latent")])
def test_a_training_leaves_a_model_that_needs_nothing_else(
    corpus: Path, tmp_path: Path, kind: str, features: str | None
) -> None:
    source = shutil.copytree(discriminative_exp_dir(kind), tmp_path / kind)
    conf = ["--extractor_conf", f"front_end_features={features}"] if features else []
    command = training(corpus, tmp_path / "exp", *SHORT, "--front_end", str(source), *conf)
    succeed(command, tmp_path / "train.log")
    config = read_yaml(tmp_path / "exp" / "config.yaml")
    assert config["front_end"] == str(source)
    # The default is not in the configuration that was given.
    assert config["extractor_conf"]["front_end_features"] == (features or "latent+stft")
    front_end = load_front_end(source, RATE)
    assert load_front_end(tmp_path / "exp" / "front_end", RATE).fingerprint() == front_end.fingerprint()
    weights = read_checkpoint(tmp_path / "exp" / "1epoch.pth")
    assert bytes(weights["front_end_fingerprint"].int().tolist()).hex() == front_end.fingerprint()
    assert not any(name.startswith("front_end.") for name in weights)

    # Another one cannot take its place in the same directory; the same one is not written again.
    other = shutil.copytree(discriminative_exp_dir("mc_spex"), tmp_path / "other")
    before = state(tmp_path / "exp")
    again = training(corpus, tmp_path / "exp", *SHORT, "--resume", "true", "--front_end", str(other), *conf)
    result = run(again, tmp_path / "again.log")
    says = "are those of a front end that has some" if features else "trained with the estimates of another front end"
    assert result.status == 2 and says in result.error, result.log
    assert state(tmp_path / "exp") == before

    shutil.rmtree(source)
    key, path = next(iter(read_scp(corpus / "valid" / "wav.scp").items()))
    recordings = [read_audio(one)[0] for one in (path, read_scp(corpus / "valid" / "enroll_spk1.scp")[key])]
    voices = []
    for name in ("exp", "elsewhere"):
        if voices:
            shutil.move(tmp_path / "exp", tmp_path / name)
        voices.append(TargetSpeakerExtractor.from_pretrained(tmp_path / name, decode="one_step")(*recordings, RATE))
    assert (voices[0] == voices[1]).all() and voices[0].any()
    from espnet_tse_gen.training.tse_gen_task import TSEGenTask

    model, _ = TSEGenTask.build_model_from_file(model_file=tmp_path / "elsewhere" / "1epoch.pth")
    assert torch.equal(model.front_end_fingerprint, weights["front_end_fingerprint"])


def test_a_front_end_that_is_trained_along_is_in_the_checkpoint(corpus: Path, tmp_path: Path) -> None:
    source = discriminative_exp_dir("dual_path")
    conf = ["--extractor_conf", "front_end_features=features+latent", "--model_conf", "front_end_rate=0.1"]
    conf += ["--optim", "muon", "--front_end", str(source)]
    succeed(training(corpus, tmp_path / "exp", *SHORT, *conf), tmp_path / "train.log")
    begun, weights = load_front_end(source, RATE), read_checkpoint(tmp_path / "exp" / "1epoch.pth")
    assert load_front_end(tmp_path / "exp" / "front_end", RATE).fingerprint() == begun.fingerprint()
    trained = {name: value for name, value in weights.items() if name.startswith("trained_front_end.")}
    same = [torch.equal(value, trained[f"trained_front_end.{name}"]) for name, value in begun.state_dict().items()]
    assert any(same) and not all(same)
    extractor = TargetSpeakerExtractor.from_pretrained(tmp_path / "exp", decode="one_step")
    for name, value in extractor.model.front_end.state_dict().items():
        assert torch.equal(value, trained[f"trained_front_end.{name}"]), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--front_end", "exp/none"], "--front_end: exp/none: no such exp directory or zip file"),
        (["--front_end", "spex_puls"], "--front_end: unknown model 'spex_puls'"),
        (
            ["--extractor_conf", "front_end_features=stft"],
            "front_end_features and --front_end: only one of them is given",
        ),
        (
            ["--front_end", "dual_path_16k", "--model_conf", "front_end_rate=0.1"],
            "--optim adamw: has one learning rate",
        ),
        (
            ["--front_end", "mc_spex_16k", "--model_conf", "front_end_rate=0.1", "--optim", "muon"],
            "model_conf front_end_rate: the front end has no features",
        ),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    corpus: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    refuse(message, training(corpus, tmp_path / "exp", *SHORT, *options), tmp_path / "train.log")
