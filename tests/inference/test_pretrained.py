"""The model that ships with the package extracts voices that it never heard, better than the mixture is."""

from pathlib import Path

import numpy as np
import pytest

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.speaker import SpeakerEncoder
from espnet_tse_gen.data.grammar import draw_sentences
from espnet_tse_gen.data.synthetic import draw_voices, split_voices, synthesize
from espnet_tse_gen.scoring.signal import si_sdr

RATE = 16000


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """Twelve targets in six mixtures of the demo's test voices, each with an enrolment: (mixture, target, enrolment)."""
    root = tmp_path_factory.mktemp("voices")
    voices = split_voices(draw_voices(56, seed=0))["test-mini"][:6]
    sentences = iter(draw_sentences(2 * len(voices), seed=123))
    synthesize(root, "test", voices, [[next(sentences), next(sentences)] for _ in voices], seed=0)
    speech = [
        [read_audio(path, RATE)[0] for path in sorted(Path(root, "test", voice.speaker).rglob("*.flac"))]
        for voice in voices
    ]
    made = []
    for first in range(len(voices)):
        second = (first + 1) % len(voices)
        size = min(len(speech[first][0]), len(speech[second][0]))
        sources = [speech[first][0][:size], speech[second][0][:size]]
        for number, voice in enumerate((first, second)):
            made.append((sources[0] + sources[1], sources[number], speech[voice][1]))
    return made


@pytest.mark.slow
def test_shipped_model_is_closer_to_the_target_than_the_mixture_is(items):
    from pystoi import stoi

    from espnet_tse_gen import TargetSpeakerExtractor

    extractor = TargetSpeakerExtractor.from_pretrained("mini_librimix")
    encoder = SpeakerEncoder()
    gains = {"si_sdr": [], "estoi": [], "similarity": []}
    for mixture, target, enroll in items:
        output = extractor(mixture, enroll, sample_rate=RATE)
        assert output.shape == mixture.shape
        voice = encoder.embed(target, RATE)
        gains["si_sdr"].append(si_sdr(target, output) - si_sdr(target, mixture))
        gains["estoi"].append(stoi(target, output, RATE, extended=True) - stoi(target, mixture, RATE, extended=True))
        gains["similarity"].append(float(encoder.embed(output, RATE) @ voice - encoder.embed(mixture, RATE) @ voice))
    assert {name: np.mean(values) > 0 for name, values in gains.items()} == dict.fromkeys(gains, True), gains
