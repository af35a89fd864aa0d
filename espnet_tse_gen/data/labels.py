"""Numbers of the training speakers, for extractors that also learn to tell them apart, and the preprocessor that adds them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from espnet_tse_gen.data.preprocessor import TSEGenPreprocessor
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write

LABEL = "spk_label_ref1"
"""What an item calls the number of its enrolled speaker."""
UNKNOWN = -1


class SpeakerTable:
    """Speakers in the order of their names, numbered from 0.

    Args:
        speakers: Their names; one that occurs twice counts once.

    Raises:
        UserError: If there is none.
    """

    def __init__(self, speakers: Iterable[str]) -> None:
        self.names = sorted(set(speakers))
        self._numbers = {name: number for number, name in enumerate(self.names)}
        if not self.names:
            raise UserError("the training data name no speaker; give --train_spk2enroll, or utt2spk to dynamic mixing")

    def __len__(self) -> int:
        return len(self.names)

    def label(self, speaker: str | None) -> np.ndarray:
        """Return the number of a speaker as int64 ``[1]``; -1 for one who is not in the table."""
        return np.array([self._numbers.get(str(speaker), UNKNOWN)], dtype=np.int64)

    def write(self, path: str | Path) -> None:
        """Write one name per line, in the order of the numbers."""
        with atomic_write(path) as stream:
            stream.writelines(f"{name}\n" for name in self.names)


class LabelledPreprocessor(TSEGenPreprocessor):
    """Training items as waveforms at the rate of the recordings, with the number of the enrolled speaker.

    Draws target, enrolment and crop as :class:`TSEGenPreprocessor` does, but knows no codec frames.

    Args:
        train: Whether draws are random.
        sample_rate: Hz of the recordings and of what the model gets.
        speakers: The numbers; None leaves them out.
        **options: Options of :class:`TSEGenPreprocessor`.
    """

    def __init__(self, train: bool, sample_rate: int, speakers: SpeakerTable | None = None, **options: Any) -> None:
        super().__init__(train, codec_sample_rate=sample_rate, hop=1, **options)
        self.speakers = speakers

    def _told(self, entry: str) -> dict[str, np.ndarray]:
        if self.speakers is None:
            return {}
        # "*UTTERANCE SPEAKER" where training draws enrolments; a path, in validation, tells no speaker.
        fields = entry[1:].split() if entry.startswith("*") else []
        return {LABEL: self.speakers.label(fields[1] if len(fields) == 2 else None)}
