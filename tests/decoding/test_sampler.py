"""The decoding loop, whatever the options: P2 to P7 of the specification, with networks small enough to reason about."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_tse_gen.decoding import sampler
from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.decoding.sampler import DecodingError

from .stubs import CODEBOOKS, SIZE, VARIANTS, Spy, TinyNet, make, network, oracle, random_fixed, run, valid_frames

quick = settings(max_examples=40, deadline=None, derandomize=True)

FINAL = [name for name, values in VARIANTS.items() if "remask" not in values]  # committed tokens stay
every_variant = pytest.mark.parametrize("variant", VARIANTS)


@given(
    variant=st.sampled_from(sorted(VARIANTS)),
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    steps=st.integers(1, 40),
)
@quick
def test_p02_no_mask_in_the_output(variant, lengths, share, steps):
    """P2: valid positions hold tokens 0..C-1, padding holds 0, as int64."""
    valid = valid_frames(lengths)
    codes = run(variant, lengths, fixed=random_fixed(valid, share), steps=steps)
    assert codes.dtype == torch.int64
    assert codes.shape == (len(lengths), CODEBOOKS, max(lengths))
    kept = codes.mT[valid]
    assert kept.min() >= 0 and kept.max() < SIZE
    assert (codes.mT[~valid] == 0).all()


def test_p02_a_mask_left_over_is_an_error_and_is_not_cleaned_up(monkeypatch):
    """P2: no clamp hides a defect. Here the schedule forgets to reach zero."""
    monkeypatch.setattr(sampler, "mask_counts", lambda masked, steps: (3,))
    with pytest.raises(DecodingError, match="still masked"):
        run("greedy", [9])


@given(
    variant=st.sampled_from(sorted(VARIANTS)),
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=3),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 99),
)
@quick
def test_p03_fixed_positions_never_change(variant, lengths, share, seed):
    """P3: given tokens at random (k, t) are there in every call and at the end, and the argument is left alone."""
    valid = valid_frames(lengths)
    fixed = random_fixed(valid, share, seed)
    before = fixed.clone()
    spy = Spy(network(lengths)[0])
    codes = run(variant, lengths, fixed=fixed, spy=lambda f: spy)
    given_here = (fixed != SIZE) & valid.unsqueeze(1)
    for seen in [*spy.codes, codes]:
        assert torch.equal(seen[given_here], fixed[given_here])
    assert torch.equal(fixed, before)


@pytest.mark.parametrize("variant", FINAL)
def test_p04_committed_tokens_are_final(variant):
    """P4: with remasking off a committed token is the same ever after."""
    spy = Spy(network([40, 17])[0])
    codes = run(variant, [40, 17], spy=lambda f: spy)
    for earlier, later in itertools.pairwise([*spy.codes, codes]):
        committed = earlier != SIZE
        assert torch.equal(later[committed], earlier[committed])
        assert (later != SIZE).sum() > committed.sum()


@every_variant
def test_p05_same_seed_same_tokens(variant):
    """P5: two runs agree; where chance is involved another seed differs, and where none is involved it does not."""
    first = run(variant, [40, 23], seed=1)
    assert torch.equal(first, run(variant, [40, 23], seed=1))
    options = VARIANTS[variant]
    chance = options.get("temperature") or options.get("order") == "random" or "remdm" in variant
    assert torch.equal(first, run(variant, [40, 23], seed=2)) != bool(chance)


def networks(lengths: list[int], frames: int | None = None) -> tuple[TinyNet, TinyNet]:
    """The network and its unconditional twin, as ``run`` takes them."""
    return network(lengths, frames)[0], network(lengths, frames, seed=50)[0]


@every_variant
def test_p06_batch_is_single(variant):
    """P6: each row is exactly what it is alone, logits within 1e-5; also one that is done in one pass, or given all but it."""
    lengths, rows = [40, 1, 12], ["utt-a", "utt-b", 7]
    fixed = random_fixed(valid_frames(lengths), 0.2)
    fixed[2, :, :11] = 3
    together = Spy(networks(lengths)[0])
    codes = run(variant, lengths, rows=rows, fixed=fixed, spy=lambda f: together)
    for row, length in enumerate(lengths):
        f, without = networks(lengths)
        for net in (f, without):
            net.condition, net.valid = net.condition[row : row + 1, :length], net.valid[row : row + 1, :length]
        alone = Spy(f)
        single = make(variant).decode(alone, f.valid, fixed[row : row + 1, :, :length], [rows[row]], without)
        assert torch.equal(codes[row : row + 1, :, :length], single)
        if row == 0:
            for one, many in zip(alone.logits, together.logits, strict=True):
                torch.testing.assert_close(one[0], many[row].narrow(-2, 0, length), rtol=0, atol=1e-5)


@every_variant
def test_p06_padding_may_be_anywhere(variant):
    """P6: padding in front, or between frames, as well as behind."""
    codes = run(variant, [20, 13], rows=["a", "b"])
    f, without = networks([20, 13], 32)
    valid = f.valid
    frames = list(range(32))
    place = frames[20:24] + frames[:7] + frames[24:27] + frames[7:20] + frames[27:]
    for net in (f, without):
        net.condition, net.valid = net.condition[:, place], valid[:, place]
    moved = make(variant).decode(f, valid[:, place], None, ["a", "b"], without)
    assert torch.equal(moved[0][:, valid[0, place]], codes[0])
    assert torch.equal(moved[1][:, valid[1, place]], codes[1, :, :13])


@given(
    variant=st.sampled_from(sorted(VARIANTS)),
    steps=st.integers(1, 60),
    temperature=st.sampled_from([0.0, 0.5, 2.0]),
    choice=st.sampled_from([0.0, 1.0, 10.0]),
    guidance=st.sampled_from([1.0, 1.5, 3.0]),
)
@quick
def test_p07_oracle_is_recovered(variant, steps, temperature, choice, guidance):
    """P7: one-hot logits times 1e4 give the truth for any steps, temperatures, mode, strategy, guidance on or off."""
    lengths = [21, 8]
    valid = valid_frames(lengths)
    generator = torch.Generator().manual_seed(steps)
    truth = torch.randint(0, SIZE, (2, CODEBOOKS, 21), generator=generator).masked_fill(~valid.unsqueeze(1), 0)
    decoder = make(variant, steps=steps, temperature=temperature, choice_temperature=choice, guidance=guidance)
    without = torch.zeros(2, CODEBOOKS, 21, SIZE)
    codes = decoder.decode(
        oracle(truth), valid, None, None, lambda codes, codebook: without if codebook is None else without[:, codebook]
    )
    assert torch.equal(codes, truth)


@given(variant=st.sampled_from(FINAL), steps=st.integers(1, 20))
@quick
def test_means_are_those_of_the_pass_that_commits_a_token(variant, steps):
    lengths = [21, 8]
    valid = valid_frames(lengths)
    codebooks = torch.randn(CODEBOOKS, SIZE, 5, generator=torch.Generator().manual_seed(steps))
    means = sampler.Means(codebooks, torch.zeros(2, 21, 5))
    f, without = networks(lengths)
    decoder, spy = make(variant, steps=steps), Spy(f)
    codes = decoder.decode(spy, valid, None, None, without, means)
    assert torch.equal(codes, decoder.decode(f, valid, None, None, without))
    assert not means.latents[~valid].any()
    if decoder.options.guidance == 1.0 and not (decoder.top_k or decoder.options.top_p):
        latents = torch.zeros(2, 21, 5)
        for k in range(CODEBOOKS):
            # The last call in which a position was still hidden is the one that committed it.
            expected = torch.zeros(2, 21, 5)
            for before, codebook, logits in zip(spy.codes, spy.codebooks, spy.logits, strict=True):
                if codebook in (None, k):
                    own = logits if codebook is not None else logits[:, k]
                    mean = own.softmax(dim=-1) @ codebooks[k].to(own.dtype)
                    expected = torch.where((before[:, k] == SIZE)[..., None], mean.float(), expected)
            latents += expected
        torch.testing.assert_close(means.latents, latents)


def test_the_rest_is_added_to_the_mean_of_each_token_that_is_predicted():
    generator = torch.Generator().manual_seed(3)
    lengths = [21, 8]
    valid = valid_frames(lengths)
    codebooks = torch.randn(CODEBOOKS, SIZE, 5, generator=generator)
    rest = torch.randn(2, CODEBOOKS, 21, 5, generator=generator)
    f, _ = networks(lengths)
    for joint in (True, False):
        decoder = sampler.Sampler(DecodingOptions(steps=3, joint=joint), CODEBOOKS, SIZE)
        plain, more = (sampler.Means(codebooks, torch.zeros(2, 21, 5), one) for one in (None, rest))
        assert torch.equal(decoder.decode(f, valid, means=plain), decoder.decode(f, valid, means=more))
        torch.testing.assert_close(more.latents[valid], (plain.latents + rest.sum(dim=1))[valid])
        assert not more.latents[~valid].any()


@given(
    variant=st.sampled_from(FINAL),
    start=st.floats(0.0, 1.0),
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=3),
)
@quick
def test_the_likeliest_tokens_of_an_estimate_are_there_from_the_start(variant, start, lengths):
    valid = valid_frames(lengths)
    fixed = random_fixed(valid, 0.3)
    estimate = torch.randint(SIZE, fixed.shape, generator=torch.Generator().manual_seed(1)) * valid[:, None]
    decoder, (f, without) = make(variant, start=start), networks(lengths)
    codes = decoder.decode(spy := Spy(f), valid, fixed, None, without, estimate=estimate)
    if start == 0.0:
        assert torch.equal(codes, decoder.decode(f, valid, fixed, None, without))
        return
    # The first call decides what is taken; it stays to the end.
    hidden, likely = spy.codes[0] == SIZE, spy.logits[0].log_softmax(dim=-1).gather(-1, estimate[..., None])[..., 0]
    taken = hidden & (spy.codes[1] != SIZE) if len(spy.codes) > 1 else hidden
    assert torch.equal(taken.sum(dim=(1, 2)), (start * hidden.sum(dim=(1, 2))).long())
    assert torch.equal(codes[taken], estimate[taken])
    for row, mine, others in zip(likely, taken, hidden & ~taken, strict=True):
        assert not mine.any() or not others.any() or row[mine].min() >= row[others].max()


def test_means_of_taken_tokens_are_their_entries():
    valid = valid_frames([9])
    codebooks = torch.randn(CODEBOOKS, SIZE, 5, generator=torch.Generator().manual_seed(0))
    estimate = torch.randint(SIZE, (1, CODEBOOKS, 9), generator=torch.Generator().manual_seed(1))
    means = sampler.Means(codebooks, torch.zeros(1, 9, 5))
    decoder = make("greedy", start=1.0)
    assert torch.equal(decoder.decode(networks([9])[0], valid, means=means, estimate=estimate), estimate)
    expected = sum(codebooks[k][estimate[:, k]] for k in range(CODEBOOKS))
    torch.testing.assert_close(means.latents, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every_variant
def test_device_does_not_change_the_tokens(variant):
    """Noise is counted, not drawn: the device and the CPU give the same tokens, with a network in float64."""
    lengths, codes = [20, 13], run(variant, [20, 13])
    f, without = networks(lengths)
    valid = f.valid
    for net in (f, without):
        net.condition, net.valid, net.tables, net.heads = (
            tensor.cuda() for tensor in (net.condition, net.valid, net.tables, net.heads)
        )
    assert torch.equal(make(variant).decode(f, valid.cuda(), unconditional=without).cpu(), codes)
