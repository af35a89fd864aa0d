"""Passes, codebooks, guidance, remasking and the contract of the loop: P13 to P15, P20 and P24 of the specification."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_tse_gen.decoding import sampler
from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.decoding.sampler import DecodingError, Sampler
from espnet_tse_gen.decoding.strategies import mask_counts

from .stubs import CODEBOOKS, SIZE, VARIANTS, Spy, make, network, random_fixed, run, valid_frames

quick = settings(max_examples=40, deadline=None, derandomize=True)


@pytest.mark.parametrize("mode", [{"steps": (5, 2)}, {"joint": True, "steps": 6}])
def test_p13_guidance_one_is_conditional_at_half_the_calls(mode):
    """P13: g = 1 equals the conditional network bit by bit and never calls the other; g = 0 equals the other."""
    f, valid = network([30, 12])
    other, _ = network([30, 12], seed=50)

    def decode(scale: float | None) -> tuple[torch.Tensor, Spy, Spy]:
        one, two = Spy(f), Spy(other)
        options = DecodingOptions(**mode) if scale is None else DecodingOptions(**mode, guidance=scale)
        codes = Sampler(options, CODEBOOKS, SIZE).decode(one, valid, unconditional=None if scale is None else two)
        return codes, one, two

    plain, spy, _ = decode(None)
    codes, one, two = decode(1.0)
    assert torch.equal(codes, plain)
    assert (len(one.codes), len(two.codes)) == (len(spy.codes), 0)
    doubled, one, two = decode(2.0)
    assert len(one.codes) == len(two.codes) == len(spy.codes)
    assert not torch.equal(doubled, plain)
    unconditional = Sampler(DecodingOptions(**mode), CODEBOOKS, SIZE).decode(other, valid)
    assert torch.equal(decode(0.0)[0], unconditional)


@pytest.mark.parametrize("variant", [name for name, values in VARIANTS.items() if not values.get("joint")])
def test_p14_codebooks_in_order(variant):
    """P14: when codebook q starts, all codebooks before it are free of MASK and all after it are fully masked."""
    lengths = [33, 20]
    valid = valid_frames(lengths)
    spy = Spy(network(lengths)[0])
    run(variant, lengths, spy=lambda f: spy)
    assert [codebook for codebook, _ in itertools.groupby(spy.codebooks)] == list(range(CODEBOOKS))
    for codes, codebook in zip(spy.codes, spy.codebooks, strict=True):
        inside = codes.transpose(0, 1)[:, valid]
        assert (inside[:codebook] != SIZE).all()
        assert (inside[codebook + 1 :] == SIZE).all()
    for codebook in range(CODEBOOKS):
        assert (spy.codes[spy.codebooks.index(codebook)].transpose(0, 1)[codebook][valid] == SIZE).all()


@given(
    joint=st.booleans(),
    steps=st.lists(st.integers(1, 20), min_size=1, max_size=CODEBOOKS),
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=3),
    guidance=st.sampled_from([1.0, 2.0]),
    rounds=st.integers(0, 2),
)
@quick
def test_p15_pass_count(joint, steps, lengths, guidance, rounds):
    """P15: calls are the sum of the steps, doubled with guidance, fewer only where steps exceed tokens.

    Extra passes of rescoring are counted per codebook. There is no critic head in this package, hence no factor for one.
    """
    remask = {"remask": "rescore", "rescore_rounds": rounds} if rounds else {}
    options = DecodingOptions(steps=steps[0] if joint else tuple(steps), joint=joint, guidance=guidance, **remask)
    decoder = Sampler(options, CODEBOOKS, SIZE)
    f, valid = network(lengths)
    one, two = Spy(f), Spy(f)
    decoder.decode(one, valid, unconditional=two)
    longest = max(lengths) * (CODEBOOKS if joint else 1)
    expected = sum(min(step, longest) for step in decoder.steps) + rounds * len(decoder.codebooks)
    # Where steps exceed tokens, several tokens of one pass end the plan earlier still: its own length is exact.
    exact = sum(len(mask_counts(longest, step)) for step in decoder.steps) + rounds * len(decoder.codebooks)
    assert len(one.codes) == exact <= expected <= decoder.passes
    if max(decoder.steps) <= longest:
        assert len(one.codes) == decoder.passes
    assert len(two.codes) == (0 if guidance == 1.0 else len(one.codes))


@pytest.mark.parametrize("joint", [False, True])
def test_p20_the_sampler_samples(joint):
    """P20: two perfectly correlated bits and an exact network. One at a time: 00 and 11, half each; at once: all four.

    4000 rows; bounds are 3 sigma of the binomial counts.
    """
    rows = 4000

    def f(codes: torch.Tensor, codebook: int | None) -> torch.Tensor:
        partner = codes[:, 0].flip(-1)
        logits = torch.full((rows, 2, 2), math.log(0.5))
        known = partner != 2
        logits[known] = torch.nn.functional.one_hot(partner[known], 2).float().log().clamp(min=-1e30)
        return logits if codebook is not None else logits.unsqueeze(1)

    def counts(steps: int) -> list[int]:
        options = DecodingOptions.preset("ancestral", joint=joint, steps=steps)
        codes = Sampler(options, 1, 2).decode(f, torch.ones(rows, 2, dtype=torch.bool))
        return torch.bincount(codes[:, 0, 0] * 2 + codes[:, 0, 1], minlength=4).tolist()

    both = counts(2)
    assert both[1] == both[2] == 0
    assert abs(both[0] - rows / 2) < 3 * math.sqrt(rows / 4)
    assert all(abs(count - rows / 4) < 3 * math.sqrt(rows * 3 / 16) for count in counts(1))


@pytest.mark.parametrize("eta", [0.13, 0.6, 1.0])
@pytest.mark.parametrize("kind", ["remdm_cap", "remdm_rescale"])
def test_p24_remdm_keeps_the_schedule(kind, eta):
    """P24: the masked share is on schedule (exactly, as counts are exact), and the share masked again has its mean."""
    rows, frames, steps = 300, 60, 8
    f, valid = network([frames] * rows)
    spy = Spy(f)
    options = DecodingOptions(steps=(steps,), remask=kind, remdm_eta=eta, temperature=1.0)
    Sampler(options, CODEBOOKS, SIZE).decode(spy, valid)
    counts = mask_counts(frames, steps)
    states = [codes[:, 0] for codes, codebook in zip(spy.codes, spy.codebooks, strict=True) if codebook <= 1][
        : steps + 1
    ]
    for number, (earlier, later) in enumerate(itertools.pairwise(states)):
        assert ((later == SIZE).sum(dim=1) == counts[number]).all()
        decoded = frames - (counts[number - 1] if number else frames)
        again = ((earlier != SIZE) & (later == SIZE)).sum(dim=1).double()
        limit = min(1.0, counts[number] / decoded) if decoded else 0.0
        expected = decoded * (min(eta, limit) if kind == "remdm_cap" else eta * limit)
        # A count is rounded up or down at random, with variance at most 1/4.
        fraction = expected % 1
        assert abs(again.mean() - expected) <= 3 * math.sqrt(fraction * (1 - fraction) / rows) + 1e-9


@pytest.mark.parametrize("kind", ["remdm_cap", "remdm_rescale"])
@pytest.mark.parametrize("joint", [False, True])
def test_p24_sigma_zero_is_plain_sampling(kind, joint):
    """P24: with eta = 0 the tokens are those without remasking."""
    values = {"steps": 7, "joint": joint, "temperature": 1.0, "choice_temperature": 1.0}
    f, valid = network([40, 23])
    plain = Sampler(DecodingOptions(**values), CODEBOOKS, SIZE).decode(f, valid)
    again = Sampler(DecodingOptions(**values, remask=kind, remdm_eta=0.0), CODEBOOKS, SIZE).decode(f, valid)
    assert torch.equal(plain, again)


def test_rescoring_masks_only_the_least_certain_share():
    lengths = [40, 20]
    spy = Spy(network(lengths)[0])
    run("rescore", lengths, steps=4, rescore_fraction=0.2, spy=lambda f: spy)
    first = [codes for codes, codebook in zip(spy.codes, spy.codebooks, strict=True) if codebook == 0]
    assert len(first) == 4 + 2
    for codes in first[4:]:
        assert (codes[:, 0] == SIZE).sum(dim=1).tolist() == [8, 4]


def test_nothing_is_computed_that_is_not_needed(monkeypatch):
    """Greedy decoding draws no noise, and a pass that commits everything ranks nothing."""
    monkeypatch.setattr(sampler.RowNoise, "uniform", None)
    for variant in ("greedy", "joint", "halton", "guided", "rescore"):
        run(variant, [12, 7])
    monkeypatch.setattr(sampler, "_lowest", None)
    run("one_step", [12, 7])


def test_nothing_to_predict_calls_nothing():
    spy = Spy(network([6])[0])
    fixed = random_fixed(valid_frames([6]), 1.0)
    assert torch.equal(run("greedy", [6], fixed=fixed, spy=lambda f: spy), fixed)
    assert not spy.codes


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_reported(joint, bad):
    def f(codes: torch.Tensor, codebook: int | None) -> torch.Tensor:
        logits = torch.zeros(*codes.shape, SIZE)
        logits[0, :, 3, 5] = bad
        return logits if codebook is None else logits[:, codebook]

    valid = valid_frames([6])
    decoder = Sampler(DecodingOptions(steps=2, joint=joint), CODEBOOKS, SIZE)
    with pytest.raises(DecodingError, match="NaN or infinite"):
        decoder.decode(f, valid)
    # Where nothing had to be predicted, it does not matter.
    fixed = torch.full((1, CODEBOOKS, 6), SIZE)
    fixed[:, :, 3] = 1
    decoder.decode(f, valid, fixed)


def test_logits_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="logits of codebook 0: expected shape"):
        make("greedy").decode(lambda codes, codebook: torch.zeros(2, 6, SIZE + 1), valid_frames([6, 4]))


def test_empty_batches():
    for shape in ((0, 5), (2, 0)):
        codes = make("joint").decode(lambda codes, codebook: codes, torch.ones(shape, dtype=torch.bool))
        assert codes.shape == (shape[0], CODEBOOKS, shape[1])
