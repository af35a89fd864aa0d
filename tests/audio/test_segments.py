import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_tse_gen.audio.segments import Joiner, plan_segments


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
    # A signal cut into segments is put together again, in any order.
    signal = np.random.default_rng(length).standard_normal(length).astype(np.float32)
    joiner = Joiner(length, segments, overlap)
    for number in reversed(range(len(segments))):
        joiner.add(number, signal[segments[number].start : segments[number].end])
    np.testing.assert_allclose(joiner.samples, signal, atol=1e-6)
    # None more than needed.
    assert len(segments) == 1 or (len(segments) - 2) * (segment - overlap - hop + 1) + segment < length


def test_zero_takes_any_length_whole():
    assert plan_segments(10**9, 0, 0) == [(0, 10**9, 0)]


def test_overlaps_that_could_meet_are_refused():
    with pytest.raises(ValueError, match="cannot overlap"):
        plan_segments(100, 30, 11)
