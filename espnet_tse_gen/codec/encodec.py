"""EnCodec 24 kHz through the ``encodec`` package.

Defossez et al., "High Fidelity Neural Audio Compression", 2022: a causal convolutional encoder and decoder with
residual vector quantization, 75 frames/s, 1024 entries per level. The bandwidth chooses how many levels are used.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.registry import load_weights
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.fetch import fetch, verify

URL = "https://dl.fbaipublicfiles.com/encodec/v0/encodec_24khz-d7cc33bc.th"
SHA256 = "d7cc33bcf1aad7f2dad9836f36431530744abeace3ca033005e3290ed4fa47bf"
LEVELS = {1.5: 2, 3.0: 4, 6.0: 8, 12.0: 16, 24.0: 32}
"""Bandwidth in kbit/s to levels: each level costs 75 frames/s x 10 bit."""

SHORTEST_IN_BATCH = 7
"""Frames from which a row may be padded: the last convolution reflects 6 frames to its left, and a shorter row
would reflect its padding."""


class EncodecCodec(AbsCodec):
    """EnCodec's causal 24 kHz model.

    The waveform is padded with zeros to a multiple of the hop. The latents are the encoder's output (128 wide).

    Args:
        bandwidth: kbit/s: 1.5, 3, 6, 12 or 24, that is 2, 4, 8, 16 or 32 levels.
        delay: Samples by which the decoder's output lags; measured by ``codec_prepare``.
    """

    name: ClassVar[str] = "encodec"
    pretrained_file: ClassVar[str | None] = "encodec_24khz-d7cc33bc.th"

    def __init__(self, bandwidth: float = 6.0, delay: int = 0) -> None:
        super().__init__()
        if not isinstance(bandwidth, (int, float)) or float(bandwidth) not in LEVELS:
            raise UserError(f"codec 'encodec': bandwidth must be one of {sorted(LEVELS)} (kbit/s), got {bandwidth!r}")
        from encodec import EncodecModel

        with warnings.catch_warnings():
            # The package uses the older form of weight normalisation, which its released weights are stored in.
            warnings.simplefilter("ignore", FutureWarning)
            self.model = EncodecModel.encodec_model_24khz(pretrained=False)
        self.bandwidth, self.delay = float(bandwidth), int(delay)
        self.sample_rate, self.hop = 24000, int(self.model.encoder.hop_length)
        self.num_levels, self.latent_dim = LEVELS[self.bandwidth], int(self.model.encoder.dimension)
        self.codebook_sizes = (int(self.model.quantizer.bins),) * self.num_levels
        self.freeze()

    def codebook(self, level: int) -> Tensor:
        """Return the vectors of a level, float ``[1024, 128]``."""
        return self.model.quantizer.vq.layers[level].codebook

    def _encode_row(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        samples = self.num_frames(wav.shape[0]) * self.hop
        latents = self.model.encoder(functional.pad(wav, (0, samples - wav.shape[0])).view(1, 1, -1))
        codes = self.model.quantizer.vq.encode(latents, n_q=self.num_levels)
        return codes[:, 0], latents[0]

    def _encode_rows(self, rows: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Encode waveforms together, padded to the longest: the model is causal, so what follows a row changes nothing.

        A row shorter than the reach of a convolution's reflected padding is the exception and is encoded alone.
        """
        frames = [self.num_frames(row.shape[0]) for row in rows]
        made: dict[int, tuple[Tensor, Tensor]] = {}
        together = [index for index, count in enumerate(frames) if count >= SHORTEST_IN_BATCH]
        if len(together) > 1:
            padded = rows[0].new_zeros(len(together), 1, max(frames[index] for index in together) * self.hop)
            for place, index in enumerate(together):
                padded[place, 0, : rows[index].shape[0]] = rows[index]
            latents = self.model.encoder(padded)
            codes = self.model.quantizer.vq.encode(latents, n_q=self.num_levels)
            for place, index in enumerate(together):
                made[index] = codes[:, place, : frames[index]], latents[place, :, : frames[index]]
        return [made[index] if index in made else self._encode_row(row) for index, row in enumerate(rows)]

    def _decode_row(self, latents: Tensor, mixture: Tensor | None, quantized: bool) -> Tensor:
        return self.model.decoder(latents.unsqueeze(0))[0, 0]

    def load_pretrained(self, path: str | Path) -> None:
        """Load a state dictionary in the package's released format.

        A file named ``...-<8 or more hex digits>.th`` must have that SHA-256, which is how the released one is named.

        Raises:
            UserError: If the file is missing, damaged, or of another model.
        """
        named = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", Path(path).name)
        cached = Path(path) == self.pretrained_cache()
        verify(path, SHA256 if cached else named[1] if named else None, remember=cached)
        load_weights(self.model, path)

    def pretrained_cache(self) -> Path:
        """Return the place in the cache of ``torch.hub`` where the ``encodec`` package keeps its weights too."""
        return Path(torch.hub.get_dir()) / "checkpoints" / str(self.pretrained_file)

    def pretrained_source(self) -> str:
        """Return the released file's name, SHA-256 and address."""
        return f"{self.pretrained_file}, SHA-256 {SHA256}, from {URL}"

    def download_pretrained(self) -> Path:
        """Fetch the released weights, checked by hash.

        Raises:
            UserError: If the network does not give them.
        """
        return fetch(URL, self.pretrained_cache(), SHA256)
