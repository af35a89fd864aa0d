"""The Descript Audio Codec through its own package, ``descript-audio-codec`` (import name ``dac``).

Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN", 2023: a convolutional encoder and decoder with
residual vector quantization in a low-dimensional projection of each codebook (factorised codes). Neither direction is
causal. There are released models for 16, 24 and 44.1 kHz; any other checkpoint that the package saved as weights loads
too, with the architecture that is written in it.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from espnet_tse_gen.codec.base import AbsCodec, Released, plain
from espnet_tse_gen.utils.checkpoints import load_weights, read_tensors
from espnet_tse_gen.utils.errors import UserError, install_command, unknown_name
from espnet_tse_gen.utils.fetch import verify

INSTALL = install_command("dac")


@dataclass(frozen=True)
class Release:
    """A released model: where its weights are, under which name the ``dac`` package caches them, and the architecture."""

    url: str
    sha256: str
    cached: str
    model_conf: dict[str, Any]

    @property
    def file(self) -> Released:
        """The file."""
        return Released(self.url, self.sha256, Path.home() / ".cache" / "descript" / "dac" / self.cached)


_URL = "https://github.com/descriptinc/descript-audio-codec/releases/download/"
_WIDTHS = {"encoder_dim": 64, "decoder_dim": 1536, "codebook_size": 1024, "codebook_dim": 8}
_HOP_320 = {**_WIDTHS, "encoder_rates": [2, 4, 5, 8], "decoder_rates": [8, 5, 4, 2]}
_HOP_512 = {**_WIDTHS, "encoder_rates": [2, 4, 8, 8], "decoder_rates": [8, 8, 4, 2]}

# The hashes are those that public projects pin (at 24 kHz one only); the publisher names none.
RELEASES: dict[int, Release] = {
    16000: Release(
        _URL + "0.0.5/weights_16khz.pth", "95ab7176b67137d4d4c6c54b8d6ef3cea797faec228cb03ad084badcad570b4d",
        "weights_16khz_8kbps_0.0.5.pth", {**_HOP_320, "n_codebooks": 12},
    ),
    24000: Release(
        _URL + "0.0.4/weights_24khz.pth", "44bad592fc393e03eb0be7a5120b7d487fe9612fa41269dc03fca3d4b87e20ad",
        "weights_24khz_8kbps_0.0.4.pth", {**_HOP_320, "n_codebooks": 32},
    ),
    44100: Release(
        _URL + "0.0.1/weights.pth", "a88eed82a7024ccc1facdb1e605c4c2f99281c8118c22c9895ffa846d8fb61aa",
        "weights_44khz_8kbps_0.0.1.pth", {**_HOP_512, "n_codebooks": 9},
    ),
}  # fmt: skip
"""Sampling rate to released model (of the two for 44.1 kHz, the one at 8 kbit/s)."""

MODEL_OPTIONS = (*_HOP_320, "latent_dim", "n_codebooks")
"""What ``model_conf`` may hold: the arguments of ``dac.DAC`` that decide the architecture."""


class DacCodec(AbsCodec):
    """Descript's codec.

    The waveform is padded with zeros to a multiple of the hop, as the package does. The latents are the encoder's
    output (1024 wide in the released models); the vectors of a codebook are its entries after their projection to that
    space. Where the decoder makes a few samples less than ``T * hop`` (8 at a hop of 320), the rest is silence.
    """

    name: ClassVar[str] = "dac"
    pretrained_file: ClassVar[str | None] = "weights.pth"

    def __init__(
        self,
        sample_rate: int = 16000,  # Hz: 16000, 24000 or 44100 for a released model; of any other the rate it was trained for
        num_codebooks: int | None = None,  # codebooks used, the first so many of the model's; `None` means all
        # architecture of a model that is not a released one, arguments of `dac.DAC`; what it leaves out is as in the
        # released model. Weights that are loaded from a file bring their own
        model_conf: dict[str, Any] | None = None,
        delay: int = 0,  # samples by which the decoder's output lags; measured by `codec_prepare`
    ) -> None:
        super().__init__()
        if model_conf is None and sample_rate not in RELEASES:
            raise self.fault(
                f"sample_rate must be one of {', '.join(map(str, RELEASES))} (Hz), got {sample_rate!r}; "
                "for a model of your own give model_conf too"
            )
        for key in model_conf or {}:
            if key not in MODEL_OPTIONS:
                raise unknown_name("option in model_conf of codec 'dac'", str(key), MODEL_OPTIONS)
        self.sample_rate, self.delay = int(sample_rate), int(delay)
        self.model_conf = None if model_conf is None else dict(model_conf)
        self._wanted_codebooks = num_codebooks
        self._build()

    def _build(self) -> None:
        """Make the network that ``model_conf`` describes, with random weights."""
        network = dac_class()
        released = RELEASES.get(self.sample_rate, RELEASES[16000]).model_conf
        with warnings.catch_warnings():
            # The package uses the older form of weight normalisation, which its released weights are stored in.
            warnings.simplefilter("ignore", FutureWarning)
            self.network = network(**{**released, **(self.model_conf or {})}, sample_rate=self.sample_rate)
        self.num_codebooks = self._codebooks(self._wanted_codebooks, int(self.network.n_codebooks))
        self.hop, self.latent_dim = int(self.network.hop_length), int(self.network.latent_dim)
        self.codebook_sizes = (int(self.network.codebook_size),) * self.num_codebooks
        self.freeze()

    def codebook(self, number: int) -> Tensor:
        """Return the projected vectors of a codebook, float ``[C, D]``."""
        quantizer = self.network.quantizer.quantizers[number]
        return quantizer.out_proj(quantizer.codebook.weight.T.unsqueeze(0))[0].T

    def _encode_row(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        codes, latents = self._encode_batch(wav.unsqueeze(0))
        return codes[0], latents[0]

    def _encode_batch(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        latents = self.network.encoder(wav.unsqueeze(1))
        return self.network.quantizer(latents, self.num_codebooks)[1], latents

    def _decode_row(self, latents: Tensor, mixture: Tensor | None, quantized: bool) -> Tensor:
        return self.network.decoder(latents.unsqueeze(0))[0, 0]

    def load_pretrained(self, path: str | Path) -> None:
        """Load weights in the package's format: ``{"state_dict": ..., "metadata": {"kwargs": ...}}``.

        The released file in the cache must have its known SHA-256; any other is held to ``<file>.sha256`` if that is
        there. The architecture is the file's own.
        """
        cached = Path(path) == self.pretrained_cache()
        verify(path, self.released.sha256 if self.released and cached else None, remember=cached)
        fault = f"{path}: does not hold weights that the dac package saved"
        content = read_tensors(path)
        try:
            state, conf = content["state_dict"], dict(content["metadata"]["kwargs"])
        except (LookupError, TypeError, ValueError):
            raise UserError(f"{fault} (no 'state_dict' and 'metadata')") from None
        rate = int(conf.get("sample_rate", 44100))
        if rate != self.sample_rate:
            raise UserError(f"{path}: holds a model for {rate} Hz, but codec_conf says {self.sample_rate} Hz")
        conf = {key: plain(conf[key]) for key in MODEL_OPTIONS if conf.get(key) is not None}
        if conf != {key: plain(getattr(self.network, key)) for key in conf}:
            self.model_conf = conf
            self._build()
        load_weights(self.network, state, fault)

    @property
    def released(self) -> Released | None:
        """The released model for this sampling rate, at the place where the ``dac`` package keeps it too."""
        return RELEASES[self.sample_rate].file if self.sample_rate in RELEASES else None


def dac_class() -> Any:
    """Return ``dac.DAC``.

    Raises:
        UserError: If the package or something that it imports is not installed.
    """
    try:
        from dac.model.dac import DAC
    except ImportError as error:
        reason = f"codec 'dac' needs the package descript-audio-codec ({error})"
        raise UserError(f"{reason}; install it with: {INSTALL}") from None
    return DAC
