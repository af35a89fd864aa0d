"""The estimate of a frozen front end as a condition: what it adds, when it is dropped, what a checkpoint says of it."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from espnet_tse_gen.codec.mel import MelCodec
from espnet_tse_gen.decoding.sampler import Means
from espnet_tse_gen.masked.abs_front_end import AbsFrontEnd, Estimate
from espnet_tse_gen.masked.build import build_model
from espnet_tse_gen.masked.extractor import MaskedExtractor
from espnet_tse_gen.masked.features import at_frames
from espnet_tse_gen.masked.model import MaskedTSEModel
from espnet_tse_gen.utils.checkpoints import load_checkpoint
from espnet_tse_gen.utils.errors import UserError

RATE = 16000
TAPS = 9
FEATURES = ["latent+stft", "tokens", "latent+stft+tokens"]
FEATURE = "front_end_features"
SIGNALS = ("speech_mix", "speech_mix_lengths", "enroll_ref1", "enroll_ref1_lengths")


class FilterFrontEnd(AbsFrontEnd):
    """Filters the mixture; the filter is a linear map of the enrolment's autocorrelation. Keeps what it was given."""

    def __init__(self, seed: int = 0, gain: float = 1.0, sample_rate: int = RATE) -> None:
        super().__init__()
        self.sample_rate, self.gain = sample_rate, gain
        self.map = nn.Linear(TAPS, TAPS)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.map.parameters():
            nn.init.normal_(parameter, generator=generator)
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.freeze()

    def conf(self) -> dict[str, float]:
        return {"gain": self.gain}

    def estimate(self, mixture: Tensor, lengths: Tensor, enroll: Tensor, enroll_lengths: Tensor) -> Estimate:
        self.seen.append((mixture, enroll))
        size = enroll.shape[1] - TAPS
        lags = torch.stack([(enroll[:, :size] * enroll[:, n : n + size]).sum(dim=1) for n in range(TAPS)], dim=1)
        taps = self.map(lags / lags[:, :1])
        filtered = nn.functional.conv1d(mixture[None], taps[:, None], groups=len(taps), padding=TAPS // 2)[0]
        return Estimate(self.gain * filtered)


class TellingFrontEnd(FilterFrontEnd):
    """Also tells the energy of its estimate, in as many parts as the enrolment has seconds of, 100 times a second."""

    feature_width, feature_rate = 3, 100.0

    def estimate(self, mixture: Tensor, lengths: Tensor, enroll: Tensor, enroll_lengths: Tensor) -> Estimate:
        made = super().estimate(mixture, lengths, enroll, enroll_lengths).waveform
        return Estimate(made, made.abs().unfold(1, 160, 160)[..., :3])


@pytest.fixture
def make(codec, build):
    """Models with a front end; those of ``build`` have none."""

    def made(front_end: AbsFrontEnd | None = None, model_conf=None, **extractor_conf) -> MaskedTSEModel:
        own = FEATURE, "front_end_width", "estimate_head", "latent_head"
        without = {name: value for name, value in (model_conf or {}).items() if name != "decoded_weight"}
        plain = build(without, **{name: value for name, value in extractor_conf.items() if name not in own})
        torch.manual_seed(0)
        conf = {"width": 32, "layers": 2, "heads": 2, "mixture_layers": 1, "dropout": 0.0, FEATURE: "latent+stft"}
        extractor = MaskedExtractor(codec, **{**conf, **extractor_conf})
        model = MaskedTSEModel(codec, extractor, **(model_conf or {}), front_end=front_end or FilterFrontEnd())
        # The same weights but for those that only the front end has.
        model.load_state_dict({**model.state_dict(), **plain.state_dict()})
        return model.eval()

    return made


def logits(model: MaskedTSEModel, batch, rows: slice = slice(None), drop_enroll: bool = False) -> Tensor:
    lengths, enroll_lengths = batch["speech_mix_lengths"][rows], batch["enroll_ref1_lengths"][rows]
    mixture, enroll = (batch["speech_mix"][rows, : lengths.max()], batch["enroll_ref1"][rows, : enroll_lengths.max()])
    estimate = model.estimate(mixture, lengths, enroll, enroll_lengths)
    encoded = model.encode(mixture, lengths), model.encode(enroll, enroll_lengths)
    conditions = model.conditions(*encoded, drop_enroll, estimate)
    nothing = torch.full((len(lengths), 4, conditions.valid.shape[1]), 32)
    return model.predictor(conditions)(nothing, None) * conditions.valid[:, None, :, None]


def signals(model: MaskedTSEModel, batch):
    return (
        model.encode(batch["speech_mix"], batch["speech_mix_lengths"]),
        model.encode(batch["enroll_ref1"], batch["enroll_ref1_lengths"]),
        model.estimate(*(batch[name] for name in SIGNALS)),
    )


def test_the_estimate_is_as_loud_as_in_the_mixture_and_silent_in_the_padding(batch):
    given = [batch[name] for name in SIGNALS]
    estimate = FilterFrontEnd()(*given).waveform
    assert estimate.shape == batch["speech_mix"].shape
    within = torch.arange(estimate.shape[1]) < batch["speech_mix_lengths"][:, None]
    assert not estimate[~within].any() and estimate[within].any()
    # Whatever scale and sign the network gives it.
    torch.testing.assert_close(FilterFrontEnd(gain=-70.0)(*given).waveform, estimate)
    rest = batch["speech_mix"] - estimate
    torch.testing.assert_close((rest * estimate).sum(dim=1), torch.zeros(3), atol=1e-4, rtol=0)
    noisy = [torch.where(within, given[0], torch.full_like(given[0], 9.0)), *given[1:]]
    assert torch.equal(FilterFrontEnd()(*noisy).waveform, estimate)
    assert not FilterFrontEnd(gain=0.0)(*given).waveform.any()


@pytest.mark.parametrize("features", FEATURES)
def test_training_leaves_the_front_end_as_it_is(make, batch, features):
    front_end = FilterFrontEnd()
    model = make(front_end, {"drop_front_end": 0.0, "drop_enroll": 0.0, "drop_both": 0.0}, **{FEATURE: features})
    before = front_end.fingerprint()
    assert not any("map" in name for name in (*model.state_dict(), *dict(model.named_parameters())))
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weights = [value.clone() for value in model.extractor.front_end_input.parameters()]
    model(**batch)[0].backward()
    optimizer.step()
    assert front_end.fingerprint() == before and front_end.map.weight.grad is None
    assert not front_end.train().training
    changed = zip(weights, model.extractor.front_end_input.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in changed)


def test_heads_that_see_the_estimate_start_from_its_tokens(make, codec, batch):
    model = make(estimate_head=0.5, latent_head=True)
    torch.nn.init.zeros_(model.extractor.heads)
    estimate = model.estimate(*(batch[name] for name in SIGNALS))
    predicted = logits(model, batch)
    valid = estimate.valid[:, None].expand_as(estimate.codes)
    assert torch.equal(predicted.argmax(dim=-1)[valid], estimate.codes[valid])
    mixed, enroll, _ = signals(model, batch)
    conditions = model.extractor.encode_conditions(mixed, enroll, estimate=estimate)
    hidden = model.extractor(torch.full_like(estimate.codes, 32), conditions)
    torch.testing.assert_close(model.extractor.predict_latents(hidden), estimate.latents, atol=1e-5, rtol=1e-5)
    # Without the enrolment there is no estimate, and nothing is known.
    assert not logits(model, batch, drop_enroll=True).any()
    model.train()(**batch)[0].backward()
    assert model.extractor.estimate_heads.grad.abs().sum() > 0


def test_a_network_that_adds_nothing_leaves_the_estimate_as_it_is(make, codec, batch):
    model = make(estimate_head=0.5)
    mixed, enroll, estimate = signals(model, batch)
    given = estimate.latents.transpose(1, 2)
    conditions = model.conditions(mixed, enroll, estimate=estimate)
    predict = model.predictor(conditions)
    hidden = torch.full_like(estimate.codes, 32)
    for scale, close in ((0.0, True), (1.0, False)):
        torch.nn.init.normal_(model.extractor.heads, std=scale)
        means = Means(codec.all_codebooks(), given, model.rest(conditions, given))
        found = means.of(predict(hidden, None)).sum(dim=1)
        assert torch.allclose(found[estimate.valid], given[estimate.valid], atol=1e-4) == close
        # Of some frames, those alone.
        part = model.rest(conditions.frames(3, 9), given[:, 3:9])
        torch.testing.assert_close(part, model.rest(conditions, given)[:, :, 3:9])
    assert make().rest(make().conditions(mixed, enroll, estimate=estimate), given) is None


def test_the_waveform_that_soft_decoding_makes_has_a_loss(make, batch):
    conf = {"drop_enroll": 0.0, "drop_both": 0.0, "masking": "joint"}
    plain, model = (make(None, {**conf, "decoded_weight": weight}, estimate_head=0.5) for weight in (0.0, 0.5))
    (before, *_), (after, stats, _) = (_seeded(one, batch) for one in (plain, model))
    parts = 10 * stats["decoded_quality"] + 60 * stats["decoded_intelligibility"] - stats["decoded_si_sdr"]
    parts = parts + 40 * stats["decoded_unlikeness"]
    torch.testing.assert_close(after.detach() - before.detach(), 0.5 * parts)
    gradients = []
    for one, loss in ((plain, before), (model, after)):
        loss.backward()
        gradients.append(one.extractor.estimate_heads.grad)
    assert torch.isfinite(gradients[1]).all() and not torch.allclose(*gradients)
    assert not [name for name in model.state_dict() if "hearing" in name]
    # Silent targets have no such loss, and processes that gather figures have the same ones all the same.
    silent = {**batch, "speech_ref1": torch.zeros_like(batch["speech_ref1"])}
    loss, others, _ = _seeded(model, silent)
    assert others.keys() == stats.keys() and torch.isfinite(loss).all() and torch.isnan(others["decoded_quality"])


def _seeded(model: MaskedTSEModel, batch):
    torch.manual_seed(0)
    return model.train()(**batch)


def test_the_loss_of_the_waveform_needs_recordings(make, batch):
    model = make(None, {"decoded_weight": 1.0})
    codes = model.encode(batch["speech_ref1"], batch["speech_ref1_lengths"]).codes.transpose(1, 2)
    tokens = {name: value for name, value in batch.items() if "speech_ref1" not in name}
    with pytest.raises(UserError, match="decoded_weight: targets are given as tokens; give recordings, or choose 0"):
        model(**tokens, codes_ref1=codes, codes_ref1_lengths=batch["speech_mix_lengths"])


def test_without_one_nothing_is_added(make, build, batch):
    plain, model = build(), make()
    more = set(model.state_dict()) - set(plain.state_dict())
    assert all("front_end" in name for name in more) and "front_end_fingerprint" in more
    assert not any("front_end" in name for name in plain.state_dict()) and plain.front_end is None
    # Where the estimate is dropped, the network is the one without, to the bit.
    assert torch.equal(logits(model, batch, drop_enroll=True), logits(plain, batch, drop_enroll=True))
    assert not torch.allclose(logits(model, batch), logits(plain, batch))
    losses = []
    for conf, chosen in ((None, build), ({"drop_front_end": 1.0}, lambda conf: make(None, conf))):
        trained = chosen(conf).train()
        torch.manual_seed(5)
        losses.append(trained(**batch)[0])
    assert torch.equal(*losses)


@pytest.mark.parametrize("features", [*FEATURES, "features", "stft+features"])
def test_the_estimate_matters_row_by_row(make, batch, features):
    models = [make(TellingFrontEnd(seed), front_end_width=3, **{FEATURE: features}) for seed in (0, 1)]
    first, second = (logits(model, batch) for model in models)
    assert (first - second).abs().mean() > (0.001 if features == "features" else 0.01)
    for row in range(3):
        alone = logits(models[0], batch, slice(row, row + 1))[0]
        torch.testing.assert_close(alone, first[row, :, : alone.shape[1]], atol=5e-3, rtol=0)


def test_dropped_rows_hear_nothing_of_it(make, batch):
    model = make()
    mixture, enroll, estimate = signals(model, batch)
    encode = model.extractor.encode_conditions
    with torch.no_grad():
        full, rows = encode(mixture, enroll, estimate=estimate), torch.tensor([True, False, True])
        none = torch.full((3,), True)
        nothing = encode(mixture, enroll, estimate=estimate, drop_estimate=none).mixture
        some = encode(mixture, enroll, estimate=estimate, drop_estimate=rows).mixture
        assert torch.equal(some[rows], nothing[rows]) and torch.equal(some[~rows], full.mixture[~rows])
        assert not torch.allclose(full.mixture[0], nothing[0])
        # With the enrolment goes the estimate, which tells who is wanted; with the mixture it goes, too.
        assert torch.equal(encode(mixture, enroll, rows, estimate=estimate).mixture, some)
        other = mixture.rows(torch.tensor([1, 2, 0]))
        hidden = [encode(mixture, enroll, none, none, each).mixture for each in (estimate, other)]
        assert torch.equal(*hidden)
        # Nor is one looked at in the unconditional branch of guidance.
        unread = dataclasses.replace(estimate, wav=None, latents=None)
        assert torch.equal(model.conditions(mixture, enroll, True, unread).mixture, nothing)
    with pytest.raises(UserError, match="front_end_features: expected a front end's estimate for every mixture"):
        encode(mixture, enroll)


def test_validation_asks_the_front_end_for_the_wrong_speaker(make, batch):
    model = make()
    with torch.no_grad():
        _, stats, _ = model(**batch)
    (_, right), (_, wrong) = model.front_end.seen
    assert torch.equal(wrong, right.roll(1, dims=0)) and stats["enroll_gain"].isfinite()


def test_a_checkpoint_of_another_front_end_is_refused(make, build, tmp_path):
    torch.save(make(FilterFrontEnd(0)).state_dict(), tmp_path / "x.pth")
    load_checkpoint(make(FilterFrontEnd(0)), tmp_path / "x.pth", tmp_path / "config.yaml")
    for other in (FilterFrontEnd(1), FilterFrontEnd(0, gain=2.0)):
        with pytest.raises(UserError, match="trained with the estimates of another front end") as caught:
            load_checkpoint(make(other), tmp_path / "x.pth", tmp_path / "config.yaml")
        assert str(caught.value).startswith(str(tmp_path / "x.pth")) and "\n" not in str(caught.value)
    for model, file in ((build(), "x.pth"), (make(), "y.pth")):
        torch.save(build().state_dict(), tmp_path / "y.pth")
        with pytest.raises(UserError, match="does not fit the configuration"):
            load_checkpoint(model, tmp_path / file, tmp_path / "config.yaml")


def test_in_double_precision_the_batch_leaves_no_trace(make, batch):
    model = make()
    model.extractor.double()
    model.front_end.double()
    together = logits(model, batch)
    alone = logits(model, batch, slice(1, 2))
    torch.testing.assert_close(alone[0], together[1, :, : alone.shape[2]], atol=1e-6, rtol=0)
    assert model.front_end.map.weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("conf", "model_conf", "front_end", "message"),
    [
        ({}, {}, FilterFrontEnd(), "front_end_features and --front_end: only one of them is given"),
        ({FEATURE: "stft"}, {}, None, "front_end_features and --front_end: only one of them is given"),
        ({FEATURE: "stft"}, {}, FilterFrontEnd(sample_rate=8000), "at 8000 Hz, expected the codec's 16000 Hz"),
        ({FEATURE: "sfft"}, {}, FilterFrontEnd(), "unknown mixture feature 'sfft': did you mean 'stft'"),
        (
            {FEATURE: "features"},
            {},
            FilterFrontEnd(),
            "'features' are those of a front end that has some, as dual_path",
        ),
        ({}, {"front_end": None}, None, "unknown option of model_conf 'front_end'"),
        ({}, {"decoded_weight": 1.0}, None, "decoded_weight: needs a front end, and a codec at 16000 Hz"),
        ({"estimate_head": 0.5}, {}, None, "estimate_head needs a front end, and a codec whose codebooks"),
    ],
)
def test_what_does_not_fit_together_is_refused(codec, conf, model_conf, front_end, message):
    config = {"extractor_conf": {"width": 32, "layers": 1, "heads": 2, **conf}, "model_conf": model_conf}
    with pytest.raises(UserError, match=message):
        build_model(codec, config, front_end)


def test_heads_do_not_see_an_estimate_of_a_codec_whose_codebooks_share_dimensions():
    conf = {"width": 32, "layers": 1, "heads": 2, "estimate_head": 0.5, FEATURE: "latent"}
    residual = MelCodec(num_codebooks=2, codebook_size=32, split="residual")
    residual.codebooks.copy_(torch.randn(residual.codebooks.shape))
    with pytest.raises(UserError, match="estimate_head needs a front end, and a codec whose codebooks"):
        MaskedExtractor(residual, **conf)


@given(rate=st.floats(20.0, 200.0), frame_rate=st.sampled_from([25.0, 50.0, 75.0]), frames=st.integers(1, 60))
def test_features_are_read_at_the_centres_of_frames(rate, frame_rate, frames):
    # What grows with time has, at the centre of a frame, the value of that time.
    times = torch.arange(int(frames / frame_rate * rate) + 2, dtype=torch.float64) / rate
    centres = (torch.arange(frames, dtype=torch.float64) + 0.5) / frame_rate
    torch.testing.assert_close(at_frames(times.view(1, -1, 1), rate, frames, frame_rate)[0, :, 0], centres)
