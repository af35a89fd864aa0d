"""The properties of SpEx+; those that MC-SpEx shares are tested for both."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_networks import SMALL, SPEAKERS, Network, permute_blocks, relative, si_sdr, without_gradient

from espnet_tse_gen.discriminative.blocks import valid_frames
from espnet_tse_gen.discriminative.decoder import MultiScaleConvDecoder
from espnet_tse_gen.discriminative.encoder import MultiScaleConvEncoder
from espnet_tse_gen.discriminative.spex_plus import SpExPlusExtractor
from espnet_tse_gen.utils.errors import UserError

both = pytest.mark.parametrize("name", ["spex_plus", "mc_spex"])


def full_size(speakers: int) -> int:
    """Return the number of parameters of encoder, extractor and decoder with default options."""
    with torch.device("meta"):
        parts = (MultiScaleConvEncoder(), SpExPlusExtractor(768, speakers), MultiScaleConvDecoder())
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


@both
@pytest.mark.parametrize("length", [20, 21, 29, 30, 400, 8001, 8007, 8009, 8010, 8011])
def test_s01_three_waveforms_of_exactly_the_length(name: str, length: int) -> None:
    with torch.no_grad():
        waves, others = Network(name).eval()(torch.randn(2, length), torch.randn(2, 400))
    assert [tuple(wav.shape) for wav in waves] == [(2, length)] * 3
    assert others["spk_logits"].shape == (2, SPEAKERS) and others["enroll_emb"].shape == (2, SMALL["embedding_dim"])


@both
def test_s01_a_signal_that_is_too_short_ends_in_one_line(name: str) -> None:
    network = Network(name)
    with pytest.raises(UserError, match="19 samples") as caught:
        network(torch.randn(1, 19), torch.randn(1, 400))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="26 encoder frames"):
        network(torch.randn(1, 200), torch.randn(1, 270))
    with pytest.raises(UserError, match="26 encoder frames"):
        network(torch.randn(2, 200), torch.randn(2, 400), None, torch.tensor([400, 270]))
    network(torch.randn(2, 200), torch.randn(2, 280))


def test_s02_number_of_parameters() -> None:
    assert full_size(101) == 11_138_734
    assert full_size(251) == 11_177_284


@both
def test_s03_one_encoder_encodes_mixture_and_enrolment(name: str) -> None:
    network = Network(name).eval()
    ids = [id(parameter) for _, parameter in network.named_parameters(remove_duplicate=False)]
    assert len(ids) == len(set(ids))
    calls = []
    network.encoder.register_forward_hook(lambda *_: calls.append(1))
    mixture, enroll = torch.randn(1, 400), torch.randn(1, 400)
    with torch.no_grad():
        _, before = network(mixture, enroll)
        assert len(calls) == 2
        features = network.encode(mixture)[0]
        network.encoder.convs[1].weight[0] += 0.1
        assert relative(network(mixture, enroll)[1]["enroll_emb"], before["enroll_emb"]) > 1e-4
        assert relative(network.encode(mixture)[0], features) > 1e-4


@both
def test_s04_padding_an_enrolment_does_not_change_its_embedding(name: str) -> None:
    network = Network(name).eval()
    enroll = torch.randn(1, 1007)
    padded = F.pad(enroll, (0, 1007))
    with torch.no_grad():
        embedding = network.embed(enroll)
        assert relative(network.embed(padded, torch.tensor([1007])), embedding) < 1e-5
        # The padding matters where it is not known to be padding: the test above could fail.
        assert relative(network.embed(padded), embedding) > 1e-3


@both
def test_s05_the_enrolment_decides_who_is_extracted(name: str) -> None:
    network = Network(name).eval()
    mixture, enroll = torch.randn(2, 800), torch.randn(2, 800) * torch.tensor([[0.05], [1.0]])
    with torch.no_grad():
        (short, *_), _ = network(mixture, enroll)
        (swapped, *_), _ = network(mixture, enroll.flip(0))
        (permuted, *_), _ = network(mixture.flip(0), enroll.flip(0))
    assert relative(swapped, short) > 1e-3
    assert relative(permuted.flip(0), short) < 1e-5


@both
def test_s06_level_passes_through_without_offsets(name: str) -> None:
    network = Network(name, bias=False).eval()
    network.set_channel_norm_eps(1e-12)
    mixture, enroll = torch.randn(1, 800), torch.randn(1, 800)
    with torch.no_grad():
        waves, others = network(mixture, enroll)
        for gain in (0.1, 7.0):
            scaled, _ = network(gain * mixture, enroll)
            assert all(relative(a, gain * b) < 1e-5 for a, b in zip(scaled, waves, strict=True))
            assert relative(network.embed(gain * enroll), others["enroll_emb"]) < 1e-5


def test_s07_the_embedding_is_a_mean_of_blocks() -> None:
    network = Network("spex_plus").eval()
    with torch.no_grad():
        features, frames = network.encode(torch.randn(1, 10 * 27 * 6 + 10))
        assert frames.tolist() == [27 * 6]
        embedding = network.extractor.embed(features, frames)
        assert relative(network.extractor.embed(permute_blocks(features), frames), embedding) < 1e-5
        assert relative(network.extractor.embed(features.roll(1, 1), frames), embedding) > 1e-4


def test_s08_gradients_go_where_they_should() -> None:
    network = Network("spex_plus")
    mixture, target, labels = torch.randn(3, 600), torch.randn(3, 600), torch.tensor([0, 3, 4])
    enroll = torch.randn(3, 900)

    def unreached(signals: list[float], classification: float) -> set[str]:
        network.zero_grad()
        waves, others = network(mixture, enroll)
        loss = classification * F.cross_entropy(others["spk_logits"], labels) if classification else torch.zeros(())
        for weight, wav in zip(signals, waves, strict=True):
            if weight:
                loss = loss - weight * si_sdr(wav, target).mean()
        loss.backward()
        return without_gradient(network)

    names = {name for name, _ in network.named_parameters()}
    assert unreached([0.8, 0.1, 0.1], 0.5) == set()
    others = ("decoder.convs.1", "decoder.convs.2", "projections.1", "projections.2", "classifier")
    assert unreached([1, 0, 0], 0) == {name for name in names if any(part in name for part in others)}
    speaker = ("encoder.convs", "extractor.enroll_fusion", "extractor.speaker_encoder", "extractor.classifier")
    assert unreached([0, 0, 0], 1) == {name for name in names if not name.startswith(speaker)}


@pytest.mark.slow
@both
def test_s08_two_speakers_of_one_mixture_can_be_learnt(name: str) -> None:
    seconds = torch.arange(2400) / 8000
    voices = []
    for pitch, syllables in ((110.0, 4.0), (190.0, 7.0)):
        harmonics = sum(torch.sin(2 * torch.pi * k * pitch * seconds + k * k) / k for k in range(1, 9))
        voices.append(harmonics * (1 + torch.sin(2 * torch.pi * syllables * seconds)) / 4)
    targets = torch.stack(voices)
    mixture = targets.sum(0).expand(2, -1)
    network = Network(name, channel=32, bottleneck_channel=24, hidden_channel=48, stacks=1, blocks=5)
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    for _ in range(400):
        waves, others = network(mixture, targets)
        if float(si_sdr(waves[0].detach(), targets).min()) > 15:
            break
        quality = sum(w * si_sdr(wav, targets).mean() for w, wav in zip((0.8, 0.1, 0.1), waves, strict=True))
        loss = 0.5 * F.cross_entropy(others["spk_logits"], torch.tensor([0, 1])) - quality
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
    assert float(si_sdr(waves[0].detach(), targets).min()) > 15


@both
def test_a_padded_batch_gives_what_its_items_give_alone(name: str) -> None:
    network = Network(name).eval()
    lengths, enroll_lengths = torch.tensor([1203, 600, 31]), torch.tensor([290, 1111, 500])
    mixture, enroll = torch.randn(3, 1203), torch.randn(3, 1111)
    with torch.no_grad():
        waves, others = network(mixture, enroll, lengths, enroll_lengths)
        for i, (length, enroll_length) in enumerate(zip(lengths, enroll_lengths, strict=True)):
            alone, told = network(mixture[i : i + 1, :length], enroll[i : i + 1, :enroll_length])
            assert relative(others["enroll_emb"][i], told["enroll_emb"][0]) < 1e-5
            for batched, single in zip(waves, alone, strict=True):
                torch.testing.assert_close(batched[i, :length], single[0], rtol=1e-5, atol=1e-5)
                assert relative(batched[i, :length], single[0]) < 1e-5


@both
def test_forward_is_embed_and_extract_and_one_scale_is_the_first_of_three(name: str) -> None:
    network = Network(name).eval()
    with torch.no_grad():
        mixture, enroll = network.encode(torch.randn(2, 500)), network.encode(torch.randn(2, 700))
        masked, frames, others = network.extractor(*mixture, *enroll, "_spk1")
        assert set(others) == {"enroll_emb_spk1", "spk_logits_spk1"} and frames is mixture[1]
        embedding = network.extractor.embed(*enroll)
        assert torch.equal(embedding, others["enroll_emb_spk1"])
        assert torch.equal(network.extractor.extract(*mixture, embedding, num_scales=3), masked)
        short = network.extractor.extract(*mixture, embedding, num_scales=1)
        assert torch.equal(short, masked[..., :10])
        assert torch.equal(
            network.decoder(short, torch.tensor([500]))[0], network.decoder(masked, torch.tensor([500]))[0]
        )


@both
def test_weights_survive_storage_in_half_precision(name: str) -> None:
    network = Network(name).eval()
    mixture, enroll = torch.randn(1, 400), torch.randn(1, 400)
    with torch.no_grad():
        (wav, *_), _ = network(mixture, enroll)
        (rounded, *_), _ = network.half().float()(mixture, enroll)
    assert 0 < relative(rounded, wav) < 0.02


def test_no_classifier_without_speakers_and_options_that_do_not_fit_are_refused() -> None:
    extractor = SpExPlusExtractor(30, **SMALL)
    features, frames = torch.randn(1, 40, 30), torch.tensor([40])
    assert set(extractor(features, frames, features, frames)[2]) == {"enroll_emb"}
    with pytest.raises(UserError, match="stacks"):
        SpExPlusExtractor(30, **{**SMALL, "stacks": 0})
    with pytest.raises(UserError, match="num_train_spk"):
        SpExPlusExtractor(30, -1)
    with pytest.raises(UserError, match="ms_conv"):
        SpExPlusExtractor(31)


def test_valid_frames_are_told_only_where_there_is_padding() -> None:
    assert valid_frames(torch.tensor([4, 4]), 4, torch.device("cpu")) is None
    valid = valid_frames(torch.tensor([4, 1]), 4, torch.device("cpu"))
    assert valid is not None and valid.int().tolist() == [[[1, 1, 1, 1]], [[1, 0, 0, 0]]]
