"""The mini codec: its transforms, what its codebooks may depend on, its training, and the weights that ship."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from codec_families import make, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from torch import Tensor

from espnet_tse_gen.audio.stft import istft, stft
from espnet_tse_gen.bin import codec_prepare, codec_resynth
from espnet_tse_gen.codec.mini import SHIPPED, Lapped, MiniCodec, Quantizer
from espnet_tse_gen.codec.registry import build_codec, load_codec
from espnet_tse_gen.training.mini_codec import MiniGANCodec, MovingAverages
from espnet_tse_gen.training.mini_losses import SpectralLoss, signal_to_noise

FEW = settings(max_examples=10, deadline=None, derandomize=True)
NETWORK = {
    "num_codebooks": 3, "codebook_size": 16, "num_mels": 20, "envelope_width": 4, "waveform_width": 8, "envelope_channels": 8,
    "encoder_width": 8, "encoder_blocks": 1, "decoder_width": 8, "decoder_blocks": 1,
}  # fmt: skip


def voice(rows: int = 2, samples: int = 16000, seed: int = 0) -> Tensor:
    """Return harmonic tones with a changing pitch, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(samples) / 16000.0
    pitch = 100.0 + 150.0 * torch.rand(rows, 1, generator=generator) + 20.0 * torch.sin(3.0 * time)
    phase = 2.0 * torch.pi * torch.cumsum(pitch / 16000.0, dim=1)
    return 0.05 * sum(torch.sin(k * phase) / k for k in range(1, 8))


@FEW
@given(frames=st.integers(1, 30), hop=st.sampled_from([160, 320]), window=st.sampled_from([320, 512, 640]))
def test_the_fourier_transform_is_inverted_exactly(frames: int, hop: int, window: int) -> None:
    taper, wav = torch.hann_window(window), noise(2, frames * hop)
    spectra = stft(wav, taper, hop // 2)
    assert spectra.shape == (2, 2 * frames, window // 2 + 1)
    torch.testing.assert_close(istft(spectra, taper, hop // 2), wav, atol=1e-5, rtol=1e-4)


@FEW
@given(frames=st.integers(2, 30), hop=st.sampled_from([8, 160, 320]))
def test_the_lapped_transform_is_inverted_exactly_inside(frames: int, hop: int) -> None:
    lapped, wav = Lapped(hop), noise(2, frames * hop)
    spectra = lapped(wav)
    assert spectra.shape == (2, frames, hop)
    inside = slice(hop // 2, -(hop // 2))
    torch.testing.assert_close(lapped.inverse(spectra)[:, inside], wav[:, inside], atol=1e-5, rtol=1e-4)


def test_envelope_codebooks_do_not_depend_on_the_phase() -> None:
    codec = make("mini")
    wav = voice(1)
    spectra = codec.network.spectra(wav)
    turned = spectra * torch.exp(2j * torch.pi * torch.rand(spectra.shape, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(codec.network.encode_envelope(turned), codec.network.encode_envelope(spectra))
    codes, inverted = codec.encode(wav).codes, codec.encode(-wav).codes
    assert torch.equal(codes[:, : codec.envelope_codebooks], inverted[:, : codec.envelope_codebooks])
    assert not torch.equal(codes[:, codec.envelope_codebooks :], inverted[:, codec.envelope_codebooks :])


def test_codebooks_follow_what_falls_to_them() -> None:
    torch.manual_seed(0)
    centres = 10.0 * torch.randn(16, 3)
    vectors = centres.repeat(20, 1) + 0.01 * torch.randn(320, 3)
    quantizer = Quantizer(1, 16, 3)
    averages = MovingAverages(quantizer, decay=0.5)
    averages.initialise(quantizer, vectors)

    def error_after_updates(vectors: Tensor) -> float:
        for _ in range(30):
            codes, inputs, _ = quantizer(vectors)
            averages.update(quantizer, codes, inputs)
        return error(vectors)

    def error(wanted: Tensor) -> float:
        return float((wanted - quantizer(wanted)[2][0]).square().sum() / vectors.square().sum())

    found = error_after_updates(vectors)
    assert found < 0.2, "k-means may leave two centres together, not more"
    moved = vectors + 5.0
    assert error(moved) > 2.0 * found
    assert error_after_updates(moved) < 1.5 * found


@FEW
@given(seed=st.integers(0, 1000), candidates=st.sampled_from([2, 8]))
def test_search_finds_better_sums(seed: int, candidates: int) -> None:
    torch.manual_seed(seed)
    vectors = torch.randn(300, 6) @ torch.randn(6, 6)
    quantizer = Quantizer(3, 16, 6)
    MovingAverages(quantizer, decay=0.5).initialise(quantizer, vectors)

    def error(codes: Tensor) -> float:
        made = sum(book[codes[:, codebook]] for codebook, book in enumerate(quantizer.codebooks))
        return float((vectors - made).square().sum())

    greedy, _, _ = quantizer(vectors)
    assert torch.equal(quantizer.search(vectors, 1), greedy)
    searched, inputs, chosen = quantizer(vectors, candidates=candidates)
    assert torch.equal(searched, quantizer.search(vectors, candidates))
    assert error(searched) < error(greedy)
    torch.testing.assert_close(inputs[-1] + sum(chosen[:-1]), vectors)


def test_a_decoder_trained_alone_leaves_the_codes() -> None:
    torch.manual_seed(0)
    design = MiniGANCodec(network=NETWORK, decoder_only=True, candidates=4).train()
    wav = voice(2, 6400)
    before = design.encode(wav.unsqueeze(1))
    kept = {name: value.clone() for name, value in design.generator.state_dict().items()}
    train(design, wav, 3)
    assert torch.equal(design.encode(wav.unsqueeze(1)), before)
    changed = {name for name, value in design.generator.state_dict().items() if not torch.equal(kept[name], value)}
    assert changed and all(name.startswith(("decoder.", "synthesis.")) for name in changed)


def test_losses_are_least_at_the_recording_itself() -> None:
    loss, wav = SpectralLoss(16000), voice()
    mel, complex_ = loss(wav, wav)
    assert float(mel) == 0.0 and float(complex_) == 0.0
    for other in (0.5 * wav, -wav, wav + noise(2, 16000)):
        assert sum(loss(other, wav)) > 1e-3
    assert float(loss(-wav, wav)[0]) < 1e-5, "log-mel magnitudes are blind to the sign"
    assert torch.isfinite(signal_to_noise(torch.zeros(1, 320), torch.zeros(1, 320))).all()
    ratio = signal_to_noise(wav, wav + 0.1 * wav)
    torch.testing.assert_close(ratio, torch.full((2,), 20.0), atol=0.01, rtol=0.0)


def train(design: MiniGANCodec, wav: Tensor, steps: int) -> list[float]:
    """Train as ESPnet's trainer does, both turns, and return the generator's losses."""
    optimizers = [
        torch.optim.Adam(part.parameters(), 2e-3, betas=(0.8, 0.99))
        for part in (design.generator, design.discriminator)
    ]
    losses = []
    for _ in range(steps):
        for turn in (True, False):
            made = design(wav, forward_generator=turn)
            made["loss"].backward()
            optimizers[made["optim_idx"]].step()
            for optimizer in optimizers:
                optimizer.zero_grad()
            if turn:
                losses.append(float(made["stats"]["mel"]))
    return losses


@pytest.mark.slow
def test_training_learns_with_and_without_discriminators() -> None:
    torch.manual_seed(0)
    design = MiniGANCodec(
        network=NETWORK, warmup_steps=3, adversarial_start=20, adversarial_ramp=5, discriminator_channels=2
    ).train()
    wav = voice(4, 6400)
    before = [parameter.clone() for parameter in design.discriminator.parameters()]
    first = train(design, wav, 20)
    assert all(torch.equal(a, b) for a, b in zip(before, design.discriminator.parameters(), strict=True))
    second = train(design, wav, 30)
    assert not any(torch.equal(a, b) for a, b in zip(before, design.discriminator.parameters(), strict=True))
    assert second[-1] < 0.7 * first[0]
    assert int(design.steps) == 50
    design.eval()
    stats = design(wav)["stats"]
    assert set(stats) >= {"mel", "complex", "snr", "envelope", "commit", "adversarial", "feature_match", "loss"}


def test_espnets_doors_and_ours_agree(tmp_path: Path) -> None:
    torch.manual_seed(0)
    design = MiniGANCodec(network=NETWORK).eval()
    for quantizer in design.quantizers.values():
        quantizer.codebooks.mul_(0.1)
    torch.save({f"codec.{key}": value for key, value in design.state_dict().items()}, tmp_path / "1epoch.pth")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"codec": "mini", "codec_conf": {"network": NETWORK}}))
    codec = build_codec("mini", NETWORK)
    codec.load_pretrained(tmp_path)
    wav = voice(1, 6400)
    codes = design.encode(wav.unsqueeze(1))
    assert torch.equal(codes[:, 0], codec.encode(wav).codes[0])
    torch.testing.assert_close(design.decode(codes)[:, 0], codec.decode(codec.encode(wav).codes))
    assert design.meta_info()["frame_shift"] == codec.hop
    other = build_codec("mini", {**NETWORK, "decoder_width": 12})
    refused(r"does not fit codec_conf; copy 'network'", other.load_pretrained, tmp_path)


def test_numbers_that_do_not_fit_are_refused() -> None:
    for conf in ({"hop": 321}, {"window": 100}, {"envelope_codebooks": 8}, {"envelope_codebooks": -1}):
        refused("codec 'mini'", MiniCodec, **conf)
    assert build_codec("mini", {**NETWORK, "envelope_codebooks": 0}).latent_dim == NETWORK["waveform_width"]


def test_the_shipped_codec_is_what_its_card_says() -> None:
    weights = SHIPPED / "weights.pth"
    card = (SHIPPED / "README.md").read_text()
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in card
    assert f"{weights.stat().st_size:,} bytes" in card
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 10_000_000


def test_the_configuration_alone_makes_the_shipped_codec(tmp_path: Path, repository: Path) -> None:
    config = str(repository / "conf/codec/mini_16k.yaml")
    codec_prepare.main(["--codec_config", config, "--output_dir", str(tmp_path / "codec")])
    made, shipped = load_codec(tmp_path / "codec"), load_codec(SHIPPED)
    assert made.fingerprint() == shipped.fingerprint()
    assert (made.sample_rate, made.frame_rate, made.num_codebooks) == (16000, 50.0, 12)
    assert set(made.codebook_sizes) == {1024}


@pytest.mark.slow
@pytest.mark.realdata
def test_the_shipped_codec_codes_speakers_it_never_met(tmp_path: Path, repository: Path, real_data: Path) -> None:
    from pystoi import stoi

    values, output = [], tmp_path / "out.wav"
    for path in sorted((real_data / "LibriSpeech/test-other").rglob("*.flac"))[::14]:
        given = ["--codec_config", str(repository / "conf/codec/mini_16k.yaml"), "--input", str(path)]
        codec_resynth.main([*given, "--output", str(output), "--overwrite"])
        (wanted, rate), (made, made_rate) = soundfile.read(path), soundfile.read(output)
        assert made_rate == rate and made.shape == wanted.shape
        values.append(stoi(wanted, made, rate, extended=True))
    assert len(values) >= 2 and float(np.mean(values)) > 0.6


def test_more_codebooks_of_the_shipped_codec_are_nearer_to_speech() -> None:
    codec, wav = load_codec(SHIPPED), voice(1)
    codes = codec.encode(wav).codes
    errors = [float((codec.decode(codes, num_codebooks=n)[:, :16000] - wav).square().mean()) for n in (2, 4, 8)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.5 * float(wav.square().mean())
