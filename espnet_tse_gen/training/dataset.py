"""What ESPnet's data loader reads: tables, with errors that name table and key; or dynamic mixing, whose keys are numbers."""

import argparse
from collections import UserDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as group
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from espnet2.samplers.abs_sampler import AbsSampler
from espnet2.train.dataset import ESPnetDataset
from torch.utils.data import Dataset

from espnet_tse_gen.data.dynamic_mixing import DynamicMixer
from espnet_tse_gen.data.enrolment.embeddings import SpeakerEmbeddings
from espnet_tse_gen.data.preprocessor import LABEL, SpeakerTable
from espnet_tse_gen.utils.errors import UserError, reason_of


class NamedErrors(UserDict[str, Any]):
    """What one of ESPnet's readers reads from the table ``path``, where whatever cannot be read is a :class:`UserError`."""

    def __init__(self, loader: Any, path: str) -> None:
        self.data, self.path = loader, path

    def __getitem__(self, key: str) -> Any:
        try:
            return self.data[key]
        except KeyError:
            raise UserError(f"{self.path}: key '{key}' is missing; add it") from None
        except Exception as error:  # whatever libsndfile, kaldiio or ESPnet raise for a damaged file
            reason = reason_of(error)
            file = getattr(getattr(self.data, "loader", None), "data", {}).get(key)
            if isinstance(file, str) and not Path(file).exists():
                reason = f"{file}: no such file"
            raise UserError(f"{self.path}: key '{key}' cannot be read ({reason}); replace or remove it") from None


class TSEGenDataset(ESPnetDataset):
    """ESPnet's dataset over loaders with :class:`NamedErrors`."""

    def _build_loader(self, path: str, loader_type: str, keys_to_load: Any = None) -> NamedErrors:
        return NamedErrors(super()._build_loader(path, loader_type, keys_to_load), path)


class DynamicMixingDataset(Dataset):
    """The items that a mixer draws; a key is ``EPOCH-NUMBER``."""

    def __init__(
        self,
        mixer: DynamicMixer,
        speaker_embeddings: SpeakerEmbeddings | None = None,  # for a model that takes them
        speakers: SpeakerTable | None = None,  # numbers of the speakers, for a model that learns to tell them apart
    ) -> None:
        self.mixer, self.speaker_embeddings, self.speakers = mixer, speaker_embeddings, speakers

    def __getitem__(self, uid: str) -> tuple[str, dict[str, np.ndarray]]:
        """Return the key and one item, float32: signals ``[L]`` and embeddings ``[E]``."""
        epoch, number = map(int, uid.split("-"))
        drawn = self.mixer.draw(epoch, number)
        item = {"speech_mix": drawn.mixture}
        for n, target in enumerate(drawn.targets, 1):
            item |= {f"speech_ref{n}": target.speech, f"enroll_ref{n}": target.enroll}
            if self.speaker_embeddings is not None:
                item[f"embed_ref{n}"] = self.speaker_embeddings[target.enroll_piece.source.path]
        if self.speakers is not None:
            item[LABEL] = self.speakers.label(drawn.targets[0].enroll_piece.source.speaker)
        return uid, item


class EpochBatches(AbsSampler):
    """Batches of keys that ``make`` makes of what stands for an epoch, its number plus ESPnet's seed.

    Process ``rank`` of ``processes`` has its part of each.
    """

    def __init__(self, make: Callable[[int], list[list[str]]], rank: int = 0, processes: int = 1) -> None:
        self.make, self.part = make, slice(rank, None, processes)

    def __len__(self) -> int:
        return len(self.make(0))

    def __iter__(self) -> Iterator[list[str]]:
        return iter(self.generate(0))

    def generate(self, seed: int) -> list[list[str]]:
        """Return the batches of one epoch."""
        return [batch[self.part] for batch in self.make(seed)]


def drawn_batches(batches: int, batch_size: int, epoch: int) -> list[list[str]]:
    """Return keys ``EPOCH-NUMBER``, by which a data loader asks for a mixer's items."""
    return [[f"{epoch}-{batch * batch_size + item}" for item in range(batch_size)] for batch in range(batches)]


def rank_of(iter_options: Any, batch_size: int) -> tuple[int, int]:
    """Return this process's number and how many there are, each of which needs an item of every batch, or it is a UserError."""
    rank, processes = (group.get_rank(), group.get_world_size()) if iter_options.distributed else (0, 1)
    if batch_size < processes:
        raise UserError(f"--batch_size: every one of {processes} processes needs an item of every batch")
    return rank, processes


def iter_factory(args: argparse.Namespace, iter_options: Any, batches: Any, **given: Any) -> SequenceIterFactory:
    """Return ESPnet's factory of batches that are made already, or by a sampler."""
    own = {"seed": args.seed, "num_workers": args.num_workers, "pin_memory": args.ngpu > 0}
    return SequenceIterFactory(batches=batches, collate_fn=iter_options.collate_fn, **own, **given)
