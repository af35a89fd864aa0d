"""Word error rates of extracted speech: what a recognizer hears in outputs and in clean targets, kept and compared.

Two rates, both over all items together (all errors over all words), outputs against

- WER: the transcript of the target utterance, where the data directory has one;
- dWER: what the same recognizer hears in the clean target. Its errors on clean speech cancel out, and it needs no
  transcripts, also where mixing cut the target utterance short.

A generative system invents words, which are insertions, where a discriminative one loses them, which are deletions; so
errors are kept apart, as ``jiwer`` counts them. What a recording was heard as is kept in a file, by the recording's path,
size and time, and by recognizer, so nothing is recognised twice: not the mixture for its second speaker, nor the clean
targets for the next system.
"""

import contextlib
import fcntl
import functools
import json
import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_tse_gen.scoring.items import Item, read_if_there
from espnet_tse_gen.scoring.metrics.base import Column, Metric, Scores, require, share
from espnet_tse_gen.scoring.recognizers import Hear, Recognizer
from espnet_tse_gen.utils.files import atomic_write
from espnet_tse_gen.utils.state import state_of

HEARD = "heard"
"""Key under which an item's texts are handed to :meth:`Words.finish`."""
KINDS = {"sub": "substitutions", "del": "deletions", "ins": "insertions"}


def _columns(suffix: str, name: str, recognizer: str) -> Iterable[Column]:
    for rate, against in (("WER", "the transcript"), ("dWER", f"what {recognizer} hears in the clean target")):
        weight = f"{rate}{suffix}_words"
        meaning = f"words of {recognizer} that are wrong against {against}: errors over words, all items together"
        yield share(f"{rate}{suffix}", f"{rate}{name}", "down", meaning, weight)
        for kind, long in KINDS.items():
            text = f"{long} among the errors of {rate}{name}, over words"
            yield share(f"{rate}{suffix}_{kind}", f"{rate}{name} {long}", "down", text, weight)
    meaning = f"WER of {recognizer} on the clean targets of the same items, the floor of WER{name}"
    yield share(f"WER{suffix}_clean", f"WER{name} of clean", "down", meaning, f"WER{suffix}_words")


@dataclass(frozen=True)
class Words(Metric):
    """WER and dWER by one recognizer."""

    recognizer: Recognizer
    text: str  # Name of a text normalisation, see :data:`NORMALISATIONS`
    text_scps: tuple[str, ...]  # Tables of the transcripts of each speaker's utterances, there or not
    folder: str  # Where the outputs' texts are kept
    clean_folder: str  # Where the clean targets' texts are kept, for all systems

    columns = (
        *_columns("", "", "the ESPnet ASR model"),
        *_columns("_whisper", " Whisper", "Whisper"),
        *_columns("_whisper_tiny", " Whisper tiny.en", "Whisper tiny.en"),
    )

    def check(self) -> None:
        require(f"WER{self.recognizer.suffix}", ("jiwer", *self.recognizer.packages), "leave it out")
        self.state()
        for path in self.text_scps:
            if not _transcripts(path):
                logging.warning("%s: no such file; WER is left out, dWER needs no transcripts", path)

    def describe(self) -> str:
        return f"{self.recognizer.describe()}, text '{self.text}'"

    def state(self) -> str:
        return f"{self.recognizer.stamp} {self.text} {state_of(files=self.text_scps)}"

    def score(self, item: Item) -> dict[str, float | str]:
        index, suffix, normalise = item.number - 1, self.recognizer.suffix, NORMALISATIONS[self.text]
        heard = self._hear(self.folder, item.whole.source.outputs[index], item.output, item.rate)
        clean = self._hear(self.clean_folder, item.whole.source.references[index], item.target, item.rate)
        if heard is None or clean is None:
            return {}
        tables = [_transcripts(path) for path in self.text_scps]
        said = normalise(tables[index].get(item.whole.source.key, "") if index < len(tables) else "")
        heard, clean = normalise(heard), normalise(clean)
        row: dict[str, float | str] = {HEARD: f"{said}\t{clean}\t{heard}"}
        row |= word_errors(clean, heard, f"dWER{suffix}")
        if said:
            row |= word_errors(said, heard, f"WER{suffix}")
            row[f"WER{suffix}_clean"] = word_errors(said, clean, "WER")["WER"]
        return row

    def finish(self, folder: Path, scores: Scores) -> None:
        """Write the texts as tables to read, ``words{suffix}_spk{n}.tsv``."""
        lines: dict[int, list[str]] = defaultdict(list)
        for (key, number), row in sorted(scores.items()):
            if HEARD in row:
                lines[number].append(f"{key}\t{row[HEARD]}")
        for number, table in lines.items():
            with atomic_write(folder / f"words{self.recognizer.suffix}_spk{number}.tsv") as stream:
                stream.write("\n".join(["key\ttranscript\theard in clean\theard in output", *table]) + "\n")
        missing = len(scores) - sum(map(len, lines.values()))
        if missing:
            logging.warning("%d of %d items are too short or too long to be recognised", missing, len(scores))

    def _hear(self, folder: str, path: str, samples: np.ndarray, rate: int) -> str | None:
        """What is heard in a recording, from the texts in ``folder`` if it was heard before."""
        store = Path(folder) / f"recognised{self.recognizer.suffix}.jsonl"
        name = state_of(self.recognizer.stamp, files=[path])
        texts = _texts(store)
        if name not in texts:
            texts[name] = _network(self.recognizer)(samples, rate)
            store.parent.mkdir(parents=True, exist_ok=True)
            with open(store, "a", encoding="utf-8") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                stream.write(json.dumps([name, texts[name], path]) + "\n")
        return texts[name]


_transcripts = functools.cache(read_if_there)


@functools.cache
def _network(recognizer: Recognizer) -> Hear:
    return recognizer.load()


@functools.cache
def _texts(store: Path) -> dict[str, str | None]:
    """What is kept in ``store``, without lines that a killed run left unfinished."""
    texts: dict[str, str | None] = {}
    if store.exists():
        for line in store.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                name, text, _ = json.loads(line)
                texts[name] = text
    return texts


def word_errors(reference: str, recognised: str, rate: str) -> dict[str, float]:
    """Return an error rate and its parts, over the words of ``reference``, and the number of those.

    Columns are ``rate`` ("WER", "dWER_whisper", ...), ``{rate}_sub``, ``{rate}_del``, ``{rate}_ins``, ``{rate}_words``; there
    are none where the reference has no words, as no rate is defined. Of several alignments with the fewest errors
    ``jiwer`` takes one; the sum is the same in all.
    """
    import jiwer

    words = len(reference.split())
    if not words:
        return {}
    found = jiwer.process_words(reference, recognised)
    row = {f"{rate}_{kind}": getattr(found, long) / words for kind, long in KINDS.items()}
    return {rate: found.wer, **row, f"{rate}_words": float(words)}


def basic_text(text: str) -> str:
    """Return upper-case words of letters, digits and inner apostrophes, as LibriSpeech's transcripts; "well-known" is two."""
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'").upper()
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text))


def whisper_text(text: str) -> str:
    """Return the text as Whisper's own normaliser for English leaves it, without its table of British spellings."""
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return str(EnglishTextNormalizer({})(text)).strip()


# With "none", case and punctuation count, as in some published evaluations.
NORMALISATIONS = {"basic": basic_text, "none": lambda text: " ".join(text.split()), "whisper_en": whisper_text}
