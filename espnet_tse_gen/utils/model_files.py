"""The checkpoint of an exp directory that is taken where none is named. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from espnet_tse_gen.utils.errors import UserError, unknown_name

WEIGHTS = "model.safetensors"
"""What ``pack`` makes."""
PREFERRED = (
    WEIGHTS,
    "model.pth",
    "valid.si_sdr.ave.pth",
    "valid.si_sdr.best.pth",
    "valid.si_snr_loss_s0.ave.pth",
    "valid.si_snr_loss_s0.best.pth",
    "valid.loss.ave.pth",
    "valid.loss.best.pth",
    "valid.ce.ave.pth",
    "valid.ce.best.pth",
    "valid.acc.ave.pth",
    "valid.acc.best.pth",
)
"""Checkpoints in the order in which they are taken when none is named."""


def find_checkpoint(directory: Path, model_file: str | Path | None = None) -> Path:
    """Return the checkpoint ``model_file`` of a model (a name in it, or a path), or the best one that is there.

    Without a name: the first of :data:`PREFERRED`, then any other average, any other best, and the latest epoch.

    Raises:
        UserError: If there is none.
    """
    found = (path.name for path in directory.iterdir() if path.suffix in (".pth", ".safetensors"))
    names = sorted(name for name in found if name != "checkpoint.pth")
    if model_file is not None:
        inside = directory / model_file
        if inside.is_file():
            return inside
        if Path(model_file).is_file():
            return Path(model_file)
        raise UserError(f"{directory}: {unknown_name('checkpoint', str(model_file), names or ['none'])}")
    further = [name for part in (".ave", ".best", "latest", "") for name in names if part in name]
    for name in (*PREFERRED, *further):
        if (directory / name).is_file():
            return directory / name
    raise UserError(f"{directory}: holds no checkpoint (*.pth, *.safetensors); train first")
