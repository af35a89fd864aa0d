"""Files of a model: those of a package, and the checkpoint that is taken where none is named. Imports nothing heavy."""

import re
from pathlib import Path

from espnet_tse_gen.utils.errors import UserError, unknown_name

WEIGHTS = "model.safetensors"
"""What ``pack`` makes."""
PACKED = (
    "README.md", "config.yaml", "decode.yaml", WEIGHTS,
    "codec/codec.yaml", "codec/weights.pth", "front_end/config.yaml", "front_end/model.pth"
)  # fmt: skip
"""Files of a package that are read; nothing else is fetched of a model that is elsewhere."""
_MEASURES = ("si_sdr", "si_snr_loss_s0", "loss", "ce", "acc")
PREFERRED = (WEIGHTS, "model.pth", *(f"valid.{name}.{kind}.pth" for name in _MEASURES for kind in ("ave", "best")))
"""Checkpoints in the order in which they are taken when none is named."""


def find_checkpoint(directory: Path, model_file: str | Path | None = None) -> Path:
    """Return the checkpoint ``model_file`` of a model (a name in it, or a path), or the best one; none is a UserError.

    That is the first of :data:`PREFERRED`, then any other average, any other best, and the latest epoch.
    """
    found = (path.name for path in directory.iterdir() if path.suffix in (".pth", ".safetensors"))
    names = sorted(name for name in found if name != "checkpoint.pth")
    if model_file is not None:
        for path in (directory / model_file, Path(model_file)):
            if path.is_file():
                return path
        raise UserError(f"{directory}: {unknown_name('checkpoint', str(model_file), names or ['none'])}")
    names.sort(
        key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)], reverse=True
    )
    further = [name for part in (".ave", ".best", "latest", "") for name in names if part in name]
    for name in (*PREFERRED, *further):
        if (directory / name).is_file():
            return directory / name
    raise UserError(f"{directory}: holds no checkpoint (*.pth, *.safetensors); train first")
