"""The ESPnet task ``tse_gen``: masked generative target speaker extraction, by ESPnet's own trainer."""

import argparse
import functools
from pathlib import Path

from espnet2.tasks.abs_task import AbsTask
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.collate_fn import CommonCollateFn
from espnet2.utils.get_default_kwargs import get_default_kwargs
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str_or_none

from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.registry import CODECS, build_codec, load_codec, save_codec
from espnet_tse_gen.data.enrolment.embeddings import SpeakerEmbeddings
from espnet_tse_gen.data.preprocessor import TSEGenPreprocessor
from espnet_tse_gen.inference import front_end as front_ends
from espnet_tse_gen.masked.abs_front_end import AbsFrontEnd
from espnet_tse_gen.masked.build import EXTRACTORS, build_model
from espnet_tse_gen.masked.model import MaskedTSEModel
from espnet_tse_gen.training import checks, mixing
from espnet_tse_gen.training.shared import LazyClassChoices, MixtureTask
from espnet_tse_gen.training.trainer import TSEGenTrainer
from espnet_tse_gen.utils.errors import UserError

codec_choices = LazyClassChoices("codec", CODECS, default="mel")
extractor_choices = LazyClassChoices("extractor", EXTRACTORS, default="masked")
preprocessor_choices = LazyClassChoices(
    "preprocessor", {"tse_gen": "espnet_tse_gen.data.preprocessor:TSEGenPreprocessor"}, default="tse_gen"
)

# ESPnet trains models of its class; this one must extract where ESPnet is not installed.
AbsESPnetModel.register(MaskedTSEModel)


class TSEGenTask(MixtureTask, AbsTask):
    """Trains an :class:`MaskedTSEModel`."""

    num_optimizers: int = 1
    class_choices_list = [codec_choices, extractor_choices, preprocessor_choices]
    trainer = TSEGenTrainer
    load_trained = staticmethod(front_ends.load_model)

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of this task."""
        add = parser.add_argument_group("Task related").add_argument
        defaults = {k: v for k, v in get_default_kwargs(MaskedTSEModel).items() if k != front_ends.FRONT_END}
        add("--model_conf", action=NestedDictAction, default=defaults, help="Masking, loss and condition dropout")
        add("--codec_dir", type=str_or_none,
            help="Directory made by codec_prepare; overrides --codec and --codec_conf")  # fmt: skip
        add("--front_end", type=str_or_none,
            help="Trained discriminative extractor (exp directory, packed zip file or name of a shipped model), whose estimate "
            "is given to an extractor with front_end_features, by default latent+stft; stays as it is")  # fmt: skip
        group = parser.add_argument_group("Preprocess related")
        add = group.add_argument
        add("--sample_rate", type=int, default=0, help="Rate of the recordings in Hz; 0 means the codec's rate")
        add("--ref_num", type=int, default=2, help="Number of speakers in a mixture")
        add("--train_spk2enroll", type=str_or_none,
            help="JSON file {speaker: [[utterance, wav], ...]} from which training draws enrolments")  # fmt: skip
        add("--speaker_embeddings", type=str_or_none,
            help="File of embeddings of all enrolments, made by embed_speakers; for an extractor that takes them")  # fmt: skip
        mixing.add_arguments(group)
        for choices in cls.class_choices_list:
            choices.add_arguments(group)
        # A batch may use neither every level's head nor the vectors that stand for hidden conditions.
        parser.set_defaults(unused_parameters=True)

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> CommonCollateFn:
        """Return ESPnet's collate function, which pads with zeros."""
        return CommonCollateFn(float_pad_value=0.0, int_pad_value=0)

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> TSEGenPreprocessor:
        """Return the chosen preprocessor, told what the codec needs."""
        codec, chosen = cls.build_codec(args), preprocessor_choices.get_class(args.preprocessor)
        return chosen(
            train=train,
            codec_sample_rate=codec.sample_rate,
            hop=codec.hop,
            sample_rate=args.sample_rate,
            ref_num=args.ref_num,
            train_spk2enroll=args.train_spk2enroll,
            speaker_embeddings=_embeddings(args.speaker_embeddings) if args.speaker_embeddings else None,
            **cls.preprocessor_conf(args, chosen),
        )

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Names that the data must have."""
        return ("speech_mix", "enroll_ref1")

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Names that the data may have: a target's waveform or tokens, and further speakers."""
        names = [f"{kind}{n}" for kind in ("speech_ref", "codes_ref", "enroll_ref") for n in range(1, 11)]
        return tuple(name for name in names if name != "enroll_ref1")

    @classmethod
    def build_codec(cls, args: argparse.Namespace) -> AbsCodec:
        """Return the codec that the options name; one that is unknown, missing or damaged is a :class:`UserError`."""
        if getattr(args, "codec_dir", None):
            return load_codec(args.codec_dir)
        return build_codec(args.codec, args.codec_conf or {})

    @classmethod
    def build_front_end(cls, args: argparse.Namespace, codec: AbsCodec) -> AbsFrontEnd | None:
        """Return the front end that the options name, or None; one that cannot be used is a :class:`UserError`."""
        where = getattr(args, front_ends.FRONT_END, None)
        if not where:
            return None
        try:
            return front_ends.load_front_end(where, codec.sample_rate)
        except UserError as error:
            raise UserError(f"--front_end: {error}") from None

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> MaskedTSEModel:
        """Build codec, front end, extractor and model; an unknown name or key is a :class:`UserError`."""
        codec = cls.build_codec(args)
        return build_model(codec, vars(args), cls.build_front_end(args, codec))

    @classmethod
    def check(cls, args: argparse.Namespace) -> None:
        """Require that a training can start, before it writes anything; name the option, file or key that cannot be used."""
        checks.check_options(args)
        if args.front_end:
            # Written to config.yaml, from which alone the network is built again.
            args.extractor_conf = {front_ends.FEATURES: front_ends.DEFAULT_FEATURES, **(args.extractor_conf or {})}
        model = cls.build_model(args)
        if (args.model_conf or {}).get("front_end_rate") and args.optim != "muon":
            raise UserError(
                f"--optim {args.optim}: has one learning rate for all; model_conf front_end_rate needs --optim muon"
            )
        for train in (True, False):
            preprocessor = cls.build_preprocess_fn(args, train)
            checks.check_embeddings(model.extractor.speaker_embedding, preprocessor.speaker_embeddings)
            rate = args.sample_rate or model.codec.sample_rate
            checks.check_codes(cls.check_data(args, train, preprocessor, args.ref_num, rate), model.codec)
        checks.check_start(args, model)

    @classmethod
    def write_beside(cls, args: argparse.Namespace) -> None:
        """Write codec and front end, so that the directory can be decoded with alone."""
        codec, directory = cls.build_codec(args), Path(args.output_dir) / "codec"
        if not _holds(directory, codec):
            save_codec(codec, directory)
        front_end, directory = cls.build_front_end(args, codec), Path(args.output_dir) / front_ends.FRONT_END
        if front_end is not None and not front_ends.holds_front_end(directory, front_end):
            front_ends.save_front_end(front_end, directory)


_embeddings = functools.lru_cache(maxsize=1)(SpeakerEmbeddings)


def _holds(directory: Path, codec: AbsCodec) -> bool:
    """Return whether ``directory`` is that of ``codec`` already."""
    try:
        return load_codec(directory).fingerprint() == codec.fingerprint()
    except UserError:
        return False
