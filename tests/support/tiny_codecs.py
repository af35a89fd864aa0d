"""Codecs of a few lines whose figures are known beforehand, and short recordings of tables of speakers."""

from pathlib import Path

import numpy as np
import torch
from tiny_model import voice
from torch import Tensor

from espnet_tse_gen.audio.writing import write_audio
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.utils.files import write_scp

RATE = 16000


def speech(speaker: int, seconds: float, seed: int = 0) -> np.ndarray:
    """A voice in syllables, whose pitch is the speaker's."""
    hum = voice(seconds, 90.0 + 13.0 * speaker, seed=100 * speaker + seed, rate=RATE)
    time = np.arange(len(hum)) / RATE
    return (hum * np.clip(np.sin(2 * np.pi * (2.5 + 0.1 * speaker) * time + seed), 0.02, None)).astype(np.float32)


def write_speech(folder: Path, speakers: range, seconds: float = 2.5, each: int = 1) -> Path:
    """Write ``each`` recordings of each speaker with ``wav.scp`` and ``utt2spk``; return the former."""
    table, owner = {}, {}
    for speaker in speakers:
        for number in range(each):
            key = f"s{speaker:02d}-{number}"
            table[key], owner[key] = str(folder / "wavs" / f"{key}.wav"), f"s{speaker:02d}"
            write_audio(table[key], speech(speaker, seconds + 0.1 * number, seed=number), RATE)
    write_scp(folder / "utt2spk", owner)
    write_scp(folder / "wav.scp", table)
    return folder / "wav.scp"


class PcmCodec(AbsCodec):
    """Samples as two bytes, one per codebook: both give the recording back, one alone is 8-bit audio."""

    name = "pcm"

    def __init__(self, sample_rate: int = RATE) -> None:
        super().__init__()
        self.sample_rate, self.hop, self.num_codebooks, self.latent_dim = sample_rate, 1, 2, 1
        self.codebook_sizes = (256, 256)
        coarse = (torch.arange(256) - 127.5) / 128
        self.register_buffer("books", torch.stack([coarse, (torch.arange(256) - 127.5) / 128 / 256]))
        self.freeze()

    def codebook(self, number: int) -> Tensor:
        return self.books[number][:, None]

    def _encode_row(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        value = ((wav.clamp(-1, 0.9999) + 1) * 32768).long()
        return torch.stack([value // 256, value % 256]), wav[None]

    def _decode_row(self, latents: Tensor, mixture: Tensor | None, quantized: bool) -> Tensor:
        return latents[0]


class LoudnessCodec(PcmCodec):
    """One level of 8 entries at 50 frames/s: the loudness of a frame in steps of 4 dB, which magnitudes tell."""

    name = "loudness"

    def __init__(self, sample_rate: int = RATE) -> None:
        super().__init__()
        self.sample_rate, self.hop, self.num_codebooks, self.codebook_sizes = sample_rate, 320, 1, (8,)

    def _frames(self, wav: Tensor) -> Tensor:
        return torch.nn.functional.pad(wav, (0, -wav.shape[0] % self.hop)).reshape(-1, self.hop)

    def _encode_row(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        loudness = 10 * self._frames(wav).square().mean(dim=1).clamp(min=1e-9).log10()
        return ((loudness + 48) / 4).long().clamp(0, 7)[None], loudness[None]


class NoiseCodec(LoudnessCodec):
    """Tokens of the last bits of the samples: nothing can predict them."""

    name = "noise"

    def _encode_row(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        bits = (self._frames(wav).double() * 1e7).long().sum(dim=1)
        return (bits % 8)[None], bits[None].float()


class ConstantCodec(LoudnessCodec):
    """A codebook of which one entry is used."""

    name = "constant"

    def _encode_row(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        codes, latents = super()._encode_row(wav)
        return torch.full_like(codes, 3), latents
