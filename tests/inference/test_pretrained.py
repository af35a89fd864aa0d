"""The models that ship: cards and sizes; what they extract of voices that they never heard is better than the mixture is."""

import hashlib
import itertools

import numpy as np
import pytest
import torch
from tiny_model import voice

from espnet_tse_gen import load_extractor
from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.speaker import SpeakerEncoder
from espnet_tse_gen.data.corpus import SPEECH, list_utterances
from espnet_tse_gen.inference.loading import DEFAULT_MODEL, shipped_models
from espnet_tse_gen.inference.waveform import WaveformInference
from espnet_tse_gen.scoring.signal import si_sdr
from espnet_tse_gen.utils.checkpoints import read_checkpoint
from espnet_tse_gen.utils.model_files import find_checkpoint

RATE = 16000


@pytest.fixture(scope="module")
def items():
    """Twelve targets in six mixtures of speakers whom no model heard: (mixture, target, interferer, enrolment)."""
    speech = {}
    for one in list_utterances(SPEECH, "test-other"):
        speech.setdefault(one.speaker, []).append(read_audio(one.path, RATE)[0])
    made = []
    for first, second in itertools.combinations(speech, 2):
        size = min(len(speech[first][0]), len(speech[second][0]))
        sources = [speech[speaker][0][:size] for speaker in (first, second)]
        # Equally loud.
        sources = [0.05 * source / np.sqrt(np.mean(source**2)) for source in sources]
        for own, speaker in enumerate((first, second)):
            made.append((sources[0] + sources[1], sources[own], sources[1 - own], speech[speaker][1]))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", [DEFAULT_MODEL, "tse_gen_16k"])
def test_the_output_is_nearer_to_the_target_than_the_mixture_is_and_than_to_the_other(items, name):
    extractor, encoder, gains = load_extractor(name), SpeakerEncoder(), []
    for mixture, target, interferer, enroll in items:
        output = extractor(mixture, enroll, sample_rate=RATE)
        assert output.shape == mixture.shape
        near = si_sdr(target, output)
        likeness = (encoder.embed(output, RATE) - encoder.embed(mixture, RATE)) @ encoder.embed(target, RATE)
        gains.append((near - si_sdr(target, mixture), near - si_sdr(interferer, output), likeness))
    assert np.mean(gains, axis=0).min() > 0, gains


@pytest.mark.parametrize("name", ["mc_spex_16k", "dual_path_16k", "tse_gen_16k"])
def test_the_card_is_that_of_the_weights_and_they_are_small(name):
    folder = shipped_models()[name]
    weights = find_checkpoint(folder)
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in (folder / "README.md").read_text()
    assert weights.stat().st_size < 15_000_000
    state = read_checkpoint(weights)
    assert all(
        value.dtype == torch.float16
        for key, value in state.items()
        if not ("running" in key or "fingerprint" in key) and value.is_floating_point()
    )


@pytest.mark.parametrize("name", ["mc_spex_16k", "dual_path_16k"])
def test_extraction_depends_on_the_enrolment_and_keeps_rate_and_length(name):
    extractor = load_extractor(name)
    assert isinstance(extractor, WaveformInference) and extractor.sample_rate == RATE
    first, second = voice(2.0, 110.0, 1, RATE), voice(2.0, 210.0, 2, RATE)
    outputs = [extractor(first + second, voice(2.0, pitch, 3, RATE), sample_rate=RATE) for pitch in (110.0, 210.0)]
    assert all(len(output) == len(first) and np.isfinite(output).all() for output in outputs)
    assert np.linalg.norm(outputs[0] - outputs[1]) > 0.01 * np.linalg.norm(outputs[0])


def test_confidence_is_made_where_it_is_asked_for(monkeypatch):
    extractor, made = load_extractor("dual_path_16k"), []
    network, presence = extractor.model.extractor, extractor.model.extractor.presence
    monkeypatch.setattr(network, "presence", lambda *given: made.append(given) or presence(*given))
    recordings = voice(1.0, 110.0, 1, RATE), voice(2.0, 110.0, 3, RATE)
    plain = extractor(*recordings, RATE)
    extractor.extract_batch(*([recording] for recording in recordings), RATE)
    assert not made
    found = extractor.extract([extractor.request(*recordings, RATE)])[0]
    assert len(made) == 1 and 0 <= found.confidence <= 1
    np.testing.assert_array_equal(found.samples, plain)
