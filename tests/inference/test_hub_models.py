"""Models of the Hugging Face hub, from a hub on this machine and from the cache."""

import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import COMMIT, Hub, running_hub, use_hub
from refused import refused
from tiny_discriminative import discriminative_exp_dir
from tiny_model import mixture, tiny_exp_dir, voice

from espnet_tse_gen import TargetSpeakerExtractor
from espnet_tse_gen.inference.loading import describe_model, list_models, open_model
from espnet_tse_gen.inference.packing import pack
from espnet_tse_gen.utils.model_files import PACKED


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    """A masked model, whose codec is a pickle of tensors, packed for the hub."""
    folder = tmp_path_factory.mktemp("packed") / "voice"
    pack(tiny_exp_dir(), folder, decode="one_step", name="acme/voice", license="cc-by-4.0")
    return folder


@pytest.fixture
def hub(packed: Path, tmp_path: Path, monkeypatch):
    """A hub with the model as ``acme/voice``, and further repositories, which tests may fill; an empty folder and cache."""
    folders = {name: tmp_path / "repositories" / name for name in ("acme/exp", "acme/evil", "acme/text")}
    with running_hub({"acme/voice": packed, **folders}) as server:
        use_hub(server.address, tmp_path / "cache", monkeypatch)
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        yield server


def extracted(where) -> np.ndarray:
    return TargetSpeakerExtractor.from_pretrained(where)(mixture(0.8), voice(1.0, 110.0, seed=5))


def test_a_model_of_the_hub_extracts_as_its_folder_also_offline(hub: Hub, packed: Path, monkeypatch) -> None:
    (packed / "valid.loss.ave.pth").write_bytes(b"of the training")
    wanted = extracted(packed)
    np.testing.assert_array_equal(extracted("acme/voice"), wanted)
    given = {path.rpartition("/resolve/")[2].partition("/")[2] for path in hub.asked if "/resolve/" in path}
    assert given == {name for name in PACKED if not name.startswith("front_end/")}
    told = describe_model("acme/voice@v1")
    assert told.startswith("model:      acme/voice@v1\ncheckpoint: model.safetensors\n") and "\n# acme/voice\n" in told
    assert "library_name" not in told
    assert f"acme/voice@{COMMIT[:7]}: model of the Hugging Face hub, " in list_models()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    for where in ("acme/voice", "acme/voice@v1", f"acme/voice@{COMMIT}"):
        np.testing.assert_array_equal(extracted(where), wanted)
    refused("nor can it be fetched .Cannot reach", open_model("acme/exp").__enter__)
    assert len(hub.asked) == asked


def test_a_folder_comes_first_and_a_mistyped_path_is_not_asked_for(hub: Hub, packed: Path) -> None:
    shutil.copytree(packed, "acme/voice")
    with open_model("acme/voice") as directory:
        assert directory.path == Path("acme/voice")
    hint = "correct the path; a model of the Hugging Face hub would be acme/{0}@main"
    assert refused(hint.format("vioce"), open_model("acme/vioce").__enter__).startswith(
        "acme/vioce: no such exp directory"
    )
    refused(hint.format("vioce"), open_model(Path("acme/vioce")).__enter__)
    assert not hub.asked
    with open_model("acme/voice@main") as directory:
        assert directory.path.parent.name == "snapshots"


def test_a_repository_without_a_packed_model_is_refused_before_its_weights_are_fetched(hub: Hub) -> None:
    text, exp = hub.repositories["acme/text"], hub.repositories["acme/exp"]
    text.mkdir(parents=True)
    (text / "model.safetensors").write_bytes(bytes(1000))
    shutil.copytree(tiny_exp_dir(), exp)
    for name in ("acme/text", "acme/exp"):
        line = refused("it is none that 'tse-gen pack' made", open_model(name).__enter__)
        assert line.startswith(f"{name}: no such exp directory or zip file; as a model of the Hugging Face hub: it is")
    assert not any(path.endswith((".safetensors", "ave.pth")) for path in hub.asked)


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_code_in_a_repository_does_not_run(hub: Hub, packed: Path, tmp_path: Path, form: str) -> None:
    evil = shutil.copytree(packed, hub.repositories["acme/evil"])
    if form == "torch":
        torch.save({"weights": Runs(tmp_path / "ran")}, evil / "codec/weights.pth")
    else:
        (evil / "codec/weights.pth").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    refused("codec/weights.pth: is not a readable checkpoint", TargetSpeakerExtractor.from_pretrained, "acme/evil")
    assert not (tmp_path / "ran").exists()
    torch.load(evil / "codec/weights.pth", weights_only=False) if form == "torch" else pickle.loads(
        (evil / "codec/weights.pth").read_bytes()
    )
    assert (tmp_path / "ran").exists()  # it would have


def test_without_the_library_the_command_that_installs_it_is_named(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    line = refused("as a model of the Hugging Face hub: it needs the package", open_model("acme/voice").__enter__)
    assert line.endswith("which is not installed; run: pip install 'espnet_tse_gen[hub]'")
    assert "hub" not in list_models()


def test_all_that_a_package_holds_is_fetched(packed: Path, tmp_path: Path) -> None:
    found = {str(path.relative_to(packed)) for path in packed.rglob("*") if path.is_file()} - {"valid.loss.ave.pth"}
    assert found == {name for name in PACKED if not name.startswith("front_end/")}
    card = (packed / "README.md").read_text()
    assert card.startswith(
        "---\nlicense: cc-by-4.0\nlibrary_name: espnet_tse_gen\npipeline_tag: audio-to-audio\ntags:\n- audio\n"
    )
    assert "--model acme/voice\n" in card and 'from_pretrained("acme/voice")' in card
    from huggingface_hub import ModelCard

    assert ModelCard(card).data.library_name == "espnet_tse_gen"
    pack(discriminative_exp_dir("spex_plus"), tmp_path / "plain")
    assert "\nlicense: unknown\n" in (tmp_path / "plain" / "README.md").read_text()[:30]
