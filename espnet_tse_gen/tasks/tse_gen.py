"""The ESPnet task ``tse_gen``: masked generative target speaker extraction.

Codec, extractor and preprocessor are chosen by name, so a yaml under ``conf/train`` swaps any of them; everything else is
ESPnet's own trainer. ``--codec_dir`` takes the directory that the recipe's codec stage made and overrides ``--codec`` and
``--codec_conf``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from espnet2.tasks.abs_task import AbsTask
from espnet2.train.class_choices import ClassChoices
from espnet2.train.collate_fn import CommonCollateFn
from espnet2.train.preprocessor import AbsPreprocessor
from espnet2.train.trainer import Trainer
from espnet2.utils.get_default_kwargs import get_default_kwargs
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str_or_none

from espnet_tse_gen.codec.abs_codec import AbsCodec
from espnet_tse_gen.codec.registry import CODECS, build_codec, load_codec, save_codec
from espnet_tse_gen.data.preprocessor import TSEGenPreprocessor
from espnet_tse_gen.errors import UserError
from espnet_tse_gen.fileio import read_yaml
from espnet_tse_gen.masked.build import EXTRACTORS, build_model, load_checkpoint
from espnet_tse_gen.masked.espnet_model import ESPnetMaskedTSEModel
from espnet_tse_gen.tasks.choices import LazyClassChoices, check_conf, one_line_errors

codec_choices = LazyClassChoices("codec", CODECS, default="mel")
extractor_choices = LazyClassChoices("extractor", EXTRACTORS, default="masked")
preprocessor_choices = ClassChoices(
    "preprocessor", {"tse_gen": TSEGenPreprocessor}, type_check=AbsPreprocessor, default="tse_gen"
)

MAX_REFERENCES = 10
PREPROCESSOR_GIVEN = ("train", "codec_sample_rate", "hop", "sample_rate", "ref_num", "train_spk2enroll")


class TSEGenTask(AbsTask):
    """Trains an :class:`ESPnetMaskedTSEModel`."""

    num_optimizers: int = 1
    class_choices_list = [codec_choices, extractor_choices, preprocessor_choices]
    trainer = Trainer

    @classmethod
    def get_parser(cls) -> argparse.ArgumentParser:
        """Return ESPnet's parser; its mistakes end in one line with the nearest valid name."""
        return one_line_errors(super().get_parser())

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of this task."""
        group = parser.add_argument_group("Task related")
        group.add_argument(
            "--model_conf",
            action=NestedDictAction,
            default=get_default_kwargs(ESPnetMaskedTSEModel),
            help="Masking, loss and condition dropout",
        )
        group.add_argument(
            "--codec_dir",
            type=str_or_none,
            default=None,
            help="Directory made by codec_prepare; overrides --codec and --codec_conf",
        )
        group = parser.add_argument_group("Preprocess related")
        group.add_argument(
            "--sample_rate", type=int, default=0, help="Rate of the recordings in Hz; 0 means the codec's rate"
        )
        group.add_argument("--ref_num", type=int, default=2, help="Number of speakers in a mixture")
        group.add_argument(
            "--train_spk2enroll",
            type=str_or_none,
            default=None,
            help="JSON file {speaker: [[utterance, wav], ...]} from which training draws enrolments",
        )
        for choices in cls.class_choices_list:
            choices.add_arguments(group)

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> CommonCollateFn:
        """Return ESPnet's collate function, which pads with zeros."""
        return CommonCollateFn(float_pad_value=0.0, int_pad_value=0)

    @classmethod
    def build_preprocess_fn(
        cls, args: argparse.Namespace, train: bool
    ) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
        """Return the chosen preprocessor, told what the codec needs."""
        codec = cls.build_codec(args)
        conf = args.preprocessor_conf or {}
        chosen = preprocessor_choices.get_class(args.preprocessor)
        check_conf("--preprocessor_conf", conf, chosen, PREPROCESSOR_GIVEN)
        return chosen(
            train=train,
            codec_sample_rate=codec.sample_rate,
            hop=codec.hop,
            sample_rate=args.sample_rate,
            ref_num=args.ref_num,
            train_spk2enroll=args.train_spk2enroll,
            **conf,
        )

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Names that the data must have."""
        return ("speech_mix", "enroll_ref1")

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Names that the data may have: a target's waveform or tokens, and further speakers."""
        numbers = range(1, MAX_REFERENCES + 1)
        kinds = ("speech_ref", "codes_ref", "enroll_ref")
        return tuple(f"{kind}{n}" for kind in kinds for n in numbers if (kind, n) != ("enroll_ref", 1))

    @classmethod
    def build_codec(cls, args: argparse.Namespace) -> AbsCodec:
        """Return the codec that the options name.

        Raises:
            UserError: If it is unknown or its files are missing or damaged.
        """
        if getattr(args, "codec_dir", None):
            return load_codec(args.codec_dir)
        return build_codec(args.codec, args.codec_conf or {})

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetMaskedTSEModel:
        """Build codec, extractor and model.

        Raises:
            UserError: For an unknown name or key.
        """
        return build_model(cls.build_codec(args), vars(args))

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Train, after writing the codec beside the checkpoints, so that the directory can be decoded with alone."""
        if not args.collect_stats and not args.dry_run and args.dist_rank in (None, 0):
            save_codec(cls.build_codec(args), Path(args.output_dir) / "codec")
        super().main_worker(args)

    @classmethod
    def build_model_from_file(
        cls, config_file: str | Path | None = None, model_file: str | Path | None = None, device: str = "cpu"
    ) -> tuple[ESPnetMaskedTSEModel, argparse.Namespace]:
        """Build a trained model; unlike ESPnet's, strictly and without unpickling code.

        Args:
            config_file: The config.yaml of the training; by default the one beside ``model_file``.
            model_file: The checkpoint; None leaves the weights as initialised.
            device: Torch device.

        Raises:
            UserError: If a file is missing, damaged, of another configuration, or of another codec.
        """
        if config_file is None and model_file is None:
            raise UserError("neither config_file nor model_file given; give one of them")
        config_path = Path(config_file or Path(str(model_file)).parent / "config.yaml")
        args = argparse.Namespace(**read_yaml(config_path))
        beside = config_path.parent / "codec"
        if beside.is_dir():
            args.codec_dir = str(beside)
        try:
            model = cls.build_model(args)
        except AttributeError as error:
            raise UserError(f"{config_path}: is not a tse_gen configuration ({error})") from None
        if model_file is not None:
            load_checkpoint(model, Path(model_file), config_path)
        return model.to(device).eval(), args
