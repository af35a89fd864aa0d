"""Codecs of the transformers library: real directories, the hub's cache and its server, codebooks, and what is refused."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from codec_families import noise
from hf_maker import need_transformers, write_model
from hub_server import running_hub, use_hub
from refused import refused

from espnet_tse_gen.bin import codec_prepare
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.registry import build_codec, load_codec
from espnet_tse_gen.utils.files import write_yaml

KINDS = ("encodec", "dac", "mimi")
FILES = ("config.json", "model.safetensors")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """Kind to directory and model."""
    made = {}
    for kind in KINDS:
        path = tmp_path_factory.mktemp(kind)
        made[kind] = path, write_model(path, kind)
    return made


def loaded(path: Path, **conf: Any) -> AbsCodec:
    codec = build_codec("transformers", {"model": str(path), **conf})
    codec.load_pretrained(path)
    return codec


@pytest.mark.parametrize("kind", KINDS)
def test_codes_and_waveforms_are_the_librarys_own(models: dict[str, tuple[Path, Any]], kind: str) -> None:
    path, model = models[kind]
    codec = loaded(path)
    wav = noise(1, 7 * codec.hop)
    with torch.no_grad():
        options = {"bandwidth": 1.2} if kind == "encodec" else {}
        codes = model.encode(wav.unsqueeze(1), **options).audio_codes
        scales = {"audio_scales": [None]} if kind == "encodec" else {}
        made = model.decode(audio_codes=codes, **scales).audio_values.reshape(1, -1)
    encoded = codec.encode(wav)
    assert torch.equal(encoded.codes, codes.reshape(1, -1, 7))
    assert not torch.equal(encoded.latents, codec.latents_of(encoded.codes))
    torch.testing.assert_close(codec.decode(encoded.codes)[:, : made.shape[1]], made, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "kind, rate, frame_rate, codebooks", [("encodec", 24000, 75, 4), ("dac", 16000, 50, 3), ("mimi", 24000, 12.5, 4)]
)
def test_facts_come_from_the_model(models: dict[str, tuple[Path, Any]], kind: str, rate, frame_rate, codebooks) -> None:
    codec = loaded(models[kind][0])
    facts = (codec.sample_rate, codec.frame_rate, codec.num_codebooks, codec.codebook_size)
    assert facts == (rate, frame_rate, codebooks, 16)
    fewer = loaded(models[kind][0], num_codebooks=2)
    wav = noise(1, 3 * codec.hop)
    assert torch.equal(fewer.encode(wav).codes, codec.encode(wav).codes[:, :2])
    refused(rf"num_codebooks must be 1\.\.{codebooks}", loaded, models[kind][0], num_codebooks=codebooks + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_codec_directory_needs_no_original(kind: str, tmp_path: Path, capsys) -> None:
    write_model(tmp_path / "model", kind)
    conf = {"model": f"{tmp_path}/model", "num_codebooks": 2}
    write_yaml(tmp_path / "c.yaml", {"codec": "transformers", "codec_conf": conf})
    command = ["--codec_config", f"{tmp_path}/c.yaml", "--output_dir", f"{tmp_path}/codec"]
    codec_prepare.main(command)
    codec = loaded(tmp_path / "model", num_codebooks=2)
    sha256 = hashlib.sha256((tmp_path / "model/model.safetensors").read_bytes()).hexdigest()
    shutil.rmtree(tmp_path / "model")
    prepared = load_codec(tmp_path / "codec")
    wav = noise(1, 3 * codec.hop)
    assert torch.equal(prepared.encode(wav).codes, codec.encode(wav).codes)
    content = (tmp_path / "codec/codec.yaml").read_text()
    assert f"sha256: {sha256}" in content and str(tmp_path) not in content.split("origin:")[0]
    capsys.readouterr()
    codec_prepare.main(command)
    assert "kept" in capsys.readouterr().out


def test_weights_may_be_a_directory(models: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    conf = {"model": "kyutai/mimi", "config": {"model_type": "dac"}}
    write_yaml(tmp_path / "c.yaml", {"codec": "transformers", "codec_conf": conf})
    path = models["dac"][0]
    command = ["--codec_config", f"{tmp_path}/c.yaml", "--output_dir", f"{tmp_path}/codec", "--weights", str(path)]
    codec_prepare.main(command)
    assert load_codec(tmp_path / "codec").fingerprint() == loaded(path).fingerprint()


def test_incomplete_and_damaged_models_are_refused(models: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = tmp_path / "model"
    shutil.copytree(models["dac"][0], path)
    state = load_file(path / FILES[1])
    for change, message in (
        ({key: value for key, value in state.items() if key != "encoder.conv1.weight"}, "1 missing weights"),
        ({**state, "extra": torch.zeros(1)}, "1 unexpected weights, first extra"),
    ):
        save_file(change, path / FILES[1], metadata={"format": "pt"})
        refused(message, loaded, path)
    (path / FILES[1]).write_bytes(b"nonsense")
    refused("cannot be loaded", loaded, path)
    (path / "model.safetensors.sha256").write_text("0" * 64)
    refused("is damaged", loaded, path)
    (path / FILES[1]).unlink()
    refused("all of its parts", loaded, path)
    shutil.copy(models["dac"][0] / FILES[1], path)
    (path / FILES[0]).write_text('{"model_type": "dacc"}')
    (path / "model.safetensors.sha256").unlink()
    refused("no model_type 'dacc'", loaded, path)


def test_models_without_the_interface_are_refused() -> None:
    need_transformers()
    bert = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 10}
    for config, message in (
        ({**bert, "intermediate_size": 8}, "BertModel has not the interface"),
        ({"model_type": "encodec", "audio_channels": 2, "num_filters": 2}, "several channels"),
        ({}, "no model_type None"),
    ):
        refused(message, build_codec, "transformers", {"config": config})
    refused("must name a model", build_codec, "transformers")
    unloaded = build_codec("transformers", {"model": "a/b"})
    for call in (lambda: unloaded.encode(noise(1, 100)), lambda: unloaded.codebook(0)):
        refused("a/b is not loaded; make a codec directory", call)


@pytest.fixture
def hub(models: dict[str, tuple[Path, Any]], tmp_path: Path, monkeypatch) -> Iterator[list[str]]:
    """A hub on this machine with one model, ``some/dac``, and an empty cache; yields the paths that were asked for."""
    with running_hub({"some/dac": models["dac"][0]}) as server:
        use_hub(server.address, tmp_path / "hub", monkeypatch)
        yield server.asked


def test_fetching_from_the_hub(hub: list[str], models: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("codec: transformers\ncodec_conf: {model: some/dac, revision: main}\n")
    command = ["--codec_config", f"{tmp_path}/c.yaml", "--output_dir", f"{tmp_path}/codec"]
    assert "--download true" in refused(r"huggingface\.co/some/dac/tree/main", codec_prepare.main, command)
    assert not hub
    codec_prepare.main([*command, "--download", "true"])
    assert load_codec(tmp_path / "codec").fingerprint() == loaded(models["dac"][0]).fingerprint()
    before = len(hub)
    codec_prepare.main([*command, "--output_dir", f"{tmp_path}/other"])  # from the cache
    assert len(hub) == before and load_codec(tmp_path / "other").num_codebooks == 3
    blob = next(tmp_path.glob("hub/models--some--dac/snapshots/*/model.safetensors")).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    refused("is damaged or another file", codec_prepare.main, [*command, "--output_dir", f"{tmp_path}/third"])
    blob.unlink()  # as an interrupted fetch leaves it
    refused("--download true", codec_prepare.main, [*command, "--output_dir", f"{tmp_path}/third"])


def test_a_hub_that_cannot_be_reached_is_one_line(hub: list[str], tmp_path: Path) -> None:
    other, local = (build_codec("transformers", {"model": model}) for model in ("some/other", "./some/dir"))
    refused(r"some/other: cannot be fetched .*--weights DIR", other.download_pretrained)
    assert hub
    refused("is not the name of a model", local.download_pretrained)
