"""Word error rates of extracted speech: what a recognizer hears in outputs and in clean targets, kept and compared.

Two rates, both over all items together (all errors over all words), outputs against

- WER: the transcript of the target utterance, where the data directory has one;
- dWER: what the same recognizer hears in the clean target. Its errors on clean speech cancel out, and it needs no
  transcripts, also where mixing cut the target utterance short.

What a recording was heard as is kept in a file by the recording's path, size and time, and by recognizer, so nothing is
recognised twice: not the mixture for its second speaker, nor the clean targets for the next system.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.scoring.espnet_networks import ESPnetRecognizer, ExpDir, describe_decoding, read_decoding
from espnet_tse_gen.scoring.items import Mixture
from espnet_tse_gen.scoring.networks import NetworkChoice, describe
from espnet_tse_gen.scoring.words import WordErrors, count_errors, normalisation
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, read_scp
from espnet_tse_gen.utils.parallel import map_jobs

SAVE_EVERY = 50
"""Recordings between two savings of what was recognised, so that a run that is stopped loses little."""


class Recognizer(Protocol):
    """Recognises speech."""

    def __call__(self, samples: np.ndarray, sample_rate: int) -> str | None:
        """Return what is said in ``samples``, float ``[L]``; ``None`` if the recording has a length that it cannot take."""


@dataclass(frozen=True)
class RecognizerChoice:
    """A recognizer that was asked for: an ESPnet ASR model, or Whisper.

    Attributes:
        exp: Exp directory of the ASR model, or "" for Whisper.
        model_file: Checkpoint in it; ``None``: the best average that is there.
        decode_config: Yaml of recognition options, or ``None``.
        whisper: The Whisper network, if it is that.
        text: Name of a text normalisation, see :data:`espnet_tse_gen.scoring.words.NORMALISATIONS`.
        device: "cpu", "cuda" or "cuda:N".
    """

    exp: str = ""
    model_file: str | None = None
    decode_config: str | None = None
    whisper: NetworkChoice | None = None
    text: str = "basic"
    device: str = "cpu"

    @property
    def suffix(self) -> str:
        """End of the columns' names."""
        return "_whisper" if self.whisper else ""

    def load(self) -> Recognizer:
        """Load the network.

        Raises:
            UserError: If a file is missing or damaged.
        """
        if self.whisper is not None:
            from espnet_tse_gen.scoring.hub_models import WhisperRecognizer

            return WhisperRecognizer(self.whisper.folder, self.device)
        return ESPnetRecognizer(ExpDir(self.exp, self.model_file), read_decoding(self.decode_config), self.device)

    def describe(self) -> str:
        """Name recognizer, revision, options and text normalisation.

        Raises:
            UserError: If a file is missing.
        """
        if self.whisper is not None:
            return f"{describe(self.whisper)}, greedy, text '{self.text}'"
        decoding = describe_decoding(read_decoding(self.decode_config))
        exp = ExpDir(self.exp, self.model_file)
        return f"WER by {exp.describe()}, {decoding}, no language model, text '{self.text}'"

    def stamp(self) -> str:
        """A digest of what determines the recognised text.

        Raises:
            UserError: If a file is missing.
        """
        if self.whisper is not None:
            return describe(self.whisper)
        return f"{ExpDir(self.exp, self.model_file).stamp()} {sorted(read_decoding(self.decode_config).items())}"


def read_transcripts(paths: Sequence[Path]) -> list[dict[str, str]]:
    """Read the transcripts of each speaker's utterances: mixture id -> text; empty where there is no table."""
    tables = []
    for path in paths:
        tables.append(read_scp(path) if path.exists() else {})
        if not tables[-1]:
            logging.warning("%s: no such file; WER is left out, dWER needs no transcripts", path)
    return tables


def score_words(
    mixtures: Sequence[Mixture],
    choice: RecognizerChoice,
    transcripts: Sequence[Mapping[str, str]],
    folder: Path,
    clean_folder: Path,
    nj: int = 1,
) -> dict[tuple[str, int], dict[str, float]]:
    """Compute the word error rates of all outputs that can be scored.

    Args:
        mixtures: Checked items.
        choice: The recognizer.
        transcripts: Of each speaker, mixture id -> text; an item without one has no WER.
        folder: Where the outputs' texts are kept, and written as tables to read: ``words{suffix}_spk{n}.tsv``.
        clean_folder: Where the clean targets' texts are kept, for all systems.
        nj: Number of processes.

    Returns:
        (key, speaker number from 1) -> column -> value; without an item that the recognizer cannot take.

    Raises:
        UserError: If a file of the recognizer is missing or damaged.
    """
    normalise = normalisation(choice.text)
    wanted = [(item, index) for item in mixtures for index in item.usable_outputs]
    outputs = recognise([item.outputs[index] for item, index in wanted], choice, folder, nj, "recognising outputs")
    references = [item.references[index] for item, index in wanted]
    clean = recognise(references, choice, clean_folder, nj, "recognising clean targets")
    scores: dict[tuple[str, int], dict[str, float]] = {}
    lines: dict[int, list[str]] = {}
    for (item, index), reference in zip(wanted, references, strict=True):
        heard, heard_clean = outputs[item.outputs[index]], clean[reference]
        if heard is None or heard_clean is None:
            continue
        text = transcripts[index].get(item.key) if index < len(transcripts) else None
        said = normalise(text) if text is not None else ""
        heard, heard_clean = normalise(heard), normalise(heard_clean)
        scores[item.key, index + 1] = _row(said, heard_clean, heard, choice.suffix)
        lines.setdefault(index, []).append("\t".join((item.key, said, heard_clean, heard)))
    for index, table in lines.items():
        with atomic_write(folder / f"words{choice.suffix}_spk{index + 1}.tsv") as stream:
            stream.write("\n".join(["key\ttranscript\theard in clean\theard in output", *table]) + "\n")
    if len(scores) < len(wanted):
        logging.warning(
            "%d of %d items are too short or too long to be recognised", len(wanted) - len(scores), len(wanted)
        )
    return scores


def _row(said: str, clean: str, heard: str, suffix: str) -> dict[str, float]:
    """The columns of one item."""
    row = errors_between(clean, heard).columns("dWER", suffix)
    if said:
        row |= errors_between(said, heard).columns("WER", suffix)
        row[f"WER{suffix}_clean"] = errors_between(said, clean).columns("WER")["WER"]
    return row


def errors_between(reference: str, recognised: str) -> WordErrors:
    """Count the word errors between two normalised texts."""
    return count_errors(reference.split(), recognised.split())


def recognise(
    paths: Sequence[str], choice: RecognizerChoice, folder: Path, nj: int = 1, description: str = ""
) -> dict[str, str | None]:
    """Return what is heard in each recording: path -> text; what ``folder`` holds of an earlier run is taken from there.

    Raises:
        UserError: If a file of the recognizer, or a recording, is missing or damaged.
    """
    store = folder / f"recognised{choice.suffix}.json"
    recognizer = choice.stamp()
    known = _read_store(store, recognizer)
    stamps = {path: _stamp(path) for path in dict.fromkeys(paths)}
    todo = [path for path, stamp in stamps.items() if known.get(path, ("", None))[0] != stamp]
    if todo:
        chunk = max(1, min(8, -(-len(todo) // max(1, nj))))
        texts = map_jobs(functools.partial(_recognise, choice), todo, max(1, nj), description, chunk)
        for number, (path, text) in enumerate(zip(todo, texts, strict=True), 1):
            known[path] = (stamps[path], text)
            if number % SAVE_EVERY == 0 or number == len(todo):
                _write_store(store, recognizer, known)
    return {path: known[path][1] for path in stamps}


def _read_store(path: Path, recognizer: str) -> dict[str, tuple[str, str | None]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["recognizer"] != recognizer:
            return {}
        return {name: (entry[0], entry[1]) for name, entry in content["recordings"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return {}


def _write_store(path: Path, recognizer: str, known: Mapping[str, tuple[str, str | None]]) -> None:
    with atomic_write(path) as stream:
        json.dump({"recognizer": recognizer, "recordings": known}, stream, ensure_ascii=False)


def _stamp(path: str) -> str:
    try:
        stat = Path(path).stat()
    except OSError:
        raise UserError(f"{path}: no such file") from None
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _recognise(choice: RecognizerChoice, path: str) -> str | None:
    """What is heard in one recording (runs in a process that keeps the recognizer)."""
    samples, rate = read_audio(path)
    with _one_thread():
        return _loaded(choice)(samples, rate)


@functools.lru_cache(maxsize=1)
def _loaded(choice: RecognizerChoice) -> Recognizer:
    return choice.load()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: the processes are the parallelism."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
