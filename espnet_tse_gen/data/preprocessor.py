"""Turn what ESPnet's dataset read for one mixture into one training item.

Draws the target among the mixture's speakers, draws its enrolment (never the target utterance, where the speaker has another),
brings everything to the codec's rate and to the common level, and cuts a crop whose borders lie on codec frames, so that
precomputed tokens can be cut alike. In validation the same item always gives the same draw.
"""

import logging
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.audio.level import LEVEL_DBFS, mixture_gain
from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.data.datadir import read_pool
from espnet_tse_gen.data.enrolment.embeddings import SpeakerEmbeddings
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write

LABEL = "spk_label_ref1"
"""What an item calls the number of its enrolled speaker."""
GIVEN = (
    "train", "codec_sample_rate", "hop", "sample_rate", "ref_num", "train_spk2enroll", "speaker_embeddings", "speakers",
)  # fmt: skip
"""Options of :class:`TSEGenPreprocessor` that a task gives, not ``preprocessor_conf``."""


class SpeakerTable:
    """Training speakers, numbered from 0 in the order of their names, for extractors that learn to tell them apart."""

    def __init__(self, speakers: Iterable[str]) -> None:
        self.names = sorted(set(speakers))
        self._numbers = {name: number for number, name in enumerate(self.names)}
        if not self.names:
            raise UserError("the training data name no speaker; give --train_spk2enroll, or utt2spk to dynamic mixing")

    def __len__(self) -> int:
        return len(self.names)

    def label(self, speaker: str) -> np.ndarray:
        """Return the number of a speaker as int64 ``[1]``; -1 for one who is not in the table."""
        return np.array([self._numbers.get(speaker, -1)], dtype=np.int64)

    def write(self, path: str | Path) -> None:
        """Write one name per line, in the order of the numbers."""
        with atomic_write(path) as stream:
            stream.writelines(f"{name}\n" for name in self.names)


class TSEGenPreprocessor:
    """What ESPnet's dataset calls with every item that it read; a model of waveforms has ``hop`` 1."""

    def __init__(
        self,
        train: bool,  # whether draws are random (training) or fixed by the item's name (validation)
        codec_sample_rate: int,  # Hz of what the model gets
        hop: int,  # samples per codec frame
        sample_rate: int = 0,  # Hz of the recordings; 0 means the codec's rate
        ref_num: int = 2,  # number of speakers in a mixture
        # JSON file `{speaker: [[utterance, wav], ...]}`, needed where enrolments are named `*UTTERANCE SPEAKER`
        train_spk2enroll: str | None = None,
        crop_seconds: float = 4.0,  # length of a training crop; 0 keeps whole mixtures
        # shortest and longest training enrolment; validation takes the longest from the start
        enroll_seconds: tuple[float, float] | list[float] = (2.0, 6.0),
        level_dbfs: float = LEVEL_DBFS,  # the common level
        # embeddings by the enrolment's path, for a model that takes them
        speaker_embeddings: SpeakerEmbeddings | None = None,
        speakers: SpeakerTable | None = None,  # numbers of the enrolled speakers, for a model that takes them
    ) -> None:
        if len(enroll_seconds) != 2 or not 0 < enroll_seconds[0] <= enroll_seconds[1]:
            raise UserError(f"preprocessor_conf: enroll_seconds {list(enroll_seconds)}: expected [shortest, longest]")
        if crop_seconds < 0 or ref_num < 1:
            raise UserError(f"preprocessor_conf: crop_seconds {crop_seconds} and ref_num {ref_num} must be positive")
        self.train, self.ref_num, self.rate, self.hop = train, ref_num, codec_sample_rate, hop
        self.data_rate = sample_rate or codec_sample_rate
        self.crop_frames = round(crop_seconds * codec_sample_rate / hop)
        self.enroll_seconds = (float(enroll_seconds[0]), float(enroll_seconds[1]))
        self.level_dbfs, self.speaker_embeddings, self.speakers = level_dbfs, speaker_embeddings, speakers
        self.spk2enroll = read_pool(train_spk2enroll) if train_spk2enroll else None
        self._warned = False

    def __call__(self, uid: str, data: dict[str, str | np.ndarray]) -> dict[str, np.ndarray]:
        """Return ``speech_mix`` and, of one target, ``enroll_ref1``, ``codes_ref1``, ``speech_ref1``, ``embed_ref1`` and label.

        Tokens, recording and embedding are there where they are given. What cannot be used is a :class:`UserError`.
        """
        target = 1 + self._choose(uid, self.ref_num)
        recorded = one_channel(data["speech_mix"], uid, "speech_mix")
        # Of the recording at its own rate, as in token extraction and decoding.
        gain = mixture_gain(recorded, self.level_dbfs)
        mixture = resample(recorded, self.data_rate, self.rate)
        frames = -(-len(mixture) // self.hop)
        length = min(frames, self.crop_frames) if self.crop_frames else frames
        start = int(np.random.randint(frames - length + 1)) if self.train else 0
        samples = slice(start * self.hop, (start + length) * self.hop)
        item = {"speech_mix": (mixture[samples] * gain).astype(np.float32)}
        codes, speech = data.get(f"codes_ref{target}"), data.get(f"speech_ref{target}")
        if codes is None and speech is None:
            raise UserError(f"neither codes_ref{target} nor speech_ref{target} given for '{uid}'; give one of them")
        if codes is not None:
            if len(codes) != frames:
                raise UserError(
                    f"codes_ref{target} of '{uid}' has {len(codes)} frames, expected {frames} for this mixture;"
                    " extract the tokens again (token extraction stage)"
                )
            item["codes_ref1"] = np.asarray(codes)[start : start + length].astype(np.int64)
        if speech is not None:
            speech = one_channel(speech, uid, f"speech_ref{target}")
            if len(speech) != len(recorded):
                raise UserError(f"speech_ref{target} of '{uid}' has {len(speech)} samples, its mixture {len(recorded)}")
            speech = resample(speech, self.data_rate, self.rate)
            item["speech_ref1"] = (speech[samples] * gain).astype(np.float32)
        seconds = (start * self.hop / self.rate, (start + length) * self.hop / self.rate)
        entry = str(data[f"enroll_ref{target}"])
        item["enroll_ref1"], path = self._enroll(uid, entry, seconds)
        if self.speaker_embeddings is not None:
            item["embed_ref1"] = self.speaker_embeddings[path]
        if self.speakers is not None:
            # "*UTTERANCE SPEAKER" where training draws enrolments; a path, in validation, tells no speaker.
            item[LABEL] = self.speakers.label(entry.split()[1] if entry.startswith("*") else "")
        return item

    def _choose(self, uid: str, count: int) -> int:
        """Draw a number below ``count``; in validation, by the item's name."""
        return int(np.random.randint(count)) if self.train else zlib.crc32(uid.encode()) % count

    def _enroll(self, uid: str, entry: str, target_seconds: tuple[float, float]) -> tuple[np.ndarray, str]:
        """Read and cut the enrolment that ``entry`` names, a path or one to draw; return it and its recording's path."""
        shortest, longest = self.enroll_seconds
        seconds = float(np.random.uniform(shortest, longest)) if self.train else longest
        path, same_utterance = self._draw_enroll(uid, entry) if entry.startswith("*") else (entry, False)
        audio, rate = read_audio(path, key=uid)
        if same_utterance:
            audio = _outside(audio, rate, target_seconds, shortest)
        wanted = max(1, round(seconds * rate))
        if len(audio) > wanted:
            begin = int(np.random.randint(len(audio) - wanted + 1)) if self.train else 0
            audio = audio[begin : begin + wanted]
        return (resample(audio, rate, self.rate) * mixture_gain(audio, self.level_dbfs)).astype(np.float32), path

    def _draw_enroll(self, uid: str, entry: str) -> tuple[str, bool]:
        fields = entry[1:].split()
        if len(fields) != 2:
            raise UserError(f"enrolment of '{uid}' is '{entry}', expected '*UTTERANCE SPEAKER' or a path")
        utterance, speaker = fields
        if self.spk2enroll is None:
            raise UserError(f"enrolment of '{uid}' is drawn by speaker, which needs --train_spk2enroll spk2enroll.json")
        if not (listed := self.spk2enroll.get(speaker)):
            raise UserError(f"speaker '{speaker}' of '{uid}' has no utterance in --train_spk2enroll; add one")
        if others := [path for name, path in listed if name != utterance]:
            return others[self._choose(uid, len(others))], False
        if not self._warned:
            self._warned = True
            single = sum(len({name for name, _ in own}) == 1 for own in self.spk2enroll.values())
            logging.warning(
                f"{single} of {len(self.spk2enroll)} speakers have one utterance: their enrolments come from the rest of it"
            )
        return listed[0][1], True


def one_channel(value: str | np.ndarray, uid: str, name: str) -> np.ndarray:
    """Return the samples ``[L]`` that ESPnet read; if they are not one channel of numbers, it is a :class:`UserError`."""
    samples = np.asarray(value, dtype=np.float32)
    if samples.ndim != 1:
        if samples.ndim != 2 or samples.shape[1] != 1:
            raise UserError(f"{name} of '{uid}' has {samples.shape[-1]} channels, expected 1; mix it down first")
        samples = samples[:, 0]
    if samples.size == 0 or not np.isfinite(samples).all():
        raise UserError(f"{name} of '{uid}' is empty or holds NaN or infinite samples; remove or replace it")
    return samples


def _outside(audio: np.ndarray, rate: int, target_seconds: tuple[float, float], shortest: float) -> np.ndarray:
    """Return the longer part of ``audio`` before or after the target's crop, or all of it where neither is long enough."""
    begin, end = (round(seconds * rate) for seconds in target_seconds)
    longer = max(audio[end:], audio[:begin], key=len)
    return longer if len(longer) >= min(shortest * rate, len(audio) / 4) and len(longer) else audio
