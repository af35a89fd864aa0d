"""The ``exp`` directory of ESPnet's codec task: which checkpoint to take, and what of it a codec needs.

ESPnet's trainer leaves ``config.yaml``, one ``<N>epoch.pth`` for each epoch that it kept, and links to the best of them. A
checkpoint holds the whole model; encoding and decoding need the generator alone, not the discriminators.
"""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from espnet_tse_gen.utils.checkpoints import check_finite, read_tensors
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_yaml

CONFIG = "config.yaml"
GENERATOR = "codec.generator."
"""How the keys of the generator's weights begin in a checkpoint."""


def read_exp_config(path: str | Path) -> dict[str, Any]:
    """Return the ``config.yaml`` of an exp directory, or of the one that holds the checkpoint ``path``.

    Raises:
        UserError: If it is missing, or is not that of a codec training.
    """
    given = Path(path)
    directory = given.parent if given.is_file() else given
    if not directory.is_dir():
        raise UserError(f"{given}: no such directory; give the exp directory of a codec training of ESPnet")
    config = read_yaml(directory / CONFIG)
    if not isinstance(config.get("codec"), str) or not isinstance(config.get("codec_conf", {}), dict):
        raise UserError(f"{directory / CONFIG}: is not the configuration of a codec training (no 'codec' in it)")
    return config


def find_checkpoint(path: str | Path, model_file: str | None = None) -> Path:
    """Return the checkpoint to take from an exp directory.

    Without ``model_file``, the name of one in it, it is the first that is there of: the best epoch by each of the training's
    ``best_model_criterion``; the average by each of them; ``latest.pth``; the highest ``<N>epoch.pth``; the only ``.pth``
    file. Best epochs come before averages because codebooks of different epochs need not have the same entry at the same
    place. ``path`` may be a checkpoint, which is then returned.

    Raises:
        UserError: If there is none, or none of that name.
    """
    given = Path(path)
    if given.is_file():
        return given
    there = sorted(one for one in given.glob("*.pth") if one.is_file() and not one.name.startswith("checkpoint."))
    names = ", ".join(one.name for one in there) or "none"
    if model_file is not None:
        if not (given / model_file).is_file():
            raise UserError(f"{given / model_file}: no such checkpoint; there are: {names}")
        return given / model_file
    criteria = read_exp_config(given).get("best_model_criterion") or []
    wanted = [given / f"{one[0]}.{one[1]}.{kind}.pth" for kind in ("best", "ave") for one in criteria]
    epochs = {int(match[1]): one for one in there if (match := re.match(r"(\d+)epoch\.pth", one.name))}
    candidates = [*wanted, given / "latest.pth", *(epochs[number] for number in sorted(epochs, reverse=True))]
    for candidate in candidates + (there if len(there) == 1 else []):
        # A link whose epoch has been removed is passed over.
        if candidate.is_file():
            return candidate
    raise UserError(f"{given}: holds no checkpoint to take; name one with model_file, there are: {names}")


def generator_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the generator's weights of a checkpoint of ESPnet's codec task, by their names in the generator.

    Raises:
        UserError: If the file is missing, damaged, holds no such weights, or weights that are no numbers.
    """
    state = read_tensors(path)
    if isinstance(state, dict) and isinstance(state.get("module"), dict):  # as DeepSpeed writes it
        state = state["module"]
    weights = {
        key.removeprefix(GENERATOR): value
        for key, value in (state.items() if isinstance(state, dict) else ())
        if isinstance(key, str) and key.startswith(GENERATOR) and isinstance(value, Tensor)
    }
    if not weights:
        raise UserError(f"{path}: holds no codec ('{GENERATOR}...'); take a checkpoint of ESPnet's codec task")
    check_finite(weights, path, GENERATOR)
    return weights
