"""Small spectrogram images of one fixed size, so that those of one mixture can be compared side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from espnet_tse_gen.utils.files import atomic_write

WIDTH, HEIGHT = 320, 128
RANGE_DB = 70.0
COLOURS = 64


def write_spectrogram(path: str | Path, samples: np.ndarray, sample_rate: int, full_scale: float) -> None:
    """Write a PNG of :data:`WIDTH` x :data:`HEIGHT` pixels: time to the right, 0 Hz at the bottom, linear frequency.

    Args:
        path: File to write.
        samples: Float ``[L]``.
        sample_rate: Hz; the image reaches half of it.
        full_scale: Magnitude shown as the brightest colour (see :func:`peak_magnitude`); the same value for all signals
            of a mixture makes their levels comparable. The darkest colour is 70 dB below.
    """
    import matplotlib
    from PIL import Image

    level = 20.0 * np.log10(np.maximum(_magnitudes(samples, sample_rate), 1e-12) / max(full_scale, 1e-12))
    shade = np.clip(1.0 + level / RANGE_DB, 0.0, 1.0)
    # Means over whole pixels where there are more frames than pixels, repeated frames where there are fewer.
    shade = _resize(_resize(shade, WIDTH, axis=1), HEIGHT, axis=0)[::-1]
    index = np.round(shade * (COLOURS - 1)).astype(np.uint8)
    palette = matplotlib.colormaps["magma"](np.linspace(0.0, 1.0, COLOURS))[:, :3]
    image = Image.fromarray(np.ascontiguousarray(index), mode="P")
    image.putpalette(np.round(palette * 255).astype(np.uint8).tobytes())
    with atomic_write(path, "wb") as stream:
        image.save(stream, format="PNG", optimize=True)


def peak_magnitude(samples: np.ndarray, sample_rate: int) -> float:
    """Largest magnitude in the spectrogram of ``samples``, float ``[L]``."""
    return float(np.max(_magnitudes(samples, sample_rate), initial=0.0))


def _magnitudes(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Magnitudes ``[F, T]`` with windows of 32 ms every 8 ms."""
    size = max(64, round(0.032 * sample_rate))
    hop = size // 4
    padded = np.pad(samples.astype(np.float64), (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    return np.asarray(np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)).T)


def _resize(values: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Resample ``values`` along ``axis`` to ``size`` by averaging cells, or by repeating where it has fewer."""
    have = values.shape[axis]
    start = np.floor(np.arange(size) * have / size).astype(int)
    stop = np.maximum(start + 1, np.floor((np.arange(size) + 1) * have / size).astype(int))
    total = np.concatenate([np.zeros_like(values.take([0], axis)), np.cumsum(values, axis=axis)], axis=axis)
    width = (stop - start).reshape([-1 if position == axis else 1 for position in range(values.ndim)])
    return np.asarray((total.take(stop, axis) - total.take(start, axis)) / width)
