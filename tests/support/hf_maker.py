"""Small random models of the transformers library's codecs, written by ``save_pretrained`` as real ones are."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.registry import build_codec

CONFIGS: dict[str, dict[str, Any]] = {
    "encodec": {
        "num_filters": 2, "hidden_size": 8, "codebook_dim": 8, "codebook_size": 16, "num_lstm_layers": 1,
        "target_bandwidths": [0.3, 0.6, 1.2],
    },
    "dac": {
        "sampling_rate": 16000, "encoder_hidden_size": 4, "hidden_size": 64, "decoder_hidden_size": 32, "n_codebooks": 3,
        "codebook_size": 16, "codebook_dim": 4, "downsampling_ratios": [2, 4, 5, 8], "upsampling_ratios": [8, 5, 4, 2],
    },
    "mimi": {
        "num_filters": 2, "hidden_size": 16, "codebook_size": 16, "codebook_dim": 8, "num_quantizers": 4,
        "vector_quantization_hidden_dimension": 8, "num_hidden_layers": 1, "intermediate_size": 32, "head_dim": 8,
        "num_attention_heads": 2, "num_key_value_heads": 2, "upsample_groups": 16,
    },
}  # fmt: skip
"""``model_type`` to what differs from the released models: everything is narrow, the layout in time is the same."""


def need_transformers() -> Any:
    """Return the library, or skip the test."""
    return pytest.importorskip("transformers", reason="needs the package transformers, which the Makefile installs")


@torch.no_grad()
def write_model(directory: Path, kind: str) -> Any:
    """Write a model with random weights and codebooks, and return it."""
    library = need_transformers()
    torch.manual_seed(0)
    config = library.CONFIG_MAPPING[kind](**CONFIGS[kind])
    model = library.AutoModel.from_config(config).eval()
    # The library leaves the codebooks of EnCodec and Mimi empty; EnCodec's are filled to be as wide as its latents.
    books = [buffer for name, buffer in model.named_buffers() if name.endswith((".embed", ".embed_sum"))]
    centre, width = torch.zeros(1), torch.tensor([0.1])
    if kind == "encodec":
        latents = model.encoder(0.05 * torch.randn(1, 1, 8000))[0]
        centre, width = latents.mean(dim=1), latents.std(dim=1)
    for codebook, book in enumerate(books):
        book.normal_().mul_(width).add_(centre if codebook == 0 else 0.0)
    model.save_pretrained(directory)
    return model


def make_transformers(kind: str, num_codebooks: int | None = None) -> AbsCodec:
    """Return a codec that was loaded from such a directory."""
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), kind)
        codec = build_codec("transformers", {"model": folder, "num_codebooks": num_codebooks})
        codec.load_pretrained(codec.pretrained_cache())
    return codec
