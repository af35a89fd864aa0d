"""A codec of log-mel magnitudes with k-means codebooks, which needs no download and no GPU.

Its tokens describe the magnitude of the signal in time and frequency and nothing of its phase, which makes them easy to
predict from a mixture; tokens that follow the phase hardly generalise. Two layouts of the codebooks:

- ``bands``: codebook ``k`` quantizes its own group of neighbouring bands (product quantization). Every codebook is a direct
  function of one region of the spectrum, so all codebooks are equally predictable from the mixture.
- ``residual``: codebook ``k`` quantizes what the codebooks before it left of the whole spectrum, coarse to fine.

The phase comes from the mixture where decoding is given one (a magnitude mask on the mixture's spectrum), and otherwise
from Griffin and Lim's algorithm.
"""

import itertools
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from espnet_tse_gen.audio.filterbank import mel_filters
from espnet_tse_gen.audio.stft import istft, stft
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.utils.errors import unknown_name

SPLITS = ("bands", "residual")
MASK_SLOPE = 1.25
MASK_OFFSET = 0.3
"""Shape of the mask in decoding with a mixture; no option, so that trying others does not make another codec."""
MAX_GAIN = 3.0
"""Natural logarithm of the most that a band of an estimate is raised by, 26 dB."""
CHUNK = 16384
"""Rows compared with a codebook at a time; bounds memory at ``CHUNK * entries`` floats."""


class MelCodec(AbsCodec):
    """Log-mel magnitudes, quantized by k-means.

    The latents are ``log(magnitude)`` per mel band (natural logarithm, floored), minus each band's mean over the
    recordings of :meth:`fit` and divided by their common standard deviation: one unit is as many dB in every band.
    """

    window: Tensor
    analysis: Tensor
    spread: Tensor
    inverse: Tensor
    codebooks: Tensor
    mean: Tensor
    scale: Tensor
    fitted: Tensor

    name: ClassVar[str] = "mel"
    trainable: ClassVar[bool] = True
    supports_mixture: ClassVar[bool] = True

    def __init__(
        self,
        sample_rate: int = 16000,  # Hz
        hop: int = 320,  # samples per frame
        n_fft: int = 800,  # samples per analysis window (Hann); `n_fft - hop` must be even and not negative
        num_mels: int = 80,  # mel bands, D
        num_codebooks: int = 8,  # codebooks, K
        codebook_size: int = 256,  # entries per codebook, C
        split: str = "bands",  # `bands` or `residual`
        # magnitudes below this level (dB relative to a full-scale sine) are raised to it, so that no code is spent on noise
        # that nobody hears
        floor_db: float = -80.0,
        griffin_lim_iterations: int = 32,  # iterations of the decoder without a mixture
    ) -> None:
        super().__init__()
        if split not in SPLITS:
            raise unknown_name("split of codec 'mel'", str(split), SPLITS)
        if min(sample_rate, hop, num_codebooks, codebook_size) < 1:
            raise self.fault("sample_rate, hop, num_codebooks and codebook_size must be at least 1")
        if n_fft < hop or (n_fft - hop) % 2:
            raise self.fault(f"n_fft - hop must be even and not negative, got n_fft {n_fft}, hop {hop}")
        if num_mels < num_codebooks:
            raise self.fault(f"num_mels ({num_mels}) must not be below num_codebooks ({num_codebooks})")
        self.sample_rate, self.hop, self.n_fft, self.num_mels = sample_rate, hop, n_fft, num_mels
        self.num_codebooks, self.split, self.floor_db = num_codebooks, split, floor_db
        self.griffin_lim_iterations = griffin_lim_iterations
        self.codebook_sizes, self.latent_dim = (codebook_size,) * num_codebooks, num_mels
        bounds = np.linspace(0, num_mels, num_codebooks + 1).round().astype(int)
        self.groups = tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(bounds))
        """The bands of each codebook, for ``split: bands``."""
        # In single precision, as the filters were of which the tokens of older codec directories are made.
        triangles = mel_filters(sample_rate, n_fft, num_mels, torch.float32).double().numpy()
        sums = triangles.sum(axis=0, keepdims=True)
        if (sums <= 0).any():
            raise self.fault(
                f"num_mels {num_mels} is too many for n_fft {n_fft} at {sample_rate} Hz (a band without a "
                "bin); lower num_mels or raise n_fft"
            )
        # What spreads a value per band onto the bins, [num_mels, bins]; each bin's weights sum to 1.
        spread = triangles.copy()
        covered = np.flatnonzero(spread.sum(axis=1) > 0)
        spread[: covered[0]] = spread[covered[0]]
        spread[covered[-1] + 1 :] = spread[covered[-1]]
        buffers = {
            "window": torch.hann_window(n_fft, dtype=torch.float64),
            "analysis": triangles / sums,
            "spread": (spread / spread.sum(axis=1, keepdims=True)).T,
            "inverse": np.linalg.pinv(triangles / sums),
        }
        for name, array in buffers.items():
            self.register_buffer(name, torch.as_tensor(array).float(), persistent=False)
        self.register_buffer("codebooks", torch.zeros(num_codebooks, codebook_size, num_mels))
        self.register_buffer("mean", torch.zeros(num_mels))
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("fitted", torch.zeros(1, dtype=torch.bool))
        self.freeze()

    def codebook(self, number: int) -> Tensor:
        """Return the vectors of a codebook, float ``[C, D]``; with ``split: bands`` zero outside the codebook's own bands."""
        return self.codebooks[number]

    def log_mel(self, wav: Tensor) -> Tensor:
        """Return the log-mel magnitudes of one waveform ``[L]``: float ``[T, D]``, natural logarithm, floored."""
        return self._log_mel_of(stft(wav, self.window, self.hop).abs())

    def _log_mel_of(self, magnitude: Tensor) -> Tensor:
        # A full-scale sine has magnitude 1 after division by half the window's sum.
        mel = magnitude @ self.analysis / (self.window.sum() / 2)
        return mel.clamp(min=10 ** (self.floor_db / 20)).log()

    def _encode_row(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        if not bool(self.fitted):
            raise self.fault("has no codebooks yet; make a codec directory with 'tse-gen codec' and load that")
        latents = (self.log_mel(wav) - self.mean) / self.scale
        return self.quantize(latents).T, latents.T

    def quantize(self, latents: Tensor) -> Tensor:
        """Return the codes, int64 ``[T, K]``, of latents ``[T, D]``: the nearest entry, codebook by codebook."""
        codes, rest = [], latents
        for group, book in zip(self.groups, self.codebooks, strict=True):
            if self.split == "bands":
                codes.append(nearest(latents[:, group], book[:, group]))
            else:
                codes.append(nearest(rest, book))
                rest = rest - book[codes[-1]]
        return torch.stack(codes, dim=1)

    def fit(  # type: ignore[override]
        self,
        waveforms: Iterable[Tensor],
        seed: int = 0,
        max_frames: int = 60000,
        frames_per_recording: int = 400,
        iterations: int = 20,
    ) -> None:
        """Compute the normalisation and the codebooks from recordings.

        Args:
            waveforms: float ``[L]`` at ``sample_rate``, at the level at which they will be encoded.
            seed: Of the choice of frames and of k-means.
            max_frames: Frames used at most, ``frames_per_recording`` of each; further recordings are not read.
            iterations: Lloyd iterations for each codebook.

        Raises:
            UserError: If there is no recording.
        """
        generator = torch.Generator().manual_seed(seed)
        chosen: list[Tensor] = []
        with self._computing():
            for wav in waveforms:
                frames = self.log_mel(wav.to(self.device, torch.float32)).cpu()
                chosen.append(frames[torch.randperm(len(frames), generator=generator)[:frames_per_recording]])
                if sum(map(len, chosen)) >= max_frames:
                    break
            if not chosen:
                raise self.fault("no recording to fit the codebooks to; give at least one")
            points = torch.cat(chosen)[:max_frames]
            mean = points.mean(dim=0)
            scale = (points - mean).square().mean().sqrt().clamp(min=1e-3)
            points = (points - mean) / scale
            books = torch.zeros(self.codebooks.shape)
            for book, group in zip(books, self.groups, strict=True):
                if self.split == "bands":
                    book[:, group] = kmeans(points[:, group], self.codebook_size, generator, iterations)
                else:
                    book[:] = kmeans(points, self.codebook_size, generator, iterations)
                    points = points - book[nearest(points, book)]
            self.load_state_dict({"codebooks": books, "mean": mean, "scale": scale.view(1), "fitted": torch.ones(1)})

    def _decode_row(self, latents: Tensor, mixture: Tensor | None, quantized: bool) -> Tensor:
        if mixture is None:
            return self._griffin_lim(latents.T * self.scale + self.mean)
        spectrum = stft(mixture, self.window, self.hop)
        difference = MASK_SLOPE * self.scale * self._difference(latents.T, spectrum.abs(), quantized) + MASK_OFFSET
        return istft(spectrum * (difference.clamp(max=0.0).exp() @ self.spread), self.window, self.hop)

    def _change_row(self, latents: Tensor, estimate: Tensor, quantized: bool) -> Tensor:
        """Decode on an estimate of the target, whose bands may also be too faint: the plain ratio, bounded."""
        spectrum = stft(estimate, self.window, self.hop)
        difference = self.scale * self._difference(latents.T, spectrum.abs(), quantized)
        return istft(spectrum * (difference.clamp(max=MAX_GAIN).exp() @ self.spread), self.window, self.hop)

    def _difference(self, target: Tensor, magnitude: Tensor, quantized: bool) -> Tensor:
        """Return by how much the target differs from the mixture, or an estimate, in each band of a frame: ``[T, D]``.

        ``target`` are latents ``[T, D]``, ``magnitude`` ``[T, bins]`` the mixture's. Where the target's codes are the mixture's
        own, the target is all that is there and the gain is 1: a plain ratio would take the quantization error for a difference,
        which costs 3 dB. Elsewhere the mixture is taken half as it is and half as it would be quantized, and the ratio is made a
        little larger and steeper (``MASK_OFFSET``, ``MASK_SLOPE``), all chosen on real speech. Latents that are not quantized are
        compared with the mixture as it is.
        """
        mixture = (self._log_mel_of(magnitude) - self.mean) / self.scale
        difference = target - mixture
        if quantized:
            between_codes = target - self.latents_of(self.quantize(mixture).T.unsqueeze(0))[0].T
            difference = torch.where(between_codes.abs() < 1e-5, 0.0, (difference + between_codes) / 2)
        return difference

    def _griffin_lim(self, log_mel: Tensor) -> Tensor:
        """Find a waveform with the magnitudes ``log_mel`` (``[T, D]``).

        Perraudin, Balazs and Sondergaard, "A fast Griffin-Lim algorithm", 2013, with momentum 0.99. It starts from
        random phases, always the same ones: of the starts tried they gave the most intelligible speech.
        """
        magnitude = (log_mel.exp() @ self.inverse).clamp(min=0.0) * (self.window.sum() / 2)
        frames, bins = magnitude.shape
        turns = torch.rand(frames, bins, generator=torch.Generator().manual_seed(0)).to(magnitude.device)
        spectrum = torch.polar(magnitude, 2 * torch.pi * turns)
        previous = torch.zeros_like(spectrum)
        for _ in range(self.griffin_lim_iterations):
            consistent = stft(istft(spectrum, self.window, self.hop), self.window, self.hop)
            accelerated = consistent + 0.99 * (consistent - previous)
            previous = consistent
            spectrum = magnitude * accelerated / accelerated.abs().clamp(min=1e-8)
        return istft(spectrum, self.window, self.hop)


def nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """Return the index (int64 ``[N]``) of the codebook vector ``[C, d]`` that is nearest to every point ``[N, d]``.

    Of equally near ones, it is the lowest.
    """
    half_norms = codebook.square().sum(dim=1) / 2
    return torch.cat([(half_norms - part @ codebook.T).argmin(dim=1) for part in points.split(CHUNK)])


def kmeans(points: Tensor, entries: int, generator: torch.Generator | None = None, iterations: int = 20) -> Tensor:
    """Return ``entries`` cluster centres ``[entries, d]`` of ``points`` ``[N, d]``, by Lloyd's algorithm from a random start.

    A centre that loses all its points is moved onto a random point. With fewer points than ``entries`` the points are
    repeated with a little noise, so that every entry stays distinct. 20 ``iterations`` are within a few per cent of
    convergence; ``generator`` is on the CPU.
    """
    if points.shape[0] < entries:
        copies = points.repeat(-(-entries // points.shape[0]), 1)
        points = copies + 1e-3 * torch.randn(copies.shape, generator=generator).to(points.device)
    centres = points[torch.randperm(points.shape[0], generator=generator)[:entries]].clone()
    for _ in range(iterations):
        owner = nearest(points, centres)
        counts = torch.bincount(owner, minlength=entries)
        sums = torch.zeros_like(centres).index_add_(0, owner, points)
        centres = sums / counts.clamp(min=1).unsqueeze(1)
        empty = counts == 0
        if empty.any():
            centres[empty] = points[torch.randint(len(points), (int(empty.sum()),), generator=generator)]
    return centres
