"""Long input: chunks that share tokens."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.decoding.sampler import Sampler, decode_chunks, plan_chunks

from .stubs import CODEBOOKS, SIZE, Spy, TinyNet, conditions

quick = settings(max_examples=60, deadline=None, derandomize=True)
STOCHASTIC = {"steps": (4, 2), "temperature": 1.0, "choice_temperature": 1.0}
PRESETS = [{"steps": (4, 2)}, STOCHASTIC, {"joint": True, "steps": 5}]


def factory(frames: int, rows: int = 1, calls: list | None = None):
    """Networks for windows of a recording whose condition is drawn once; spies are appended to ``calls``."""
    condition = torch.stack(conditions([frames] * rows))

    def make_f(start: int, end: int):
        spy = Spy(TinyNet(condition[:, start:end], torch.ones(rows, end - start, dtype=torch.bool)))
        if calls is not None:
            calls.append((start, end, spy))
        return spy, None, None, None

    return make_f


@given(frames=st.integers(1, 3000), chunk=st.integers(1, 600), data=st.data())
@quick
def test_p22_plan_covers_everything_once(frames, chunk, data):
    """P22: chunks of full length, overlaps of at least what is asked for, every frame decoded by exactly one chunk."""
    overlap = data.draw(st.integers(0, chunk - 1))
    chunks = plan_chunks(frames, chunk, overlap)
    assert chunks[0][0] == 0 and chunks[-1][1] == frames
    shared = [before[1] - after[0] for before, after in itertools.pairwise(chunks)]
    assert all(overlap <= one < chunk for one in shared)
    if frames > chunk:
        assert all(end - start == chunk for start, end in chunks)
        assert len(chunks) == math.ceil((frames - overlap) / (chunk - overlap))
        assert shared[:-1] == [overlap] * (len(shared) - 1)


@pytest.mark.parametrize("options", PRESETS)
@pytest.mark.parametrize("frames", [31, 45, 57, 100])
def test_p22_overlap_is_given_and_kept(options, frames):
    """P22: the overlap of chunk n+1 equals chunk n's tokens at every codebook, in every call, and the length is exact."""
    calls: list = []
    sampler = Sampler(DecodingOptions(**options), CODEBOOKS, SIZE)
    codes = decode_chunks(sampler, factory(frames, 2, calls), frames, 30, 6, row_ids=["a", "b"])
    assert codes.shape == (2, CODEBOOKS, frames)
    assert codes.min() >= 0 and codes.max() < SIZE
    for (start, end, spy), (_, done, _) in zip(calls[1:], calls, strict=False):
        for seen in spy.codes:
            assert torch.equal(seen[:, :, : done - start], codes[:, :, start:done])
        assert (spy.codes[0][:, :, done - start :] == SIZE).all()
        assert end - start == 30


@pytest.mark.parametrize("options", PRESETS)
@pytest.mark.parametrize("frames", [7, 30])
def test_p22_one_chunk_is_plain_decoding(options, frames):
    """P22: what fits a chunk is decoded as without chunks, noise included; so is anything where chunks are off."""
    sampler = Sampler(DecodingOptions(**options), CODEBOOKS, SIZE)
    f, *_ = factory(frames)(0, frames)
    plain = sampler.decode(f, torch.ones(1, frames, dtype=torch.bool), row_ids=["a"])
    assert torch.equal(decode_chunks(sampler, factory(frames), frames, 30, 6, row_ids=["a"]), plain)
    assert torch.equal(decode_chunks(sampler, factory(frames), frames, 0, 0, row_ids=["a"]), plain)


def test_batch_is_single():
    sampler, make_f = Sampler(DecodingOptions(**STOCHASTIC), CODEBOOKS, SIZE), factory(70, 2)
    both = decode_chunks(sampler, make_f, 70, 30, 6, row_ids=["a", "b"])

    def second(start: int, end: int):
        net = make_f(start, end)[0].f
        net.condition, net.valid = net.condition[1:], net.valid[1:]
        return net, None, None, None

    assert torch.equal(decode_chunks(sampler, second, 70, 30, 6, row_ids=["b"]), both[1:])


def test_every_chunk_draws_its_own_noise():
    """Equal conditions and no overlap: sampled chunks still differ."""
    sampler = Sampler(DecodingOptions(steps=1, temperature=1.0, anneal=False), CODEBOOKS, SIZE)
    flat = torch.zeros(1, 20, CODEBOOKS, SIZE).transpose(1, 2)
    codes = decode_chunks(
        sampler, lambda start, end: (lambda codes, codebook: flat[:, codebook], None, None, None), 60, 20, 0, ["a"]
    )
    for one, other in itertools.combinations(codes.split(20, dim=-1), 2):
        assert (one == other).double().mean() < 0.3
