"""The ESPnet task ``tse``: discriminative target speaker extraction, trained from waveforms to waveforms.

It is ESPnet's own task, all of whose options work, with further extractors, losses at several scales, the speaker cross-entropy
and dynamic mixing.
"""

import argparse
from pathlib import Path
from typing import Any

from espnet2.tasks.enh import criterion_choices, loss_wrapper_choices
from espnet2.tasks.enh_tse import TargetSpeakerExtractionTask
from espnet2.train.preprocessor import TSEPreprocessor
from espnet2.utils.get_default_kwargs import get_default_kwargs

from espnet_tse_gen.data.datadir import read_pool
from espnet_tse_gen.data.preprocessor import SpeakerTable, TSEGenPreprocessor
from espnet_tse_gen.data.sources import speaker_at
from espnet_tse_gen.discriminative.registry import DECODERS, ENCODERS, EXTRACTORS, WAVEFORM_EXTRACTORS
from espnet_tse_gen.training import checks, mixing
from espnet_tse_gen.training.losses import MultiScaleSolver, SpeakerCrossEntropy, SpeakerSolver
from espnet_tse_gen.training.shared import LazyClassChoices, MixtureTask
from espnet_tse_gen.training.trainer import TSEGenTrainer
from espnet_tse_gen.training.tse_model import ESPnetTSEModel, build_model, load_training_model
from espnet_tse_gen.training.waveform_model import ESPnetWaveformModel
from espnet_tse_gen.utils.errors import UserError, check_options, unknown_name
from espnet_tse_gen.utils.files import read_scp
from espnet_tse_gen.utils.registry import built

PREPROCESSORS = {
    "tse": "espnet2.train.preprocessor:TSEPreprocessor",  # ESPnet's, without labels
    "tse_gen": "espnet_tse_gen.data.preprocessor:TSEGenPreprocessor",  # draws as the tse_gen task does
}
CRITERIONS = {**criterion_choices.classes, "spk_ce": SpeakerCrossEntropy}
WRAPPERS = {**loss_wrapper_choices.classes, "multi_scale": MultiScaleSolver, "spk_ce": SpeakerSolver}

encoder_choices = LazyClassChoices("encoder", ENCODERS, default="stft")
extractor_choices = LazyClassChoices("extractor", EXTRACTORS | WAVEFORM_EXTRACTORS, default="td_speakerbeam")
decoder_choices = LazyClassChoices("decoder", DECODERS, default="stft")
preprocessor_choices = LazyClassChoices("preprocessor", PREPROCESSORS, default="tse")

SPEAKERS = "speakers.txt"  # the training speakers in the order of their labels, beside the checkpoints
AUTO = "auto"  # value of `extractor_conf: num_train_spk` that takes the number of training speakers


class TSETask(MixtureTask, TargetSpeakerExtractionTask):
    """Trains an :class:`ESPnetTSEModel`."""

    class_choices_list = [encoder_choices, extractor_choices, decoder_choices, preprocessor_choices]
    trainer = TSEGenTrainer
    load_trained = staticmethod(load_training_model)

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of ESPnet's task and of dynamic mixing."""
        super().add_task_arguments(parser)
        mixing.add_arguments(parser.add_argument_group("Dynamic mixing"))
        # Without the speaker's cross-entropy, the classifier has no gradient. Which keys model_conf has depends on the extractor.
        parser.set_defaults(model_conf={}, unused_parameters=True)

    @classmethod
    def get_default_config(cls) -> dict[str, Any]:
        """Return what ``--print_config`` shows."""
        config = super().get_default_config()
        model = ESPnetWaveformModel if config["extractor"] in WAVEFORM_EXTRACTORS else ESPnetTSEModel
        config["model_conf"] = get_default_kwargs(model) | config["model_conf"]
        return config

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Any:
        """Return the chosen preprocessor."""
        if args.preprocessor != "tse_gen":
            check_options("key of --preprocessor_conf", args.preprocessor_conf or {}, TSEPreprocessor, ("train",))
            return super().build_preprocess_fn(args, train)
        return TSEGenPreprocessor(
            train,
            args.sample_rate,
            hop=1,
            ref_num=args.num_spk,
            train_spk2enroll=args.train_spk2enroll,
            speakers=cls.speakers(args),
            **cls.preprocessor_conf(args, TSEGenPreprocessor),
        )

    @classmethod
    def speakers(cls, args: argparse.Namespace) -> SpeakerTable | None:
        """Return the training speakers, or None where the data do not tell them."""
        if args.dynamic_mixing:
            for path in (path for path, name, _ in args.train_data_path_and_name_and_type if name == mixing.SPEAKER):
                speeds = mixing.read_options(args).speeds
                return SpeakerTable(speaker_at(name, speed) for name in read_scp(path).values() for speed in speeds)
        elif args.train_spk2enroll and args.preprocessor == "tse_gen":
            return SpeakerTable(read_pool(args.train_spk2enroll))
        return None

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Names that the data may have: ESPnet's, and a label read from a table."""
        return (*super().optional_data_names(train, inference), "spk_label_ref1")

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetTSEModel | ESPnetWaveformModel:
        """Build encoder, extractor, decoder, losses and the model; what cannot be used is a :class:`UserError`."""
        # A model around an extractor of waveforms has a loss of its own.
        given = () if args.extractor in WAVEFORM_EXTRACTORS else args.criterions or ()
        model = build_model(vars(args), [_build_loss(loss) for loss in given])
        if voice := getattr(model.extractor, "voice", None):
            voice.load_pretrained()
        if args.init is not None:
            from espnet2.torch_utils.initialize import initialize

            initialize(model, args.init)
        return model

    @classmethod
    def check(cls, args: argparse.Namespace) -> None:
        """Require that a training can start, before it writes anything; fill in the number of training speakers."""
        checks.check_options(args)
        if args.iterator_type == "chunk":
            raise UserError(
                "--iterator_type: ESPnet's chunk iterator fails with NumPy 2; leave it out, and cut training items by"
                " preprocessor_conf crop_seconds"
            )
        _count_speakers(args, cls.speakers(args))
        model = cls.build_model(args)
        own = args.preprocessor == "tse_gen"
        for train in (True, False):
            preprocessor = cls.build_preprocess_fn(args, train)
            if train and mixing.is_dynamic(args) and not own:
                raise UserError("--dynamic_mixing: needs --preprocessor tse_gen, by whose lengths and level it draws")
            if own:
                cls.check_data(args, train, preprocessor, args.num_spk, args.sample_rate, ("speech_ref",))
        checks.check_start(args, model)

    @classmethod
    def write_beside(cls, args: argparse.Namespace) -> None:
        """Write the table of the speakers' labels."""
        speakers = cls.speakers(args)
        if speakers is not None:
            speakers.write(Path(args.output_dir) / SPEAKERS)


def _build_loss(given: Any) -> Any:
    """Build one loss of ``--criterions``; an unknown name or key is a :class:`UserError`."""
    if not isinstance(given, dict) or not {"name", "wrapper"} <= given.keys():
        raise UserError(f"--criterions: every loss needs 'name', 'conf', 'wrapper' and 'wrapper_conf', found {given}")
    keys = ("name", "conf", "wrapper", "wrapper_conf")
    if unknown := [key for key in given if key not in keys]:
        raise unknown_name("key of --criterions", str(unknown[0]), keys)
    for key, classes in (("name", CRITERIONS), ("wrapper", WRAPPERS)):
        if given[key] not in classes:
            raise unknown_name(f"{key} in --criterions", str(given[key]), classes)
    name, wrapper = given["name"], given["wrapper"]
    criterion = built(f"--criterions {name} conf", CRITERIONS[name], given.get("conf") or {}, Exception)
    conf = given.get("wrapper_conf") or {}
    return built(f"--criterions {wrapper} wrapper_conf", WRAPPERS[wrapper], conf, Exception, criterion=criterion)


def _count_speakers(args: argparse.Namespace, speakers: SpeakerTable | None) -> None:
    """Fill in ``extractor_conf: num_train_spk``; what is given and is not the number of training speakers is a UserError."""
    conf = args.extractor_conf or {}
    wanted = conf.get("num_train_spk")
    if not wanted or (args.dry_run and wanted != AUTO):
        return
    if speakers is None:
        raise UserError(
            f"extractor_conf: num_train_spk {wanted}: the training data name no speakers; give --train_spk2enroll with"
            " preprocessor: tse_gen, or dynamic mixing, or set it to 0"
        )
    if wanted == AUTO:
        args.extractor_conf = {**conf, "num_train_spk": len(speakers)}
    elif wanted != len(speakers):
        raise UserError(
            f"extractor_conf: num_train_spk is {wanted}, but the training data have {len(speakers)} speakers; give"
            f" {len(speakers)} or '{AUTO}'"
        )
