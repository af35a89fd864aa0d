"""What a training is given, checked before it writes anything: tables against each other, rates, checkpoints.

ESPnet meets most of these mistakes after it has rewritten ``config.yaml``, some only after hours, and answers with a traceback.
Here, whatever cannot be used is a :class:`UserError`. Recordings themselves are read when their turn comes.
"""

import argparse
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from espnet2.tasks.abs_task import optim_classes, scheduler_classes
from espnet2.torch_utils.load_pretrained_model import load_pretrained_model

from espnet_tse_gen.audio.files import read_header
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.data.enrolment.embeddings import SpeakerEmbeddings
from espnet_tse_gen.inference.loading import open_model
from espnet_tse_gen.training.optimizers import OWN_OPTIMIZERS
from espnet_tse_gen.training.trainer import CHECKPOINT, recover_checkpoint
from espnet_tse_gen.utils.checkpoints import check_finite, load_checkpoint, read_checkpoint
from espnet_tse_gen.utils.errors import UserError, reason_of, unknown_name
from espnet_tse_gen.utils.errors import check_options as check_keys
from espnet_tse_gen.utils.files import check_same_keys, read_scp, read_yaml

Data = Sequence[tuple[str, str, str]]


def check_options(args: argparse.Namespace, num_optimizers: int = 1) -> None:
    """Require the options without which nothing runs, and what optimizers and schedulers can use; name the option otherwise.

    Of several optimizers, the further ones have options with a number, such as ``--optim2``.
    """
    for name in args.required:
        if getattr(args, name) is None:
            raise UserError(f"--{name} is missing; give it")
    processes = int(args.dist_world_size or (args.ngpu if args.multiprocessing_distributed else 0) or 1)
    for name in ("batch_size", "valid_batch_size"):
        size = getattr(args, name)
        if size is not None and size < processes and args.batch_type in ("unsorted", "sorted", "folded"):
            raise UserError(
                f"--{name}: {size} items cannot be split over {processes} processes; give {processes} or more"
            )
    optimizers = optim_classes | OWN_OPTIMIZERS if num_optimizers == 1 else optim_classes
    for number in ["", *map(str, range(2, num_optimizers + 1))]:
        # What an optimizer or scheduler says of its options, it says before there is a model.
        made = _make(args, f"optim{number}", optimizers, [torch.nn.Parameter(torch.zeros(1))], "params")
        if getattr(args, f"scheduler{number}") is not None:
            _make(args, f"scheduler{number}", scheduler_classes, made, "optimizer")
    own, highest = (args.optim_conf or {}).get("lr"), (args.scheduler_conf or {}).get("max_lr")
    if args.scheduler is not None and None not in (own, highest) and own != highest:
        print(
            f"--optim_conf lr: warning: {own:g} has no effect, since --scheduler {args.scheduler} sets the learning rate, to"
            f" --scheduler_conf max_lr {highest:g} at the highest; change that",
            file=sys.stderr,
        )


def _make(args: argparse.Namespace, kind: str, classes: Mapping[str, Any], first: Any, given: str) -> Any:
    """Return what ``--optim`` or ``--scheduler`` names, made with its options, the parameter ``given`` being ``first``."""
    name, conf, option = getattr(args, kind), getattr(args, f"{kind}_conf") or {}, f"--{kind}_conf"
    if name not in classes:
        raise unknown_name(f"value of --{kind}", str(name), classes)
    check_keys(f"key of {option}", conf, classes[name], (given,))
    for key, value in conf.items():
        # To yaml 1.1, as ESPnet reads it, 1e-3 and 1.0e30 are texts.
        if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+", value):
            number = yaml.safe_dump(float(value)).split()[0]
            raise UserError(f"{option} {key}: '{value}' is text to yaml; write the number as {number}")
    try:
        return classes[name](first, **conf)
    except Exception as error:  # PyTorch's, ESPnet's and typeguard's have nothing in common
        raise UserError(f"{option}: {reason_of(error)}; correct it") from None


def check_data(
    option: str,  # that gave `data`, for the message
    data: Data,  # ESPnet's triples of path, name and type
    shape_files: Sequence[str],  # tables of the statistics stage, which decide what is read
    names: Sequence[str],  # valid names
    ref_num: int,  # number of speakers in a mixture
    references: Sequence[str] = ("speech_ref", "codes_ref"),  # kinds, one of which every speaker needs
) -> None:
    """Require that the tables of a data set are complete and have the same keys; name the file, and the key, otherwise."""
    given = {name: (path, kind) for path, name, kind in data}
    for name, (path, kind) in given.items():
        if name not in names:
            raise unknown_name(f"data name in {option} of {path}", name, names)
        if name.startswith("enroll_ref") and kind != "text":
            raise UserError(f"{option}: {name} ({path}) has the type '{kind}', expected 'text'")
    for n in range(1, ref_num + 1):
        for choice in (("speech_mix",), (f"enroll_ref{n}",), [f"{kind}{n}" for kind in references]):
            if not any(name in given for name in choice):
                raise UserError(
                    f"{option}: {' or '.join(choice)} is missing; give it as 'PATH,{choice[0]},TYPE', or correct --ref_num"
                )
    reference = given["speech_mix"][0]
    check_same_keys(
        reference, *(path for path, kind in given.values() if kind in ("sound", "text", "kaldi_ark", "npy"))
    )
    for file in shape_files:
        try:
            check_same_keys(reference, file)
        except UserError as error:
            raise UserError(f"{error}, or run the statistics stage again") from None


def check_rates(data: Data, sample_rate: int) -> None:
    """Require that the first recording of every table has ``sample_rate`` Hz; ESPnet requires that the others have its rate."""
    for path in (path for path, _, kind in data if kind == "sound"):
        key, wav = next(iter(read_scp(path).items()))
        _, rate = read_header(wav, key, mono=False)
        if rate != sample_rate:
            raise UserError(
                f"{wav} (key '{key}' of {path}): sampling rate is {rate} Hz, expected {sample_rate} Hz; resample it, or correct"
                " --sample_rate"
            )


def check_codes(data: Data, codec: AbsCodec) -> None:
    """Require that extracted tokens are those of ``codec``, as far as the files beside them say whose they are."""
    paths = [path for path, name, _ in data if name.startswith("codes_ref")]
    own = codec.fingerprint() if paths else ""
    for path in paths:
        fingerprint = own
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            fingerprint = json.loads(Path(path).with_suffix(".json").read_text(encoding="utf-8"))["fingerprint"]
        if fingerprint != own:
            raise UserError(
                f"{path}: holds the tokens of another codec (fingerprint {fingerprint[:12]}..., this codec is"
                f" {own[:12]}...); extract the tokens again or give their --codec_dir"
            )


def check_embeddings(wanted: int, given: SpeakerEmbeddings | None) -> None:
    """Require that ``--speaker_embeddings`` are given exactly where an extractor takes them, of the width ``wanted`` or 0."""
    found = given.width if given is not None else 0
    if found != wanted:
        raise UserError(
            f"--speaker_embeddings: the extractor takes embeddings of {wanted} numbers (extractor_conf: speaker_embedding; 0:"
            f" none), found {found}; give a file made by embed_speakers (256 numbers), or correct the configuration"
        )


def _check_steps(args: argparse.Namespace) -> None:
    """Require that a training goes on with the optimizers and schedulers it began with, whose state the checkpoint holds."""
    file = Path(args.output_dir) / "config.yaml"
    for option, before in read_yaml(file).items() if file.is_file() else ():
        now = vars(args).get(option, before)
        if re.fullmatch(r"(optim|scheduler)\d?", option) and now != before:
            raise UserError(
                f"--{option}: is '{now}', but the training in {args.output_dir} began with '{before}'; give that, or another "
                "--output_dir (--tse_tag of the recipe), or remove the folder to start again"
            )
        if re.fullmatch(r"(optim|scheduler)\d?_conf", option) and (now or {}) != (before or {}):
            # Not by logging, which ESPnet sets up later.
            print(
                f"--{option}: warning: was changed since the training in {args.output_dir} began, which goes on with what it "
                "began with; a training with the new values needs another folder",
                file=sys.stderr,
            )


def check_start(args: argparse.Namespace, model: torch.nn.Module) -> None:
    """Require that what the training starts from fits ``model``, going back to the last whole epoch first."""
    if args.collect_stats:
        return
    if args.resume and recover_checkpoint(args):
        _check_steps(args)
        load_checkpoint(model, Path(args.output_dir) / CHECKPOINT, Path(args.config or "of this training"))
    else:
        for given in args.init_param:
            load_initial(given, model, args.ignore_init_mismatch)


def load_initial(
    init_param: str, model: torch.nn.Module, ignore_init_mismatch: bool, map_location: str = "cpu"
) -> None:
    """Load what one ``--init_param`` names, as ESPnet's function does, but from more kinds of files and without unpickling code.

    ``init_param`` is ``WHERE[:SOURCE[:TARGET[:EXCLUDED]]]``, in which ``WHERE`` is a checkpoint, also in safetensors, or a model:
    its exp directory, a zip file made by ``pack``, or the name of one that ships.
    """
    where, *parts = init_param.split(":")
    with contextlib.ExitStack() as opened:
        path = Path(where)
        is_checkpoint = path.is_file() if path.exists() else path.suffix in (".pth", ".pt", ".th", ".safetensors")
        if path.suffix == ".zip" or not is_checkpoint:
            try:
                path = opened.enter_context(open_model(where)).checkpoint()
            except UserError as error:
                raise UserError(f"--init_param {error}") from None
        state = read_checkpoint(path)
        check_finite(state, path)
        # For ESPnet's function, which reads what parts of it go where.
        copy = opened.enter_context(tempfile.NamedTemporaryFile(suffix=".pth"))
        torch.save(state, copy.name)
        try:
            load_pretrained_model(":".join([copy.name, *parts]), model, ignore_init_mismatch, map_location)
        except UserError as error:
            raise UserError(f"--init_param {where}: {error}") from None
        except (RuntimeError, AttributeError) as error:
            raise UserError(
                f"--init_param {init_param}: does not fit the model ({reason_of(error)}); --ignore_init_mismatch true takes what "
                "fits"
            ) from None
