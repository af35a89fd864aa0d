"""The ``mini`` codec: a small neural codec whose first levels can be predicted, and which ships with weights.

The network (:mod:`espnet_tse_gen.codec.mini.network`) computes at the frame rate between two short-time Fourier
transforms, so that it runs quickly on a CPU. Its first levels come from mel magnitudes alone, the others carry the
waveform. Weights for 16 kHz, trained on LibriSpeech, are in the package; ``egs2/librispeech/codec1`` trains others.

    codec = build_codec("mini")
    codec.load_pretrained(codec.pretrained_cache())
"""

from pathlib import Path
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.espnet_exp import CONFIG, find_checkpoint, generator_weights
from espnet_tse_gen.codec.mini.network import MiniNetwork
from espnet_tse_gen.utils.checkpoints import load_weights, read_checkpoint

SHIPPED = Path(__file__).resolve().parents[2] / "pretrained" / "codec_mini_16k"
"""Where the package keeps the weights for 16 kHz, with their card."""


class MiniCodec(AbsCodec):
    """Codec at the frame rate, with envelope levels and waveform levels; see the module.

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
        num_mels: int = 80,  # mel bands that the envelope levels see
        num_levels: int = 8,  # K
        envelope_levels: int = 1,  # how many of them, the first, are made from magnitudes alone; less than K
        codebook_size: int = 1024,  # entries of every level
        envelope_width: int = 16,  # latent dimensions of the envelope levels
        waveform_width: int = 64,  # latent dimensions of the other levels
        envelope_channels: int = 128,  # channels of the blocks of the envelope branch
        encoder_width: int = 176,  # channels of the waveform encoder's blocks
        encoder_blocks: int = 4,  # number of blocks in the encoder of each branch
        decoder_width: int = 256,  # channels of the decoder's blocks
        decoder_blocks: int = 6,  # number of them
        expansion: int = 3,  # inner width of a block, as a multiple of its channels
        # partial choices that the search of the waveform levels keeps; 1 takes the nearest entry at each
        candidates: int = 8,
    ) -> None:
        super().__init__()
        if hop < 2 or hop % 2 or window % 2 or window < hop // 2:
            raise self.fault(f"hop and window must be even, window >= hop / 2; got {hop} and {window}")
        if candidates < 1:
            raise self.fault(f"candidates must be at least 1, got {candidates}")
        if not 0 <= envelope_levels < num_levels:
            raise self.fault(f"expected 0 <= envelope_levels < num_levels, got {envelope_levels} and {num_levels}")
        self.sample_rate, self.hop, self.window, self.num_mels = sample_rate, hop, window, num_mels
        self.num_levels, self.envelope_levels = num_levels, envelope_levels
        self.codebook_sizes = (codebook_size,) * num_levels
        self.envelope_width, self.waveform_width = envelope_width, waveform_width
        self.latent_dim = waveform_width + (envelope_width if envelope_levels else 0)
        self.envelope_channels, self.encoder_width = envelope_channels, encoder_width
        self.encoder_blocks, self.decoder_width = encoder_blocks, decoder_width
        self.decoder_blocks, self.expansion, self.candidates = decoder_blocks, expansion, candidates
        self.network = MiniNetwork(self)
        self.freeze()

    def codebook(self, level: int) -> Tensor:
        """Return the vectors of a level, float ``[C, D]``, 0 in the dimensions of the other branch."""
        if level < self.envelope_levels:
            return functional.pad(self.network.envelope_quantizer.codebooks[level], (0, self.waveform_width))
        vectors = self.network.waveform_quantizer.codebooks[level - self.envelope_levels]
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
