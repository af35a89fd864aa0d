"""Random numbers that belong to a row, whatever batch it is decoded in.

Every number is a hash of (seed, row id, codebook, pass, purpose, position within the row's valid frames), as in
counter-based generators (Salmon et al. 2011); the mixing function is SplitMix64's (Steele et al. 2014). A row meets the same
noise alone and in a batch, in any order, with padding, in another process and on another device, without a loop over rows.
"""

import operator
from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

RowId = int | str


def stable_hash(*parts: RowId | None) -> int:
    """Return a signed 64-bit hash of ``parts``, the same in every process and on every platform (unlike ``hash``)."""
    text = "\x1f".join(repr(part if part is None or isinstance(part, str) else operator.index(part)) for part in parts)
    return int.from_bytes(blake2b(text.encode("utf-8"), digest_size=8).digest(), "little", signed=True)


def unit_interval(*parts: RowId | None) -> float:
    """Return a number in [0, 1) that ``parts`` determine, for decisions on the host."""
    return ((stable_hash(*parts) >> 12) & ((1 << 52) - 1)) * 2.0**-52


class RowNoise:
    """Noise for the rows of one batch, each of which has an id, such as that of the utterance."""

    def __init__(self, seed: int, row_ids: Sequence[RowId], device: torch.device | str = "cpu") -> None:
        self._keys = torch.tensor([stable_hash(seed, row) for row in row_ids], dtype=torch.int64, device=device)

    def uniform(self, counter: Tensor, codebook: int | None, step: int, purpose: str) -> Tensor:
        """Return float64 numbers strictly between 0 and 1, in the shape of ``counter``.

        Args:
            counter: int64 ``[B, ...]``, the number of every value within its row; it must not depend on padding.
            codebook: Its number, ``None`` where all are decoded together.
            step: Pass, from 1.
            purpose: What the noise is for; noise for different purposes is independent.
        """
        key = _mix(self._keys ^ stable_hash(codebook, step, purpose)).view(-1, *[1] * (counter.dim() - 1))
        bits = _shift_right(_mix((counter * _signed(0x9E3779B97F4A7C15)).add_(key)), 12)
        # 52 bits plus one half: exact in float64, and neither 0 nor 1, so that both logarithms below are finite.
        return bits.double().add_(0.5).mul_(2.0**-52)

    def gumbel(self, counter: Tensor, codebook: int | None, step: int, purpose: str) -> Tensor:
        """Return standard Gumbel noise in float64; arguments as for :meth:`uniform`."""
        return self.uniform(counter, codebook, step, purpose).log_().neg_().log_().neg_()


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift_right(value: Tensor, bits: int) -> Tensor:
    # int64 shifts keep the sign in PyTorch; the mask makes the shift logical.
    return (value >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(value: Tensor) -> Tensor:
    # Owns `value`: works in place. Products wrap around modulo 2**64, as intended.
    value.bitwise_xor_(_shift_right(value, 30)).mul_(_signed(0xBF58476D1CE4E5B9))
    value.bitwise_xor_(_shift_right(value, 27)).mul_(_signed(0x94D049BB133111EB))
    return value.bitwise_xor_(_shift_right(value, 31))
