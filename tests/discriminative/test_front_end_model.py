"""Discriminative extractors as front ends: the same estimate as alone, any rate, and models that carry theirs with them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_discriminative import discriminative_exp_dir
from tiny_model import CONFIG, RATE, fitted_codec, mixture, tiny_exp_dir, voice

from espnet_tse_gen import TargetSpeakerExtractor
from espnet_tse_gen.bin import pack
from espnet_tse_gen.cli import main as tse_gen
from espnet_tse_gen.codec.registry import save_codec
from espnet_tse_gen.discriminative.front_end import resample
from espnet_tse_gen.inference.base import padded
from espnet_tse_gen.inference.front_end import load_front_end, save_front_end
from espnet_tse_gen.inference.waveform import WaveformInference
from espnet_tse_gen.masked.build import build_model
from espnet_tse_gen.masked.features import at_frames
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_yaml, write_yaml

KINDS = ["td_speakerbeam", "spex_plus", "mc_spex", "dual_path"]
RATES = [8000, 16000, 11025]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exp directory of a masked model with SpEx+ in front of it, made once."""
    directory = tmp_path_factory.mktemp("tiny_front_end") / "exp"
    config = {**CONFIG, "extractor_conf": {**CONFIG["extractor_conf"], "front_end_features": "latent+stft"}}
    codec = fitted_codec()
    save_codec(codec, directory / "codec")
    front_end = load_front_end(discriminative_exp_dir("spex_plus"), codec.sample_rate)
    save_front_end(front_end, directory / "front_end")
    write_yaml(directory / "config.yaml", {**config, "front_end": "/somewhere/exp/spex_plus"})
    torch.manual_seed(1)
    model = build_model(codec, config, front_end)
    torch.nn.init.normal_(model.extractor.heads, std=0.5)
    torch.save(model.state_dict(), directory / "valid.loss.ave.pth")
    return directory


@pytest.fixture
def exp_dir(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of it, for a test that changes it."""
    return shutil.copytree(model_dir, tmp_path / "exp")


def extracted(where: Path, mixed: np.ndarray | None = None) -> np.ndarray:
    extractor = TargetSpeakerExtractor.from_pretrained(where)
    return extractor(mixture(0.8) if mixed is None else mixed, voice(1.0, 110.0, seed=5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", RATES)
def test_a_row_in_a_batch_equals_the_row_alone_at_any_rate(kind, rate):
    front_end = load_front_end(discriminative_exp_dir(kind), rate)
    mixtures, lengths = padded([mixture(seconds, n, rate) for n, seconds in enumerate((0.7, 0.453, 0.02))])
    enrolls, sizes = padded([voice(seconds, 110.0, n, rate) for n, seconds in enumerate((0.4, 0.612, 0.03))])
    together, features = front_end(mixtures, lengths, enrolls, sizes)
    assert together.shape == mixtures.shape and together.isfinite().all()
    for row, (length, size) in enumerate(zip(lengths, sizes, strict=True)):
        one = slice(row, row + 1)
        alone, known = front_end(mixtures[one, :length], lengths[one], enrolls[one, :size], sizes[one])
        scale = float(alone.abs().max())
        assert scale > 0
        torch.testing.assert_close(together[row, :length], alone[0], atol=1e-3 * scale, rtol=0)
        assert not together[row, length:].any()
        if features is not None:
            # At a codec's frames, of which the last may reach beyond the recording.
            frames = [-(-int(end) * 50 // rate) for end in (lengths.max(), length)]
            whole, own = (
                at_frames(given, front_end.feature_rate, n, 50.0)
                for given, n in zip((features, known), frames, strict=True)
            )
            torch.testing.assert_close(whole[row, : frames[1]], own[0], atol=1e-4, rtol=0)
    assert (features is not None) == (kind == "dual_path")


@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_is_what_the_model_extracts(kind):
    model = WaveformInference.from_pretrained(discriminative_exp_dir(kind), decode={"scale": "mixture"})
    request = model.request(mixture(0.8), voice(0.6, 110.0), RATE)
    front_end = load_front_end(discriminative_exp_dir(kind), RATE)
    (mixed, lengths), (enroll, sizes) = padded([request.mixture]), padded([request.enroll])
    wanted = model.extract([request])[0].samples * request.gain
    estimate = front_end(mixed, lengths, enroll, sizes).waveform[0].numpy()
    np.testing.assert_allclose(estimate, wanted, atol=1e-4 * np.abs(wanted).max())
    # A codec of twice the rate gets the same, with nothing above.
    twice = load_front_end(discriminative_exp_dir(kind), 2 * RATE)
    mixed, enroll = (
        torch.nn.functional.interpolate(wav[None], scale_factor=2, mode="linear")[0] for wav in (mixed, enroll)
    )
    wide = twice(mixed, 2 * lengths, enroll, 2 * sizes).waveform[0].numpy()
    power = np.abs(np.fft.rfft(wide)) ** 2
    assert power[int(0.55 * len(power)) :].sum() < 0.02 * power.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_frozen_and_its_copy_is_the_same(kind, tmp_path):
    front_end = load_front_end(discriminative_exp_dir(kind), RATE)
    assert not any(parameter.requires_grad for parameter in front_end.parameters())
    assert not any(module.training for module in front_end.train().modules())
    save_front_end(front_end, tmp_path / "copy")
    text = (tmp_path / "copy" / "config.yaml").read_text()
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["config.yaml", "model.pth"]
    assert "/somewhere" not in text and "criterions" not in text
    again = load_front_end(tmp_path / "copy", RATE)
    assert again.fingerprint() == front_end.fingerprint()
    signals = (*padded([mixture(0.5)]), *padded([voice(0.5, 110.0)]))
    assert torch.equal(again(*signals).waveform, front_end(*signals).waveform)
    assert load_front_end(tmp_path / "copy", 16000).fingerprint() != front_end.fingerprint()
    # Weights of 16 bits stay so.
    front_end.model.half().float()
    save_front_end(front_end, tmp_path / "copy")
    stored = torch.load(tmp_path / "copy" / "model.pth", weights_only=True)
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {torch.float16}
    assert load_front_end(tmp_path / "copy", RATE).fingerprint() == front_end.fingerprint()


def test_the_directory_decodes_alone_and_packed(exp_dir, tmp_path, capsys):
    alone = extracted(exp_dir)
    for name in ("packed.zip", "packed"):
        pack.main(["--exp_dir", str(exp_dir), "--output", str(tmp_path / name)])
        np.testing.assert_array_equal(extracted(tmp_path / name), alone)
    packed = tmp_path / "packed"
    assert sorted(path.name for path in (packed / "front_end").iterdir()) == ["config.yaml", "model.pth"]
    assert (packed / "front_end" / "model.pth").read_bytes() == (exp_dir / "front_end" / "model.pth").read_bytes()
    assert "- Front end: `spex_plus`, " in (packed / "README.md").read_text()
    assert not any(b"/somewhere" in path.read_bytes() for path in packed.rglob("*.*"))
    pack.main(["--exp_dir", str(exp_dir), "--output", str(tmp_path / "half.zip"), "--half", "true"])
    assert extracted(tmp_path / "half.zip").shape == alone.shape
    capsys.readouterr()
    tse_gen(["info", "--model", str(packed)])
    assert "front end:  " in capsys.readouterr().out


def test_batches_and_chunks_decode_like_single_recordings(model_dir):
    options = {"steps": 2, "guidance": 1.5, "chunk_seconds": 1.0, "chunk_overlap_seconds": 0.2}
    extractor = TargetSpeakerExtractor.from_pretrained(model_dir, decode=options, dtype="float64")
    mixtures = [mixture(0.8), mixture(0.5, 3), mixture(2.3, 4)]
    enrolls = [voice(1.0, 110.0, 1), voice(0.7, 197.0, 2), voice(1.0, 110.0, 3)]
    together = extractor.extract_batch(mixtures, enrolls)
    for mixed, enroll, result in zip(mixtures, enrolls, together, strict=True):
        np.testing.assert_array_equal(extractor(mixed, enroll), result)
    assert extractor.model.front_end.model.sample_rate == RATE


def test_the_estimate_may_lend_the_phase(exp_dir):
    # The codec's mask lets nothing through that is not in what lends the phase.
    options = {"steps": 2, "chunk_seconds": 1.0, "chunk_overlap_seconds": 0.2}
    for seconds in (0.8, 2.3):
        mixed, enroll = mixture(seconds), voice(1.0, 110.0, seed=5)
        both = [
            TargetSpeakerExtractor.from_pretrained(exp_dir, decode={**options, "reconstruction": source})
            for source in ("mixture", "estimate")
        ]
        assert not np.allclose(both[0](mixed, enroll), both[1](mixed, enroll), atol=1e-3)
        torch.nn.init.zeros_(both[1].model.front_end.model.decoder.convs[0].weight)
        torch.nn.init.zeros_(both[1].model.front_end.model.decoder.convs[0].bias)
        assert both[0](mixed, enroll).any() and not both[1](mixed, enroll).any()
    with pytest.raises(UserError, match="'reconstruction': the model has no front end that makes an estimate"):
        TargetSpeakerExtractor.from_pretrained(tiny_exp_dir(), decode={"reconstruction": "estimate"})


@pytest.mark.parametrize("seconds", [0.8, 2.3])
def test_soft_decoding_uses_the_means_of_the_predictions(exp_dir, seconds):
    options = {
        "steps": 2,
        "chunk_seconds": 1.0,
        "chunk_overlap_seconds": 0.2,
        "reconstruction": "mixture",
        "soft": True,
    }
    extractor = TargetSpeakerExtractor.from_pretrained(exp_dir, decode=options)
    request = extractor.request(mixture(seconds), voice(1.0, 110.0, seed=5))
    heads, codec = extractor.model.extractor.heads, extractor.codec

    def check(latents: torch.Tensor) -> None:
        guide = torch.from_numpy(request.mixture[:])[None]
        expected = codec.decode_latents(latents, None, guide)[0, : len(request.mixture)] / request.gain
        np.testing.assert_allclose(extractor.extract([request])[0].samples, expected, atol=1e-5)

    with torch.no_grad():
        # Of a network that is certain, they are the tokens' vectors; of one that knows nothing, the codebooks' means.
        torch.nn.init.normal_(heads, std=1e4)
        check(codec.latents_of(torch.from_numpy(extractor.extract([request])[0].codes)[None]))
        heads.zero_()
        middle = sum(codec.codebook(k).mean(dim=0) for k in range(codec.num_codebooks))
        check(middle[None, :, None].expand(1, -1, codec.num_frames(len(request.mixture))))


def test_another_front_end_is_refused(exp_dir):
    source = shutil.copytree(discriminative_exp_dir("spex_plus"), exp_dir.parent / "other")
    state = torch.load(source / "valid.loss.ave.pth", weights_only=True)
    state["encoder.convs.0.weight"][0, 0, 0] += 1.0
    torch.save(state, source / "valid.loss.ave.pth")
    save_front_end(load_front_end(source, RATE), exp_dir / "front_end")
    with pytest.raises(UserError, match=r"valid\.loss\.ave\.pth: checkpoint was trained with the estimates of another"):
        extracted(exp_dir)


def test_a_missing_or_wrong_front_end_is_named(exp_dir, model_dir, tmp_path):
    with pytest.raises(UserError, match=r"config\.yaml: is not the configuration of a discriminative extractor"):
        load_front_end(tiny_exp_dir(), RATE)
    with pytest.raises(UserError, match="nowhere: no such exp directory"):
        load_front_end(tmp_path / "nowhere", RATE)
    shutil.rmtree(exp_dir / "front_end")
    with pytest.raises(UserError, match="/somewhere/exp/spex_plus: no such exp directory or zip file"):
        extracted(exp_dir)
    config = read_yaml(exp_dir / "config.yaml")
    write_yaml(exp_dir / "config.yaml", {**config, "front_end": str(discriminative_exp_dir("spex_plus"))})
    assert len(extracted(exp_dir)) == len(mixture(0.8))
    with pytest.raises(UserError, match="front_end: no such directory; copy the front_end directory of the training"):
        pack.main(["--exp_dir", str(exp_dir), "--output", str(tmp_path / "x.zip")])
    write_yaml(exp_dir / "config.yaml", {**config, "front_end": None})
    with pytest.raises(UserError, match="front_end: no such directory; the model was trained with a front end"):
        extracted(exp_dir)
    alone = shutil.copytree(tiny_exp_dir(), tmp_path / "plain")
    shutil.copytree(model_dir / "front_end", alone / "front_end")
    np.testing.assert_array_equal(extracted(alone), extracted(tiny_exp_dir()))


@pytest.mark.parametrize(("rate", "wanted"), [(16000, 8000), (8000, 16000), (44100, 16000), (16000, 24000)])
def test_resampling_is_torchaudios_default(rate, wanted):
    from torchaudio import functional

    wav = torch.randn(2, 5001)
    torch.testing.assert_close(resample(wav, rate, wanted), functional.resample(wav, rate, wanted), atol=2e-6, rtol=0)
