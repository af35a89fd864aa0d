"""The dual-path extractor: what it may and may not depend on."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_discriminative import DUAL_PATH, tiny_dual_path
from torch.nn.attention import SDPBackend, sdpa_kernel

from espnet_tse_gen.audio.voice_encoder import VoiceEncoder
from espnet_tse_gen.dual_path.blocks import Attention
from espnet_tse_gen.dual_path.network import DualPathExtractor
from espnet_tse_gen.utils.errors import UserError


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network() -> DualPathExtractor:
    return tiny_dual_path().eval()


def extracted(network: DualPathExtractor, mixture: torch.Tensor, *enrolls: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network.extract(network.encode(mixture), *network.enroll([enrolls]))[0]


@given(samples=st.integers(1, 9000), enroll=st.integers(1, 6000))
@settings(max_examples=20, deadline=None)
def test_outputs_are_as_long_as_the_mixture_and_activity_has_its_frames(samples: int, enroll: int) -> None:
    network = tiny_dual_path().eval()
    voice, activity = network(noise(2, samples), [[noise(enroll), noise(enroll + 7)]])
    assert voice.shape == (2, samples) and activity.shape == (2, samples // network.hop + 1)
    assert torch.isfinite(voice).all() and torch.isfinite(activity).all()


def test_all_targets_of_a_mixture_are_what_each_alone_is(network: DualPathExtractor) -> None:
    mixture, enrolls = noise(2, 8000), [[noise(6000, seed=n), noise(6000, seed=n + 9)] for n in range(3)]
    together, _ = network(mixture, enrolls)
    for n, enroll in enumerate(enrolls):
        torch.testing.assert_close(together[2 * n : 2 * n + 2], network(mixture, [enroll])[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("factor", "offset"), [(1e-3, 0.0), (30.0, 0.0), (1.0, 0.2)])
def test_levels_only_scale_the_output_and_offsets_change_nothing(network, factor: float, offset: float) -> None:
    mixture, enroll = noise(1, 8000), noise(6000, seed=1)
    wanted = extracted(network, mixture, enroll)
    made = extracted(network, factor * mixture + offset, enroll) / factor
    torch.testing.assert_close(made, wanted, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(extracted(network, mixture, factor * enroll + offset), wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("chosen", [(0, 1, 2, 0, 1), (0, 0, 0, 0, 0)])
def test_rows_with_enrolments_of_any_lengths_are_what_each_alone_is(network, chosen: tuple[int, ...]) -> None:
    mixture = noise(5, 8000)
    targets = [[noise(size, seed=number)] for number, size in enumerate((6400, 9600, 6400))]
    with torch.no_grad():
        enrolments = network.enroll(targets)
        together = network.extract_rows(mixture, [enrolments[number] for number in chosen])
    for row, enroll in enumerate(chosen):
        alone = extracted(network, mixture[row : row + 1], *targets[enroll])
        torch.testing.assert_close(together.waveforms[row], alone[0], atol=1e-5, rtol=1e-4)


def test_several_enrolments_all_count_and_their_order_does_not(network: DualPathExtractor) -> None:
    mixture, first, second = noise(1, 8000), noise(6400, seed=1), noise(9600, seed=2)
    both = extracted(network, mixture, first, second)
    torch.testing.assert_close(extracted(network, mixture, second, first), both, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(extracted(network, mixture, first), both, atol=1e-4)


@pytest.mark.parametrize(("over_time", "prefixed"), [(True, False), (True, True), (False, False)])
def test_without_gradients_memory_does_not_grow_with_the_square_of_the_length(over_time: bool, prefixed: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(64, 32, over_time).eval()
    x, enroll = torch.randn(2, 5, 30, 64), torch.randn(2, 5, 17, 64)
    prefix = attention.keys_values(enroll) if prefixed else None
    expected = attention(x, prefix)
    # Any other kernel, which would hold all scores at once, is an error here.
    with torch.inference_mode(), sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        made = attention(x, attention.keys_values(enroll) if prefixed else None)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("off", ["enroll_frames", "speaker_embedding", "band_attention"])
def test_parts_can_be_left_out(off: str) -> None:
    network = tiny_dual_path(**{off: False}).eval()
    if network.voice is not None:
        # With random weights, it hears no differences.
        pytest.importorskip("resemblyzer", reason="needs resemblyzer's weights")
        network.voice.load_pretrained()
    enrolls = noise(6000, seed=1), noise(6000, seed=2).cumsum(0)
    first, second = (extracted(network, noise(1, 8000), enroll) for enroll in enrolls)
    assert not torch.allclose(first, second, atol=1e-6)


def test_every_weight_but_the_voice_encoders_learns() -> None:
    network = tiny_dual_path().train()
    voice, activity = network(noise(2, 8000), [[noise(6000), noise(6000)], [noise(5000), noise(4000)]])
    (voice.square().mean() + activity.square().mean()).backward()
    for name, parameter in network.named_parameters():
        if name.startswith("voice."):
            assert not parameter.requires_grad
        else:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"width": 20}, "width 20 is not a multiple of head_width 8"),
        ({"kernel": 4}, "kernel is 4, expected an odd number"),
        ({"enroll_frames": False, "speaker_embedding": False}, "no target is known"),
        ({"sample_rate": 8000}, "speaker_embedding is made at 16000 Hz, the model's rate is 8000 Hz"),
        ({"extractor_blocks": 0}, "must be 1 or more"),
        ({"presence": [1.0]}, "expected two numbers: slope and middle"),
        ({"window": 7, "hop": 3}, "window 7, hop 3: expected an even window"),
        ({"window": 8, "hop": 5}, "window 8, hop 5: expected an even window and a hop of at most half of it"),
        ({"band_widths": [2, 4]}, "band_widths add up to 6 bins, expected 81"),
    ],
)
def test_options_that_do_not_fit(conf: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        DualPathExtractor(**{**DUAL_PATH, **conf})


def test_the_voice_encoder_is_resemblyzers() -> None:
    resemblyzer = pytest.importorskip("resemblyzer", reason="needs resemblyzer")
    encoder = VoiceEncoder()
    encoder.load_pretrained()
    recordings = [noise(samples, seed=samples).cumsum(0) for samples in (9000, 25600, 70001)]
    recordings = [recording - recording.mean() for recording in recordings]
    theirs = resemblyzer.VoiceEncoder("cpu", verbose=False)
    for recording, embedding in zip(recordings, encoder(recordings), strict=True):
        level = 10 ** (-30 / 20) / recording.square().mean().sqrt()
        expected = theirs.embed_utterance((recording * level).numpy())
        np.testing.assert_allclose(embedding.numpy(), expected, atol=1e-5)


def test_presence_is_by_the_likeness_of_the_voice() -> None:
    network = DualPathExtractor(**{**DUAL_PATH, "speaker_embedding": True, "presence": [30.0, 0.6]}).eval()
    network.voice.load_pretrained()
    tone, other = torch.sin(torch.arange(32000) * 0.05), noise(32000)
    voices = torch.stack([tone, 20 * tone, other, torch.zeros(32000)])
    with torch.no_grad():
        same, louder, different, silent = network.presence(voices, network.enroll([[tone]]) * 4)
    assert same > 0.99 and abs(same - louder) < 1e-3 and different < same and silent == 0.0
    network.voice = None
    assert network.presence(voices, []) is None
