"""Dynamic mixing as ESPnet's trainer meets it: its options, its checks, and batches whose keys are numbers."""

import argparse
import functools
import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from espnet2.utils.get_default_kwargs import get_default_kwargs
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str2bool
from torch.utils.data import DataLoader

from espnet_tse_gen.data.dynamic_mixing import DynamicMixer
from espnet_tse_gen.data.mixing_options import MixingOptions
from espnet_tse_gen.data.preprocessor import TSEGenPreprocessor
from espnet_tse_gen.data.sources import read_sources
from espnet_tse_gen.training.dataset import DynamicMixingDataset, EpochBatches, drawn_batches, iter_factory, rank_of
from espnet_tse_gen.utils.errors import UserError, check_options

SPEECH, SPEAKER = "speech", "speaker"
"""Data names of the clean utterances and of their speakers."""
Data = Sequence[tuple[str, str, str]]


def add_arguments(group: Any) -> None:
    """Add the options of dynamic mixing to an argument group."""
    group.add_argument("--dynamic_mixing", type=str2bool, default=False,
        help=f"Draw training mixtures on the fly from clean utterances, given as 'WAV_SCP,{SPEECH},sound' and "
        f"'UTT2SPK,{SPEAKER},text' to --train_data_path_and_name_and_type")  # fmt: skip
    group.add_argument("--dynamic_mixing_conf", action=NestedDictAction, default=get_default_kwargs(MixingOptions),
        help="How mixtures are drawn")  # fmt: skip


def is_speech(data: Data) -> bool:
    """Return whether ``data`` are clean utterances, not mixtures."""
    return any(name == SPEECH for _, name, _ in data)


def is_dynamic(args: argparse.Namespace) -> bool:
    """Return whether training mixtures are drawn on the fly; clean utterances without the option are a :class:`UserError`."""
    if not args.dynamic_mixing and is_speech(args.train_data_path_and_name_and_type):
        raise UserError(f"--train_data_path_and_name_and_type: '{SPEECH}' needs --dynamic_mixing true; add it")
    return args.dynamic_mixing


def read_options(args: argparse.Namespace) -> MixingOptions:
    """Return ``--dynamic_mixing_conf``; an option that is unknown or cannot be used is a :class:`UserError`."""
    conf = args.dynamic_mixing_conf or {}
    check_options("key of --dynamic_mixing_conf", conf, MixingOptions)
    return MixingOptions(**conf)


def build_mixer(args: argparse.Namespace, preprocessor: TSEGenPreprocessor) -> DynamicMixer:
    """Return the mixer of the options, with the preprocessor's rates and lengths; what cannot be used is a :class:`UserError`."""
    speeds = read_options(args).speeds
    given = {name: path for path, name, _ in args.train_data_path_and_name_and_type}
    if set(given) != {SPEECH, SPEAKER}:
        raise UserError(
            "--train_data_path_and_name_and_type: dynamic mixing takes 'WAV_SCP,speech,sound' and 'UTT2SPK,speaker,text',"
            f" found {', '.join(sorted(given)) or 'nothing'}; give these two, or --dynamic_mixing false"
        )
    if args.iterator_type != "sequence" or args.multiple_iterator:
        raise UserError("--iterator_type, --multiple_iterator: dynamic mixing makes batches of its own; leave them out")
    if args.batch_type not in ("unsorted", "sorted", "folded"):  # those that are a number of items
        raise UserError(f"--batch_type: '{args.batch_type}' cannot be used with dynamic mixing; give 'unsorted'")
    if preprocessor.speaker_embeddings is not None and set(speeds) != {1.0}:
        raise UserError(
            "--dynamic_mixing_conf speeds: speaker embeddings are those at speed 1; leave it out, or"
            " extractor_conf speaker_embedding"
        )
    arguments = {
        "rate": preprocessor.rate,
        "samples": preprocessor.crop_frames * preprocessor.hop,
        "enroll_seconds": preprocessor.enroll_seconds,
        "talkers": preprocessor.ref_num,
        "level_dbfs": preprocessor.level_dbfs,
        "band_rate": preprocessor.data_rate if preprocessor.data_rate < preprocessor.rate else 0,
        "seed": args.seed,
        "items_per_epoch": (args.num_iters_per_epoch or 0) * args.batch_size,
    }
    conf = json.dumps(args.dynamic_mixing_conf or {}, sort_keys=True)
    return _mixer(given[SPEECH], given[SPEAKER], conf, **arguments)


# Reading the headers of a large corpus takes minutes, so that what was checked is kept for the training.
@functools.lru_cache(maxsize=1)
def _mixer(speech: str, speaker: str, conf: str, **arguments: Any) -> DynamicMixer:
    return DynamicMixer(read_sources(speech, speaker), MixingOptions(**json.loads(conf)), **arguments, where=speech)


def build_iter_factory(
    args: argparse.Namespace, iter_options: Any, preprocessor: TSEGenPreprocessor
) -> SequenceIterFactory:
    """Return the batches of training. Of several processes, each makes its part of every batch."""
    mixer, size = build_mixer(args, preprocessor), iter_options.batch_size
    rank, processes = rank_of(iter_options, size)
    logging.info(f"[train] {mixer}")
    count = iter_options.num_iters_per_epoch or max(1, mixer.items_per_epoch // size)
    dataset = DynamicMixingDataset(mixer, preprocessor.speaker_embeddings, preprocessor.speakers)
    batches = EpochBatches(lambda number: drawn_batches(count, size, max(1, number - args.seed)), rank, processes)
    return iter_factory(args, iter_options, batches, dataset=dataset)


def statistics_loader(preprocessor: TSEGenPreprocessor, collate_fn: Any) -> DataLoader:
    """Return what the statistics stage sees of training data that are not there yet: one item of the right length."""
    silence = np.zeros(preprocessor.crop_frames * preprocessor.hop, dtype=np.float32)
    return DataLoader([("1-0", {"speech_mix": silence})], collate_fn=collate_fn)  # type: ignore[arg-type]
