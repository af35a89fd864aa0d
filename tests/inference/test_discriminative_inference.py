import shutil

import numpy as np
import pytest
import torch
from refused import refused
from tiny_discriminative import CONFIGS, RATE, discriminative_exp_dir
from tiny_model import mixture, voice

from espnet_tse_gen.discriminative.build import load_model
from espnet_tse_gen.discriminative.halves import split_model
from espnet_tse_gen.inference.waveform import Scale, WaveformInference
from espnet_tse_gen.scoring.signal import si_sdr
from espnet_tse_gen.utils.files import read_yaml, write_yaml

EXTRACTORS = sorted(CONFIGS)
LENGTHS = (1.0, 0.37, 1.0, 0.0031, 0.7511)
ENROLL = voice(1.0, 110.0, seed=5)
every_extractor = pytest.mark.parametrize("name", EXTRACTORS)


def load(name="spex_plus", decode=None, **kwargs):
    return WaveformInference.from_pretrained(discriminative_exp_dir(name), decode=decode, **kwargs)


def network(name):
    """The untouched model: what the extractor is compared with."""
    directory = discriminative_exp_dir(name)
    return load_model(directory / "config.yaml", directory / "valid.loss.ave.pth")


@torch.no_grad()
def plain_output(model, mixed, enroll):
    """What encoder, extractor and decoder give, called as ESPnet calls them, for arrays at the model's rate."""
    wavs = [torch.from_numpy(signal)[None] for signal in (mixed, enroll)]
    if model.encoder is None:
        return model.extractor(wavs[0], [[wavs[1][0]]])[0][0].numpy()
    lengths = [torch.tensor([wav.shape[1]]) for wav in wavs]
    (features, frames), (aux, aux_frames) = (model.encoder(wav, n) for wav, n in zip(wavs, lengths, strict=True))
    masked, *_ = model.extractor(features, frames, aux, aux_frames)
    scales = getattr(model.decoder, "decode_scales", lambda *given: [model.decoder(*given)[0]])(masked, lengths[0])
    return scales[0][0].numpy()


def assert_close(a, b, tolerance=1e-5):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1e-9))


@every_extractor
@pytest.mark.parametrize("size", [160, 161, 8001, 8007, 8009, 12345])
def test_t05_output_is_the_short_scale_and_as_long_as_the_input(name, size):
    extractor = load(name, {"scale": "none"})
    request = extractor.request(mixture(2.0)[:size], ENROLL)
    out = extractor.extract([request])[0].samples
    assert out.shape == (size,) and out.dtype == np.float32
    expected = plain_output(network(name), request.mixture, request.enroll)
    assert_close(out * np.float32(request.gain), expected)


@every_extractor
def test_batch_of_different_lengths_is_single(name):
    mixed = [mixture(seconds, seed=n) for n, seconds in enumerate(LENGTHS)]
    enrolls = [voice(0.5 + 0.21 * n, 110.0, seed=n + 9) for n in range(len(mixed))]
    single, batched = load(name), load(name, {"batch_size": 4})
    calls = count_rows(batched)
    together = batched.extract_batch(mixed, enrolls)
    assert calls == ([4, 1] if name in ("spex_plus", "mc_spex") else [1, 1, 1, 2])
    for row, alone in zip(together, map(single, mixed, enrolls), strict=True):
        assert_close(row, alone)


def count_rows(extractor):
    """Collect how many segments each call of the network gets."""
    rows, run = [], extractor._run
    extractor._run = lambda signals, *more: rows.append(len(signals)) or run(signals, *more)
    return rows


@pytest.mark.parametrize("name", [name for name in EXTRACTORS if name != "dual_path"])
def test_splitting_a_model_changes_none_of_its_weights(name):
    model = network(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    split_model(model)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_td_speakerbeam_on_spectra(tmp_path):
    exp_dir = shutil.copytree(discriminative_exp_dir("td_speakerbeam"), tmp_path / "exp")
    stft = {"n_fft": 128, "hop_length": 64}
    config = {**read_yaml(exp_dir / "config.yaml"), "encoder": "stft", "decoder": "stft"}
    write_yaml(exp_dir / "config.yaml", {**config, "encoder_conf": stft, "decoder_conf": stft})
    for path in exp_dir.glob("*.pth"):
        path.unlink()
    torch.save(load_model(exp_dir / "config.yaml", None).state_dict(), exp_dir / "valid.loss.best.pth")
    extractor = WaveformInference.from_pretrained(exp_dir, decode={"scale": "none"})
    request = extractor.request(mixture(0.77), ENROLL)
    model = load_model(exp_dir / "config.yaml", exp_dir / "valid.loss.best.pth")
    expected = plain_output(model, request.mixture, request.enroll)
    assert_close(extractor.extract([request])[0].samples * np.float32(request.gain), expected)


def test_scale_is_that_of_the_mixture():
    mixed = mixture(0.6)
    fitted, peak, raw = (load(decode={"scale": scale})(mixed, ENROLL) for scale in ("mixture", "peak", "none"))
    # What is left after the fit has nothing of the output in it.
    assert abs(np.dot(mixed - mixed.mean() - fitted, fitted)) < 1e-4 * np.dot(fitted, fitted)
    assert np.abs(peak).max() == pytest.approx(np.abs(mixed - mixed.mean()).max(), rel=1e-4)
    for one, other in ((fitted, raw), (peak, raw)):
        assert abs(np.corrcoef(one, other)[0, 1]) > 1 - 1e-6
    target, other = voice(1.0, 110.0, seed=1), voice(1.0, 197.0, seed=2)
    for factor in (-3.0, 0.01):
        scale = Scale("mixture")
        for part in (slice(3000), slice(3000, None)):
            scale.add((factor * target)[part], (target + other)[part])
        assert scale.factor == pytest.approx(1 / factor, rel=0.05)
    for kind in ("mixture", "peak", "none"):
        scale = Scale(kind)
        scale.add(np.zeros(9, np.float32), mixed[:9])
        assert scale.factor == 1.0


@every_extractor
def test_long_recordings_are_processed_in_segments_of_one_length(name):
    options = {"segment_seconds": 0.6, "overlap_seconds": 0.15, "scale": "none"}
    extractor = load(name, options)
    sizes, run = [], extractor._run
    extractor._run = lambda signals, *more: sizes.extend(map(len, signals)) or run(signals, *more)
    for size in (4800, 4801, 7337, 20001):
        sizes.clear()
        request = extractor.request(mixture(3.0)[:size], ENROLL)
        out = extractor.extract([request])[0].samples
        assert out.shape == (size,) and np.isfinite(out).all() and set(sizes) == {4800}
    # Far from every seam the joined output is that of the segment alone: here the last one's last samples.
    tail = extractor.request(mixture(3.0)[:size], ENROLL).mixture[-4800:]
    expected = plain_output(network(name), tail, request.enroll)
    assert_close(out[-1200:] * np.float32(request.gain), expected[-1200:])
    batched = load(name, {**options, "batch_size": 3})
    assert_close(batched.extract([request])[0].samples, out)


def test_seams_cannot_be_heard():
    # Both neighbours fade, so that a sample-to-sample step at a seam is no larger than elsewhere; and segments start at
    # frames of the whole recording, so that a network that looks at some context gives nearly the same for both.
    extractor = load(decode={"segment_seconds": 0.5, "overlap_seconds": 0.1, "scale": "none"})
    mixed = mixture(3.0)
    out, whole = extractor(mixed, ENROLL), load(decode={"segment_seconds": 0.0, "scale": "none"})(mixed, ENROLL)
    assert np.abs(np.diff(out)).max() < 1.5 * np.abs(np.diff(whole)).max()
    assert np.corrcoef(out[:20000], whole[:20000])[0, 1] > 0.98


def test_a_recording_that_fits_a_segment_is_processed_whole():
    whole, cut = load(decode={"segment_seconds": 0.0}), load(decode={"segment_seconds": 1.0, "overlap_seconds": 0.2})
    np.testing.assert_array_equal(whole(mixture(1.0), ENROLL), cut(mixture(1.0), ENROLL))
    assert not np.array_equal(whole(mixture(1.01), ENROLL), cut(mixture(1.01), ENROLL))


@every_extractor
@pytest.mark.parametrize("count", [1, 2, 4])
def test_augmentations_are_averaged_where_they_belong(name, count):
    extractor = load(name, {"scale": "none", "augmentations": count})
    hop = extractor._halves.hop
    request = extractor.request(mixture(1.0)[:4801], ENROLL)
    out = extractor.extract([request])[0].samples * np.float32(request.gain)
    expected = np.zeros(len(out))
    for delay, sign in ((0, 1), (round(hop / 2), -1), (round(hop / 4), 1), (round(3 * hop / 4), -1))[:count]:
        copy = np.concatenate([np.zeros(delay, np.float32), sign * request.mixture])
        expected += sign * plain_output(network(name), copy, request.enroll)[delay:] / count
    assert_close(out, expected.astype(np.float32))
    assert extractor.passes == count


@every_extractor
def test_an_enrolment_is_embedded_once(name, monkeypatch):
    extractor = load(name, {"segment_seconds": 0.3, "overlap_seconds": 0.1, "batch_size": 2})
    embedded, embed = [], extractor._halves.enroll
    monkeypatch.setattr(extractor._halves, "enroll", lambda *given: embedded.append(len(given[0])) or embed(*given))
    first = extractor.extract_batch([mixture(1.0), mixture(0.4)], [ENROLL, ENROLL])
    again = extractor(mixture(1.0), ENROLL)
    assert embedded == [1]
    assert_close(again, first[0])
    extractor(mixture(0.4), voice(1.0, 110.0, seed=6))
    assert embedded == [1, 1]


def test_only_so_many_embeddings_are_kept(monkeypatch):
    monkeypatch.setattr("espnet_tse_gen.inference.waveform.KEPT_ENROLL_SECONDS", 0.7)
    extractor = load()
    enrolls = [voice(0.3, 110.0, seed=n) for n in range(4)]
    together = extractor.extract_batch([mixture(0.2)] * 4, enrolls)
    assert len(extractor._enrolments) == 2
    for row, enroll in zip(together, enrolls, strict=True):
        assert_close(extractor(mixture(0.2), enroll), row)


def test_silence_inside_a_recording_is_no_trouble():
    paused = np.r_[mixture(0.5), np.zeros(9000, np.float32), mixture(0.5)]
    assert np.isfinite(load(decode={"segment_seconds": 0.3, "overlap_seconds": 0.1})(paused, ENROLL)).all()


@every_extractor
def test_precisions(name):
    exact, single, fast = (
        load(name, dtype=dtype)(mixture(0.8), ENROLL) for dtype in ("float64", "float32", "bfloat16")
    )
    assert_close(single, exact, 1e-4)
    assert si_sdr(exact, fast) > 15 and not np.array_equal(fast, single)


def test_an_autocast_of_the_caller_changes_nothing():
    expected = load()(mixture(0.5), ENROLL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(load()(mixture(0.5), ENROLL), expected)


def test_the_shortest_input_is_processed_and_shorter_is_refused():
    for rate in (8000, 11025, 16000):
        size, enroll_size = -(-20 * rate // RATE), -(-280 * rate // RATE)
        out = load()(mixture(1.0, rate=rate)[:size], voice(1.0, 110.0, rate=rate)[-enroll_size:], rate)
        assert out.shape == (size,) and np.isfinite(out).all()
    refused("^mixture: is 2.38 ms long, expected at least one window of the encoder", load(), mixture(1.0)[:19], ENROLL)
    refused("^enrolment: is 34.9 ms long, .* one statistic of the", load(), mixture(0.5), ENROLL[:279])


def test_a_model_that_wants_embeddings_is_refused(tmp_path):
    exp_dir = shutil.copytree(discriminative_exp_dir("td_speakerbeam"), tmp_path / "exp")
    config = read_yaml(exp_dir / "config.yaml")
    config["extractor_conf"] |= {"use_spk_emb": True, "spk_emb_dim": 24}
    write_yaml(exp_dir / "config.yaml", config)
    (exp_dir / "valid.loss.ave.pth").unlink()
    torch.save(load_model(exp_dir / "config.yaml", None).state_dict(), exp_dir / "latest.pth")
    refused("takes speaker embeddings", WaveformInference.from_pretrained, exp_dir)
