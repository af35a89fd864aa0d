"""EnCodec 24 kHz through the ``encodec`` package.

Defossez et al., "High Fidelity Neural Audio Compression", 2022: a causal convolutional encoder and decoder with
residual vector quantization, 75 frames/s, 1024 entries per codebook. The bandwidth chooses how many codebooks are used.
"""

import re
import warnings
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from espnet_tse_gen.codec.base import AbsCodec, Released
from espnet_tse_gen.utils.checkpoints import load_weights, read_checkpoint
from espnet_tse_gen.utils.fetch import verify

FILE = "encodec_24khz-d7cc33bc.th"
URL = f"https://dl.fbaipublicfiles.com/encodec/v0/{FILE}"
SHA256 = "d7cc33bcf1aad7f2dad9836f36431530744abeace3ca033005e3290ed4fa47bf"
CODEBOOKS = {1.5: 2, 3.0: 4, 6.0: 8, 12.0: 16, 24.0: 32}
"""Bandwidth in kbit/s to codebooks: each codebook costs 75 frames/s x 10 bit."""


def cached_file() -> Path:
    """Return where ``torch.hub`` keeps the released weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / FILE


class EncodecCodec(AbsCodec):
    """EnCodec's causal 24 kHz model.

    The waveform is padded with zeros to a multiple of the hop. The latents are the encoder's output (128 wide).
    ``bandwidth`` is a key of :data:`CODEBOOKS`; ``delay`` the samples by which the decoder's output lags.
    """

    name: ClassVar[str] = "encodec"
    # The last convolution reflects 6 frames to its left: a shorter row would reflect its padding.
    padded_from: ClassVar[int | None] = 7
    pretrained_file: ClassVar[str | None] = FILE

    def __init__(self, bandwidth: float = 6.0, delay: int = 0) -> None:
        super().__init__()
        if not isinstance(bandwidth, (int, float)) or float(bandwidth) not in CODEBOOKS:
            raise self.fault(f"bandwidth must be one of {sorted(CODEBOOKS)} (kbit/s), got {bandwidth!r}")
        from encodec import EncodecModel

        with warnings.catch_warnings():
            # The package uses the older form of weight normalisation, which its released weights are stored in.
            warnings.simplefilter("ignore", FutureWarning)
            self.model = EncodecModel.encodec_model_24khz(pretrained=False)
        self.bandwidth, self.delay = float(bandwidth), int(delay)
        self.sample_rate, self.hop = 24000, int(self.model.encoder.hop_length)
        self.num_codebooks, self.latent_dim = CODEBOOKS[self.bandwidth], int(self.model.encoder.dimension)
        self.codebook_sizes = (int(self.model.quantizer.bins),) * self.num_codebooks
        self.freeze()

    def codebook(self, number: int) -> Tensor:
        """Return the vectors of a codebook, float ``[1024, 128]``."""
        return self.model.quantizer.vq.layers[number].codebook

    def _encode_row(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        codes, latents = self._encode_batch(wav.unsqueeze(0))
        return codes[0], latents[0]

    def _encode_batch(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        latents = self.model.encoder(wav.unsqueeze(1))
        return self.model.quantizer.vq.encode(latents, n_q=self.num_codebooks).transpose(0, 1), latents

    def _decode_row(self, latents: Tensor, mixture: Tensor | None, quantized: bool) -> Tensor:
        return self.model.decoder(latents.unsqueeze(0))[0, 0]

    def load_pretrained(self, path: str | Path) -> None:
        """Load a file of the package's released format; one named ``...-<8 or more hex digits>.th`` must have that SHA-256."""
        named = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", Path(path).name)
        cached = Path(path) == self.pretrained_cache()
        verify(path, SHA256 if cached else named[1] if named else None, remember=cached)
        load_weights(self.model, read_checkpoint(path), f"{path}: does not hold the weights of this codec")

    @property
    def released(self) -> Released:
        """The released model, in the cache of ``torch.hub``, where the ``encodec`` package keeps it too."""
        return Released(URL, SHA256, cached_file())
