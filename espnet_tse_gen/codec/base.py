"""The contract that every codec keeps, and the part of it that is the same for all of them.

A codec turns a waveform into ``K`` codebooks of integer codes, one per codebook and frame, and codes back into a waveform. The
public methods here check what they are given and keep the contract; a family implements what happens to one row.

    codec = load_codec("exp/codec_mel_16k")
    encoded = codec.encode(wav)                     # wav: float [B, L] at codec.sample_rate
    wav = codec.decode(encoded.codes)[:, : wav.shape[1]]
"""

import contextlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from espnet_tse_gen.utils.checkpoints import state_digest
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.fetch import fetch
from espnet_tse_gen.utils.registry import FORMER


class Encoded(NamedTuple):
    """What :meth:`AbsCodec.encode` returns."""

    codes: Tensor  # int64 `[B, K, T]`; 0 on frames beyond `lengths`
    latents: Tensor  # float32 `[B, D, T]`: the encoder's output before quantization; 0 on frames beyond `lengths`
    lengths: Tensor  # int64 `[B]`: valid frames of each row


class Released(NamedTuple):
    """A file of released weights: its address, SHA-256, and place in the local cache."""

    url: str
    sha256: str
    path: Path


class AbsCodec(torch.nn.Module, ABC):
    """A frozen codec. Contract, for every family:

    - **Rate**: input and output are mono at ``sample_rate``; resampling is the caller's.
    - **Length**: ``L >= 1`` samples make ``T = ceil(L / hop)`` frames, and these exactly ``T * hop`` samples; the caller crops.
    - **Alignment**: a round trip is aligned to the sample. A constant ``delay`` of the codec is measured once
      (:func:`espnet_tse_gen.codec.prepare.measure_delay`) and taken out in :meth:`decode`.
    - **Batch**: a row has the codes that it has alone, to the bit unless ``batched`` is switched on; samples beyond its length
      are never looked at.
    - **Frozen**: always in evaluation mode, no gradients, no autocast: codes are the same during training as on disk.
    - **Refusals**: NaN or Inf, a wrong number of codebooks and codes out of range raise a ``UserError``.

    A family sets the attributes below in its constructor, keeps each of its arguments as an attribute of the same name (for
    :meth:`conf`), and implements :meth:`_encode_row`, :meth:`_decode_row` and :meth:`codebook`.
    """

    name: ClassVar[str]  # in the registry
    trainable: ClassVar[bool] = False  # whether its weights come from recordings, in minutes, by `fit`
    pretrained_file: ClassVar[str | None] = None  # of released weights, for a family with `load_pretrained(path)`
    # The constructor's option that names the weights, for a family whose other options are read from beside them.
    weights_option: ClassVar[str | None] = None
    supports_mixture: ClassVar[bool] = False  # whether decoding can use the mixture's phase beside the codes
    # Frames from which a row may be padded to the length of others in its batch, which changes nothing within its frames
    # (a causal codec); None: never.
    padded_from: ClassVar[int | None] = None

    sample_rate: int  # Hz
    hop: int  # samples per frame
    num_codebooks: int  # K, the codes per frame
    codebook_sizes: tuple[int, ...]  # entries of each codebook
    latent_dim: int  # D, the width of the latents
    # Whether the rows of a batch are computed together, where the family can; it pays on a GPU. Kernels round differently for
    # other shapes: latents then differ in their last digits, and a code where two entries are all but equally near.
    batched: bool = False
    delay: int = 0  # samples by which the decoder's raw output lags the input; compensated in `decode`

    @property
    def codebook_size(self) -> int:
        """C, the entries of the largest codebook; valid codes are ``0 .. C-1``."""
        return max(self.codebook_sizes)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((tensor.device for tensor in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    @property
    def codebooks_apart(self) -> bool:
        """Whether each codebook has latent dimensions of its own, as bands have, and not a share in all of them."""
        used = (self.all_codebooks() != 0).any(dim=1)
        return used.shape[1] == self.latent_dim and int(used.sum(dim=0).max()) <= 1

    def all_codebooks(self) -> Tensor:
        """Return the vectors of all codebooks, float32 ``[K, C, D']``; of a smaller one, zeros after its last."""
        return pad_sequence([self.codebook(number).float() for number in range(self.num_codebooks)], batch_first=True)

    def conf(self) -> dict[str, Any]:
        """Return the constructor's arguments: ``type(codec)(**codec.conf())`` is the same codec without its weights."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def num_frames(self, samples: int) -> int:
        """Return ``ceil(samples / hop)``, at least 1: the frames that ``samples`` samples make."""
        return max(1, -(-int(samples) // self.hop))

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the codec's name, configuration and weights; equal if and only if codes agree."""
        # By the names that keys had when the first fingerprints were stored.
        former = {now: before for before, now in FORMER.items()}
        conf = {former.get(key, key): value for key, value in self.conf().items()}
        return state_digest([self.name, conf], self.state_dict())

    def fault(self, message: str) -> UserError:
        """Return the error of this codec with a one-line message."""
        return UserError(f"codec '{self.name}': {message}")

    def freeze(self) -> None:
        """Switch gradients off for good; a family's constructor ends with it."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "AbsCodec":
        """Stay in evaluation mode, whatever ``mode``: a model that holds the codec calls ``train()`` on its parts."""
        super().train(False)
        return self

    def encode(self, wav: Tensor, lengths: Tensor | None = None) -> Encoded:
        """Turn waveforms ``[B, L]`` in -1..1, of which ``lengths`` ``[B]`` samples (all) are valid, into codes.

        Raises:
            UserError: If the shapes are wrong or a valid sample is NaN or Inf.
        """
        if wav.dim() != 2 or wav.shape[0] < 1 or wav.shape[1] < 1:
            raise self.fault(f"expected waveforms [B, L] with L >= 1, got {tuple(wav.shape)}")
        sizes = self._sizes(lengths, wav.shape, "samples")
        rows = self.encode_rows([wav[row, :size] for row, size in enumerate(sizes)])
        frames, device = self.num_frames(wav.shape[1]), self.device
        codes = torch.zeros(len(rows), self.num_codebooks, frames, dtype=torch.int64, device=device)
        latents = torch.zeros(len(rows), self.latent_dim, frames, device=device)
        for row, (row_codes, row_latents) in enumerate(rows):
            codes[row, :, : row_codes.shape[1]], latents[row, :, : row_codes.shape[1]] = row_codes, row_latents
        return Encoded(codes, latents, torch.tensor([self.num_frames(size) for size in sizes], device=device))

    def encode_rows(self, rows: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return codes int64 ``[K, T_i]`` and latents float32 ``[D, T_i]`` of each waveform ``[L_i]``, as :meth:`encode` does."""
        padded = []
        with self._computing():
            for number, row in enumerate(rows):
                if row.dim() != 1 or row.shape[0] < 1:
                    raise self.fault(f"expected waveforms [L] with L >= 1, got {tuple(row.shape)}")
                samples = row.to(self.device, torch.float32)
                if not bool(torch.isfinite(samples).all()):
                    raise self.fault(f"row {number} of the waveforms holds NaN or infinite samples")
                padded.append(_fitted(samples, self.num_frames(len(row)) * self.hop))
            return self._encode_together(padded) if self.batched else [self._encode_row(row) for row in padded]

    def _encode_together(self, rows: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Encode those rows as one batch that have as many frames, or that the family lets be padded."""
        groups: dict[int, list[int]] = {}
        frames = [len(row) // self.hop for row in rows]
        for place, count in enumerate(frames):
            padding = self.padded_from is not None and count >= self.padded_from
            groups.setdefault(0 if padding else count, []).append(place)
        made: dict[int, tuple[Tensor, Tensor]] = {}
        for places in groups.values():
            batch = self._encode_batch(pad_sequence([rows[place] for place in places], batch_first=True))
            for place, codes, latents in zip(places, *batch, strict=True):
                made[place] = codes[:, : frames[place]], latents[:, : frames[place]]
        return [made[place] for place in range(len(rows))]

    def decode(
        self,
        codes: Tensor,
        lengths: Tensor | None = None,
        mixture: Tensor | None = None,
        num_codebooks: int | None = None,
        estimate: Tensor | None = None,
    ) -> Tensor:
        """Turn codes into waveforms.

        Args:
            codes: int ``[B, K, T]``, each ``0 .. codebook_size - 1``.
            lengths: int ``[B]``, valid frames of each row, 1..T; ``None`` means all ``T``.
            mixture: float ``[B, L]``, at the rate and level at which the codes were made, aligned with them; cropped or
                padded with zeros to ``T * hop``; only for codecs with ``supports_mixture``.
            num_codebooks: Use the first so many codebooks only, 1..K; ``None`` means all.
            estimate: Like ``mixture`` and in its place, an estimate of the target, which may lack some of it.

        Returns:
            float32 ``[B, T * hop]``, aligned with the encoded waveform; 0 beyond a row's valid frames.

        Raises:
            UserError: If the shapes are wrong, a code is out of range, or the codec cannot use a mixture.
        """
        return self.decode_latents(self.latents_of(codes, num_codebooks), lengths, mixture, True, estimate)

    def decode_latents(
        self,
        latents: Tensor,
        lengths: Tensor | None = None,
        mixture: Tensor | None = None,
        quantized: bool = False,
        estimate: Tensor | None = None,
    ) -> Tensor:
        """Turn latents that need not be quantized, float ``[B, D, T]``, into waveforms; otherwise like :meth:`decode`.

        Gradients reach latents that want some.
        """
        if latents.dim() != 3 or latents.shape[1] != self.latent_dim or latents.shape[2] < 1:
            raise self.fault(f"expected latents [B, {self.latent_dim}, T], T >= 1, got {tuple(latents.shape)}")
        decode_row: Callable[[Tensor, Any, bool], Tensor] = self._decode_row
        if estimate is not None:
            mixture, decode_row = estimate, self._change_row
        if mixture is not None:
            if not self.supports_mixture:
                raise self.fault("cannot use the mixture in decoding; choose reconstruction 'codec'")
            if mixture.dim() != 2 or mixture.shape[0] != latents.shape[0]:
                raise self.fault(f"expected mixtures [{latents.shape[0]}, L], got {tuple(mixture.shape)}")
            if not bool(torch.isfinite(mixture).all()):
                raise self.fault("the mixture holds NaN or infinite samples")
        sizes, delay = self._sizes(lengths, latents.shape, "frames"), self.delay
        wav = torch.zeros(latents.shape[0], latents.shape[2] * self.hop, device=self.device)
        with self._computing(gradients=latents.requires_grad and torch.is_grad_enabled()):
            for row, size in enumerate(sizes):
                samples = size * self.hop
                guide = None if mixture is None else _fitted(mixture[row].to(self.device, torch.float32), samples)
                # A copy has strides of its own, not those of the padded batch, for which kernels round differently.
                valid = latents[row, :, :size].to(self.device, torch.float32)
                valid = valid.clone(memory_format=torch.contiguous_format)
                raw = decode_row(valid, guide, quantized)
                wav[row, :samples] = _fitted(functional.pad(raw, (max(0, -delay), 0))[max(0, delay) :], samples)
        return wav

    def latents_of(self, codes: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Return the sum of the codes' vectors over the first ``num_codebooks`` codebooks (all), float32 ``[B, D, T]``.

        Raises:
            UserError: Unless ``codes`` is int ``[B, K, T]``, every code inside its codebook, and K at least ``num_codebooks``.
        """
        if codes.dim() != 3 or codes.shape[1] != self.num_codebooks or codes.shape[2] < 1:
            raise self.fault(f"expected codes [B, {self.num_codebooks}, T] with T >= 1, got {tuple(codes.shape)}")
        if codes.is_floating_point() or codes.dtype == torch.bool:
            raise self.fault(f"expected integer codes, got {codes.dtype}")
        sizes = torch.tensor(self.codebook_sizes, device=codes.device).view(1, -1, 1)
        if bool(((codes < 0) | (codes >= sizes)).any()):
            raise self.fault(
                f"codes must be 0..{self.codebook_size - 1}, "
                f"found {int(codes.min())}..{int(codes.max())}; the mask token never reaches a codec"
            )
        if num_codebooks is not None and not 1 <= num_codebooks <= self.num_codebooks:
            raise self.fault(f"expected 1..{self.num_codebooks} codebooks, got {num_codebooks}")
        with self._computing():
            codes = codes.to(self.device)
            latents = torch.zeros(codes.shape[0], codes.shape[2], self.latent_dim, device=self.device)
            for codebook in range(num_codebooks or self.num_codebooks):
                latents += self.codebook(codebook)[codes[:, codebook]]
        return latents.transpose(1, 2).contiguous()

    @abstractmethod
    def codebook(self, number: int) -> Tensor:
        """Return the vectors of a codebook, float ``[C, D']`` (``D' = D`` unless the family projects them)."""

    @abstractmethod
    def _encode_row(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """Encode one waveform ``[T * hop]``: codes ``[K, T]`` and latents ``[D, T]``."""

    def _encode_batch(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """Encode waveforms ``[B, T * hop]``: codes ``[B, K, T]`` and latents ``[B, D, T]``; for families where together pays."""
        codes, latents = zip(*map(self._encode_row, wav), strict=True)
        return torch.stack(codes), torch.stack(latents)

    @abstractmethod
    def _decode_row(self, latents: Tensor, mixture: Tensor | None, quantized: bool) -> Tensor:
        """Decode latents ``[D, T]`` to about ``T * hop`` samples, with the codec's own delay still in them.

        ``mixture`` is ``[T * hop]``; ``quantized`` says that the latents are sums of codebook vectors.
        """

    def _change_row(self, latents: Tensor, estimate: Tensor, quantized: bool) -> Tensor:
        """Change an estimate of the target, ``[T * hop]``, to what latents ``[D, T]`` say; like a mixture if not overridden."""
        return self._decode_row(latents, estimate, quantized)

    def fit(self, waveforms: Iterator[Tensor], seed: int = 0, **fit_conf: Any) -> None:
        """Learn the weights from recordings ``[L]`` at ``sample_rate`` (only if ``trainable``)."""
        raise self.fault("is not fitted to recordings; its weights come from a file")

    def load_pretrained(self, path: str | Path) -> None:
        """Load released weights from a local file (only if ``pretrained_file`` is set)."""
        raise self.fault("has no released weights to load")

    @property
    def released(self) -> Released | None:
        """The file of released weights that can be fetched, if there is one."""
        return None

    def can_fetch(self) -> bool:
        """Return whether :meth:`download_pretrained` can be called."""
        return self.released is not None

    def download_pretrained(self) -> Path:
        """Fetch the released weights into the local cache, with a progress bar, and return their path."""
        if self.released is None:
            raise self.fault("has no released weights to fetch")
        return fetch(self.released.url, self.released.path, self.released.sha256)

    def pretrained_cache(self) -> Path | None:
        """Return where :meth:`download_pretrained` keeps the weights, or ``None``."""
        return self.released.path if self.released else None

    def pretrained_source(self) -> str:
        """Return what a person needs to fetch the weights by hand: file, SHA-256 and address, as far as known."""
        if self.released is None:
            return str(self.pretrained_file)
        return f"{self.released.url.rpartition('/')[2]}, SHA-256 {self.released.sha256}, from {self.released.url}"

    def _codebooks(self, wanted: int | None, available: int) -> int:
        """Return ``wanted``, the first so many codebooks of a model that has ``available``; ``None`` means all."""
        if wanted is not None and not 1 <= wanted <= available:
            raise self.fault(f"num_codebooks must be 1..{available} for this model, got {wanted!r}")
        return available if wanted is None else int(wanted)

    def _sizes(self, lengths: Tensor | None, shape: torch.Size, unit: str) -> list[int]:
        """Return the valid samples or frames of each row, checked against the tensor's ``[B, ..., size]``."""
        rows, size = shape[0], shape[-1]
        sizes = [size] * rows if lengths is None else [int(value) for value in lengths]
        if len(sizes) != rows or min(sizes) < 1 or max(sizes) > size:
            raise self.fault(
                f"expected {rows} lengths of 1..{size} {unit}, got {len(sizes)} of "
                f"{min(sizes, default=0)}..{max(sizes, default=0)}"
            )
        return sizes

    @contextlib.contextmanager
    def _computing(self, gradients: bool = False) -> Iterator[None]:
        # Codes must not depend on the precision that the caller trains with.
        on_gpu = self.device.type == "cuda"
        backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn] if on_gpu else []
        before = [backend.allow_tf32 for backend in backends]
        try:
            for backend in backends:
                backend.allow_tf32 = False
            with torch.set_grad_enabled(gradients), torch.autocast(self.device.type, enabled=False):
                yield
        finally:
            for backend, value in zip(backends, before, strict=True):
                backend.allow_tf32 = value


def plain(value: Any) -> Any:
    """Return a value as it comes back from yaml: tuples as lists, numpy's integers as Python's."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return int(value) if hasattr(value, "__index__") and not isinstance(value, bool) else value


def _fitted(wav: Tensor, samples: int) -> Tensor:
    """Return ``wav`` ``[L]`` cropped or followed by silence to ``[samples]``."""
    return functional.pad(wav, (0, samples - wav.shape[0]))
