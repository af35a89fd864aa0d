"""The decoding loop, whatever the options: P2 to P7 of the specification, with networks small enough to reason about."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import espnet_tse_gen
from espnet_tse_gen.decoding import sampler
from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.decoding.sampler import DecodingError, Sampler

from .stubs import LEVELS, SIZE, VARIANTS, Spy, make, network, oracle, random_fixed, run, valid_frames

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


@pytest.mark.slow
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
