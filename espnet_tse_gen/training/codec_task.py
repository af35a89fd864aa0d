"""The ESPnet task ``codec``: training a codec as a generator against discriminators.

It is ESPnet's own GAN codec task, with more designs to choose from, crops cut by this package's preprocessor (ESPnet's chunk
iterator fails with NumPy 2), and checkpoints that are safe against being killed.
"""

import argparse
import contextlib
import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from espnet2.gan_codec.espnet_model import ESPnetGANCodecModel
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from espnet2.tasks.gan_codec import GANCodecTask

from espnet_tse_gen.codec.espnet import DESIGNS as ESPNET_DESIGNS
from espnet_tse_gen.training import checks
from espnet_tse_gen.training.crops import CropPreprocessor, kept_batches, shuffled_batches
from espnet_tse_gen.training.dataset import EpochBatches, iter_factory, rank_of
from espnet_tse_gen.training.shared import CheckedTask, LazyClassChoices
from espnet_tse_gen.training.trainer import CodecTrainer
from espnet_tse_gen.utils.errors import UserError, check_options, unknown_name
from espnet_tse_gen.utils.files import read_scp
from espnet_tse_gen.utils.registry import built

DESIGNS: dict[str, str] = {
    **{name: trained for name, (trained, _) in ESPNET_DESIGNS.items()},
    "mini": "espnet_tse_gen.training.mini_codec:MiniGANCodec",
}
"""Registry: name to ``module:Class`` of a subclass of ESPnet's ``AbsGANCodec``."""

codec_choices = LazyClassChoices("codec", DESIGNS, default="soundstream")


class CodecTask(CheckedTask, GANCodecTask):
    """Trains a codec of ``DESIGNS``."""

    class_choices_list = [codec_choices]
    trainer = CodecTrainer

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of this task."""
        super().add_task_arguments(parser)
        add = parser.add_argument_group("Crops").add_argument
        add("--segment_seconds", type=float, default=1.0, help="Length of a crop, rounded up to whole codec frames")
        add("--gain_db", type=float, nargs=2, default=[0.0, 0.0],
            help="Lowest and highest random gain of a training crop in dB, relative to the common level")  # fmt: skip
        add("--tilt", type=float, nargs=2, default=[0.0, 0.0],
            help="Lowest and highest coefficient, within -1..1, of a random first difference of a training crop")  # fmt: skip
        add("--sample_rate", type=int, default=0, help="Rate of the recordings in Hz; 0 means the codec's rate")
        add("--max_valid_recordings", type=int, default=0,
            help="Validate on so many recordings, spread over the table; 0 means all")  # fmt: skip
        parser.set_defaults(unused_parameters=True, num_att_plot=0, batch_type="unsorted")

    @classmethod
    def build_preprocess_fn(
        cls, args: argparse.Namespace, train: bool
    ) -> Callable[[str, dict[str, Any]], dict[str, Any]] | None:
        """Return what cuts the crops; ``None`` with ``--use_preprocessor false``."""
        if not args.use_preprocessor:
            return None
        rate, hop = cls.rate_and_hop(args)
        samples = -(-round(args.segment_seconds * rate) // hop) * hop
        return CropPreprocessor(train, rate, samples, args.sample_rate, args.gain_db, args.tilt)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetGANCodecModel:
        """Build generator, discriminators and losses; what cannot be used is a :class:`UserError`."""
        check_options("key of --model_conf", args.model_conf or {}, ESPnetGANCodecModel, ("codec",))
        # A copy: some of ESPnet's constructors write into what they are given, and this is what config.yaml will show.
        conf = copy.deepcopy(args.codec_conf or {})
        # ESPnet's constructors raise whatever a wrong value leads to.
        with _quietly():
            codec = built(f"--codec_conf of codec '{args.codec}'", codec_choices.get_class(args.codec), conf, Exception)
        meta = codec.meta_info()
        hop = meta["frame_shift"]
        _RATE_AND_HOP[_key(args)] = int(meta["fs"]), hop if isinstance(hop, int) else 1
        return ESPnetGANCodecModel(codec=codec, **(args.model_conf or {}))

    @classmethod
    def rate_and_hop(cls, args: argparse.Namespace) -> tuple[int, int]:
        """Return the codec's sampling rate in Hz and its samples per frame (1 where the design does not know them)."""
        if _key(args) not in _RATE_AND_HOP:
            cls.build_model(args)
        return _RATE_AND_HOP[_key(args)]

    @classmethod
    def build_sequence_iter_factory(cls, args: argparse.Namespace, iter_options: Any, mode: str) -> SequenceIterFactory:
        """Return the batches of training or validation; crops have one length, so no statistics are needed for them."""
        keys, size = list(read_scp(iter_options.data_path_and_name_and_type[0][0])), iter_options.batch_size
        if not iter_options.train and args.max_valid_recordings > 0:
            keys = keys[:: -(-len(keys) // args.max_valid_recordings)]
        mine = rank_of(iter_options, min(len(keys), size))
        drawn = EpochBatches(lambda seed: shuffled_batches(keys, size, seed), *mine)
        batches = drawn if iter_options.train else kept_batches(keys, size, *mine)
        dataset, steps = cls.build_dataset(args, iter_options), iter_options.num_iters_per_epoch
        return iter_factory(args, iter_options, batches, dataset=dataset, num_iters_per_epoch=steps)

    @classmethod
    def check(cls, args: argparse.Namespace) -> None:
        """Require that a training can start, before it writes anything."""
        checks.check_options(args, cls.num_optimizers)
        if args.iterator_type != "sequence":
            raise UserError(
                f"--iterator_type: '{args.iterator_type}' cannot be used; crops are cut by --segment_seconds, leave it out"
            )
        if args.collect_stats:
            raise UserError("--collect_stats: a codec needs no statistics; start the training")
        if not args.segment_seconds > 0:
            raise UserError(f"--segment_seconds: expected more than 0, got {args.segment_seconds:g}")
        model = cls.build_model(args)
        warmup, steps = getattr(model, "warmup_steps", 0), args.num_iters_per_epoch
        if steps and warmup >= steps:
            raise UserError(
                f"codec_conf warmup_steps: {warmup} steps without quantization fill the first epoch, which has {steps}"
                " (--num_iters_per_epoch), and its validation would tell nothing; choose fewer"
            )
        cls.build_preprocess_fn(args, True)
        for kind in () if args.dry_run else ("train", "valid"):
            option = f"{kind}_data_path_and_name_and_type"
            data = getattr(args, option)
            if not data:
                raise UserError(f"--{option} is missing; give 'WAV_SCP,audio,sound'")
            for path, name, _ in data:
                if name != "audio":
                    raise unknown_name(f"data name in --{option} of {path}", name, ["audio"])
            checks.check_rates(data, args.sample_rate or cls.rate_and_hop(args)[0])
        checks.check_start(args, model)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Build one of ESPnet's designs without the handler that its logging would install in the place of ESPnet's own."""
    before = list(logging.root.handlers)
    with warnings.catch_warnings():
        # The older form of weight normalisation, which released weights are stored in.
        warnings.simplefilter("ignore", FutureWarning)
        try:
            yield
        finally:
            logging.root.handlers[:] = before


_RATE_AND_HOP: dict[str, tuple[int, int]] = {}


def _key(args: argparse.Namespace) -> str:
    return json.dumps([args.codec, args.codec_conf], sort_keys=True)
