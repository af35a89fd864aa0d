"""Word errors: texts made comparable, aligned, and counted by kind.

A generative system invents words, which are insertions, where a discriminative one loses them, which are deletions; so
errors are kept apart. The alignment is Levenshtein's, of least substitutions, deletions and insertions together.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from espnet_tse_gen.utils.errors import unknown_name


@dataclass(frozen=True)
class WordErrors:
    """What is wrong in a recognised text.

    Attributes:
        words: Words of the reference.
        substitutions: Words of the reference that became others.
        deletions: Words of the reference that are missing.
        insertions: Words that the reference does not have.
    """

    words: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        """All of them together."""
        return self.substitutions + self.deletions + self.insertions

    def columns(self, rate: str, suffix: str = "") -> dict[str, float]:
        """Return the columns of ``scores.csv``: the error rate and its parts, over the reference's words, and those.

        Args:
            rate: "WER" or "dWER".
            suffix: Which recognizer, in the columns' names.

        Returns:
            Nothing where the reference has no words, as no rate is defined.
        """
        if not self.words:
            return {}
        name = f"{rate}{suffix}"
        counts = {"sub": self.substitutions, "del": self.deletions, "ins": self.insertions}
        parts = {f"{name}_{kind}": count / self.words for kind, count in counts.items()}
        return {name: self.errors / self.words, **parts, f"{name}_words": float(self.words)}


def count_errors(reference: Sequence[str], recognised: Sequence[str]) -> WordErrors:
    """Align two word sequences and count errors by kind.

    Of several alignments with the fewest errors, the one with the most substitutions counts: a word in place of another
    is one error, not a deletion and an insertion; between the two, their numbers differ by the lengths alone.
    """
    # row[j]: errors, gaps (deletions and insertions), and each kind, of the best alignment of what has been read of
    # `reference` with the first j words of `recognised`.
    row = [(j, j, 0, 0, j) for j in range(len(recognised) + 1)]
    for i, wanted in enumerate(reference, 1):
        previous, row = row, [(i, i, 0, i, 0)]
        for j, found in enumerate(recognised, 1):
            cost, gaps, subs, dels, ins = previous[j - 1]
            options = [(cost, gaps, subs, dels, ins) if wanted == found else (cost + 1, gaps, subs + 1, dels, ins)]
            cost, gaps, subs, dels, ins = previous[j]
            options.append((cost + 1, gaps + 1, subs, dels + 1, ins))
            cost, gaps, subs, dels, ins = row[j - 1]
            options.append((cost + 1, gaps + 1, subs, dels, ins + 1))
            row.append(min(options))
    _, _, substitutions, deletions, insertions = row[-1]
    return WordErrors(len(reference), substitutions, deletions, insertions)


def basic_text(text: str) -> str:
    """Return upper-case words of letters, digits and inner apostrophes, as LibriSpeech's transcripts are written.

    Other marks part words, so "well-known" is two.
    """
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'").upper()
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text))


def plain_text(text: str) -> str:
    """Return the words as they are, with single spaces: case and punctuation count, as in some published evaluations."""
    return " ".join(text.split())


def whisper_text(text: str) -> str:
    """Return the text as Whisper's own normaliser for English leaves it, without its table of British spellings.

    Lower case, no punctuation, no fillers, numbers as digits, contractions written out.
    """
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return str(EnglishTextNormalizer({})(text)).strip()


NORMALISATIONS: dict[str, Callable[[str], str]] = {
    "basic": basic_text,
    "none": plain_text,
    "whisper_en": whisper_text,
}


def normalisation(name: str) -> Callable[[str], str]:
    """Return a text normalisation by name.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in NORMALISATIONS:
        raise unknown_name("text normalisation", name, NORMALISATIONS)
    return NORMALISATIONS[name]
