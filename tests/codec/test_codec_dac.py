"""DAC through its own package: the released models' facts, the real file format, alignment, and what is refused."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from codec_families import noise
from dac_maker import RATE, SMALL, need_dac, write_dac
from refused import refused
from torch import Tensor

from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.dac import RELEASES
from espnet_tse_gen.codec.registry import build_codec

HOP_512 = {"encoder_rates": [2, 4, 8, 8], "decoder_rates": [8, 8, 4, 2]}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dac") / "weights.pth"
    write_dac(path)
    return path


def small(**conf: Any) -> AbsCodec:
    need_dac()
    return build_codec("dac", {"sample_rate": RATE, "model_conf": SMALL, **conf})


def test_releases_are_those_of_the_package() -> None:
    need_dac()
    from dac import utils

    urls = vars(utils)["__MODEL_URLS__"]
    facts = {16000: (50.0, 12, "16khz"), 24000: (75.0, 32, "24khz"), 44100: (86.1328125, 9, "44khz")}
    assert facts.keys() == RELEASES.keys()
    for rate, (frame_rate, codebooks, kind) in facts.items():
        release = RELEASES[rate]
        tag = vars(utils)["__MODEL_LATEST_TAGS__"][kind, "8kbps"]
        assert release.url == urls[kind, tag, "8kbps"]
        assert release.cached == f"weights_{kind}_8kbps_{tag}.pth" and len(release.sha256) == 64
        conf = release.model_conf
        assert rate / math.prod(conf["encoder_rates"]) == frame_rate
        assert (conf["n_codebooks"], conf["codebook_size"]) == (codebooks, 1024)
        assert conf["decoder_rates"] == conf["encoder_rates"][::-1]


def test_codes_and_waveforms_are_the_packages_own(file: Path, tmp_path: Path) -> None:
    model = write_dac(tmp_path / "again.pth")
    codec = small()
    codec.load_pretrained(file)
    wav = noise(1, 5000)
    with torch.no_grad():
        latents, codes, *_ = model.encode(model.preprocess(wav.unsqueeze(1), RATE))
        made = model.decode(latents)[0]
    encoded = codec.encode(wav)
    assert torch.equal(encoded.codes, codes)
    torch.testing.assert_close(codec.latents_of(codes), latents)
    decoded = codec.decode(codes)
    assert decoded.shape == (1, 16 * 320) and made.shape == (1, 16 * 320 - 8)
    torch.testing.assert_close(decoded[:, :-8], made)
    assert not decoded[:, -8:].any()
    first = small(num_codebooks=2)
    first.load_pretrained(file)
    assert first.num_codebooks == 2 and torch.equal(first.encode(wav).codes, codes[:, :2])


def test_the_architecture_comes_from_the_file(file: Path) -> None:
    codec = small(model_conf={**SMALL, "encoder_dim": 8, "n_codebooks": 5})
    codec.load_pretrained(file)
    assert codec.conf()["model_conf"] == {**SMALL, "latent_dim": 64} and codec.num_codebooks == 3
    wanted = small()
    wanted.load_pretrained(file)
    assert wanted.conf()["model_conf"] == SMALL
    assert torch.equal(codec.encode(noise(1, 3000)).codes, wanted.encode(noise(1, 3000)).codes)
    more = small(model_conf={**SMALL, "n_codebooks": 5}, num_codebooks=4)
    refused(r"num_codebooks must be 1\.\.3", more.load_pretrained, file)


@pytest.mark.parametrize("rates", [{}, HOP_512])
def test_a_frame_stays_where_it_was(rates: dict[str, Any]) -> None:
    """Of the real layout in time: a frame's latents look at samples centred where its own output is centred."""
    codec = small(model_conf={**SMALL, **rates})
    frames, frame = 41, 20
    wav = noise(1, 1, frames * codec.hop).requires_grad_()
    codec.network.encoder(wav)[0, :, frame].square().sum().backward()
    seen = support(wav.grad[0, 0])
    moved = torch.zeros(1, codec.latent_dim, frames)
    moved[..., frame] = 1.0
    _, change = torch.func.jvp(codec.network.decoder, (torch.randn_like(moved),), (moved,))
    heard = support(change[0, 0])
    assert sum(seen) == sum(heard)
    assert codec.delay == 0


def support(values: Tensor) -> tuple[int, int]:
    places = values.nonzero().squeeze(1)
    return int(places[0]), int(places[-1])


def test_impossible_options_are_refused() -> None:
    need_dac()
    for conf, message in (
        ({"sample_rate": 22050}, r"must be one of 16000, 24000, 44100"),
        ({"model_conf": SMALL, "num_codebooks": 4}, r"num_codebooks must be 1\.\.3"),
        ({"model_conf": SMALL, "num_codebooks": 0}, r"num_codebooks must be 1\.\.3"),
        ({"model_conf": {**SMALL, "encoder_rate": [2]}}, r"did you mean 'encoder_rates'"),
        ({"model_conf": {**SMALL, "encoder_dim": "wide"}}, r"cannot be built from its options"),
    ):
        refused(message, build_codec, "dac", conf)


def test_files_of_other_kinds_are_refused(file: Path, tmp_path: Path) -> None:
    content = torch.load(file, weights_only=True)
    lacking = dict(list(content["state_dict"].items())[1:])
    bad: dict[str, Any] = {
        "does not hold weights that": content["state_dict"],
        "Missing key": {**content, "state_dict": lacking},
        "Weights only load failed": {**content, "metadata": {"kwargs": {"sample_rate": RATE}, "path": Path("x")}},
        "for 24000 Hz": {**content, "metadata": {"kwargs": {**SMALL, "sample_rate": 24000}}},
    }
    codec = small()
    for number, (message, item) in enumerate(bad.items()):
        torch.save(item, tmp_path / f"{number}.pth")
        refused(message, codec.load_pretrained, tmp_path / f"{number}.pth")
    (tmp_path / "cut.pth").write_bytes(file.read_bytes()[:5000])
    refused("is not a readable checkpoint", codec.load_pretrained, tmp_path / "cut.pth")
