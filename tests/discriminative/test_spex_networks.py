"""The properties of SpEx+ and of the reconstruction of MC-SpEx, most of which they share."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_networks import SMALL, SPEAKERS, Network, permute_blocks, relative, si_sdr, without_gradient

from espnet_tse_gen.discriminative.fusion import TransformAverageConcatenate
from espnet_tse_gen.discriminative.mc_spex import MCSpExExtractor, SpeakerModulation
from espnet_tse_gen.discriminative.spex_plus import SpExPlusExtractor
from espnet_tse_gen.utils.errors import UserError

AS_SPEX_PLUS = {"fusion": "none", "share_fusion": False, "modulation": "concat", "mask_interaction": "none"}
CHOICES: list[dict[str, Any]] = [
    {},
    {"fusion": "conv2d"},
    {"fusion": "none"},
    {"fusion_norm": "gln"},
    {"fusion_projection": "separate"},
    {"fusion_projection": "separate", "share_fusion": False, "speaker_front_end": True},
    {"share_fusion": False},
    {"speaker_front_end": True},
    {"modulation": "film_shared"},
    {"modulation": "gate"},
    {"modulation": "film_prelu_gln"},
    {"modulation": "concat"},
    {"mask_interaction": "none"},
]
both = pytest.mark.parametrize("name", ["spex_plus", "mc_spex"])


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
        network(torch.randn(2, 200), torch.randn(2, 400), None, torch.tensor([400, 270]))
    network(torch.randn(2, 200), torch.randn(2, 280))


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


@pytest.mark.parametrize(("name", "fusion"), [("spex_plus", {}), ("mc_spex", {}), ("mc_spex", {"fusion": "conv2d"})])
def test_s07_m06_the_embedding_is_a_mean_of_blocks_unless_the_fuser_sees_neighbours(name: str, fusion: dict) -> None:
    network = Network(name, **fusion).eval()
    with torch.no_grad():
        features, frames = network.encode(torch.randn(1, 10 * 27 * 6 + 10))
        assert frames.tolist() == [27 * 6]
        embedding = network.extractor.embed(features, frames)
        permuted = relative(network.extractor.embed(permute_blocks(features), frames), embedding)
        assert permuted > 1e-4 if fusion else permuted < 1e-5
        assert relative(network.extractor.embed(features.roll(1, 1), frames), embedding) > 1e-4


@pytest.mark.parametrize(
    ("name", "options"), [("spex_plus", {}), ("mc_spex", {}), ("mc_spex", {"mask_interaction": "none"})]
)
def test_s08_m04_m08_gradients_go_where_they_should(name: str, options: dict) -> None:
    network = Network(name, **options)
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
    others = ("decoder.convs.1", "decoder.convs.2", "classifier")
    if name == "spex_plus" or options:
        # Otherwise the short scale teaches the other masks, too.
        others += ("projections.1", "projections.2")
    assert unreached([1, 0, 0], 0) == {name for name in names if any(part in name for part in others)}
    fusion = "fusion" if name == "mc_spex" else "enroll_fusion"
    speaker = ("encoder.convs", f"extractor.{fusion}", "extractor.speaker_encoder", "extractor.classifier")
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


@pytest.mark.parametrize(
    ("name", "options"), [("spex_plus", {}), *(("mc_spex", options) for options in CHOICES)], ids=str
)
def test_the_enrolment_decides_and_a_padded_batch_gives_what_its_items_give_alone(name: str, options: dict) -> None:
    network = Network(name, **options).eval()
    lengths, enroll_lengths = torch.tensor([1203, 600, 31]), torch.tensor([290, 1111, 500])
    mixture, enroll = torch.randn(3, 1203), torch.randn(3, 1111)
    with torch.no_grad():
        waves, others = network(mixture, enroll, lengths, enroll_lengths)
        (swapped, *_), _ = network(mixture, enroll.flip(0), lengths, enroll_lengths.flip(0))
        assert relative(swapped, waves[0]) > 1e-5
        # The padding matters where it is not known to be padding: what follows could fail.
        assert relative(network.embed(enroll)[0], others["enroll_emb"][0]) > 1e-3
        for i, (length, enroll_length) in enumerate(zip(lengths, enroll_lengths, strict=True)):
            alone, told = network(mixture[i : i + 1, :length], enroll[i : i + 1, :enroll_length])
            assert relative(others["enroll_emb"][i], told["enroll_emb"][0]) < 1e-5
            for batched, single in zip(waves, alone, strict=True):
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
        lengths = torch.tensor([500])
        assert torch.equal(network.decoder(short, lengths)[0], network.decoder(masked, lengths)[0])


@pytest.mark.parametrize("norm", ["cln", "gln"])
def test_m05_the_interaction_is_its_definition(norm: str) -> None:
    interaction = TransformAverageConcatenate(6, 9, norm)
    scales = torch.randn(2, 3, 6, 17)
    with torch.no_grad():
        hidden = [interaction.activation1(interaction.transform(scales[:, i])) for i in range(3)]
        mean = interaction.activation2(interaction.average(sum(hidden) / 3))
        expected = [
            scales[:, i]
            + interaction.norm(interaction.activation3(interaction.concatenate(torch.cat([hidden[i], mean], 1))))
            for i in range(3)
        ]
        out = interaction(scales.view(2, 18, 17))
    torch.testing.assert_close(out, torch.cat(expected, 1), rtol=1e-5, atol=1e-5)


def test_m07_the_modulation_carries_the_speaker() -> None:
    network = Network("mc_spex").eval()
    mixture, enroll = torch.randn(2, 600), torch.randn(2, 900) * torch.tensor([[0.05], [1.0]])
    with torch.no_grad():
        assert relative(network(mixture, enroll.flip(0))[0][0], network(mixture, enroll)[0][0]) > 1e-3
        for parameter in network.extractor.modulations.parameters():
            parameter.zero_()
        assert torch.equal(network(mixture, enroll)[0][0], network(mixture, enroll.flip(0))[0][0])


def test_m07_film_is_its_definition() -> None:
    film = SpeakerModulation("film", 6, 4)
    x, embedding = torch.randn(2, 6, 30), torch.randn(2, 4)
    with torch.no_grad():
        normed = (x - x.mean((1, 2), keepdim=True)) / (x.var((1, 2), keepdim=True, unbiased=False) + 1e-5).sqrt()
        expected = (1 + film.gain(embedding))[:, :, None] * normed + film.offset(embedding)[:, :, None]
        torch.testing.assert_close(film(x, embedding), expected, rtol=1e-5, atol=1e-5)


def test_m09_without_its_parts_it_is_spex_plus() -> None:
    degenerate, spex_plus = Network("mc_spex", **AS_SPEX_PLUS).eval(), Network("spex_plus").eval()
    own, encoded, frames = (
        spex_plus.extractor,
        torch.randn(1, 60, 3 * spex_plus.extractor.scale_channel),
        torch.tensor([60]),
    )
    degenerate.load_state_dict(spex_plus.state_dict(), strict=True)
    mixture, enroll = torch.randn(2, 600), torch.randn(2, 900)
    with torch.no_grad():
        (a, told_a), (b, told_b) = degenerate(mixture, enroll), spex_plus(mixture, enroll)
        # Both are one class. So, written out: every stack hears of the speaker, and one mask of all scales comes of the last.
        embedding = own.speaker_encoder(own.enroll_fusion(encoded.transpose(1, 2)), frames)
        x = own.fusion(encoded.transpose(1, 2))
        for stack in own.stacks:
            x = stack(x, None, embedding)
        expected = (own.mask_generator(x, None, 3) * encoded.transpose(1, 2)).transpose(1, 2)
        assert torch.equal(own(encoded, frames, encoded, frames)[0], expected)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert torch.equal(told_a["spk_logits"], told_b["spk_logits"])


@pytest.mark.parametrize(
    ("extractor", "input_dim", "options", "message"),
    [
        (MCSpExExtractor, 30, {"fusion": "tak"}, "option 'fusion'.*did you mean 'tac'"),
        (MCSpExExtractor, 30, {"modulation": "filn"}, "option 'modulation'.*did you mean 'film'"),
        (MCSpExExtractor, 30, {"mask_interaction": "non"}, "option 'mask_interaction'.*did you mean 'none'"),
        (SpExPlusExtractor, 30, {"stacks": 0}, "extractor 'spex_plus': option 'stacks' is 0"),
        (SpExPlusExtractor, 30, {"num_train_spk": -1}, "num_train_spk"),
        (SpExPlusExtractor, 31, {}, "ms_conv"),
    ],
)
def test_options_that_do_not_fit_are_refused(extractor: type, input_dim: int, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        extractor(input_dim, **options)
