"""ESPnet's trainers, made safe against being killed while they write ``checkpoint.pth``, which ESPnet does in place.

The last whole checkpoint is kept under another name until everything of the next epoch is on disk.
"""

import argparse
import contextlib
import errno
import fcntl
import os
import sys
from pathlib import Path
from typing import IO, Any

import torch
from espnet2.train.distributed_utils import get_rank
from espnet2.train.gan_trainer import GANTrainer
from espnet2.train.trainer import Trainer

from espnet_tse_gen.utils.errors import UserError

CHECKPOINT = "checkpoint.pth"
PREVIOUS = "checkpoint.previous.pth"
LOCK = ".training.lock"


class KillSafe:
    """What makes one of ESPnet's trainers safe; a mixin, to be named before the trainer. See the module's text."""

    @classmethod
    def train_one_epoch(cls, **given: Any) -> bool:
        """Train an epoch; everything of the one before it is on disk by now. One that diverged is a :class:`UserError`."""
        options, epoch, rank = given["options"], given["reporter"].get_epoch(), _rank(given)
        if rank == 0:
            (Path(options.output_dir) / PREVIOUS).unlink(missing_ok=True)
        else:
            # ESPnet seeds all processes alike, so that their masks would be the same ones, item by item.
            torch.manual_seed(options.seed + epoch + 1_000_003 * rank)
        invalid = super().train_one_epoch(**given)  # type: ignore[misc]
        # ESPnet would write the checkpoint, over the last sound one, and end with success.
        names = [name for name, value in given["model"].named_parameters() if not torch.isfinite(value).all()]
        if names or invalid:
            fault = "its gradients were not finite at any step"
            fault = f"weight '{names[0]}' holds NaN or infinite values" if names else fault
            raise UserError(
                f"the training diverged in epoch {epoch}: {fault}; the checkpoints of epochs before it are kept; "
                "train again in another folder, with a lower learning rate (optim_conf: lr) or lower grad_clip"
            )
        return invalid

    @classmethod
    def validate_one_epoch(cls, **given: Any) -> None:
        """Validate; what follows is the writing of the checkpoint, so the last one steps aside."""
        super().validate_one_epoch(**given)  # type: ignore[misc]
        if _rank(given) == 0:
            folder = Path(given["options"].output_dir)
            with contextlib.suppress(FileNotFoundError):
                os.replace(folder / CHECKPOINT, folder / PREVIOUS)


def _rank(given: dict[str, Any]) -> int:
    distributed = given["distributed_option"]
    return distributed.dist_rank if distributed.distributed else 0


class TSEGenTrainer(KillSafe, Trainer):
    """ESPnet's trainer; of it, only the checkpoints are changed."""


class CodecTrainer(KillSafe, GANTrainer):
    """ESPnet's trainer of a generator against discriminators; of it, only the checkpoints are changed."""


def is_first_process(args: argparse.Namespace) -> bool:
    """Return whether this is the process that writes: the only one, or that of rank 0 of a distributed training."""
    return get_rank(args.dist_rank, args.dist_launcher) in (None, 0)


def lock_folder(folder: Path) -> IO[str]:
    """Keep other trainings out of ``folder`` for as long as the returned file is open, or the process lives.

    Locks of this kind work across machines, too, and processes that are forked do not inherit them. A lock that another training
    has, or a folder that cannot be written, is a :class:`UserError`.
    """
    try:
        stream = open(folder / LOCK, "a+", encoding="utf-8")  # noqa: SIM115  (closing it frees the lock)
    except OSError as error:
        raise UserError(f"--output_dir {folder}: cannot be written ({error.strerror})") from None
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            return stream  # a file system without locks
        stream.seek(0)
        raise UserError(
            f"--output_dir {folder}: another training writes into it ({stream.read() or 'it is starting'}); wait for it, stop "
            "it, or name another folder"
        ) from None
    return stream


def recover_checkpoint(args: argparse.Namespace) -> bool:
    """Go back to the last whole epoch where the writing of one was interrupted; return whether there is one to resume from."""
    checkpoint, previous = Path(args.output_dir) / CHECKPOINT, Path(args.output_dir) / PREVIOUS
    if previous.exists():
        # Not by logging, which ESPnet sets up later, and only where nothing was logged before.
        print(f"{checkpoint}: its writing was interrupted; going on from the epoch before", file=sys.stderr)
        with contextlib.suppress(FileNotFoundError):  # another process of this training was faster
            os.replace(previous, checkpoint)
    return checkpoint.exists()
