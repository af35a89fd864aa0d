"""One small codec of every family, on its real architecture with random weights or fitted to noise, for the tests."""

from collections.abc import Callable
from functools import partial

import torch
from dac_maker import make_dac
from espnet_codec_maker import CONFS, make_espnet
from hf_maker import make_transformers
from torch import Tensor

from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.registry import build_codec


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Return quiet white noise, the same for the same seed."""
    return 0.05 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_encodec() -> AbsCodec:
    """Return EnCodec with two random codebooks that are as wide as its latents."""
    torch.manual_seed(0)
    codec = build_codec("encodec", {"bandwidth": 1.5})
    latents = codec.encode(noise(1, 8000)).latents[0].T
    for codebook, layer in enumerate(codec.model.quantizer.vq.layers):
        layer._codebook.embed.normal_().mul_(latents.std(dim=0)).add_(0 if codebook else latents.mean(dim=0))
    return codec


def make_mini(envelope_codebooks: int = 1) -> AbsCodec:
    """Return the mini codec, narrow and with random weights."""
    torch.manual_seed(0)
    narrow = {"envelope_channels": 8, "encoder_width": 8, "encoder_blocks": 1, "decoder_width": 8, "decoder_blocks": 1}
    widths = {"num_mels": 20, "envelope_width": 4, "waveform_width": 8, "envelope_codebooks": envelope_codebooks}
    widths["candidates"] = 8 if envelope_codebooks else 1  # a search need not begin with the nearest
    return build_codec("mini", {"num_codebooks": 4, "codebook_size": 16, **widths, **narrow})


def make_mel(**conf: object) -> AbsCodec:
    """Return a mel codec fitted to noise."""
    codec = build_codec("mel", conf)
    codec.fit([noise(4000, seed=seed) * (1 + seed) for seed in range(3)], iterations=3)
    return codec


FAMILIES: dict[str, Callable[[], AbsCodec]] = {
    "mini": make_mini,
    "mini_no_envelope": lambda: make_mini(0),
    "mel": lambda: make_mel(num_mels=40, num_codebooks=4, codebook_size=16),
    "mel_residual": lambda: make_mel(num_mels=40, num_codebooks=3, codebook_size=16, split="residual"),
    "mel_8k": lambda: make_mel(sample_rate=8000, hop=160, n_fft=512, num_mels=30, num_codebooks=2, codebook_size=8),
    "encodec": make_encodec,
    "dac": make_dac,
    "transformers_encodec": lambda: make_transformers("encodec", 2),
    "transformers_dac": lambda: make_transformers("dac"),
    "transformers_mimi": lambda: make_transformers("mimi", 3),
    **{f"espnet_{design}": partial(make_espnet, design) for design in CONFS},
}
"""Name to maker; a family is added here, and the tests of the contract run over it."""

WHOLE = {"espnet_hificodec"}
"""Families whose encoder normalises over time: silence added to a recording changes all of its codes."""
PROJECTED = {"dac", "transformers_dac", "transformers_mimi", *(name for name in FAMILIES if name.startswith("espnet_"))}
"""Families whose quantizer looks for the nearest entry in a space of its own, between two projections."""


def make(family: str) -> AbsCodec:
    """Return a fresh codec of one of ``FAMILIES``."""
    return FAMILIES[family]()
