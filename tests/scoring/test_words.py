from __future__ import annotations

import editdistance
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_tse_gen.scoring.words import WordErrors, basic_text, count_errors, normalisation
from espnet_tse_gen.utils.errors import UserError

SENTENCES = st.lists(st.sampled_from("abcd"), max_size=9)


@pytest.mark.parametrize(
    "reference, recognised, expected",
    [
        ("the cat sat", "the cat sat", (0, 0, 0)),
        ("the cat sat", "the dog sat", (1, 0, 0)),
        ("the cat sat down", "the sat down", (0, 1, 0)),
        ("the cat sat", "the big cat sat down", (0, 0, 2)),
        # Two errors in either case: two words in place of others rather than one lost and one invented.
        ("a b", "b c", (2, 0, 0)),
        ("a b c", "x y", (2, 1, 0)),
        ("a b c", "", (0, 3, 0)),
        ("", "a b", (0, 0, 2)),
    ],
)
def test_errors_are_counted_by_kind(reference: str, recognised: str, expected: tuple[int, int, int]) -> None:
    found = count_errors(reference.split(), recognised.split())
    assert (found.substitutions, found.deletions, found.insertions) == expected
    assert found.words == len(reference.split())


@settings(deadline=None, max_examples=150)
@given(SENTENCES, SENTENCES)
def test_the_sum_is_the_edit_distance_and_the_kinds_fit_the_lengths(
    reference: list[str], recognised: list[str]
) -> None:
    found = count_errors(reference, recognised)
    assert found.errors == editdistance.eval(reference, recognised)
    assert len(reference) - found.deletions + found.insertions == len(recognised)
    swapped = count_errors(recognised, reference)
    assert (swapped.substitutions, swapped.deletions) == (found.substitutions, found.insertions)


def test_columns_are_rates_over_the_words_of_the_reference() -> None:
    assert WordErrors(4, 1, 2, 3).columns("WER", "_x") == {
        "WER_x": 1.5,
        "WER_x_sub": 0.25,
        "WER_x_del": 0.5,
        "WER_x_ins": 0.75,
        "WER_x_words": 4.0,
    }
    assert WordErrors(0, 0, 0, 3).columns("WER") == {}


def test_normalisations() -> None:
    assert basic_text("  Don\u2019t stop -- the well-known 'No. 7'! ") == "DON'T STOP THE WELL KNOWN NO 7"
    assert basic_text("MISTER QUILTER'S MANNER") == "MISTER QUILTER'S MANNER"
    assert normalisation("none")(" It's  here. ") == "It's here."
    with pytest.raises(UserError, match="did you mean 'basic'"):
        normalisation("basics")


def test_whispers_normalisation_writes_out_contractions_and_numbers() -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    assert normalisation("whisper_en")("Um, it's twenty-one, isn't it?") == "it is 21 is not it"
