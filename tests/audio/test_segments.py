import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_tse_gen.audio.segments import Forward, Joiner, plan_segments


@st.composite
def plans(draw):
    hop = draw(st.integers(1, 6))
    segment = draw(st.integers(3 * hop, 60))
    return draw(st.integers(1, 400)), segment, draw(st.integers(0, segment // 3 - hop + 1)), hop


@given(plans())
@settings(max_examples=200, deadline=None)
def test_segments_cover_a_recording_and_their_weights_sum_to_one(plan):
    length, segment, overlap, hop = plan
    segments = plan_segments(length, segment, overlap, hop)
    assert segments[0].start == 0 and segments[-1].end == length
    assert {part.end - part.start for part in segments} == {min(length, segment)}
    for before, after in itertools.pairwise(segments):
        assert before.start < after.start and before.end - after.start >= overlap
        assert after.start <= after.fade and after.fade + overlap <= before.end
    assert all(part.start % hop == 0 for part in segments[:-1])
    # A signal cut into segments is put together again.
    signal = np.random.default_rng(length).standard_normal(length).astype(np.float32)
    joiner, joined = Joiner(segments, overlap), []
    for part in segments:
        output = signal[part.start : part.end]
        place = joiner.next_part()
        joined.append(joiner.add(output))
        assert len(joined[-1]) == len(output[place])
    np.testing.assert_allclose(np.concatenate(joined), signal, atol=1e-6)
    # None more than needed.
    assert len(segments) == 1 or (len(segments) - 2) * (segment - overlap - hop + 1) + segment < length


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), max_size=9),
    length=st.integers(0, 50),
    slices=st.lists(st.tuples(st.integers(0, 55), st.integers(0, 55)), max_size=9),
)
def test_slices_of_what_is_read_forward_are_those_of_an_array(sizes, length, slices):
    ends = np.cumsum([0, *sizes])
    signal = np.arange(1, ends[-1] + 1, dtype=np.float32)
    parts = [signal[start:end] for start, end in itertools.pairwise(ends)]
    whole = np.r_[signal, np.zeros(60, np.float32)][:length]
    forward = Forward(lambda: iter(parts), length)
    assert len(forward) == length
    for start, end in [*slices, (0, length)]:
        np.testing.assert_array_equal(forward[start:end], whole[start:end])


def test_what_is_read_forward_is_read_once_and_let_go():
    opened = []
    forward = Forward(lambda: opened.append(1) or iter(np.arange(1e6, dtype=np.float32).reshape(100, -1)), 1000000)
    for start in range(0, 990000, 9000):
        assert forward[start : start + 10000][[0, -1]].tolist() == [start, start + 9999]
        assert len(forward._held) <= 20000
    assert len(opened) == 1


def test_zero_takes_any_length_whole():
    assert plan_segments(10**9, 0, 0) == [(0, 10**9, 0)]


def test_overlaps_that_could_meet_are_refused():
    with pytest.raises(ValueError, match="cannot overlap"):
        plan_segments(100, 30, 11)
