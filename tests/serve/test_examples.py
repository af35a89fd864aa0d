"""Examples of the page: what they are made of, and that the page has a button for each."""

from pathlib import Path

import numpy as np
import pytest
from librispeech import RATE, make_corpus

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.serve import examples
from espnet_tse_gen.serve.examples import example_speakers, make_example


@pytest.fixture(autouse=True)
def speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_corpus(tmp_path, "test-other", dict.fromkeys(("11", "22", "33", "44"), 2))
    monkeypatch.setattr(examples, "SPEECH", tmp_path)
    return tmp_path / "test-other"


def test_an_example_is_two_speakers_at_one_level_and_another_utterance_of_the_first(speech: Path) -> None:
    assert list(example_speakers()) == ["11", "22", "33"]
    for number, (target, other) in enumerate((("11", "22"), ("22", "33"), ("33", "11"))):
        (rate, mixed), (enroll_rate, enroll) = make_example(number)
        first, second, alone = (
            read_audio(speech / name / "7" / f"{name}-7-{place:04}.flac")[0]
            for name, place in ((target, 0), (other, 0), (target, 1))
        )
        assert (rate, enroll_rate, len(enroll)) == (RATE, RATE, len(alone))
        assert np.corrcoef(enroll, alone)[0, 1] > 0.999
        parts = [samples[: len(mixed)] / np.std(samples[: len(mixed)]) for samples in (first, second)]
        weights = np.linalg.lstsq(np.stack(parts, axis=1), mixed, rcond=None)[0]
        np.testing.assert_allclose(weights[0], weights[1], rtol=0.01)
        np.testing.assert_allclose(np.std(mixed - weights @ parts), 0, atol=1)
        assert 0.02 < np.std(mixed) / 32768 < 0.2


def test_where_no_speech_ships_there_are_no_examples(speech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "SPEECH", speech / "nowhere")
    assert example_speakers() == {}


def test_the_page_has_a_button_for_each_example() -> None:
    gradio = pytest.importorskip("gradio", reason="needs the extra serve (pip install gradio)")
    from espnet_tse_gen.serve.page import build
    from espnet_tse_gen.serve.worker import Worker

    page = build(Worker(1.0), "some model")
    buttons = {block._id: block.value for block in page.blocks.values() if isinstance(block, gradio.Button)}
    labels = [f"Example {number}: speaker {name} of LibriSpeech" for number, name in ((1, "11"), (2, "22"), (3, "33"))]
    assert list(buttons.values()) == ["Extract", *labels]
    clicked = {buttons[fn.targets[0][0]]: fn for fn in page.fns.values() if fn.targets[0][0] in buttons}
    for number, label in enumerate(labels):
        mixed, enroll, times = clicked[label].fn()
        np.testing.assert_array_equal(mixed[1], make_example(number)[0][1])
        assert times == "" and enroll[0] == RATE
        assert [output.label for output in clicked[label].outputs][:2] == ["Mixture", "Enrolment: the target alone"]
