import editdistance
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_tse_gen.scoring.metrics.words import NORMALISATIONS, basic_text, word_errors

SENTENCES = st.lists(st.sampled_from("abcd"), max_size=9)


@settings(deadline=None, max_examples=150)
@given(SENTENCES, SENTENCES)
def test_the_sum_is_the_edit_distance_and_the_kinds_fit_the_lengths(
    reference: list[str], recognised: list[str]
) -> None:
    found, words = word_errors(" ".join(reference), " ".join(recognised), "WER_x"), len(reference)
    if not reference:
        assert found == {}
        return
    substituted, deleted, inserted = (round(words * found[f"WER_x_{kind}"]) for kind in ("sub", "del", "ins"))
    assert substituted + deleted + inserted == editdistance.eval(reference, recognised) == round(words * found["WER_x"])
    assert words - deleted + inserted == len(recognised) and found["WER_x_words"] == words


def test_normalisations() -> None:
    assert basic_text("  Don\u2019t stop -- the well-known 'No. 7'! ") == "DON'T STOP THE WELL KNOWN NO 7"
    assert basic_text("MISTER QUILTER'S MANNER") == "MISTER QUILTER'S MANNER"
    assert NORMALISATIONS["none"](" It's  here. ") == "It's here."


def test_whispers_normalisation_writes_out_contractions_and_numbers() -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    assert NORMALISATIONS["whisper_en"]("Um, it's twenty-one, isn't it?") == "it is 21 is not it"
