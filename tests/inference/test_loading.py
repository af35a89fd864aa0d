"""Opening trained models: which checkpoint is taken, and what cannot be used ends in one line."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from refused import refused
from tiny_discriminative import discriminative_exp_dir
from tiny_model import fitted_codec, load, mixture, voice

from espnet_tse_gen import load_extractor
from espnet_tse_gen.codec.registry import save_codec
from espnet_tse_gen.inference import loading
from espnet_tse_gen.inference.loading import open_model
from espnet_tse_gen.utils.files import read_yaml, write_yaml
from espnet_tse_gen.utils.model_files import find_checkpoint


@pytest.mark.parametrize("where", ["no/such/dir", "nothing.zip", "no_such_model", None, "."])
def test_missing_model_is_refused(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(r"\.: is not an exp directory" if where == "." else str(where).split("/")[0], load_extractor, where)


def test_default_checkpoint_prefers_averages(exp_dir):
    weights = exp_dir / "valid.loss.ave.pth"
    order = [f"valid.{name}.{kind}.pth" for name in ("si_snr_loss_s0", "loss") for kind in ("ave", "best")]
    order += ["train.loss.ave_1best.pth", "latest.pth", "12epoch.pth", "9epoch.pth"]
    for name in {*order, "checkpoint.pth"} - {weights.name}:
        shutil.copy(weights, exp_dir / name)
    for name in order:
        assert find_checkpoint(exp_dir).name == name
        (exp_dir / name).unlink()
    refused("holds no checkpoint", find_checkpoint, exp_dir)


def test_checkpoint_of_another_codec_is_refused(exp_dir):
    save_codec(fitted_codec(seed=3), exp_dir / "codec")
    refused(r"valid\.loss\.ave\.pth: checkpoint was trained on the tokens of another codec", load_extractor, exp_dir)


@pytest.mark.parametrize("change", ["nan", "missing", "extra", "shape", "not tensors", "inside", "half", "nothing"])
def test_checkpoint_that_does_not_fit_is_refused(exp_dir, change):
    path = exp_dir / "valid.loss.ave.pth"
    state, content = torch.load(path, weights_only=True), path.read_bytes()
    message = re.escape(str(path))
    if change == "nan":
        state["extractor.heads"][0, 0, 0] = float("nan")
    elif change == "missing":
        del state["extractor.heads"]
    elif change == "extra":
        state["extractor.more"] = torch.zeros(2)
    elif change == "shape":
        state["extractor.heads"] = state["extractor.heads"][:2]
    elif change == "not tensors":
        state = {"epoch": 3}
    elif change == "inside":
        state, message = {"epoch": 3, "state_dict": state}, message + ".* it has 'state_dict': save what is in there"
    torch.save(state, path)
    if change in ("half", "nothing"):
        path.write_bytes(content[: len(content) // 2] if change == "half" else b"")
    refused(message, load_extractor, exp_dir)


@pytest.mark.parametrize("kind", ["masked", "dual_path", "spex_plus"])
def test_weights_of_a_training_that_diverged_end_in_one_line(exp_dir, tmp_path, kind):
    if kind != "masked":
        shutil.rmtree(exp_dir)
        shutil.copytree(discriminative_exp_dir(kind), exp_dir)
    path = exp_dir / "valid.loss.ave.pth"
    state = torch.load(path, weights_only=True)
    for name, value in state.items():
        if value.is_floating_point() and not name.endswith("fingerprint"):
            value.mul_(1e30).clamp_(-3e38, 3e38)  # every one of them still a number
    torch.save(state, path)
    refused(
        "the model gives no numbers: its training diverged", load_extractor(exp_dir), mixture(0.5), voice(1.0, 110.0)
    )


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_names_of_wrapped_models_are_understood(exp_dir, prefix):
    path = exp_dir / "valid.loss.ave.pth"
    state = torch.load(path, weights_only=True)
    torch.save({prefix + name: value for name, value in state.items()}, path)
    made = load_extractor(exp_dir)(mixture(0.5), voice(1.0, 110.0))
    np.testing.assert_array_equal(made, load()(mixture(0.5), voice(1.0, 110.0)))


@pytest.mark.parametrize(
    "name", ["valid.loss.ave.pth", "config.yaml", "codec/weights.pth", "codec/codec.yaml", "model.zip"]
)
def test_a_pointer_of_git_lfs_is_named(exp_dir, name):
    (exp_dir / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    where = exp_dir / name if name == "model.zip" else exp_dir
    refused(f"{name}: is a pointer of Git LFS .* run 'git lfs pull'", load_extractor, where)


@pytest.mark.parametrize("named", [None, "/somewhere/exp/codec_mel"])
def test_a_model_without_its_codec_says_so(exp_dir, named):
    shutil.rmtree(exp_dir / "codec")
    write_yaml(exp_dir / "config.yaml", {**read_yaml(exp_dir / "config.yaml"), "codec_dir": named})
    refused("exp/codec: no such folder; it holds the codec that the model was trained with", load_extractor, exp_dir)


def test_a_folder_does_not_hide_a_model_that_ships(exp_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loading, "SHIPPED", tmp_path / "pretrained")
    shutil.copytree(exp_dir, tmp_path / "pretrained" / "mine")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()  # where outputs go that are named after the model
    with open_model("mine") as directory:
        assert directory.path == tmp_path / "pretrained" / "mine"
    assert capsys.readouterr().err == ""
    shutil.copy(exp_dir / "config.yaml", tmp_path / "mine")
    for where, found in (("mine", tmp_path / "pretrained/mine"), ("./mine", Path("mine")), (tmp_path / "mine",) * 2):
        with open_model(where) as directory:
            assert directory.path == found
    assert capsys.readouterr().err == "mine: the model of this name that ships is used; write ./mine for the folder\n"
    shutil.rmtree(tmp_path / "mine")
    (tmp_path / "mine").write_text("notes")
    with open_model("mine") as directory:
        assert directory.path == tmp_path / "pretrained" / "mine"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("extractor", "maskd", "unknown extractor 'maskd': did you mean 'masked'"),
        ("extractor_conf", {"widht": 3}, "did you mean 'width'"),
        ("model_conf", {"maskin": "level"}, "did you mean 'masking'"),
    ],
)
def test_unknown_name_in_the_configuration_is_refused(exp_dir, key, value, message):
    write_yaml(exp_dir / "config.yaml", {**read_yaml(exp_dir / "config.yaml"), key: value})
    refused(f"{exp_dir}/config.yaml: .*{message}", load_extractor, exp_dir)
