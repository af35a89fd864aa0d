"""Recordings as users have them: in any format, and with headers that say something else than what follows."""

import io
from collections.abc import Callable

import numpy as np
import soundfile


def encoded(samples: np.ndarray, rate: int, container: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """The bytes of a file."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=container, subtype=subtype)
    return stream.getvalue()


def with_data_size(wav: bytes, size: int) -> bytes:
    """A WAV whose header says ``size`` bytes of audio, as programs leave it that could not go back to it."""
    place = wav.index(b"data") + 4
    total = (size if size >= 2**31 else size and size + place - 4).to_bytes(4, "little")
    return wav[:4] + total + wav[8:place] + size.to_bytes(4, "little") + wav[place + 4 :]


def with_long_data(content: bytes, size: int) -> bytes:
    """An RF64 or W64, whose headers have room for 64 bits, that says ``size`` bytes of audio in 16 bits."""
    place = content.index(b"ds64") + 8 if content[:4] == b"RF64" else content.index(b"data") + 16
    told = [number.to_bytes(8, "little") for number in (size + 100, size, size // 2)]
    if content[:4] == b"RF64":
        return content[:place] + b"".join(told) + content[place + 24 :]
    return content[:16] + told[0] + content[24:place] + told[1] + content[place + 8 :]


def with_total(flac: bytes, total: int) -> bytes:
    """A FLAC whose header says ``total`` samples; 0 is what an encoder writes that does not know."""
    number = (int.from_bytes(flac[21:26], "big") & 0xF000000000) | total
    return flac[:21] + number.to_bytes(5, "big") + flac[26:]


Damage = Callable[[bytes], bytes]

DAMAGES: dict[str, Damage] = {
    "none": lambda content: content,
    "half": lambda content: content[: len(content) // 2],
    "almost whole": lambda content: content[:-7],
    "header alone": lambda content: content[:44],
    "nothing": lambda content: b"",
    "text": lambda content: b"<html>404 Not Found</html>\n",
    "Git LFS": lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "M4A": lambda content: b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" + content[44:],
    "another hole": lambda content: content[: len(content) // 2] + bytes(999) + content[len(content) // 2 + 999 :],
    "begins with zeros": lambda content: bytes(12) + content[12:],
    "more behind": lambda content: content + b"TAG" + bytes(125),
}
"""What may happen to a file of any format."""
OF_WAV: dict[str, Damage] = {
    "says nothing": lambda content: with_data_size(content, 0),
    "says a pipe": lambda content: with_data_size(content, 0xFFFFFFFF),
    "says sox's pipe": lambda content: with_data_size(content, 0x7FFFFFFF - 36),
    "says too much": lambda content: with_data_size(content, 2 * len(content)),
    "says too little": lambda content: with_data_size(content, 1000),
    "says no channel": lambda content: content[:22] + b"\0\0" + content[24:],
    "says no rate": lambda content: content[:24] + bytes(4) + content[28:],
}
OF_FLAC: dict[str, Damage] = {
    "says nothing": lambda content: with_total(content, 0),
    "says too much": lambda content: with_total(content, 2**30),
    "says all": lambda content: with_total(content, 2**36 - 1),
}
