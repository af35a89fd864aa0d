"""The extractor and its ESPnet model: no leak (P9), start at ln C (P10), padding (P6, P17), conditions (P16), guards (P12)."""

import math

import pytest
import torch

from espnet_tse_gen.masked.build import build_model
from espnet_tse_gen.masked.extractor import MaskedExtractor
from espnet_tse_gen.masked.masking import sample_mask
from espnet_tse_gen.masked.model import MaskedTSEModel
from espnet_tse_gen.utils.errors import UserError

VARIANTS = [
    {"mixture_features": "tokens", "enroll_features": "stft", "enroll_stride": 3, "speaker_vector": True},
    {"mixture_features": "tokens", "enroll_features": "tokens"},
    {"mixture_features": "latent+tokens", "enroll_features": "latent+tokens", "conv_kernel": 3},
    {"mixture_features": "latent+stft", "enroll_features": "stft", "embedding": "codec", "latent_head": True},
]
VARIANT_NAMES = ["tokens-strided-enrolment", "tokens", "latent+tokens", "stft-codec-embedding"]


def conditions_of(model, batch, drop_enroll=False):
    enroll = model.encode(batch["enroll_ref1"], batch["enroll_ref1_lengths"])
    return model.conditions(model.encode(batch["speech_mix"], batch["speech_mix_lengths"]), enroll, drop_enroll)


@pytest.mark.parametrize("conf", VARIANTS, ids=VARIANT_NAMES)
def test_p10_a_new_model_costs_exactly_ln_c(build, batch, conf, codec):
    model = build({"masking": "joint"}, **conf)
    torch.nn.init.zeros_(model.extractor.heads)
    _, stats, weight = model(**batch)
    assert stats["ce"].item() == pytest.approx(math.log(codec.codebook_size), abs=1e-6)
    assert weight > 0


@pytest.mark.parametrize("conf", VARIANTS, ids=VARIANT_NAMES)
@pytest.mark.parametrize("mode", ["codebook", "joint"])
def test_p09_hidden_truth_does_not_leak(build, batch, conf, mode, codec):
    model = build(**conf)
    conditions = conditions_of(model, batch)
    codes = codec.encode(batch["speech_ref1"], batch["speech_ref1_lengths"]).codes
    mask = sample_mask(conditions.valid, codec.num_codebooks, mode, generator=torch.Generator().manual_seed(0))
    other = torch.where(mask.hidden, (codes + 7) % codec.codebook_size, codes)
    outputs = [model.extractor(c.masked_fill(mask.hidden, codec.codebook_size), conditions) for c in (codes, other)]
    assert torch.equal(*outputs)


@pytest.mark.parametrize("conf", VARIANTS, ids=VARIANT_NAMES)
def test_p06_a_row_in_a_batch_equals_the_row_alone(build, batch, conf, codec):
    model = build(**conf)
    nothing = torch.full((3, codec.num_codebooks, 40), codec.codebook_size)
    together = model.predictor(conditions_of(model, batch))(nothing, None)
    for row in range(3):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        for name in ("speech_mix", "enroll_ref1"):
            alone[name] = alone[name][:, : int(alone[f"{name}_lengths"])]
        single = conditions_of(model, alone)
        frames = single.valid.shape[1]
        logits = model.predictor(single)(nothing[row : row + 1, :, :frames], None)
        assert torch.allclose(together[row, :, :frames], logits[0], atol=1e-5)


def test_p17_masked_padding_behind_the_enrolment_changes_nothing(build, batch, codec):
    model = build()
    longer = dict(batch, enroll_ref1=torch.nn.functional.pad(batch["enroll_ref1"], (0, 16000), value=0.3))
    nothing = torch.full((3, codec.num_codebooks, 40), codec.codebook_size)
    first, second = (model.predictor(conditions_of(model, b))(nothing, None) for b in (batch, longer))
    assert torch.allclose(first, second, atol=1e-5)


def test_dropped_enrolment_does_not_matter_and_leaves_the_arguments_alone(build, batch):
    model = build()
    exchanged = dict(batch, enroll_ref1=batch["enroll_ref1"].flip(0), enroll_ref1_lengths=torch.full((3,), 9600))
    before = batch["enroll_ref1"].clone()
    nothing = torch.full((3, 4, 40), 32)
    outputs = [model.predictor(conditions_of(model, data, True))(nothing, 0) for data in (batch, exchanged)]
    assert torch.allclose(*outputs, atol=1e-6)
    assert torch.equal(before, batch["enroll_ref1"])


def test_dropping_both_conditions_hides_the_mixture(build, batch):
    model, drop = build(), torch.ones(3, dtype=torch.bool)
    mixture, quiet, enroll = (
        model.encode(batch[name], batch[f"{name}_lengths"]) for name in ("speech_mix", "speech_ref1", "enroll_ref1")
    )
    outputs = [
        model.extractor(torch.full((3, 4, 40), 32), model.extractor.encode_conditions(m, enroll, drop, drop))
        for m in (mixture, quiet)
    ]
    assert torch.equal(outputs[0][mixture.valid], outputs[1][mixture.valid])


@pytest.mark.parametrize("masking", ["codebook", "joint", "mixed"])
@pytest.mark.parametrize("loss_norm", ["pooled", "per_sample", "elbo"])
def test_p12_one_frame_items_give_finite_loss_and_gradients(build, masking, loss_norm):
    model = build({"masking": masking, "loss_norm": loss_norm, "latent_weight": 0.5}, latent_head=True).train()
    torch.manual_seed(0)
    data = {"speech_mix": torch.randn(2, 320) * 0.05, "speech_mix_lengths": torch.tensor([320, 1])}
    data |= {"speech_ref1": torch.randn(2, 320) * 0.05, "speech_ref1_lengths": torch.tensor([320, 1])}
    data |= {"enroll_ref1": torch.randn(2, 640) * 0.05, "enroll_ref1_lengths": torch.tensor([640, 5])}
    loss, _, weight = model(**data)
    loss.backward()
    assert torch.isfinite(loss) and weight > 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_precomputed_tokens_give_the_same_loss_as_the_waveform(build, batch, codec):
    model = build({"masking": "joint"})
    encoded = codec.encode(batch["speech_ref1"], batch["speech_ref1_lengths"])
    without = {key: value for key, value in batch.items() if not key.startswith("speech_ref1")}
    codes = {"codes_ref1": encoded.codes.transpose(1, 2), "codes_ref1_lengths": encoded.lengths}
    assert torch.equal(model(**batch)[0], model(**without, **codes)[0])


def test_validation_repeats_itself_and_tells_the_worth_of_the_enrolment(build, batch):
    model = build({"masking": "mixed"})
    first, second = model(**batch)[1], model(**batch)[1]
    assert first["loss"] == second["loss"] and first["enroll_gain"] == second["enroll_gain"]
    assert 0 <= first["acc_all_hidden"] <= 1
    # Whatever the loss weighs: both sides are mean cross-entropies.
    for norm in ("per_sample", "elbo"):
        again = build({"masking": "mixed", "loss_norm": norm})(**batch)[1]
        torch.testing.assert_close((again["ce"], again["enroll_gain"]), (first["ce"], first["enroll_gain"]))


def test_codec_weights_are_in_no_checkpoint_and_another_codec_is_refused(build, codec):
    model = build()
    state = model.state_dict()
    assert not any("codebooks" in key or "codec." in key for key in state)
    # ESPnet's n-best averaging adds and divides every entry; the fingerprint must survive it.
    averaged = {key: (value + value + value) / 3 for key, value in state.items()}
    model.load_state_dict(averaged, strict=True)
    other = type(codec)(**codec.conf())
    other.load_state_dict(codec.state_dict())
    other.codebooks[0, 0] += 1e-3
    stranger = MaskedTSEModel(other, MaskedExtractor(other, width=32, layers=2, heads=2, mixture_layers=1))
    with pytest.raises(UserError, match="another codec"):
        stranger.load_state_dict(state)


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"mixture_features": "latnt"}, "did you mean 'latent'"),
        ({"embedding": "sun"}, "did you mean 'sum'"),
        ({"width": 33}, "even multiple of heads"),
        ({"conv_kernel": 2}, "conv_kernel must be odd"),
        ({"mixture_features": "stft", "stft_size": 100}, "stft_size"),
        ({"model_conf": {"masking": "codebok"}}, "did you mean 'codebook'"),
        ({"model_conf": {"codebook_distribution": "linaer"}}, "did you mean 'linear'"),
        ({"model_conf": {"loss_norm": "poold"}}, "did you mean 'pooled'"),
    ],
)
def test_impossible_configurations_end_in_one_line(build, conf, message):
    with pytest.raises(UserError, match=message) as error:
        build(**conf)
    assert "\n" not in str(error.value)


def test_former_names_of_values_are_read_with_a_warning(codec):
    small = {"width": 32, "layers": 1, "heads": 2}
    with pytest.warns(FutureWarning, match="model_conf: 'masking: level' is called 'masking: codebook' now"):
        build_model(codec, {"extractor_conf": small, "model_conf": {"masking": "level"}})


def test_a_missing_target_and_a_missing_head_are_named(build, batch):
    without = {key: value for key, value in batch.items() if not key.startswith("speech_ref1")}
    with pytest.raises(UserError, match="codes_ref1"):
        build()(**without)
    with pytest.raises(UserError, match="latent_head"):
        build({"latent_weight": 1.0})(**batch)
