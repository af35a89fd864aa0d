"""Build a trained extractor from its exp directory's files, without ESPnet, whose tasks take many seconds to import."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.registry import build_codec, load_codec
from espnet_tse_gen.masked.abs_front_end import AbsFrontEnd
from espnet_tse_gen.masked.model import MaskedTSEModel
from espnet_tse_gen.utils.checkpoints import load_checkpoint
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_yaml
from espnet_tse_gen.utils.registry import built, chosen

EXTRACTORS: dict[str, str] = {"masked": "espnet_tse_gen.masked.extractor:MaskedExtractor"}
"""Registry: name to ``module:Class``."""


def build_model(codec: AbsCodec, config: Mapping[str, Any], front_end: AbsFrontEnd | None = None) -> MaskedTSEModel:
    """Build the untrained model of a training configuration around ``codec``, and ``front_end`` where it takes estimates.

    Raises:
        UserError: For an unknown name or key, or where front end and extractor are not meant for each other.
    """
    name = config.get("extractor", "masked")
    cls = chosen("extractor", name, EXTRACTORS)
    conf, model_conf = config.get("extractor_conf") or {}, config.get("model_conf") or {}
    given = {"front_end_width": front_end.feature_width} if front_end is not None and front_end.feature_width else {}
    extractor = built(f"extractor '{name}' (extractor_conf)", cls, conf, Exception, codec=codec, **given)
    return built(
        "model_conf", MaskedTSEModel, model_conf, Exception, codec=codec, extractor=extractor, front_end=front_end
    )


def load_model(
    config_file: str | Path,
    model_file: str | Path | None,
    device: str = "cpu",
    make_front_end: Callable[[int], AbsFrontEnd] | None = None,
) -> MaskedTSEModel:
    """Load a trained model for evaluation; :func:`espnet_tse_gen.inference.front_end.load_model` also finds its front end.

    Args:
        config_file: The config.yaml of the training. A directory ``codec`` beside it is the model's codec.
        model_file: The checkpoint; None leaves the weights as initialised.
        make_front_end: Called with the codec's rate in Hz, for a model trained with a front end.

    Raises:
        UserError: If a file is missing, damaged, of another configuration, of another codec or of another front end.
    """
    config_path = Path(config_file)
    config = read_yaml(config_path)
    if "model_conf" not in config or not ("codec" in config or "codec_dir" in config):
        raise UserError(f"{config_path}: is not the configuration of a tse_gen training; give its exp directory")
    beside, named = config_path.parent / "codec", config.get("codec_dir")
    found = next((folder for folder in (beside, named) if folder and Path(folder).is_dir()), None)
    if found:
        codec = load_codec(found)
    else:
        codec = build_codec(config["codec"], config.get("codec_conf") or {})
        if named or codec.state_dict():
            raise UserError(
                f"{beside}: no such folder; it holds the codec that the model was trained with: copy it from the training's "
                "directory, beside the checkpoints"
            )
    try:
        model = build_model(codec, config, None if make_front_end is None else make_front_end(codec.sample_rate))
    except UserError as error:
        raise UserError(f"{config_path}: {error}") from None
    if model_file is not None:
        load_checkpoint(model, Path(model_file), config_path)
    return model.to(device).eval()
