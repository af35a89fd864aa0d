"""The properties of the reconstruction of MC-SpEx; those that it shares with SpEx+ are tested there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_networks import SPEAKERS, Network, permute_blocks, relative, si_sdr, without_gradient

from espnet_tse_gen.discriminative.decoder import MultiScaleConvDecoder
from espnet_tse_gen.discriminative.encoder import MultiScaleConvEncoder
from espnet_tse_gen.discriminative.fusion import TransformAverageConcatenate
from espnet_tse_gen.discriminative.mc_spex import MCSpExExtractor
from espnet_tse_gen.discriminative.modulation import FeatureModulation
from espnet_tse_gen.utils.errors import UserError

AS_SPEX_PLUS: dict[str, Any] = {
    "fusion": "none",
    "share_fusion": False,
    "modulation": "concat",
    "mask_interaction": "none",
}
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


def full_size(**options: Any) -> int:
    """Return the number of parameters of encoder, extractor and decoder for 251 speakers."""
    with torch.device("meta"):
        parts = (MultiScaleConvEncoder(), MCSpExExtractor(768, 251, **options), MultiScaleConvDecoder())
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def signals(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random mixtures and enrolments."""
    return torch.randn(batch, 600), torch.randn(batch, 900)


def test_m01_shapes() -> None:
    network = Network("mc_spex").eval()
    seen: dict[int, tuple[int, ...]] = {}
    network.extractor.fusion.register_forward_hook(lambda *call: seen.update({len(seen): tuple(call[2].shape)}))
    with torch.no_grad():
        waves, others = network(*signals())
    assert sorted(seen.values()) == [(2, 16, 59), (2, 16, 89)]
    assert others["spk_logits"].shape == (2, SPEAKERS) and [wav.shape[1] for wav in waves] == [600] * 3


def test_m02_number_of_parameters() -> None:
    assert full_size() == 11_507_786


def test_m03_one_fuser_serves_mixture_and_enrolment() -> None:
    network = Network("mc_spex")
    calls = []
    network.extractor.fusion.register_forward_hook(lambda *_: calls.append(1))
    mixture, enroll = signals()
    _, others = network(mixture, enroll)
    assert len(calls) == 2
    F.cross_entropy(others["spk_logits"], torch.tensor([0, 1])).backward()
    reached = {name for name, _ in network.named_parameters()} - without_gradient(network)
    for part in (network.encoder, network.extractor.fusion):
        ids = {id(parameter) for parameter in part.parameters()}
        assert {name for name, parameter in network.named_parameters() if id(parameter) in ids} <= reached
    network.eval()
    with torch.no_grad():
        before = network(mixture, enroll)[1]["enroll_emb"]
        features, frames = network.encode(mixture)
        masked = network.extractor.extract(features, frames, before)
        network.extractor.fusion.interaction.transform.weight[0] += 0.5
        assert relative(network(mixture, enroll)[1]["enroll_emb"], before) > 1e-4
        assert relative(network.extractor.extract(features, frames, before), masked) > 1e-4


@pytest.mark.parametrize(("interaction", "reached"), [("tac", True), ("none", False)])
def test_m04_the_short_scale_teaches_the_other_masks(interaction: str, reached: bool) -> None:
    network = Network("mc_spex", mask_interaction=interaction)
    mixture, enroll = signals()
    waves, _ = network(mixture, enroll)
    (-si_sdr(waves[0], torch.randn_like(mixture)).mean()).backward()
    for projection in network.extractor.mask_generator.projections[1:]:
        assert (projection.weight.grad is not None and bool(projection.weight.grad.any())) == reached


@pytest.mark.parametrize("norm", ["cln", "gln"])
def test_m05_permuting_the_scales_permutes_the_interaction(norm: str) -> None:
    interaction = TransformAverageConcatenate(6, 9, norm)
    scales = torch.randn(2, 3, 6, 17)
    order = [2, 0, 1]
    with torch.no_grad():
        out = interaction(scales.view(2, 18, 17)).view(2, 3, 6, 17)
        permuted = interaction(scales[:, order].reshape(2, 18, 17)).view(2, 3, 6, 17)
    assert relative(permuted, out[:, order]) < 1e-5
    assert relative(permuted, out) > 1e-2


def test_m05_the_interaction_is_its_definition() -> None:
    interaction = TransformAverageConcatenate(6, 9)
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


def test_m06_the_embedding_is_a_mean_of_blocks_unless_the_fuser_sees_neighbours() -> None:
    changes = {}
    for fusion in ("tac", "conv2d"):
        network = Network("mc_spex", fusion=fusion).eval()
        enroll = torch.randn(1, 10 * 27 * 6 + 10)
        with torch.no_grad():
            features, frames = network.encode(enroll)
            embedding = network.extractor.embed(features, frames)
            changes[fusion] = relative(network.extractor.embed(permute_blocks(features), frames), embedding)
            padded = network.embed(F.pad(enroll, (0, 2000)), torch.tensor([enroll.shape[1]]))
            assert relative(padded, embedding) < 1e-5
    assert changes["tac"] < 1e-5
    assert changes["conv2d"] > 1e-4


def test_m07_the_modulation_carries_the_speaker() -> None:
    network = Network("mc_spex").eval()
    mixture, enroll = signals()
    enroll = enroll * torch.tensor([[0.05], [1.0]])
    waves, _ = network(mixture, enroll)
    swapped, _ = network(mixture, enroll.flip(0))
    assert relative(swapped[0], waves[0]) > 1e-3
    (-si_sdr(waves[0], torch.randn_like(mixture)).mean()).backward()
    modulations = list(network.extractor.modulations)
    assert len(modulations) == 2 and all(isinstance(each, FeatureModulation) for each in modulations)
    for modulation in modulations:
        assert without_gradient(modulation) == set()
        for parameter in modulation.parameters():
            parameter.data.zero_()
    with torch.no_grad():
        assert torch.equal(network(mixture, enroll)[0][0], network(mixture, enroll.flip(0))[0][0])


def test_m07_film_is_its_definition() -> None:
    film = FeatureModulation(6, 4)
    x, embedding = torch.randn(2, 6, 30), torch.randn(2, 4)
    with torch.no_grad():
        normed = (x - x.mean((1, 2), keepdim=True)) / (x.var((1, 2), keepdim=True, unbiased=False) + 1e-5).sqrt()
        expected = (1 + film.gain(embedding))[:, :, None] * normed + film.offset(embedding)[:, :, None]
        torch.testing.assert_close(film(x, embedding), expected, rtol=1e-5, atol=1e-5)


def test_m08_gradients_reach_everything() -> None:
    network = Network("mc_spex")
    mixture, enroll = signals(3)
    target = torch.randn_like(mixture)
    waves, others = network(mixture, enroll)
    loss = 0.5 * F.cross_entropy(others["spk_logits"], torch.tensor([0, 3, 4]))
    (loss - sum(si_sdr(wav, target).mean() for wav in waves)).backward()
    assert without_gradient(network) == set()
    network.zero_grad()
    waves, _ = network(mixture, enroll)
    (-si_sdr(waves[0], target).mean()).backward()
    left = ("decoder.convs.1", "decoder.convs.2", "extractor.classifier")
    assert without_gradient(network) == {name for name, _ in network.named_parameters() if name.startswith(left)}


def test_m09_without_its_parts_it_is_spex_plus() -> None:
    assert full_size(**AS_SPEX_PLUS) == 11_177_284
    degenerate, spex_plus = Network("mc_spex", **AS_SPEX_PLUS).eval(), Network("spex_plus").eval()
    degenerate.load_state_dict(spex_plus.state_dict(), strict=True)
    mixture, enroll = signals()
    with torch.no_grad():
        (a, told_a), (b, told_b) = degenerate(mixture, enroll), spex_plus(mixture, enroll)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert torch.equal(told_a["spk_logits"], told_b["spk_logits"])


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_every_choice_runs_and_a_padded_batch_gives_what_its_items_give_alone(options: dict[str, Any]) -> None:
    network = Network("mc_spex", **options).eval()
    lengths, enroll_lengths = torch.tensor([703, 400]), torch.tensor([290, 611])
    mixture, enroll = torch.randn(2, 703), torch.randn(2, 611)
    with torch.no_grad():
        waves, _ = network(mixture, enroll, lengths, enroll_lengths)
        (swapped, *_), _ = network(mixture, enroll.flip(0), lengths, enroll_lengths.flip(0))
        assert relative(swapped, waves[0]) > 1e-5
        for i, (length, enroll_length) in enumerate(zip(lengths, enroll_lengths, strict=True)):
            alone, _ = network(mixture[i : i + 1, :length], enroll[i : i + 1, :enroll_length])
            for batched, single in zip(waves, alone, strict=True):
                assert relative(batched[i, :length], single[0]) < 1e-5


@pytest.mark.parametrize(
    ("option", "value", "near"),
    [
        ("fusion", "tak", "tac"),
        ("fusion_norm", "gnl", "gln"),
        ("fusion_projection", "share", "shared"),
        ("modulation", "filn", "film"),
        ("mask_interaction", "non", "none"),
    ],
)
def test_unknown_choices_name_the_option_and_the_nearest(option: str, value: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"option '{option}'.*did you mean '{near}'"):
        MCSpExExtractor(30, **{option: value})
