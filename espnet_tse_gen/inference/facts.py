"""What a model is, for people: the lines of ``tse-gen info`` and of the card of a packed model."""

from pathlib import Path
from typing import Any

from espnet_tse_gen.inference.loading import CARD, DECODE, open_model


def describe_model(model: str | Path, model_file: str | None = None) -> str:
    """Return what a model is: checkpoint, :func:`model_facts`, decoding options, and its card.

    Raises:
        UserError: If the model or the checkpoint cannot be used.
    """
    with open_model(model) as directory:
        facts = {"Model": str(model), "Checkpoint": directory.checkpoint(model_file).name}
        facts |= model_facts(directory.load(model_file), directory.config)
        facts["Decoding"] = "; ".join((directory.text(DECODE) or "default").splitlines())
        card = directory.text(CARD)
    lines = [f"{label.lower() + ':':11} {text}\n" for label, text in facts.items()]
    return "".join(lines).replace("`", "") + (f"\n{card}" if card else "")


def model_facts(model: Any, config: dict[str, Any]) -> dict[str, str]:
    """Return label and text of what a loaded model consists of: extractor, codec or rate, and front end."""
    extractor, size = config.get("extractor", "masked"), _size(model)
    facts = {"Extractor": f"`{extractor}`, {size} ({_settings(config.get('extractor_conf'))})"}
    codec, front_end = getattr(model, "codec", None), getattr(model, "front_end", None)
    if codec is not None:
        facts["Codec"] = (
            f"`{codec.name}`, {codec.sample_rate} Hz, {codec.frame_rate:g} frames/s, {codec.num_levels} levels x "
            f"{codec.codebook_size} entries, fingerprint `{codec.fingerprint()[:16]}`"
        )
    elif model.encoder is not None:
        encoder = f"`{config.get('encoder', 'stft')}` ({_settings(config.get('encoder_conf'))})"
        facts["Encoder and decoder"] = f"{encoder}, {model.sample_rate} Hz"
    else:
        facts["Rate"] = f"{model.sample_rate} Hz, waveform to waveform"
    if front_end is not None:
        facts["Front end"] = (
            f"`{front_end.config['extractor']}`, {_size(front_end)}, {front_end.model.sample_rate} Hz, fingerprint "
            f"`{front_end.fingerprint()[:16]}`; its estimate is one of the conditions"
        )
    return facts


def _size(module: Any) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f} M parameters"


def _settings(conf: dict[str, Any] | None) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted((conf or {}).items())) or "defaults"
