"""What a model is, in a few lines for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from espnet_tse_gen.inference.loading import CARD, DECODE, open_model


def describe_model(model: str | Path, model_file: str | None = None) -> str:
    """Return what a model is: checkpoint, size, extractor, codec or rate, decoding options, and its card.

    Raises:
        UserError: If the model or the checkpoint cannot be used.
    """
    with open_model(model) as directory:
        checkpoint = directory.checkpoint(model_file)
        facts_of = _discriminative_facts if directory.is_discriminative else _masked_facts
        parameters, extractor, facts = facts_of(directory.config_file, checkpoint)
        decode, card = directory.text(DECODE) or "default\n", directory.text(CARD)
    return (
        f"model:      {model}\n"
        f"checkpoint: {checkpoint.name}, {parameters / 1e6:.2f} M parameters, {extractor}\n"
        f"{facts}\n"
        f"decoding:   {'; '.join(decode.splitlines())}\n"
    ) + (f"\n{card}" if card else "")


def _masked_facts(config: Path, checkpoint: Path) -> tuple[int, str, str]:
    """Return a masked generative model's number of parameters, extractor, and the lines about its codec and front end."""
    from espnet_tse_gen.inference.front_end import load_model

    model = load_model(config, checkpoint)
    codec = model.codec
    front_end: Any = model.front_end
    facts = (
        f"codec:      {codec.name}, {codec.sample_rate} Hz, {codec.frame_rate:g} frames/s, "
        f"{codec.num_levels} levels x {codec.codebook_size}, fingerprint {codec.fingerprint()[:12]}"
    )
    if front_end is not None:
        facts += f"\nfront end:  {type(front_end.model.extractor).__name__}, {front_end.model.sample_rate} Hz"
    return sum(parameter.numel() for parameter in model.parameters()), type(model.extractor).__name__, facts


def _discriminative_facts(config: Path, checkpoint: Path) -> tuple[int, str, str]:
    """Return a discriminative model's number of parameters, extractor, and the line about its rate."""
    from espnet_tse_gen.discriminative.build import load_model

    model = load_model(config, checkpoint)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters, type(model.extractor).__name__, f"rate:       {model.sample_rate} Hz, waveform to waveform"
