"""Reading audio files: every recording is read here, with checks; :mod:`espnet_tse_gen.audio.writing` writes them.

What is read: a file, ``-`` or another pipe (once), to its real end, whatever its header says of its length.
"""

import contextlib
import hashlib
import io
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from espnet_tse_gen.audio.level import Level
from espnet_tse_gen.audio.segments import Forward
from espnet_tse_gen.utils.errors import UserError, are_warnings_shown, warn
from espnet_tse_gen.utils.files import is_lfs_pointer

READ_FORMATS = "WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, AU, CAF, W64"
"""What people have of the formats that libsndfile reads."""
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64")
"""Suffixes, in small letters, of what is looked for in folders."""

MEAN = 0
"""In the place of a channel's number: the mean of all."""

_BLOCK = 2**18
_LARGEST = 2**28  # samples: four hours and a half at 16 kHz
# Largest number that fits into the 36 bits of a FLAC's header; libsndfile says 2**63 - 1 where they hold 0.
UNKNOWN_LENGTH = 2**36 - 1
# Programs that write into a pipe put a size near 2**31, 2**32, 2**63 or 2**64 into the header, as they do not know it yet;
# libsndfile shows the last as negative numbers.
_UNKNOWN_BYTES = (range(0x7FFF0000, 2**32), range(2**62, 2**63), range(-(2**63), 0))
_LEAST_SHARE = 0.01
"""Of what a header names; a recording that holds less is not one that was cut short."""
_NOT_RECOGNISED = 1

_warned: set[str] = set()


class Audio(NamedTuple):
    """A mono recording, and how its file holds it."""

    samples: np.ndarray  # float32 [L] in -1..1
    rate: int  # Hz
    format: str  # libsndfile's name of the container, such as WAV; empty where other readers find no samples
    subtype: str  # libsndfile's name of the sample format, such as PCM_16


class AudioFile(Forward):
    """A mono recording that is not held but read as it is needed, after it has been read once for its checks.

    What comes from a pipe is kept as it came, encoded. Arguments and errors are those of :func:`read_audio`.
    """

    def __init__(self, path: str | Path, key: str | None = None, channel: int | None = None) -> None:
        self.path, self._key, self._channel = path, key, channel
        self.level = Level()
        self.hash = hashlib.blake2b(digest_size=16)
        """Of the samples."""
        with open_audio(path, key) as (file, repaired):
            check_header(path, key, file, None, channel)
            for part in _checked_parts(path, key, file, channel, repaired):
                self.level.add(part)
                self.hash.update(part.data)
            self.rate, self.subtype, self._source = int(file.samplerate), file.subtype, file.name
        super().__init__(self.parts, self.level.size)

    def parts(self) -> Iterator[np.ndarray]:
        """Read it, float32 ``[L_i]`` in -1..1; a ``UserError`` if it cannot be read any more, or has become shorter."""
        left = len(self)
        with open_audio(self.path, self._key, self._source) as (file, _):
            for part in _mono_parts(file, self._channel):
                yield part[:left]
                left -= len(part)
                if left <= 0:
                    return
        raise UserError(f"{_name(self.path, self._key)}: became shorter while it was read; start again")


class _Stream(soundfile.SoundFile):
    """A file that is read on as long as something comes: soundfile seeks behind every read, which needs a true header."""

    def seekable(self) -> bool:
        return False


def read_audio(
    path: str | Path, sample_rate: int | None = None, key: str | None = None, channel: int | None = None
) -> tuple[np.ndarray, int]:
    """Read a mono recording; return its samples, float32 ``[L]`` in -1..1, and its rate, Hz.

    Args:
        path: Any file that libsndfile reads; ``-`` or another pipe, which can be read once.
        sample_rate: The rate that the file must have; ``None`` takes any.
        key: The key in a table, for the error message; a table cannot name a pipe.
        channel: The one to take, from 1; ``MEAN`` of all; ``None`` refuses a recording of several.

    Raises:
        UserError: If the file is missing, not audio, damaged, empty, not mono, of another rate, or holds NaN or Inf.
    """
    return read_with_format(path, sample_rate, key, channel)[:2]


def read_with_format(
    path: str | Path, sample_rate: int | None = None, key: str | None = None, channel: int | None = None
) -> Audio:
    """Read a mono recording and how it is stored; arguments and errors as for :func:`read_audio`."""
    with open_audio(path, key) as (file, repaired):
        check_header(path, key, file, sample_rate, channel)
        # Into one array, so that nothing is held twice. What is not written to takes no memory: a header may name any length.
        samples, length = np.empty(min(file.frames, _LARGEST), np.float32), 0
        for part in _checked_parts(path, key, file, channel, repaired):
            if length + len(part) > len(samples):
                samples = np.concatenate([samples[:length], np.empty(max(len(part), length // 2), np.float32)])
            samples[length : length + len(part)] = part
            length += len(part)
        return Audio(samples[:length], int(file.samplerate), "" if repaired else file.format, file.subtype)


def read_header(
    path: str | Path, key: str | None = None, sample_rate: int | None = None, mono: bool = True
) -> tuple[int, int]:
    """Return ``(samples, rate in Hz)`` of a recording, read for its length where the header does not know it.

    Arguments and errors are those of :func:`read_audio`, but that NaN and Inf are not looked for, and recordings of several
    channels are refused only if ``mono``.
    """
    with open_audio(path, key or "") as (file, repaired):
        check_header(path, key, file, sample_rate, None if mono else 1)
        length = file.frames if file.frames < UNKNOWN_LENGTH else sum(map(len, _parts(file)))
        _compare(path, key, file, length, repaired)
        return int(length), int(file.samplerate)


@contextlib.contextmanager
def open_audio(
    path: str | Path, key: str | None = None, source: bytes | io.BytesIO | None = None
) -> Iterator[tuple[soundfile.SoundFile, bool]]:
    """Yield a recording, open, and whether its length was mended; an error of libsndfile inside the block becomes one line.

    A WAV of length 0 that is followed by samples, as a program that was ended while it recorded leaves it, gets its length.
    ``read`` wants to be told how many samples. ``source`` is the ``name`` of a file that was open, to open it again.

    Raises:
        UserError: If the file is missing, not audio or damaged.
    """
    try:
        with contextlib.ExitStack() as opened:
            source = source or _source(path, key)
            if isinstance(source, io.BytesIO):
                # One of its own, at its start: others may read the same recording, somewhere else in it.
                source = io.BytesIO(source.getvalue())
            file = opened.enter_context(_Stream(source))
            repaired = None
            if file.frames == 0 and file.format in ("WAV", "WAVEX"):
                repaired = _with_length(
                    source.getvalue() if isinstance(source, io.BytesIO) else Path(os.fsdecode(source)).read_bytes()
                )
                file = file if repaired is None else opened.enter_context(_Stream(io.BytesIO(repaired)))
            yield file, repaired is not None
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise _unreadable(path, key, error) from None


def _source(path: str | Path, key: str | None) -> bytes | io.BytesIO:
    """Return a file's path, in bytes, which may be of no encoding, or what is in a pipe."""
    standard_input = str(path) == "-"
    if not standard_input and (os.path.isfile(path) or not os.path.exists(path)):
        return os.fsencode(path)
    if os.path.isdir(path):
        raise UserError(f"{_name(path, key)}: is a folder; name a recording in it")
    if key is not None:
        raise UserError(f"{_name(path, key)}: is no file, and tables name files; write what comes from it into one")
    with open(0 if standard_input else path, "rb", closefd=not standard_input) as stream:
        content = stream.read()
    if not content:
        raise UserError(f"{_name(path, key)}: nothing comes from it; a pipe can be read once, by one option")
    return io.BytesIO(content)


def _with_length(content: bytes) -> bytes | None:
    """Return a WAV whose data have length 0 with that of all that follows; None if that is not audio, but further chunks."""
    place = 12
    while content[:4] == b"RIFF" and place + 8 < len(content):
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        if content[place : place + 4] == b"data" and size == 0 and not _are_chunks(content, place + 8):
            lengths = [number.to_bytes(4, "little") for number in (len(content) - 8, len(content) - place - 8)]
            return b"".join((b"RIFF", lengths[0], content[8 : place + 4], lengths[1], content[place + 8 :]))
        place += 8 + size + size % 2
    return None


def _are_chunks(content: bytes, place: int) -> bool:
    while place + 8 <= len(content):
        if not content[place : place + 4].strip().isalnum():
            return False
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return place - len(content) in (0, 1)


def _parts(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Yield what is in a file, float32 ``[<= block, channels]``, to its real end."""
    block = max(1, min(file.frames, _BLOCK // file.channels))
    while len(part := file.read(block, dtype="float32", always_2d=True)):
        yield part


def _mono_parts(file: soundfile.SoundFile, channel: int | None) -> Iterator[np.ndarray]:
    mixed_down = channel == MEAN and file.channels > 1
    for part in _parts(file):
        yield part.mean(axis=1) if mixed_down else np.ascontiguousarray(part[:, (channel or 1) - 1])


def _checked_parts(
    path: str | Path, key: str | None, file: soundfile.SoundFile, channel: int | None, repaired: bool
) -> Iterator[np.ndarray]:
    """Yield a recording, float32 ``[L_i]``, and say what is to be said of it once it is read."""
    length = 0
    for part in _mono_parts(file, channel):
        check_finite(path, key, part)
        length += len(part)
        yield part
    _compare(path, key, file, length, repaired)
    if channel == MEAN and file.channels > 1:
        warn(f"{_name(path, key)}: has {file.channels} channels; their mean is used")


def check_header(
    path: str | Path, key: str | None, file: soundfile.SoundFile, wanted: int | None, channel: int | None
) -> None:
    """Raise a :class:`UserError` unless a file has the ``wanted`` rate and ``channel``, as :func:`read_audio` takes them."""
    name = _name(path, key)
    if file.channels != 1 and channel is None:
        raise UserError(f"{name}: has {file.channels} channels, expected 1; mix it down or choose one channel first")
    if channel is not None and channel > file.channels:
        raise UserError(f"{name}: has no channel {channel}; choose one of 1 to {file.channels}")
    if wanted is not None and file.samplerate != wanted:
        raise UserError(
            f"{name}: sampling rate is {file.samplerate} Hz, expected {wanted} Hz; resample it first (or run format_wav)"
        )


def check_finite(path: str | Path, key: str | None, samples: np.ndarray) -> None:
    """Raise a :class:`UserError` if a sample is NaN or infinite."""
    if not np.isfinite(samples).all():
        raise UserError(f"{_name(path, key)}: holds NaN or infinite samples; replace or remove it")


def _compare(path: str | Path, key: str | None, file: soundfile.SoundFile, samples: int, repaired: bool) -> None:
    """Say on stderr, once for a file, where it holds something else than its header says.

    Raises:
        UserError: If it holds nothing, or next to nothing of that.
    """
    log, name, seconds = file.extra_info, _name(path, key), f"{samples / file.samplerate:.2f}"
    if samples == 0:
        raise UserError(f"{name}: has no samples; replace or remove it")
    said = re.search(r"(?:data|SSND|Data Size|riff|Riff size)\s*: (-?\d+) \(should be (\d+)\)", log)
    more = re.search(r"Length : (\d+)(?s:.*)Unknown chunk marker .* at position (\d+)", log)
    there, whole = (int(said[2]), int(said[1])) if said else (samples, file.frames)
    known = not any(whole in sizes for sizes in _UNKNOWN_BYTES) if said else whole < UNKNOWN_LENGTH
    if known and there < _LEAST_SHARE * whole:
        unit = "bytes" if said else "samples"
        raise UserError(
            f"{name}: is damaged: it has {there} of the {whole} {unit} that its header names; copy it again"
        )
    if repaired:
        text = f"its header says that it is empty, so its recording was broken off; the {seconds} s behind it are used"
    elif said and known and there < whole:
        text = f"is cut short, or its header is wrong: it has {there} of {whole} bytes; these {seconds} s are used"
    elif samples < file.frames < UNKNOWN_LENGTH:
        whole = f"{file.frames / file.samplerate:.2f}"
        text = f"is cut short, or its header is wrong: it has {seconds} of {whole} s, which are used"
    elif known and more and int(more[1]) - int(more[2]) > samples:
        text = f"its header is wrong: more follows behind the {seconds} s that it names, which alone are used"
    elif file.format == "OGG" and isinstance(file.name, bytes) and not _ogg_ends(file.name):
        text = f"is cut short: its last page is missing; the {seconds} s before it are used"
    else:
        return
    # Once on a terminal, however often a recording is read; where warnings are collected, in each collection.
    if name not in _warned or not are_warnings_shown():
        _warned.add(name)
        warn(f"{name}: warning: {text}")


def _ogg_ends(path: bytes) -> bool:
    """Return whether the last page of an Ogg file says that it is the last."""
    with open(path, "rb") as stream:
        stream.seek(max(0, os.path.getsize(path) - 2**17))
        _, mark, page = stream.read().rpartition(b"OggS")
    return not mark or len(page) < 2 or bool(page[1] & 4)


def _unreadable(path: str | Path, key: str | None, error: Exception) -> UserError:
    """Return the error for a file that soundfile could not read."""
    name, file = _name(path, key), Path(path)
    if str(path).rstrip().endswith("|"):
        return UserError(f"{name}: commands in tables are not run; write what it gives into a file, and name that")
    if str(path) != "-" and not os.path.exists(path):
        return UserError(f"{name}: no such file")
    if os.path.isfile(path) and not os.path.getsize(path):
        return UserError(f"{name}: is not a readable audio file (it is empty); replace or remove it")
    if os.path.isfile(path) and is_lfs_pointer(path):
        return UserError(f"{name}: is a pointer of Git LFS in the place of the recording; run 'git lfs pull'")
    if getattr(error, "code", None) == _NOT_RECOGNISED:
        made = f"{file.stem}_converted.wav" if file.suffix.lower() == ".wav" else f"{file.stem}.wav"
        return UserError(
            f"{name}: is not a readable audio file: of the formats {READ_FORMATS} it is none; convert a recording of "
            f"another one first, such as by 'ffmpeg -i {shlex.quote(file.name)} -ac 1 {shlex.quote(made)}'"
        )
    reason = getattr(error, "error_string", "") or getattr(error, "strerror", "") or str(error)
    reason = reason.removeprefix("Error : ").rstrip(".")
    return UserError(f"{name}: is not a readable audio file ({reason}); replace or remove it")


def _name(path: str | Path, key: str | None) -> str:
    return f"{path} (key '{key}')" if key else "standard input" if str(path) == "-" else f"{path}"
