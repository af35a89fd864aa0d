"""The front end of a masked model on disk: found, loaded, and written beside the model's checkpoints.

A directory ``front_end`` beside a model's ``config.yaml`` is a discriminative model in itself: ``config.yaml`` and ``model.pth``.
"""

import functools
from pathlib import Path

import torch

from espnet_tse_gen.inference.loading import CONFIG, open_model
from espnet_tse_gen.masked.abs_front_end import AbsFrontEnd
from espnet_tse_gen.masked.build import load_model as load_masked
from espnet_tse_gen.masked.model import MaskedTSEModel
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, read_yaml, write_yaml

FRONT_END = "front_end"
"""The directory beside a model's ``config.yaml``, and the key that says what it was made from."""
FEATURES = "front_end_features"
DEFAULT_FEATURES = "latent+stft"
"""What a masked extractor is given of an estimate where its configuration does not say."""
WEIGHTS = "model.pth"


def load_front_end(where: str | Path, sample_rate: int) -> AbsFrontEnd:
    """Load a trained discriminative extractor, which :func:`open_model` finds, as a front end at the codec's rate in Hz.

    Raises:
        UserError: If there is no such model, it is not a discriminative one, or its checkpoint cannot be used.
    """
    from espnet_tse_gen.discriminative.build import load_model as load_discriminative
    from espnet_tse_gen.discriminative.front_end import DiscriminativeFrontEnd

    with open_model(where) as directory:
        model = load_discriminative(directory.path / CONFIG, directory.checkpoint())
        return DiscriminativeFrontEnd(model, directory.config, sample_rate)


def save_front_end(front_end: AbsFrontEnd, directory: str | Path) -> None:
    """Write a directory that :func:`load_front_end` reads; its ``config.yaml`` comes last and holds no paths.

    What 16 bits hold exactly, as the weights from a package of half precision, is stored with so many.
    """
    from espnet_tse_gen.discriminative.front_end import DiscriminativeFrontEnd

    if not isinstance(front_end, DiscriminativeFrontEnd):
        raise TypeError(f"a front end of type {type(front_end).__name__} has no files")
    directory = Path(directory)
    (directory / CONFIG).unlink(missing_ok=True)
    state = {key: value.detach().cpu() for key, value in front_end.model.state_dict().items()}
    for key, value in state.items():
        if value.is_floating_point() and torch.equal(value.half().to(value.dtype), value):
            state[key] = value.half()
    with atomic_write(directory / WEIGHTS, "wb") as stream:
        torch.save(state, stream)
    write_yaml(directory / CONFIG, front_end.config)


def holds_front_end(directory: str | Path, front_end: AbsFrontEnd) -> bool:
    """Return whether ``directory`` is that of ``front_end`` already."""
    try:
        return load_front_end(directory, front_end.sample_rate).fingerprint() == front_end.fingerprint()
    except UserError:
        return False


def load_model(config_file: str | Path, model_file: str | Path | None, device: str = "cpu") -> MaskedTSEModel:
    """Load a masked model for evaluation, with its front end if it has one; ``model_file`` None leaves it untrained.

    Raises:
        UserError: If a file is missing, damaged, of another configuration, of another codec or of another front end.
    """
    config_path = Path(config_file)
    config, beside, make = read_yaml(config_path), config_path.parent / FRONT_END, None
    if ((config.get("extractor_conf") or {}).get(FEATURES) or "none") != "none":
        where = beside if beside.is_dir() else config.get(FRONT_END)
        if not where:
            raise UserError(
                f"{beside}: no such directory; the model was trained with a front end, copy it from its training"
            )
        make = functools.partial(load_front_end, where)
    return load_masked(config_path, model_file, device, make)
