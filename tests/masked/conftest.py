"""A small codec and extractor, and one batch of synthetic signals."""

import pytest
import torch

from espnet_tse_gen.codec.mel import MelCodec
from espnet_tse_gen.masked.extractor import MaskedExtractor
from espnet_tse_gen.masked.model import MaskedTSEModel

RATE = 16000


@pytest.fixture(scope="session", name="voice")
def fixture_of_voice():
    """The function, for tests that make batches of their own."""
    return voice


def voice(seconds: float, pitch: float, seed: int) -> torch.Tensor:
    """A harmonic sound whose pitch and loudness wander, float ``[L]``: who speaks does not tell what is said."""
    generator = torch.Generator().manual_seed(seed)
    length = int(seconds * RATE)
    steps = torch.nn.functional.interpolate(
        torch.randn(1, 2, max(2, int(6 * seconds)), generator=generator), size=length, mode="linear"
    )[0]
    phase = torch.cumsum(2 * torch.pi * pitch * (1 + 0.15 * steps[0]) / RATE, dim=0)
    tone = sum(torch.sin(k * phase) / k for k in range(1, 20))
    return 0.05 * tone * torch.sigmoid(3 * steps[1]) + 1e-3 * torch.randn(length, generator=generator)


@pytest.fixture(scope="session")
def codec():
    codec = MelCodec(num_codebooks=4, codebook_size=32)
    codec.fit(iter([voice(2.0, 90.0 + 25 * n, n) for n in range(8)]), iterations=5)
    return codec


@pytest.fixture
def build(codec):
    def make(model_conf=None, **extractor_conf):
        torch.manual_seed(0)
        conf = {"width": 32, "layers": 2, "heads": 2, "mixture_layers": 1, "dropout": 0.0, **extractor_conf}
        extractor = MaskedExtractor(codec, **conf)
        # Zero heads make every output equal; tests of the output need some weight in them.
        torch.nn.init.normal_(extractor.heads, std=0.3)
        return MaskedTSEModel(codec, extractor, **(model_conf or {})).eval()

    return make


@pytest.fixture(scope="session")
def batch():
    """Mixtures of 40, 23 and 31 frames with enrolments of different lengths, as the collate function pads them."""
    frames, enroll_frames = [40, 23, 31], [30, 50, 20]
    target = [voice(n * 0.02, 100.0 + 40 * n, n) for n in frames]
    other = [voice(n * 0.02, 230.0 - 20 * k, 50 + k) for k, n in enumerate(frames)]
    enroll = [voice(n * 0.02, 100.0 + 40 * m, 90 + n) for n, m in zip(enroll_frames, frames, strict=True)]
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "speech_mix": pad([t + o for t, o in zip(target, other, strict=True)], batch_first=True),
        "speech_mix_lengths": torch.tensor([len(t) for t in target]),
        "speech_ref1": pad(target, batch_first=True),
        "speech_ref1_lengths": torch.tensor([len(t) for t in target]),
        "enroll_ref1": pad(enroll, batch_first=True),
        "enroll_ref1_lengths": torch.tensor([len(e) for e in enroll]),
    }
