"""Codecs by name: what is wrong with a configuration is named. A new family: ``tests/test_extending.py``."""

import hashlib
import re
import sys
from pathlib import Path

import pytest
import torch
from refused import refused

from espnet_tse_gen.codec.dac import INSTALL
from espnet_tse_gen.codec.registry import build_codec, codec_class, load_codec, read_codec_config, save_codec

CONF = Path(__file__).parents[2] / "conf" / "codec"


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_builds(path: Path) -> None:
    config = read_codec_config(path)
    option = codec_class(config.codec).weights_option
    if option and not config.codec_conf.get(option):  # its other options are read from beside the weights
        refused(f"expected {option}", build_codec, config.codec, config.codec_conf)
        return
    if config.codec in ("dac", "transformers"):
        pytest.importorskip(config.codec, reason=f"needs the package that has codec '{config.codec}'")
    # The released DACs are large, and their random weights are of no use here.
    with torch.device("meta" if config.codec == "dac" else "cpu"):
        codec = build_codec(config.codec, config.codec_conf)
    assert codec.codebook_sizes == (codec.codebook_size,) * codec.num_codebooks
    named = next(part for part in path.stem.split("_") if part.endswith("k"))
    rate = {"8k": 8000, "16k": 16000, "24k": 24000, "44k": 44100}[named]
    assert codec.sample_rate == rate


def test_unknown_names_get_the_nearest_one(tmp_path: Path) -> None:
    refused("unknown codec 'encodek': did you mean 'encodec'", build_codec, "encodek")
    refused("option of codec 'mel' 'num_mel': did you mean 'num_mels'", build_codec, "mel", {"num_mel": 80})
    refused("split of codec 'mel' 'band': did you mean 'bands'", build_codec, "mel", {"split": "band"})
    bad = tmp_path / "bad.yaml"
    for text, message in (
        ("codec: mell\n", "did you mean 'mel'"),
        ("codec: mel\ncodec_con: {}\n", "did you mean 'codec_conf'"),
        ("codec_conf: {}\n", "expected a key 'codec'"),
        ("codec: mel\ncodec_conf: 3\n", "expected a mapping under 'codec_conf'"),
        ("- mel\n", "expected a yaml mapping"),
    ):
        bad.write_text(text)
        refused(message, read_codec_config, bad)


@pytest.mark.parametrize(
    "name, conf",
    [
        ("mel", {"hop": 0}),
        ("mel", {"num_codebooks": 90}),
        ("mel", {"n_fft": 322, "num_mels": 200}),
        ("mel", {"sample_rate": "16k"}),
        ("encodec", {"bandwidth": 2.0}),
    ],
)
def test_impossible_values_are_refused(name: str, conf: dict) -> None:
    refused(f"codec '{name}'", build_codec, name, conf)


def test_unfitted_codec_says_what_to_do() -> None:
    refused("tse-gen codec", build_codec("mel").encode, torch.zeros(1, 100))
    refused("no recording", build_codec("mel").fit, [])


def test_fingerprint_changes_with_weights_and_configuration() -> None:
    small = {"num_mels": 20, "num_codebooks": 2, "codebook_size": 4}
    codec = build_codec("mel", small)
    seen = {codec.fingerprint(), build_codec("mel", {**small, "split": "residual"}).fingerprint()}
    codec.codebooks[0, 0, 0] += 1
    seen.add(codec.fingerprint())
    assert len(seen) == 3
    assert build_codec("mel", small).fingerprint() in seen


def test_not_a_codec_directory(tmp_path: Path) -> None:
    refused(r"is not a codec directory \(no codec.yaml\)", load_codec, tmp_path)
    (tmp_path / "codec.yaml").write_text("codec: mel\n")
    refused("'codec_conf' is missing", load_codec, tmp_path)
    save_codec(build_codec("mel"), tmp_path)
    (tmp_path / "weights.pth").unlink()
    refused("no such file", load_codec, tmp_path)


def test_what_a_family_has_not_is_refused() -> None:
    refused("codec 'mel': has no released weights", build_codec("mel").load_pretrained, Path())
    refused("codec 'encodec': is not fitted", build_codec("encodec").fit, [])
    refused("codec 'mini': has no released weights", build_codec("mini").download_pretrained)


def test_encodec_weights_in_the_released_format(tmp_path: Path) -> None:
    torch.manual_seed(3)
    torch.save(build_codec("encodec").model.state_dict(), tmp_path / "raw.th")
    digest = hashlib.sha256((tmp_path / "raw.th").read_bytes()).hexdigest()
    path = (tmp_path / "raw.th").rename(tmp_path / f"encodec_24khz-{digest[:8]}.th")
    codec = build_codec("encodec", {"bandwidth": 3.0})
    before = codec.fingerprint()
    codec.load_pretrained(path)
    assert codec.fingerprint() != before and codec.num_codebooks == 4
    damaged = path.rename(path.with_name("encodec_24khz-00000000.th"))
    refused("is damaged", codec.load_pretrained, damaged)


def test_former_names_of_keys_are_read_with_a_warning() -> None:
    conf = {"sample_rate": 8000, "hop": 160, "n_fft": 512, "num_mels": 16, "codebook_size": 4}
    with pytest.warns(FutureWarning, match="codec 'mel': 'num_levels' is called 'num_codebooks' now"):
        former = build_codec("mel", {**conf, "num_levels": 2})
    codec = build_codec("mel", {**conf, "num_codebooks": 2})
    assert former.num_codebooks == 2 and former.fingerprint() == codec.fingerprint()


@pytest.mark.parametrize(
    ("name", "module", "message"),
    [
        ("dac", "dac.model.dac", f"codec 'dac' needs the package descript-audio-codec.*{re.escape(INSTALL)}"),
        (
            "transformers",
            "transformers",
            r"needs the package 'transformers'.*pip install 'espnet_tse_gen\[transformers\]'",
        ),
    ],
)
def test_what_to_install_is_said_in_one_line(name: str, module: str, message: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    refused(message, build_codec, name, {"model": "a/b"} if name == "transformers" else {})
