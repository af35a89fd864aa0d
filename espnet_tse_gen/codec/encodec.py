"""EnCodec 24 kHz through the ``encodec`` package.

Defossez et al., "High Fidelity Neural Audio Compression", 2022: a causal convolutional encoder and decoder with
residual vector quantization, 75 frames/s, 1024 entries per level. The bandwidth chooses how many levels are used.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from espnet_tse_gen.codec.abs_codec import AbsCodec
from espnet_tse_gen.codec.registry import load_weights
from espnet_tse_gen.errors import UserError

LEVELS = {1.5: 2, 3.0: 4, 6.0: 8, 12.0: 16, 24.0: 32}
"""Bandwidth in kbit/s to levels: each level costs 75 frames/s x 10 bit."""


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

    def _decode_row(self, latents: Tensor, mixture: Tensor | None, quantized: bool) -> Tensor:
        return self.model.decoder(latents.unsqueeze(0))[0, 0]

    def load_pretrained(self, path: str | Path) -> None:
        """Load a state dictionary in the package's released format.

        A file named ``...-<8 or more hex digits>.th`` must have that SHA-256, which is how the released one is named.

        Raises:
            UserError: If the file is missing, damaged, or of another model.
        """
        wanted = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", Path(path).name)
        if wanted and Path(path).is_file():
            found = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            if not found.startswith(wanted[1]):
                raise UserError(
                    f"{path}: is damaged (its SHA-256 begins {found[:8]}, its name says {wanted[1]}); fetch it again"
                )
        load_weights(self.model, path)

    def pretrained_cache(self) -> Path:
        """Return the place in the cache of ``torch.hub`` where the ``encodec`` package keeps its weights too."""
        return Path(torch.hub.get_dir()) / "checkpoints" / str(self.pretrained_file)

    def download_pretrained(self) -> Path:
        """Fetch the released weights from where the ``encodec`` package names them, checked by hash.

        Raises:
            UserError: If the network does not give them.
        """
        from encodec.model import ROOT_URL

        path = self.pretrained_cache()
        prefix = str(self.pretrained_file).rpartition("-")[2].partition(".")[0]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(ROOT_URL + str(self.pretrained_file), str(path), hash_prefix=prefix)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{self.pretrained_file}: cannot be fetched ({error}); fetch it on another machine and put it at {path}"
            ) from error
        return path
