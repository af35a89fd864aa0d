"""Networks whose weights no package ships: which there are, where their weights lie, and which revision was used.

They are off unless named. ``NAME`` takes the released weights from the cache of the Hugging Face hub, ``NAME=WHERE`` those
of another repository of the hub or of a folder, ``NAME=REPOSITORY@REVISION`` a given revision:

    choices = [parse_choice("wavlm"), parse_choice("espnet_spk=exp/spk_rawnet3")]

Nothing is fetched unless asked for (:func:`locate` with ``download=True``). Whatever was used is named with its revision
beside the scores, as two encoders' similarities do not compare.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from espnet_tse_gen.utils.errors import UserError, naming_extra, unknown_name

RATE = 16000
"""Hz, of what all these networks take."""
WEIGHTS = ("*.safetensors", "*.bin", "*.pth")
"""Files whose hash stands for the revision of a folder."""


@dataclass(frozen=True)
class Network:
    """A network that can be scored with.

    Attributes:
        default: Repository of the hub.
        files: Patterns of the files that it needs.
        meaning: What it is, for the help text.
    """

    default: str
    files: tuple[str, ...]
    meaning: str


_TRANSFORMERS_FILES = ("*.json", "*.txt", "pytorch_model.bin", "model.safetensors")

NETWORKS: dict[str, Network] = {
    "wavlm": Network("microsoft/wavlm-base-plus-sv", _TRANSFORMERS_FILES, "speaker similarity by WavLM-SV"),
    "speechbertscore": Network(
        "facebook/hubert-base-ls960", _TRANSFORMERS_FILES, "SpeechBERTScore by layer 11 of HuBERT-base"
    ),
    "whisper": Network("openai/whisper-base", _TRANSFORMERS_FILES, "WER and dWER by Whisper"),
    "espnet_spk": Network(
        "espnet/voxcelebs12_rawnet3",
        ("meta.yaml", "*/config.yaml", "*.pth"),
        "speaker similarity by a model of ESPnet's speaker task",
    ),
}
"""Registry of what can be named."""


@dataclass(frozen=True)
class NetworkChoice:
    """A network that was asked for.

    Attributes:
        name: Name in :data:`NETWORKS`.
        where: Folder, or repository of the hub.
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


class Comparer(Protocol):
    """A measure between a reference and an output."""

    def compare(self, reference: np.ndarray, output: np.ndarray, sample_rate: int) -> float:
        """Return the measure, NaN where it is not defined."""


def parse_choice(text: str, device: str = "cpu") -> NetworkChoice:
    """Read ``NAME``, ``NAME=WHERE`` or ``NAME=REPOSITORY@REVISION``.

    Raises:
        UserError: If there is no such name, or nothing follows the sign.
    """
    name, sign, where = text.partition("=")
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
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
    try:
        folder = Path(
            snapshot_download(
                choice.where,
                revision=choice.revision,
                local_files_only=not download,
                allow_patterns=list(NETWORKS[choice.name].files),
            )
        )
    except Exception as error:  # The hub's client raises errors of several libraries.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
        at = f"{choice.where}{'@' + choice.revision if choice.revision else ''}"
        todo = (
            f"run again with a network, or copy its folder here and give --networks {choice.name}=FOLDER"
            if download
            else f"fetch it with --download_networks true, or give its folder: --networks {choice.name}=FOLDER"
        )
        raise UserError(f"network '{choice.name}' ({at}): is not on this machine ({reason}); {todo}") from None
    if download:
        _verify(folder)
    if not any(folder.rglob("*")):
        raise UserError(f"network '{choice.name}': {folder} is empty; fetch it with --download_networks true")
    return folder


def _verify(folder: Path) -> None:
    """Check large files, which the hub's cache names by their SHA-256."""
    for path in folder.rglob("*"):
        name = path.resolve().name
        if path.is_file() and re.fullmatch(r"[0-9a-f]{64}", name) and sha256(path) != name:
            raise UserError(
                f"{path}: is damaged (its SHA-256 is not the hub's); delete {path.resolve()} and fetch again"
            )


def sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def describe(choice: NetworkChoice) -> str:
    """Name the network with its revision: the hub's commit, or the hash of a folder's weights."""
    folder = choice.folder
    if folder.parent.name == "snapshots":
        return f"{choice.name} {choice.where} at revision {folder.name[:12]}"
    weights = sorted(path for pattern in WEIGHTS for path in folder.rglob(pattern))
    digest = hashlib.sha256("".join(sha256(path) for path in weights).encode()).hexdigest()
    return f"{choice.name} {folder.name} (weights {digest[:12]})"


def load_measures(choices: Sequence[NetworkChoice]) -> tuple[dict[str, Any], dict[str, Comparer]]:
    """Load the chosen networks that compare recordings; recognizers are not among them.

    Returns:
        Speaker encoders by the end of their columns' names, and other measures by their column.

    Raises:
        UserError: If a package or a file is missing or damaged.
    """
    encoders: dict[str, Any] = {}
    comparers: dict[str, Comparer] = {}
    for choice in choices:
        if choice.name == "wavlm":
            from espnet_tse_gen.scoring.hub_models import WavLMSpeaker

            encoders["_wavlm"] = WavLMSpeaker(choice.folder, choice.device)
        elif choice.name == "speechbertscore":
            from espnet_tse_gen.scoring.hub_models import SpeechBERTScore

            comparers["SpeechBERTScore"] = SpeechBERTScore(choice.folder, device=choice.device)
        elif choice.name == "espnet_spk":
            from espnet_tse_gen.scoring.espnet_networks import ESPnetSpeaker

            encoders["_espnet_spk"] = ESPnetSpeaker(choice.folder, choice.device)
    return encoders, comparers


def to_rate(samples: np.ndarray, sample_rate: int, wanted: int = RATE) -> np.ndarray:
    """Return ``samples`` ``[L]`` at ``wanted`` Hz, float32."""
    wave = np.asarray(samples, dtype=np.float32)
    if sample_rate == wanted:
        return wave
    import librosa

    return np.asarray(librosa.resample(wave, orig_sr=sample_rate, target_sr=wanted), dtype=np.float32)


def check_weights(missing: Iterable[str], mismatched: Iterable[Any], folder: Path, unused: Mapping[str, str]) -> None:
    """Require that a network got all of its weights from ``folder``.

    Args:
        missing: Names that the files lack.
        mismatched: Names whose shapes differ.
        folder: For the message.
        unused: Names that may be missing, as scoring never uses them.

    Raises:
        UserError: Naming the first.
    """
    lacking = sorted({*missing} - unused.keys())
    if lacking:
        raise UserError(
            f"{folder}: lacks {len(lacking)} weight(s) of the network, first '{lacking[0]}'; fetch it again"
        )
    wrong = sorted(str(name) for name in mismatched)
    if wrong:
        raise UserError(f"{folder}: {len(wrong)} weight(s) have another shape than its config says, first {wrong[0]}")
