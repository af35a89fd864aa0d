"""The ``mini`` codec: a small neural codec whose first codebooks can be predicted, and which ships with weights.

Everything is computed at the frame rate, between two short-time Fourier transforms, so that it runs quickly on a CPU. Its
first codebooks (*envelope codebooks*) are made from mel magnitudes alone: they cannot depend on the waveform's phase, so that a
model can predict them. The other codebooks (*waveform codebooks*) are made from the compressed complex spectrum, given the
decoded envelope, and carry the rest. Both are residual vector quantization, side by side in one latent space: the envelope
codebooks' vectors fill its first dimensions, the waveform codebooks' the others, and the latents are their sum.

The blocks are ConvNeXt's (Liu et al., 2022) as vocoders use them (Siuzdak, "Vocos", 2023): depthwise convolution over time,
normalisation, a pointwise bottleneck. Tensors inside are ``[B, T, channels]``. Weights for 16 kHz, trained on LibriSpeech, are
in the package; ``egs2/librispeech/codec1`` trains others.

    codec = build_codec("mini")
    codec.load_pretrained(codec.pretrained_cache())
"""

import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from espnet_tse_gen.audio.filterbank import mel_filters
from espnet_tse_gen.audio.stft import istft, overlap_add, stft
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.espnet import CONFIG, find_checkpoint, generator_weights
from espnet_tse_gen.utils.checkpoints import load_weights, read_checkpoint

SHIPPED = Path(__file__).resolve().parents[1] / "pretrained" / "codec_mini_16k"
"""Where the package keeps the weights for 16 kHz, with their card."""
SUBFRAMES = 2
"""Spectra per frame, of the analysis and of the synthesis: each codec frame is two hops of the transform."""
KERNEL = 7
"""Frames, an odd number, that a block's convolution sees."""
COMPRESSION = 0.3
"""Exponent of the magnitudes of the encoder's complex spectrum."""
COMPANDING = 0.6
"""Exponent of the lapped transform's bins, so that quiet frames are quantized more finely than loud ones."""


class Block(nn.Module):
    """ConvNeXt block, ``[B, T, width]`` to the same; its convolution sees ``KERNEL`` frames ``dilation`` apart."""

    def __init__(self, width: int, expansion: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.depthwise = nn.Parameter(torch.randn(KERNEL, width) / math.sqrt(KERNEL))
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of the same shape."""
        # A sum of shifted products is quicker on a CPU than a grouped convolution, and keeps channels last.
        reach, frames = (KERNEL // 2) * self.dilation, x.shape[1]
        padded = functional.pad(x, (0, 0, reach, reach))
        mixed = padded[:, :frames] * self.depthwise[0]
        for tap in range(1, KERNEL):
            mixed = mixed + padded[:, tap * self.dilation : tap * self.dilation + frames] * self.depthwise[tap]
        return x + self.scale * self.contract(functional.gelu(self.expand(self.norm(mixed))))


class Stack(nn.Module):
    """A linear layer, blocks with dilations 1, 2, 1, 2, ..., a normalisation and a linear layer."""

    def __init__(self, inputs: int, width: int, blocks: int, outputs: int, expansion: int) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(Block(width, expansion, 1 + index % 2) for index in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, inputs]`` to ``[B, T, outputs]``."""
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return self.leave(self.norm(x))


class Lapped(nn.Module):
    """Modified discrete cosine transform: one real, critically sampled spectrum of ``hop`` bins per frame.

    Frame ``t`` is centred on sample ``(t + 0.5) * hop`` and spans two hops (sine window; Princen et al., 1987). The
    outer half hop of either end of a recording is not reconstructed exactly.
    """

    basis: Tensor

    def __init__(self, hop: int) -> None:
        super().__init__()
        self.hop, self.margin = hop, hop // 2
        sample = torch.arange(2 * hop, dtype=torch.float64)
        frequency = torch.arange(hop, dtype=torch.float64) + 0.5
        angle = math.pi / hop * (sample.unsqueeze(1) + 0.5 + hop / 2) * frequency
        window = torch.sin(math.pi * (sample + 0.5) / (2 * hop)).unsqueeze(1)
        self.register_buffer("basis", (math.sqrt(2.0 / hop) * window * torch.cos(angle)).float(), persistent=False)

    def forward(self, wav: Tensor) -> Tensor:
        """Return the spectra ``[B, T, hop]`` of ``wav`` ``[B, T * hop]``."""
        return functional.pad(wav, (self.margin, self.hop - self.margin)).unfold(1, 2 * self.hop, self.hop) @ self.basis

    def inverse(self, spectra: Tensor) -> Tensor:
        """Return the waveform ``[B, T * hop]`` of spectra ``[B, T, hop]``."""
        wav = overlap_add(spectra @ self.basis.T, self.hop)
        return wav[:, self.margin : self.margin + spectra.shape[1] * self.hop]


class Quantizer(nn.Module):
    """Residual vector quantization over ``width`` of the latent dimensions: ``codebooks`` codebooks of ``size`` entries."""

    codebooks: Tensor

    def __init__(self, codebooks: int, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("codebooks", torch.randn(codebooks, size, width))

    def nearest(self, codebook: int, residual: Tensor) -> Tensor:
        """Return the index of the nearest entry of a codebook, int64 ``[N]``, for vectors ``[N, width]``."""
        book = self.codebooks[codebook]
        return (residual @ book.T).mul_(-2).add_(book.pow(2).sum(dim=1)).argmin(dim=1)

    def forward(self, latents: Tensor, candidates: int = 1) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Quantize vectors ``[N, width]``, with ``candidates`` for :meth:`search`; 1 takes the nearest entry at each codebook.

        Returns:
            Codes int64 ``[N, codebooks]``, the residual that entered each codebook, and the vector chosen at each codebook.
        """
        searched = self.search(latents, candidates) if candidates > 1 else None
        residual, codes, inputs, chosen = latents, [], [], []
        for codebook in range(self.codebooks.shape[0]):
            code = self.nearest(codebook, residual) if searched is None else searched[:, codebook]
            vector = self.codebooks[codebook][code]
            codes.append(code)
            inputs.append(residual)
            chosen.append(vector)
            residual = residual - vector
        return torch.stack(codes, dim=1), inputs, chosen

    def search(self, latents: Tensor, candidates: int) -> Tensor:
        """Return codes int64 ``[N, codebooks]`` by beam search: what is nearest at a codebook need not be best for the sum.

        ``candidates`` partial choices are kept at each codebook.
        """
        count, width = latents.shape
        residuals, codes = latents.detach().unsqueeze(1), latents.new_zeros((count, 1, 0), dtype=torch.int64)
        for book in self.codebooks:
            # The distance to what is left after this codebook, [N, kept * size].
            distances = residuals.square().sum(dim=2, keepdim=True) + book.square().sum(dim=1)
            distances = (distances - 2.0 * (residuals @ book.T)).flatten(1)
            best = distances.topk(min(candidates, distances.shape[1]), dim=1, largest=False).indices
            origin, entry = best // book.shape[0], best % book.shape[0]
            residuals = residuals.gather(1, origin.unsqueeze(2).expand(-1, -1, width)) - book[entry]
            kept = codes.gather(1, origin.unsqueeze(2).expand(-1, -1, codes.shape[2]))
            codes = torch.cat((kept, entry.unsqueeze(2)), dim=2)
        return codes[:, 0]


class MiniNetwork(nn.Module):
    """Encoder, quantizers and decoder; it reads its options from a :class:`MiniCodec`."""

    mel: Tensor
    window: Tensor

    def __init__(self, codec: Any) -> None:
        super().__init__()
        self.step, self.num_mels = codec.hop // SUBFRAMES, codec.num_mels
        self.envelope_codebooks = codec.envelope_codebooks
        self.envelope_width, self.waveform_width = codec.envelope_width, codec.waveform_width
        width, window, blocks, expansion = codec.waveform_width, codec.window, codec.encoder_blocks, codec.expansion
        mel, spectrum = SUBFRAMES * codec.num_mels, SUBFRAMES * 2 * (window // 2 + 1)
        filters = mel_filters(codec.sample_rate, window, codec.num_mels).T.float().contiguous()
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.register_buffer("mel", filters, persistent=False)
        context = 0
        if codec.envelope_codebooks:
            latents, channels = codec.envelope_width, codec.envelope_channels
            context = mel + latents
            self.envelope_encoder = Stack(mel, channels, blocks, latents, expansion)
            self.envelope_decoder = Stack(latents, channels, 2, mel, expansion)
            self.envelope_quantizer = Quantizer(codec.envelope_codebooks, codec.codebook_size, latents)
        self.waveform_encoder = Stack(spectrum + context, codec.encoder_width, blocks, width, expansion)
        self.waveform_quantizer = Quantizer(codec.num_codebooks - codec.envelope_codebooks, codec.codebook_size, width)
        self.lapped = Lapped(codec.hop)
        self.analysis = nn.Linear(codec.hop, width, bias=False)
        self.synthesis = nn.Linear(width, codec.hop, bias=False)
        with torch.no_grad():
            self.analysis.weight.copy_(torch.eye(width, codec.hop))
            self.synthesis.weight.copy_(torch.eye(codec.hop, width))
            self.waveform_encoder.leave.weight.mul_(0.1)
        self.decoder = Stack(
            width + context, codec.decoder_width, codec.decoder_blocks, SUBFRAMES * 3 * (window // 2 + 1), expansion
        )

    def spectra(self, wav: Tensor) -> Tensor:
        """Return the spectra, complex ``[B, S, bins]``, ``SUBFRAMES`` in each frame, of ``wav`` ``[B, T * hop]``."""
        return stft(wav, self.window, self.step)

    def log_mel(self, spectra: Tensor) -> Tensor:
        """Return log-mel magnitudes, about -3..3, ``[B, T, SUBFRAMES * num_mels]`` of spectra ``[B, S, bins]``."""
        power = spectra.real.square() + spectra.imag.square()
        mel = (power @ self.mel.T).clamp(min=1e-6).log() * 0.25
        return mel.reshape(mel.shape[0], -1, SUBFRAMES * self.num_mels)

    def compressed(self, spectra: Tensor) -> Tensor:
        """Return real and imaginary parts with compressed magnitudes, ``[B, T, SUBFRAMES * 2 * bins]``."""
        power = spectra.real.square() + spectra.imag.square()
        scale = (power + 1e-7).pow((COMPRESSION - 1.0) / 2.0)
        parts = torch.cat((spectra.real * scale, spectra.imag * scale), dim=-1)
        return parts.reshape(parts.shape[0], -1, SUBFRAMES * parts.shape[-1])

    def encode_envelope(self, spectra: Tensor) -> Tensor:
        """Return the envelope latents ``[B, T, envelope_width]``."""
        return self.envelope_encoder(self.log_mel(spectra))

    def encode_waveform(self, wav: Tensor, spectra: Tensor, envelope: Tensor | None) -> Tensor:
        """Return the waveform latents ``[B, T, waveform_width]``, given the quantized envelope latents.

        They are the lowest bins of the lapped transform, companded, at first; what else they are is learned.
        """
        x = self.compressed(spectra)
        if envelope is not None:
            x = torch.cat((x, envelope, self.envelope_decoder(envelope)), dim=-1)
        lapped = self.lapped(wav)
        companded = lapped * (lapped.square() + 1e-6).pow((COMPANDING - 1.0) / 2.0)
        return self.analysis(companded) + self.waveform_encoder(x)

    def encode(self, wav: Tensor, candidates: int = 1) -> tuple[Tensor, Tensor]:
        """Return codes int64 ``[B, T, K]`` and latents ``[B, T, D]`` of waveforms ``[B, T * hop]``.

        ``candidates`` are those of the search in the waveform codebooks, see :meth:`Quantizer.search`.
        """
        spectra = self.spectra(wav)
        codes, latents, envelope = [], [], None
        if self.envelope_codebooks:
            latents.append(self.encode_envelope(spectra))
            envelope_codes, _, vectors = self.envelope_quantizer(latents[0].flatten(0, 1))
            codes.append(envelope_codes)
            envelope = torch.stack(vectors).sum(dim=0).view_as(latents[0])
        latents.append(self.encode_waveform(wav, spectra, envelope))
        codes.append(self.waveform_quantizer(latents[-1].flatten(0, 1), candidates)[0])
        return torch.cat(codes, dim=1).unflatten(0, (len(wav), -1)), torch.cat(latents, dim=-1)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the waveform ``[B, T * hop]`` of latents ``[B, T, D]``."""
        companded = self.synthesis(latents[..., -self.waveform_width :]).float()
        lapped = companded * (companded.square() + 1e-6).pow((1.0 / COMPANDING - 1.0) / 2.0)
        if self.envelope_codebooks:
            envelope = self.envelope_decoder(latents[..., : self.envelope_width])
            latents = torch.cat((latents, envelope), dim=-1)
        out = self.decoder(latents).float()
        out = out.reshape(out.shape[0], -1, 3, len(self.window) // 2 + 1)
        magnitude = out[:, :, 0].clamp(max=6.0).exp()
        spectra = torch.complex(out[:, :, 1] * magnitude, out[:, :, 2] * magnitude)
        return self.lapped.inverse(lapped) + istft(spectra, self.window, self.step, floor=1e-3)


class MiniCodec(AbsCodec):
    """Codec at the frame rate, with envelope codebooks and waveform codebooks; see the module.

    Latents are the envelope branch's output before quantization, followed by the waveform branch's, which is computed
    given the quantized envelope.

    Raises:
        UserError: If the numbers do not fit together.
    """

    name: ClassVar[str] = "mini"
    pretrained_file: ClassVar[str | None] = "weights.pth"

    def __init__(
        self,
        sample_rate: int = 16000,  # Hz
        hop: int = 320,  # samples per frame, even
        window: int = 512,  # samples of the transform's window, even, at least `hop / 2`
        num_mels: int = 80,  # mel bands that the envelope codebooks see
        num_codebooks: int = 8,  # K
        envelope_codebooks: int = 1,  # how many of them, the first, are made from magnitudes alone; less than K
        codebook_size: int = 1024,  # entries of every codebook
        envelope_width: int = 16,  # latent dimensions of the envelope codebooks
        waveform_width: int = 64,  # latent dimensions of the other codebooks
        envelope_channels: int = 128,  # channels of the blocks of the envelope branch
        encoder_width: int = 176,  # channels of the waveform encoder's blocks
        encoder_blocks: int = 4,  # number of blocks in the encoder of each branch
        decoder_width: int = 256,  # channels of the decoder's blocks
        decoder_blocks: int = 6,  # number of them
        expansion: int = 3,  # inner width of a block, as a multiple of its channels
        # partial choices that the search of the waveform codebooks keeps; 1 takes the nearest entry at each
        candidates: int = 8,
    ) -> None:
        super().__init__()
        if hop < 2 or hop % 2 or window % 2 or window < hop // 2:
            raise self.fault(f"hop and window must be even, window >= hop / 2; got {hop} and {window}")
        if candidates < 1:
            raise self.fault(f"candidates must be at least 1, got {candidates}")
        if not 0 <= envelope_codebooks < num_codebooks:
            raise self.fault(
                f"expected 0 <= envelope_codebooks < num_codebooks, got {envelope_codebooks} and {num_codebooks}"
            )
        self.sample_rate, self.hop, self.window, self.num_mels = sample_rate, hop, window, num_mels
        self.num_codebooks, self.envelope_codebooks = num_codebooks, envelope_codebooks
        self.codebook_sizes = (codebook_size,) * num_codebooks
        self.envelope_width, self.waveform_width = envelope_width, waveform_width
        self.latent_dim = waveform_width + (envelope_width if envelope_codebooks else 0)
        self.envelope_channels, self.encoder_width = envelope_channels, encoder_width
        self.encoder_blocks, self.decoder_width = encoder_blocks, decoder_width
        self.decoder_blocks, self.expansion, self.candidates = decoder_blocks, expansion, candidates
        self.network = MiniNetwork(self)
        self.freeze()

    def codebook(self, number: int) -> Tensor:
        """Return the vectors of a codebook, float ``[C, D]``, 0 in the dimensions of the other branch."""
        if number < self.envelope_codebooks:
            return functional.pad(self.network.envelope_quantizer.codebooks[number], (0, self.waveform_width))
        vectors = self.network.waveform_quantizer.codebooks[number - self.envelope_codebooks]
        return functional.pad(vectors, (self.latent_dim - self.waveform_width, 0))

    def _encode_row(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        codes, latents = self.network.encode(wav.unsqueeze(0), self.candidates)
        return codes[0].T, latents[0].T

    def _decode_row(self, latents: Tensor, mixture: Tensor | None, quantized: bool) -> Tensor:
        return self.network.decode(latents.T.unsqueeze(0))[0]

    def load_pretrained(self, path: str | Path) -> None:
        """Load the weights of a codec directory, float32 or float16; or those of a training, from its exp directory or a
        checkpoint in it.
        """
        path = Path(path)
        if path.is_file() and not (path.parent / CONFIG).is_file():
            load_weights(self, read_checkpoint(path), f"{path}: does not hold the weights of this codec")
            return
        checkpoint = find_checkpoint(path)
        fault = f"{checkpoint}: does not fit codec_conf; copy 'network' of the training's config into it"
        load_weights(self.network, generator_weights(checkpoint), fault)

    def pretrained_cache(self) -> Path:
        """Return where the package keeps the weights for 16 kHz."""
        return SHIPPED / str(self.pretrained_file)
