"""The decoding loop: what holds for every choice of options, with networks small enough to know the answer."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import espnet_tse_gen
from espnet_tse_gen.decoding import DecodingError, DecodingOptions, Sampler, mask_counts, sampler
from espnet_tse_gen.errors import UserError

from .stubs import LEVELS, SIZE, Spy, network, oracle, random_fixed, valid_frames

quick = settings(max_examples=40, deadline=None, derandomize=True)

# Every strategy at least once, in both modes.
VARIANTS = {
    "greedy": {"steps": (5, 2)},
    "one_step": {"steps": 1},
    "stochastic": {"steps": (5, 2), "temperature": 1.0, "choice_temperature": 1.0, "top_k": 0.3},
    "nucleus": {"steps": 3, "temperature": 1.3, "top_p": 0.8, "anneal": False},
    "random": {"steps": 4, "temperature": 1.0, "order": "random"},
    "halton": {"steps": 4, "order": "halton"},
    "guided": {"steps": 4, "guidance": 1.7, "guidance_schedule": "linear"},
    "rescore": {"steps": (6, 2), "remask": "rescore", "rescore_rounds": 2},
    "remdm_cap": {"steps": 6, "remask": "remdm_cap", "remdm_eta": 0.4, "temperature": 1.0},
    "remdm_rescale": {"steps": 6, "remask": "remdm_rescale", "remdm_eta": 0.7, "temperature": 1.0},
    "joint": {"joint": True, "steps": 9},
    "joint_stochastic": {"joint": True, "steps": 7, "temperature": 1.0, "choice_temperature": 4.5, "coarse_first": 1.0},
    "joint_remdm": {"joint": True, "steps": 7, "remask": "remdm_cap", "remdm_eta": 0.3, "order": "halton"},
    "joint_rescore": {"joint": True, "steps": 7, "remask": "rescore", "guidance": 0.5},
}
FINAL = [name for name, values in VARIANTS.items() if "remask" not in values]  # committed tokens stay
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def make(variant: str, **changes: object) -> Sampler:
    return Sampler(DecodingOptions(**{**VARIANTS[variant], **changes}), LEVELS, SIZE)  # type: ignore[arg-type]


def run(variant: str, lengths: list[int], *, rows=None, frames=None, fixed=None, spy=None, **changes) -> torch.Tensor:
    f, valid = network(lengths, frames)
    without, _ = network(lengths, frames, seed=50)
    return make(variant, **changes).decode(spy(f) if spy else f, valid, fixed, rows, without)


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
    assert codes.shape == (len(lengths), LEVELS, max(lengths))
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


def test_p05_two_processes():
    """P5: processes with different hash seeds agree; greedy does not depend on the seed, stochastic does."""
    root = Path(espnet_tse_gen.__file__).parents[1]

    def start(preset: str, seed: int, hash_seed: int) -> subprocess.Popen[str]:
        environment = {
            **os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"
        }  # fmt: skip
        command = [sys.executable, str(Path(__file__).with_name("stubs.py")), preset, str(seed)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    processes = [start("stochastic", 3, 1), start("stochastic", 3, 2)]
    first, second = (process.communicate(timeout=120)[0] for process in processes)
    assert first == second
    f, valid = network([9, 5])

    def here(preset: str, seed: int) -> list:
        options = DecodingOptions.preset(preset, seed=seed)
        return Sampler(options, LEVELS, SIZE).decode(f, valid, row_ids=["a", "b"]).tolist()

    assert json.loads(first) == here("stochastic", 3) != here("stochastic", 4)
    assert here("greedy_16", 3) == here("greedy_16", 4)


@every_variant
def test_p06_batch_is_single(variant):
    """P6: rows of 40, 23 and 31 frames together are exactly each one alone; logits within 1e-5."""
    lengths, rows = [40, 23, 31], ["utt-a", "utt-b", 7]
    together = Spy(network(lengths)[0])
    codes = run(variant, lengths, rows=rows, spy=lambda f: together)
    full_network, _ = network(lengths)
    for row, length in enumerate(lengths):
        f, valid = network(lengths)
        f.condition, f.valid = full_network.condition[row : row + 1, :length], valid[row : row + 1, :length]
        without, _ = network(lengths, seed=50)
        without.condition, without.valid = without.condition[row : row + 1, :length], f.valid
        alone = Spy(f)
        single = make(variant).decode(alone, f.valid, None, [rows[row]], without)
        assert torch.equal(codes[row : row + 1, :, :length], single)
        for one, many in zip(alone.logits, together.logits, strict=True):
            torch.testing.assert_close(one[0], many[row].narrow(-2, 0, length), rtol=0, atol=1e-5)


@every_variant
def test_p06_padding_changes_nothing(variant):
    """P6: twelve more frames of padding."""
    codes = run(variant, [20, 13], rows=["a", "b"])
    assert torch.equal(run(variant, [20, 13], rows=["a", "b"], frames=32)[..., :20], codes)


@every_variant
def test_p06_padding_may_be_anywhere(variant):
    """P6: padding in front, or between frames, as well as behind."""
    codes = run(variant, [20, 13], rows=["a", "b"])
    f, valid = network([20, 13], 32)
    without, _ = network([20, 13], 32, seed=50)
    frames = list(range(32))
    place = frames[20:24] + frames[:7] + frames[24:27] + frames[7:20] + frames[27:]
    for net in (f, without):
        net.condition, net.valid = net.condition[:, place], valid[:, place]
    moved = make(variant).decode(f, valid[:, place], None, ["a", "b"], without)
    assert torch.equal(moved[0][:, valid[0, place]], codes[0])
    assert torch.equal(moved[1][:, valid[1, place]], codes[1, :, :13])


@every_variant
def test_p06_permuting_the_batch_permutes_the_output(variant):
    """P6: row ids travel with their rows."""
    lengths, rows, turn = [40, 23, 31, 31], ["a", "b", "c", 5], [2, 0, 3, 1]
    codes = run(variant, lengths, rows=rows)
    f, valid = network(lengths)
    without, _ = network(lengths, seed=50)
    for net in (f, without):
        net.condition, net.valid = net.condition[turn], valid[turn]
    turned = make(variant).decode(f, valid[turn], None, [rows[index] for index in turn], without)
    assert torch.equal(turned, codes[turn])


@every_variant
def test_p06_a_row_that_is_done_early_is_left_alone(variant):
    """P6: one frame takes one pass, forty take more: the short row is what it is alone, also with all of it given."""
    lengths = [40, 1, 12]
    fixed = random_fixed(valid_frames(lengths), 0.2)
    fixed[2, :, :11] = 3
    codes = run(variant, lengths, rows=["a", "b", "c"], fixed=fixed)
    f, valid = network(lengths)
    without, _ = network(lengths, seed=50)
    for row, length in enumerate(lengths):
        for net, source in ((f, network(lengths)[0]), (without, network(lengths, seed=50)[0])):
            net.condition, net.valid = source.condition[row : row + 1, :length], valid[row : row + 1, :length]
        alone = make(variant).decode(f, f.valid, fixed[row : row + 1, :, :length], ["abc"[row]], without)
        assert torch.equal(codes[row : row + 1, :, :length], alone)


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
    truth = torch.randint(0, SIZE, (2, LEVELS, 21), generator=generator).masked_fill(~valid.unsqueeze(1), 0)
    decoder = make(variant, steps=steps, temperature=temperature, choice_temperature=choice, guidance=guidance)
    without = torch.zeros(2, LEVELS, 21, SIZE)
    codes = decoder.decode(
        oracle(truth), valid, None, None, lambda codes, level: without if level is None else without[:, level]
    )
    assert torch.equal(codes, truth)


@pytest.mark.parametrize("mode", [{"steps": (5, 2)}, {"joint": True, "steps": 6}])
def test_p13_guidance_one_is_conditional_at_half_the_calls(mode):
    """P13: g = 1 equals the conditional network bit by bit and never calls the other; g = 0 equals the other."""
    f, valid = network([30, 12])
    other, _ = network([30, 12], seed=50)

    def decode(scale: float | None) -> tuple[torch.Tensor, Spy, Spy]:
        one, two = Spy(f), Spy(other)
        options = DecodingOptions(**mode) if scale is None else DecodingOptions(**mode, guidance=scale)
        codes = Sampler(options, LEVELS, SIZE).decode(one, valid, unconditional=None if scale is None else two)
        return codes, one, two

    plain, spy, _ = decode(None)
    codes, one, two = decode(1.0)
    assert torch.equal(codes, plain)
    assert (len(one.codes), len(two.codes)) == (len(spy.codes), 0)
    doubled, one, two = decode(2.0)
    assert len(one.codes) == len(two.codes) == len(spy.codes)
    assert not torch.equal(doubled, plain)
    unconditional = Sampler(DecodingOptions(**mode), LEVELS, SIZE).decode(other, valid)
    assert torch.equal(decode(0.0)[0], unconditional)


def test_p13_guidance_without_an_unconditional_network():
    f, valid = network([5])
    with pytest.raises(UserError, match="guidance"):
        make("guided").decode(f, valid)


@pytest.mark.parametrize("variant", [name for name, values in VARIANTS.items() if not values.get("joint")])
def test_p14_levels_in_order(variant):
    """P14: when level q starts, all levels before it are free of MASK and all after it are fully masked."""
    lengths = [33, 20]
    valid = valid_frames(lengths)
    spy = Spy(network(lengths)[0])
    run(variant, lengths, spy=lambda f: spy)
    assert [level for level, _ in itertools.groupby(spy.levels)] == list(range(LEVELS))
    for codes, level in zip(spy.codes, spy.levels, strict=True):
        inside = codes.transpose(0, 1)[:, valid]
        assert (inside[:level] != SIZE).all()
        assert (inside[level + 1 :] == SIZE).all()
    for level in range(LEVELS):
        assert (spy.codes[spy.levels.index(level)].transpose(0, 1)[level][valid] == SIZE).all()


@given(
    joint=st.booleans(),
    steps=st.lists(st.integers(1, 20), min_size=1, max_size=LEVELS),
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=3),
    guidance=st.sampled_from([1.0, 2.0]),
    rounds=st.integers(0, 2),
)
@quick
def test_p15_pass_count(joint, steps, lengths, guidance, rounds):
    """P15: calls are the sum of the steps, doubled with guidance, fewer only where steps exceed tokens.

    Extra passes of rescoring are counted per level. There is no critic head in this package, hence no factor for one.
    """
    remask = {"remask": "rescore", "rescore_rounds": rounds} if rounds else {}
    options = DecodingOptions(steps=steps[0] if joint else tuple(steps), joint=joint, guidance=guidance, **remask)
    decoder = Sampler(options, LEVELS, SIZE)
    f, valid = network(lengths)
    one, two = Spy(f), Spy(f)
    decoder.decode(one, valid, unconditional=two)
    longest = max(lengths) * (LEVELS if joint else 1)
    expected = sum(min(step, longest) for step in decoder.steps) + rounds * len(decoder.levels)
    # Where steps exceed tokens, several tokens of one pass end the plan earlier still: its own length is exact.
    exact = sum(len(mask_counts(longest, step)) for step in decoder.steps) + rounds * len(decoder.levels)
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

    def f(codes: torch.Tensor, level: int | None) -> torch.Tensor:
        partner = codes[:, 0].flip(-1)
        logits = torch.full((rows, 2, 2), math.log(0.5))
        known = partner != 2
        logits[known] = torch.nn.functional.one_hot(partner[known], 2).float().log().clamp(min=-1e30)
        return logits if level is not None else logits.unsqueeze(1)

    def counts(steps: int) -> list[int]:
        options = DecodingOptions.preset("ancestral", joint=joint, steps=steps)
        codes = Sampler(options, 1, 2).decode(f, torch.ones(rows, 2, dtype=torch.bool))
        return torch.bincount(codes[:, 0, 0] * 2 + codes[:, 0, 1], minlength=4).tolist()

    both = counts(2)
    assert both[1] == both[2] == 0
    assert abs(both[0] - rows / 2) < 3 * math.sqrt(rows / 4)
    assert all(abs(count - rows / 4) < 3 * math.sqrt(rows * 3 / 16) for count in counts(1))


@pytest.mark.parametrize("kind", ["remdm_cap", "remdm_rescale"])
def test_p24_remdm_keeps_the_schedule(kind):
    """P24: the masked share is on schedule (exactly, as counts are exact), and the share masked again has its mean."""
    rows, frames, steps, eta = 300, 60, 8, 0.13
    f, valid = network([frames] * rows)
    spy = Spy(f)
    options = DecodingOptions(steps=(steps,), remask=kind, remdm_eta=eta, temperature=1.0)
    Sampler(options, LEVELS, SIZE).decode(spy, valid)
    counts = mask_counts(frames, steps)
    states = [codes[:, 0] for codes, level in zip(spy.codes, spy.levels, strict=True) if level <= 1][: steps + 1]
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
    plain = Sampler(DecodingOptions(**values), LEVELS, SIZE).decode(f, valid)
    again = Sampler(DecodingOptions(**values, remask=kind, remdm_eta=0.0), LEVELS, SIZE).decode(f, valid)
    assert torch.equal(plain, again)


def test_rescoring_masks_only_the_least_certain_share():
    lengths = [40, 20]
    spy = Spy(network(lengths)[0])
    run("rescore", lengths, steps=4, rescore_fraction=0.2, spy=lambda f: spy)
    first = [codes for codes, level in zip(spy.codes, spy.levels, strict=True) if level == 0]
    assert len(first) == 4 + 2
    for codes in first[4:]:
        assert (codes[:, 0] == SIZE).sum(dim=1).tolist() == [8, 4]


def test_greedy_decoding_draws_no_noise(monkeypatch):
    monkeypatch.setattr(sampler.RowNoise, "uniform", None)
    for variant in ("greedy", "joint", "halton", "guided", "rescore"):
        run(variant, [12, 7])


def test_one_step_levels_rank_nothing(monkeypatch):
    """A pass that commits everything needs neither confidence nor sorting."""
    monkeypatch.setattr(sampler, "log_confidence", None)
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
    def f(codes: torch.Tensor, level: int | None) -> torch.Tensor:
        logits = torch.zeros(*codes.shape, SIZE)
        logits[0, :, 3, 5] = bad
        return logits if level is None else logits[:, level]

    valid = valid_frames([6])
    decoder = Sampler(DecodingOptions(steps=2, joint=joint), LEVELS, SIZE)
    with pytest.raises(DecodingError, match="NaN or infinite"):
        decoder.decode(f, valid)
    # Where nothing had to be predicted, it does not matter.
    fixed = torch.full((1, LEVELS, 6), SIZE)
    fixed[:, :, 3] = 1
    decoder.decode(f, valid, fixed)


def test_arguments_that_do_not_fit():
    f, valid = network([6, 4])
    decoder = make("greedy")
    with pytest.raises(ValueError, match="3 row ids for 2 rows"):
        decoder.decode(f, valid, row_ids=[1, 2, 3])
    with pytest.raises(ValueError, match="valid: expected bool"):
        decoder.decode(f, valid.long())
    with pytest.raises(ValueError, match=r"fixed: expected \[B, K, T\]"):
        decoder.decode(f, valid, torch.zeros(2, LEVELS, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match="fixed: expected int64"):
        decoder.decode(f, valid, torch.zeros(2, LEVELS, 6))
    with pytest.raises(ValueError, match=r"fixed: expected tokens 0\.\.23, or 24"):
        decoder.decode(f, valid, torch.full((2, LEVELS, 6), SIZE + 1))
    with pytest.raises(ValueError, match="logits of level 0: expected shape"):
        decoder.decode(lambda codes, level: torch.zeros(2, 6, SIZE + 1), valid)


def test_empty_batches():
    for shape in ((0, 5), (2, 0)):
        codes = make("joint").decode(lambda codes, level: codes, torch.ones(shape, dtype=torch.bool))
        assert codes.shape == (shape[0], LEVELS, shape[1])


def test_no_gradients():
    weight = torch.ones(1, requires_grad=True)
    net, valid = network([6])
    codes = make("greedy").decode(lambda codes, level: net(codes, level) * weight, valid)
    assert not codes.requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every_variant
def test_device_does_not_change_the_tokens(variant):
    """Noise is counted, not drawn: the device and the CPU give the same tokens, with a network in float64."""
    lengths, codes = [20, 13], run(variant, [20, 13])
    f, valid = network(lengths)
    without, _ = network(lengths, seed=50)
    for net in (f, without):
        net.condition, net.valid, net.tables, net.heads = (
            tensor.cuda() for tensor in (net.condition, net.valid, net.tables, net.heads)
        )
    assert torch.equal(make(variant).decode(f, valid.cuda(), unconditional=without).cpu(), codes)
