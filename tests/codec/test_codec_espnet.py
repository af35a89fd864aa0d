"""Codecs of ESPnet's codec task: codes as ESPnet's own model makes them, and what happens to files that are not right."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from codec_families import noise
from espnet_codec_maker import CONFS, conf_of, write_exp
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused

from espnet_tse_gen.bin.codec_prepare import main as codec_prepare
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.espnet import find_checkpoint
from espnet_tse_gen.codec.registry import build_codec, load_codec
from espnet_tse_gen.utils.files import write_yaml

FEW = settings(max_examples=6, deadline=None, derandomize=True)


def load(exp: Path, **conf: object) -> AbsCodec:
    codec = build_codec("espnet", {"exp_dir": str(exp), **conf})
    codec.load_pretrained(exp)
    return codec


@pytest.fixture(scope="module", params=CONFS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[AbsCodec, object]:
    """A codec and ESPnet's own model with the same weights."""
    exp = tmp_path_factory.mktemp(request.param)
    model = write_exp(exp, request.param)
    return load(exp), model


@FEW
@given(frames=st.integers(1, 12), seed=st.integers(0, 99))
@torch.no_grad()
def test_codes_are_those_of_espnet(pair: tuple[AbsCodec, object], frames: int, seed: int) -> None:
    codec, model = pair
    wav = noise(1, frames * codec.hop, seed=seed)
    own = model.encode(wav)
    # HiFi-Codec: ESPnet puts the codes of the two halves one after the other in the place of a batch.
    assert torch.equal(codec.encode(wav).codes[0], own.flatten(0, 1)[:, :frames])
    if codec.design == "funcodec":  # one frame more, which is left out and then repeated
        own = torch.cat([own[:, :, :frames], own[:, :, frames - 1 : frames]], dim=2)
    want = model.decode(own).flatten()[: frames * codec.hop]
    torch.testing.assert_close(codec.decode(codec.encode(wav).codes)[0], want, atol=1e-6, rtol=1e-4)
    if codec.design != "funcodec":  # ESPnet's own function leaves out the spectrum
        torch.testing.assert_close(codec.encode(wav).latents, model.encode_continuous(wav)[..., :frames])
    facts = model.meta_info()
    assert codec.sample_rate == facts["fs"] and codec.codebook_sizes[0] == facts["code_size_per_stream"][0]


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("espnet") / "exp"
    write_exp(folder, "dac")
    return folder


def copy_of(exp: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exp, tmp_path / "exp", symlinks=True))


def test_bandwidth_chooses_codebooks(exp: Path) -> None:
    """50 frames/s of 4 bits are 0.2 kbit/s for each of up to 3 codebooks; the training's last bandwidth is 0.4 kbit/s."""
    for bandwidth, codebooks in ((None, 2), (0.2, 1), (0.05, 1), (0.61, 3), (99.0, 3)):
        codec = load(exp, bandwidth=bandwidth)
        assert codec.num_codebooks == codebooks
        assert torch.equal(codec.encode(noise(1, 2000)).codes[:, :1], load(exp).encode(noise(1, 2000)).codes[:, :1])


def test_the_checkpoint_is_chosen_by_the_rule(exp: Path, tmp_path: Path) -> None:
    folder = copy_of(exp, tmp_path)
    (folder / "train.total_count.ave.pth").symlink_to("2epoch.pth")
    shutil.copy(folder / "1epoch.pth", folder / "10epoch.pth")
    shutil.copy(folder / "1epoch.pth", folder / "checkpoint.pth")
    order = "valid.mel_loss.best train.total_count.ave latest 10epoch 2epoch 1epoch"
    for name in (f"{one}.pth" for one in order.split()):
        assert find_checkpoint(folder).name == name
        (folder / name).unlink()
        if name == "latest.pth":  # a link to an epoch that is gone does not count
            (folder / "train.total_count.best.pth").symlink_to("3epoch.pth")
    refused("holds no checkpoint to take.*there are: none", find_checkpoint, folder)
    refused(r"3epoch.pth: no such checkpoint; there are: 1epoch.pth, 2epoch.pth", find_checkpoint, exp, "3epoch.pth")
    assert find_checkpoint(exp / "2epoch.pth") == exp / "2epoch.pth"


@pytest.mark.slow
def test_prepared_directory_needs_no_exp_directory(exp: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, made = copy_of(exp, tmp_path), tmp_path / "codec"
    write_yaml(tmp_path / "espnet.yaml", {"codec": "espnet", "codec_conf": {"bandwidth": 0.61}})
    command = ["--codec_config", str(tmp_path / "espnet.yaml"), "--output_dir", str(made), "--weights"]
    codec_prepare([*command, str(folder)])
    want = load(folder, bandwidth=0.61)
    codec_prepare([*command, str(folder)])
    assert "kept" in capsys.readouterr().out
    refused(r"made with other settings \(weights\)", codec_prepare, [*command, str(folder / "2epoch.pth")])
    shutil.rmtree(folder)
    codec = load_codec(made)
    assert torch.equal(codec.encode(noise(1, 2000)).codes, want.encode(noise(1, 2000)).codes)
    assert "exp" not in yaml.safe_load((made / "codec.yaml").read_text())["codec_conf"]
    # In a process of its own: neither ESPnet's tasks, which take seconds, nor what they would fetch.
    check = (
        "import sys; from espnet_tse_gen.codec.registry import load_codec; load_codec(sys.argv[1]);"
        "assert not {'espnet2.tasks.abs_task', 'nltk', 'g2p_en'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check, str(made)], check=True)


def test_exp_dir_in_the_configuration(exp: Path, tmp_path: Path) -> None:
    conf = {"exp_dir": str(exp), "model_file": "2epoch.pth"}
    write_yaml(tmp_path / "other.yaml", {"codec": "espnet", "codec_conf": conf})
    codec_prepare(["--codec_config", str(tmp_path / "other.yaml"), "--output_dir", str(tmp_path / "codec")])
    codec = load_codec(tmp_path / "codec")
    second = build_codec("espnet", conf)
    second.load_pretrained(exp / "2epoch.pth")
    assert torch.equal(codec.codebook(0), second.codebook(0))
    assert not torch.equal(codec.codebook(0), load(exp).codebook(0))


def test_projected_vectors_follow_the_weights(exp: Path) -> None:
    codec = load(exp)
    before = codec.codebook(1).clone()
    codec.load_pretrained(exp / "2epoch.pth")
    assert not torch.equal(codec.codebook(1), before)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert load(exp).codebook(1).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "exp: no such directory"),
        (lambda exp: (exp / "config.yaml").write_text("tts: vits"), "config.yaml: is not the configuration of a codec"),
        (lambda exp: write_yaml(exp / "config.yaml", {"codec": "dacc"}), "'dacc': did you mean 'dac'"),
        (lambda exp: (exp / "1epoch.pth").write_bytes(b"nonsense"), "best.pth: is not a readable checkpoint"),
        (lambda exp: torch.save({"a": torch.zeros(1)}, exp / "1epoch.pth"), "holds no codec"),
        (lambda exp: change_weight(exp, "quantizer.vq.layers.0._codebook.embed", None), "does not fit.*Missing key"),
        (lambda exp: change_weight(exp, "more", torch.tensor([float("nan")])), "holds NaN"),
        (lambda exp: change_conf(exp, hiden_dim=3), "'hiden_dim': did you mean 'hidden_dim'"),
        (lambda exp: change_conf(exp, encdec_norm="none of them"), "cannot be built from its options"),
    ],
)  # fmt: skip
def test_files_that_are_not_right(exp: Path, tmp_path: Path, change, message: str) -> None:
    folder = copy_of(exp, tmp_path)
    change(folder)
    refused(message, load, folder)


def change_weight(exp: Path, name: str, value: torch.Tensor | None) -> None:
    state = torch.load(exp / "1epoch.pth", weights_only=True)
    state["codec.generator." + name] = value
    torch.save({key: value for key, value in state.items() if value is not None}, exp / "1epoch.pth")


def change_conf(exp: Path, **params: object) -> None:
    conf = conf_of("dac")
    conf["generator_params"] |= params
    write_yaml(exp / "config.yaml", {"codec": "dac", "codec_conf": conf})


def test_options_that_cannot_be_used(exp: Path) -> None:
    refused("expected exp_dir", build_codec, "espnet")
    refused("bandwidth must be above 0", load, exp, bandwidth=0)
    for domain in ("time", "mag_oracle_phase", "stft"):
        params = conf_of("funcodec")["generator_params"] | {"codec_domain": [domain, domain], "encdec_channels": 1}
        conf = {"design": "funcodec", "sample_rate": 16000, "generator_params": params}
        refused("cannot be decoded from codes", build_codec, "espnet", conf)
