"""What the tasks of this package do alike around ESPnet's: mixins, to be named before the task of ESPnet that they change."""

import argparse
import contextlib
import difflib
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import torch
from espnet2.tasks import abs_task
from espnet2.train.class_choices import ClassChoices
from torch.utils.data import DataLoader

from espnet_tse_gen.data.preprocessor import GIVEN, TSEGenPreprocessor
from espnet_tse_gen.training import checks, mixing
from espnet_tse_gen.training.dataset import TSEGenDataset
from espnet_tse_gen.training.optimizers import OWN_OPTIMIZERS, MuonAdamW, parameter_groups
from espnet_tse_gen.training.trainer import PREVIOUS, is_first_process, lock_folder
from espnet_tse_gen.utils.errors import UserError, check_options, unknown_name
from espnet_tse_gen.utils.files import read_scp, read_yaml
from espnet_tse_gen.utils.memory import keep_freed_memory
from espnet_tse_gen.utils.quiet import no_log
from espnet_tse_gen.utils.registry import chosen


class LazyClassChoices(ClassChoices):
    """ESPnet's ClassChoices over ``"module:Class"`` strings, imported when chosen: a library that is missing harms no other."""

    def __init__(self, name: str, classes: Mapping[str, str], default: str) -> None:
        super().__init__(name, dict.fromkeys(classes, object), default=default)
        self.locations = classes

    def get_class(self, name: str | None) -> type:
        """Import and return the class called ``name``; an unknown one is a :class:`UserError`."""
        return chosen(self.name, str(name).lower(), self.locations)


class CheckedTask:
    """Parser, data and start of a task that has a ``check``; a mixin."""

    @classmethod
    def get_parser(cls) -> argparse.ArgumentParser:
        """Return ESPnet's parser; its mistakes end in one line with the nearest valid name."""
        parser = super().get_parser()  # type: ignore[misc]

        def error(message: str) -> NoReturn:
            raise UserError(_with_suggestion(parser, " ".join(message.split())))

        parser.error = error
        return parser

    @classmethod
    def main(cls, args: argparse.Namespace | None = None, cmd: Sequence[str] | None = None) -> None:
        """Check, then run ESPnet's training, as the only one in its folder, or statistics."""
        if args is None:
            args = cls.get_parser().parse_args(cmd)
        with contextlib.ExitStack() as locked:
            lock, folder = None, Path(args.output_dir or "")
            writes = args.output_dir and not args.print_config and _writes(args)
            if writes and folder.is_dir():
                # Before the check, which brings back the checkpoint of an interrupted training.
                lock = locked.enter_context(lock_folder(folder))
            if not args.print_config:
                with no_log():
                    cls.check(args)  # type: ignore[attr-defined]
            if writes:
                folder.mkdir(parents=True, exist_ok=True)
                lock = lock or locked.enter_context(lock_folder(folder))
                lock.truncate(0)
                print(f"process {os.getpid()} of {platform.node()}", end="", file=lock, flush=True)
            super().main(args=args)  # type: ignore[misc]

    @classmethod
    def write_beside(cls, args: argparse.Namespace) -> None:
        """Write what belongs beside the checkpoints, before the training; for a task to say."""

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Train as one of one or more processes, which leave their group together, or its threads may abort them."""
        keep_freed_memory()  # not all of these processes were started by a command of this package
        if _writes(args):
            cls.write_beside(args)
        with patch.multiple(abs_task, load_pretrained_model=checks.load_initial, ESPnetDataset=TSEGenDataset):
            super().main_worker(args)  # type: ignore[misc]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
        if _writes(args):
            (Path(args.output_dir) / PREVIOUS).unlink(missing_ok=True)


def _writes(args: argparse.Namespace) -> bool:
    """Return whether this process writes checkpoints."""
    return not (args.collect_stats or args.dry_run) and is_first_process(args)


def _with_suggestion(parser: argparse.ArgumentParser, message: str) -> str:
    unrecognized = re.match(r"unrecognized arguments: (\S+)(.*)", message)
    if unrecognized:
        name = unrecognized[1].split("=")[0]
        names = [flag.lstrip("-") for action in parser._actions for flag in action.option_strings]
        near = difflib.get_close_matches(name.lstrip("-"), names, n=1, cutoff=0.4)
        hint = f"did you mean '--{near[0]}'?" if near else "see --help for the valid ones"
        return f"unknown option '{name}'{unrecognized[2]}: {hint}"
    choice = re.match(r"argument (\S+): invalid choice: '?([^' ]+)'? \(choose from (.*)\)", message)
    if choice:
        valid = [name.strip(" '\"") for name in choice[3].split(",")]
        return str(unknown_name(f"value of {choice[1]}", choice[2], valid))
    return message


class MixtureTask(CheckedTask):
    """A task whose training data are mixtures, read from tables or drawn on the fly; a mixin."""

    load_trained: Callable[..., Any]  # called with the configuration's path, the checkpoint's or None, and the device

    @classmethod
    def get_parser(cls) -> argparse.ArgumentParser:
        """Return the parser, whose ``--optim`` takes ``muon`` too."""
        parser = super().get_parser()
        (optim,) = (action for action in parser._actions if "--optim" in action.option_strings)
        optim.choices = [*abs_task.optim_classes, *OWN_OPTIMIZERS]
        return parser

    @classmethod
    def get_default_config(cls) -> dict[str, Any]:
        """Return what ``--print_config`` shows."""
        # ESPnet looks the optimizer's options up among its own.
        with patch.dict(abs_task.optim_classes, OWN_OPTIMIZERS):
            return super().get_default_config()  # type: ignore[misc]

    @classmethod
    def build_model_from_file(
        cls, config_file: str | Path | None = None, model_file: str | Path | None = None, device: str = "cpu"
    ) -> tuple[Any, argparse.Namespace]:
        """Build a trained model by the task's ``load_trained``: unlike ESPnet, strictly and without unpickling code.

        By default, the config.yaml beside ``model_file`` is taken; without the latter, weights stay as initialised.
        """
        if config_file is None and model_file is None:
            raise UserError("neither config_file nor model_file given; give one of them")
        path = Path(config_file or Path(str(model_file)).parent / "config.yaml")
        return cls.load_trained(path, model_file, device), argparse.Namespace(**read_yaml(path))

    @classmethod
    def preprocessor_conf(cls, args: argparse.Namespace, preprocessor: type) -> dict[str, Any]:
        """Return ``--preprocessor_conf``, of which ``preprocessor`` has every key."""
        conf = args.preprocessor_conf or {}
        check_options("key of --preprocessor_conf", conf, preprocessor, GIVEN)
        return conf

    @classmethod
    def check_data(
        cls,
        args: argparse.Namespace,
        train: bool,
        preprocessor: TSEGenPreprocessor,
        ref_num: int,
        sample_rate: int,
        references: Sequence[str] = ("speech_ref", "codes_ref"),
    ) -> checks.Data:
        """Require that training or validation data can be used, and return their tables; none where mixtures are drawn."""
        if args.dry_run:
            return []
        if train and mixing.is_dynamic(args):
            # One item is drawn, so that what is wrong with all recordings shows at once.
            mixing.build_mixer(args, preprocessor).draw(1, 0)
            return []
        kind = "train" if train else "valid"
        data = getattr(args, f"{kind}_data_path_and_name_and_type")
        names = cls.required_data_names() + cls.optional_data_names()  # type: ignore[attr-defined]
        option, shapes = f"--{kind}_data_path_and_name_and_type", getattr(args, f"{kind}_shape_file")
        checks.check_data(option, data, shapes, names, ref_num, references)
        checks.check_rates(data, sample_rate)
        return data

    @classmethod
    def build_optimizers(cls, args: argparse.Namespace, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
        """Return the optimizer; Muon is told which parameters are its own."""
        if args.optim != "muon":
            return super().build_optimizers(args, model)  # type: ignore[misc]
        return [MuonAdamW(parameter_groups(model), **args.optim_conf)]

    @classmethod
    def build_sequence_iter_factory(cls, args: argparse.Namespace, iter_options: Any, mode: str) -> Any:
        """Return the batches of training or validation; validation always reads mixtures."""
        if mode == "train" and mixing.is_dynamic(args):
            preprocessor = cls.build_preprocess_fn(args, True)  # type: ignore[attr-defined]
            return mixing.build_iter_factory(args, iter_options, preprocessor)
        return super().build_sequence_iter_factory(  # type: ignore[misc]
            args=args, iter_options=iter_options, mode=mode
        )

    @classmethod
    def build_streaming_iterator(
        cls,
        data_path_and_name_and_type: Any,
        preprocess_fn: Any,
        collate_fn: Any,
        key_file: str | None = None,
        dtype: str = "float32",
        batch_size: int = 1,
        num_workers: int = 0,
        **_: Any,
    ) -> DataLoader:
        """Return the data of the statistics stage, in the order of ``key_file`` or else of the mixtures' table."""
        if mixing.is_speech(data_path_and_name_and_type):
            return mixing.statistics_loader(preprocess_fn, collate_fn)
        dataset = TSEGenDataset(data_path_and_name_and_type, float_dtype=dtype, preprocess=preprocess_fn)
        keys = list(read_scp(key_file) if key_file else dataset)
        return DataLoader(dataset, batch_size, sampler=keys, collate_fn=collate_fn, num_workers=num_workers)
