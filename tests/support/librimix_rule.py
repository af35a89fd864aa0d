"""The official generation rule, written from its description without a line of the package: what every file must hold."""

import csv
import io
from pathlib import Path

import numpy as np
import scipy.signal
import soundfile

TYPES = ("mix_clean", "mix_both", "mix_single")
SEAM = 8001


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def sources_of(row: dict[str, str]) -> list[str]:
    return [row[f"source_{k}_path"] for k in range(1, 10) if f"source_{k}_path" in row]


def overlap_add(noise: np.ndarray, length: int) -> np.ndarray:
    """The extension as a sum of faded copies, each placed so that it overlaps its neighbour by 8,001 samples."""
    rise, step = np.hanning(2 * SEAM - 1)[:SEAM], len(noise) - SEAM
    total = np.zeros(length + 2 * len(noise))
    for start in range(0, max(1, length - SEAM), step):
        copy = noise.astype(np.float64)
        if start:
            copy[:SEAM] *= rise
        if start + len(noise) < length:
            copy[-SEAM:] *= rise[::-1]
        total[start : start + len(noise)] += copy
    return total[:length]


def as_wav(samples: np.ndarray, rate: int) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="WAV")
    return stream.getvalue()


def official_files(row: dict[str, str], speech: Path, noise_root: Path, rate: int, mode: str) -> dict[str, bytes]:
    """Return what the official scripts write for a row, by folder: the bytes of the files."""
    signals = {}
    for k, path in enumerate(sources_of(row), 1):
        signals[f"s{k}"] = soundfile.read(speech / path, dtype="float32")[0]
    longest = max(len(signal) for signal in signals.values())
    noise = soundfile.read(noise_root / row["noise_path"], dtype="float32", always_2d=True)[0][:longest, 0]
    signals["noise"] = overlap_add(noise, longest) if len(noise) < longest else noise
    for name, signal in signals.items():
        gain = row["noise_gain" if name == "noise" else f"source_{name[1:]}_gain"]
        signals[name] = scipy.signal.resample_poly(signal * float(gain), rate, 16000)
    lengths = [len(signal) for signal in signals.values()]
    for name, signal in signals.items():
        if mode == "min":
            signals[name] = signal[: min(lengths)]
        else:
            signals[name] = np.concatenate([signal, np.zeros(max(lengths) - len(signal), signal.dtype)])
    clean = signals["s1"]
    for k in range(2, len(lengths)):
        clean = clean + signals[f"s{k}"]
    mixed = {
        "mix_clean": clean,
        # The official script adds into an array of the sources' precision.
        "mix_both": (clean + signals["noise"]).astype(np.float32),
        "mix_single": (signals["s1"] + signals["noise"]).astype(np.float32),
    }
    return {name: as_wav(signal, rate) for name, signal in {**signals, **mixed}.items()}


def assert_same(path: Path, wanted: bytes, rate: int) -> None:
    """Require that the file ``path`` holds the samples of the wav ``wanted``, and is 16-bit PCM at ``rate``."""
    if path.read_bytes() == wanted:
        return
    found, found_rate = soundfile.read(path, dtype="int16")
    assert (found_rate, soundfile.info(path).subtype) == (rate, "PCM_16"), path
    np.testing.assert_array_equal(found, soundfile.read(io.BytesIO(wanted), dtype="int16")[0], err_msg=str(path))
    raise AssertionError(f"{path}: same samples in another file than soundfile.write makes")
