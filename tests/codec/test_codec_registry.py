"""Codecs by name: configuration errors name what is wrong, and a new family is a class, a line and a yaml."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from espnet_tse_gen.bin import codec_prepare
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.registry import CODECS, build_codec, codec_class, load_codec, read_codec_config, save_codec
from espnet_tse_gen.utils.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "codec"


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_builds(path: Path) -> None:
    config = read_codec_config(path)
    option = codec_class(config.codec).weights_option
    if option and not config.codec_conf.get(option):  # its other options are read from beside the weights
        with pytest.raises(UserError, match=f"expected {option}"):
            build_codec(config.codec, config.codec_conf)
        return
    if config.codec in ("dac", "transformers"):
        pytest.importorskip(config.codec, reason=f"needs the package that has codec '{config.codec}'")
    # The released DACs are large, and their random weights are of no use here.
    with torch.device("meta" if config.codec == "dac" else "cpu"):
        codec = build_codec(config.codec, config.codec_conf)
    assert codec.codebook_sizes == (codec.codebook_size,) * codec.num_levels
    rate = {"8k": 8000, "16k": 16000, "24k": 24000, "44k": 44100}[
        path.stem.removesuffix("_transformers").rpartition("_")[2]
    ]
    assert codec.sample_rate == rate


def test_unknown_names_get_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown codec 'encodek': did you mean 'encodec'"):
        build_codec("encodek")
    with pytest.raises(UserError, match="option of codec 'mel' 'num_mel': did you mean 'num_mels'"):
        build_codec("mel", {"num_mel": 80})
    with pytest.raises(UserError, match="split of codec 'mel' 'band': did you mean 'bands'"):
        build_codec("mel", {"split": "band"})
    bad = tmp_path / "bad.yaml"
    for text, message in (
        ("codec: mell\n", "did you mean 'mel'"),
        ("codec: mel\ncodec_con: {}\n", "did you mean 'codec_conf'"),
        ("codec_conf: {}\n", "expected a key 'codec'"),
        ("codec: mel\ncodec_conf: 3\n", "expected a mapping under 'codec_conf'"),
        ("- mel\n", "expected a yaml mapping"),
    ):
        bad.write_text(text)
        with pytest.raises(UserError, match=message):
            read_codec_config(bad)


@pytest.mark.parametrize(
    "name, conf",
    [
        ("mel", {"hop": 0}),
        ("mel", {"hop": 321}),
        ("mel", {"n_fft": 300}),
        ("mel", {"num_levels": 90}),
        ("mel", {"n_fft": 322, "num_mels": 200}),
        ("mel", {"sample_rate": "16k"}),
        ("encodec", {"bandwidth": 2.0}),
        ("encodec", {"bandwidth": "six"}),
    ],
)
def test_impossible_values_are_refused(name: str, conf: dict) -> None:
    with pytest.raises(UserError, match=f"codec '{name}'"):
        build_codec(name, conf)


def test_unfitted_codec_says_what_to_do() -> None:
    with pytest.raises(UserError, match="tse-gen codec"):
        build_codec("mel").encode(torch.zeros(1, 100))
    with pytest.raises(UserError, match="no recording"):
        build_codec("mel").fit([])


def test_fingerprint_changes_with_weights_and_configuration() -> None:
    small = {"num_mels": 20, "num_levels": 2, "codebook_size": 4}
    codec = build_codec("mel", small)
    seen = {codec.fingerprint(), build_codec("mel", {**small, "split": "residual"}).fingerprint()}
    codec.codebooks[0, 0, 0] += 1
    seen.add(codec.fingerprint())
    assert len(seen) == 3
    assert build_codec("mel", small).fingerprint() in seen


def test_not_a_codec_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a codec directory \(no codec.yaml\)"):
        load_codec(tmp_path)
    (tmp_path / "codec.yaml").write_text("codec: mel\n")
    with pytest.raises(UserError, match="'codec_conf' is missing"):
        load_codec(tmp_path)
    save_codec(build_codec("mel"), tmp_path)
    (tmp_path / "weights.pth").unlink()
    with pytest.raises(UserError, match="no such file"):
        load_codec(tmp_path)


class SignCodec(AbsCodec):
    """A one-bit codec: the sign of each frame's mean."""

    name = "sign"

    def __init__(self, sample_rate: int = 8000) -> None:
        super().__init__()
        self.sample_rate, self.hop, self.num_levels, self.latent_dim = sample_rate, 80, 1, 1
        self.codebook_sizes = (2,)

    def codebook(self, level: int) -> Tensor:
        return torch.tensor([[-0.1], [0.1]])

    def _encode_row(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        mean = wav.view(-1, 80).mean(dim=1)
        return (mean >= 0).long().unsqueeze(0), mean.unsqueeze(0)

    def _decode_row(self, latents: Tensor, mixture: Tensor | None, quantized: bool) -> Tensor:
        return latents[0].repeat_interleave(80)


def test_a_new_family_is_a_class_a_line_and_a_yaml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(CODECS, "sign", f"{__name__}:SignCodec")
    (tmp_path / "sign.yaml").write_text("codec: sign\ncodec_conf: {sample_rate: 4000}\n")
    codec_prepare.main(["--codec_config", f"{tmp_path}/sign.yaml", "--output_dir", f"{tmp_path}/sign"])
    loaded = load_codec(tmp_path / "sign")
    assert loaded.sample_rate == 4000 and not (tmp_path / "sign/weights.pth").exists()
    assert loaded.encode(torch.ones(1, 100)).codes.tolist() == [[[1, 1]]]
    for method in (loaded.load_pretrained, loaded.fit):
        with pytest.raises(UserError, match="codec 'sign'"):
            method(tmp_path)  # type: ignore[operator]


def released_encodec(directory: Path) -> Path:
    """Write random weights of the real architecture in the released format, under a name with their true hash."""
    torch.manual_seed(3)
    model = build_codec("encodec").model
    torch.save(model.state_dict(), directory / "raw.th")
    digest = hashlib.sha256((directory / "raw.th").read_bytes()).hexdigest()
    return (directory / "raw.th").rename(directory / f"encodec_24khz-{digest[:8]}.th")


def test_encodec_weights_in_the_released_format(tmp_path: Path) -> None:
    path = released_encodec(tmp_path)
    codec = build_codec("encodec", {"bandwidth": 3.0})
    before = codec.fingerprint()
    codec.load_pretrained(path)
    assert codec.fingerprint() != before and codec.num_levels == 4
    damaged = path.with_name("encodec_24khz-00000000.th")
    path.rename(damaged)
    with pytest.raises(UserError, match="is damaged"):
        codec.load_pretrained(damaged)
    with pytest.raises(UserError, match="no such file"):
        codec.load_pretrained(tmp_path / "absent.th")


@pytest.mark.parametrize("bandwidth, levels", [(1.5, 2), (24, 32)])
def test_encodec_bandwidth_chooses_the_levels(bandwidth: float, levels: int) -> None:
    codec = build_codec("encodec", {"bandwidth": bandwidth})
    assert (codec.num_levels, codec.codebook_size, codec.hop, codec.frame_rate) == (levels, 1024, 320, 75)
