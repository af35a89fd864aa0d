"""What the page takes: how long a recording may be."""

from pathlib import Path

from espnet_tse_gen.audio.files import MEAN, UNKNOWN_LENGTH, Audio, open_audio, read_with_format
from espnet_tse_gen.utils.errors import UserError

HIGHEST_RATE = 192000
"""Hz; a higher rate costs memory and holds no more of a voice."""
_BLOCK = 2**20


def read_limited(path: Path, minutes: float) -> Audio:
    """Read a recording of at most ``minutes``, of several channels their mean.

    No more than that is decoded before it is refused: a small file may hold days of silence, whatever its header says.

    Raises:
        UserError: If it is longer or its header says so, has a rate above :data:`HIGHEST_RATE`, or cannot be read.
    """
    with open_audio(path) as (file, _):
        if file.samplerate > HIGHEST_RATE:
            raise UserError(
                f"{path}: sampling rate is {file.samplerate} Hz, expected at most {HIGHEST_RATE}; resample it"
            )
        most, length = minutes * 60 * file.samplerate, 0
        claimed = file.frames if file.frames < UNKNOWN_LENGTH else 0
        while max(claimed, length) <= most and (read := len(file.read(max(1, _BLOCK // file.channels)))):
            length += read
        if max(claimed, length) > most:
            raise UserError(
                f"{path}: is longer than {minutes:g} minutes, or its header says so; take a part of it, or start the page "
                "with a larger --max-minutes"
            )
    return read_with_format(path, channel=MEAN)
