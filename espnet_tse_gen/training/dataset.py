"""What ESPnet's data loader reads training items from.

Tables of recordings, with errors that name table and key in one line; or dynamic mixing, whose keys are numbers.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as group
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from espnet2.samplers.abs_sampler import AbsSampler
from espnet2.train.dataset import AbsDataset, ESPnetDataset

from espnet_tse_gen.data.dynamic_mixing import DynamicMixer
from espnet_tse_gen.data.enrolment.embeddings import SpeakerEmbeddings
from espnet_tse_gen.data.preprocessor import LABEL, SpeakerTable
from espnet_tse_gen.utils.errors import UserError


class NamedErrors(Mapping[str, Any]):
    """What one of ESPnet's readers reads from the table ``path``, where whatever cannot be read is a :class:`UserError`."""

    def __init__(self, loader: Mapping[str, Any], path: str) -> None:
        self.loader, self.path = loader, path

    def __getitem__(self, key: str) -> Any:
        try:
            return self.loader[key]
        except KeyError:
            raise UserError(f"{self.path}: key '{key}' is missing; add it") from None
        except Exception as error:  # whatever libsndfile, kaldiio or ESPnet raise for a damaged file
            reason = " ".join(str(error).split()) or type(error).__name__
            file = getattr(getattr(self.loader, "loader", None), "data", {}).get(key)
            if isinstance(file, str) and not Path(file).exists():
                reason = f"{file}: no such file"
            raise UserError(f"{self.path}: key '{key}' cannot be read ({reason}); replace or remove it") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.loader)

    def __len__(self) -> int:
        return len(self.loader)


class TSEGenDataset(ESPnetDataset):
    """ESPnet's dataset over loaders with :class:`NamedErrors`."""

    def _build_loader(self, path: str, loader_type: str, keys_to_load: Any = None) -> NamedErrors:
        return NamedErrors(super()._build_loader(path, loader_type, keys_to_load), path)


class DynamicMixingDataset(AbsDataset):
    """The items that a mixer draws; a key is ``EPOCH-NUMBER``."""

    def __init__(
        self,
        mixer: DynamicMixer,
        speaker_embeddings: SpeakerEmbeddings | None = None,  # for a model that takes them
        speakers: SpeakerTable | None = None,  # numbers of the speakers, for a model that learns to tell them apart
    ) -> None:
        self.mixer, self.speaker_embeddings, self.speakers = mixer, speaker_embeddings, speakers

    def has_name(self, name: str) -> bool:
        """Return whether items hold ``name``."""
        return name in self.names()

    def names(self) -> tuple[str, ...]:
        """Return what an item holds."""
        kinds = ["speech_ref", "enroll_ref", *(["embed_ref"] if self.speaker_embeddings is not None else [])]
        names = [f"{kind}{n}" for n in range(1, self.mixer.options.targets + 1) for kind in kinds]
        return ("speech_mix", *names, *([LABEL] if self.speakers is not None else []))

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


class DynamicMixingSampler(AbsSampler):
    """Batches of keys ``EPOCH-NUMBER``, by which a data loader asks for a mixer's items."""

    def __init__(
        self,
        batches: int,  # in an epoch
        batch_size: int,  # items of all processes together
        seed: int = 0,  # what ESPnet adds to the number of the epoch
        rank: int = 0,  # which part of every batch is this process's
        processes: int = 1,  # how many parts
    ) -> None:
        self.batches, self.batch_size, self.seed = batches, batch_size, seed
        self.part = slice(rank, None, processes)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[str]]:
        return iter(self.generate(self.seed + 1))

    def generate(self, seed: int) -> list[list[str]]:
        """Return the batches of the epoch ``seed - self.seed``."""
        numbers = np.arange(self.batches * self.batch_size).reshape(self.batches, self.batch_size)
        return [[f"{seed - self.seed}-{number}" for number in batch[self.part]] for batch in numbers]


def rank_of(iter_options: Any, batch_size: int) -> tuple[int, int]:
    """Return this process's number and how many there are, each of which needs an item of every batch, or it is a UserError."""
    rank, processes = (group.get_rank(), group.get_world_size()) if iter_options.distributed else (0, 1)
    if batch_size < processes:
        raise UserError(f"--batch_size: every one of {processes} processes needs an item of every batch")
    return rank, processes


def fixed_batches(
    args: argparse.Namespace,
    iter_options: Any,
    dataset: AbsDataset,
    batches: AbsSampler,
    num_iters_per_epoch: int | None = None,
) -> SequenceIterFactory:
    """Return ESPnet's factory of the batches that a sampler makes."""
    return SequenceIterFactory(
        dataset=dataset,
        batches=batches,
        seed=args.seed,
        num_iters_per_epoch=num_iters_per_epoch,
        shuffle=False,
        num_workers=args.num_workers,
        collate_fn=iter_options.collate_fn,
        pin_memory=args.ngpu > 0,
    )
