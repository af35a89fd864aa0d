"""The dual-path extractor: a mixture and an enrolment in, the target's voice and when it speaks out.

A spectrum is split into bands, and every band of every frame is a vector. Blocks look along time within a band and across the
bands within a frame in turn, with the same weights for all bands, which makes a few hours of speech go far (dual path, Luo et
al., ICASSP 2020; bands, Luo and Yu, TASLP 2023). The enrolment goes through the same first blocks as the mixture; its frames are
what the mixture's attend to beside their own (as in USEF-TSE, Zeng and Li 2024), and an embedding of the voice scales and shifts
the mixture's features.

    network = DualPathExtractor()
    voice, activity = network(mixture, [[enroll]])               # [B, L], [B, T]
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from espnet_tse_gen.audio.voice_encoder import EMBEDDING_WIDTH, SAMPLE_RATE, VoiceEncoder
from espnet_tse_gen.discriminative.abs_waveform_extractor import AbsWaveformExtractor, Voices
from espnet_tse_gen.dual_path.bands import BandFeatures, BandLayout, BandMasks, Spectrum
from espnet_tse_gen.dual_path.blocks import DualPathBlock, KeysValues
from espnet_tse_gen.utils.errors import UserError

LEVEL = 0.05
"""RMS that mixture and enrolment are brought to inside the network; the output is at the mixture's own level."""
SILENCE = 1e-12
"""Mean square of a voice below which nothing was extracted."""
BAND_WIDTHS = (7, 7, 7, 7, 6, 6, 10, 10, 10, 10, 16, 16, 16, 16, 16, 32, 32, 32, 32, 33)
"""Bins of the 20 bands of a window of 640 samples."""


class Enrolment(NamedTuple):
    """What the extractor keeps of targets' enrolments, a row each; :meth:`DualPathExtractor.enroll` makes it."""

    prefix: list[KeysValues]  # of every extractor block; empty where enrolment frames are off
    embedding: Tensor | None  # `[B, 256]`; None where embeddings are off

    @property
    def length(self) -> int:
        """Frames of the enrolment; rows of one length can be put together."""
        return self.prefix[0][0].shape[3] if self.prefix else 0

    @staticmethod
    def together(rows: Sequence["Enrolment"]) -> "Enrolment":
        """Return enrolments of one row and of one length as one; the segments of a recording share theirs, without a copy."""
        same = all(row is rows[0] for row in rows)

        def joined(parts: Sequence[Tensor]) -> Tensor:
            return parts[0].expand(len(rows), *parts[0].shape[1:]) if same else torch.cat([*parts])

        blocks = zip(*(row.prefix for row in rows), strict=True)
        prefix = [(joined([keys for keys, _ in block]), joined([values for _, values in block])) for block in blocks]
        embeddings = [row.embedding for row in rows if row.embedding is not None]
        return Enrolment(prefix, joined(embeddings) if embeddings else None)


class EncodedMixture(NamedTuple):
    """What the encoder makes of mixtures."""

    features: Tensor  # `[B, K, T, width]`
    spectrum: Tensor  # complex `[B, T, bins]`, at the mixture's own level, without its mean
    samples: int  # length of the mixtures


class DualPathExtractor(AbsWaveformExtractor):
    """Extracts the enrolled speaker from a mixture at 16 kHz; options that do not fit are a :class:`UserError`."""

    def __init__(
        self,
        sample_rate: int = SAMPLE_RATE,  # Hz; with embeddings of the voice, 16000
        window: int = 640,  # samples of the transform's window
        hop: int = 320,  # samples between frames
        band_widths: Sequence[int] = BAND_WIDTHS,  # bins of each band; they add up to `window // 2 + 1`
        width: int = 96,  # of the features; a multiple of `head_width`
        head_width: int = 32,  # of an attention head; 32 suits the matrix units of CPUs
        kernel: int = 9,  # frames that a block's convolution sees; odd
        encoder_blocks: int = 3,  # for mixture and enrolment alike; time attention in the middle one only
        extractor_blocks: int = 4,  # for the mixture, given the enrolment
        enroll_frames: bool = True,  # whether attention sees the enrolment's frames
        enroll_pool: int = 2,  # frames of the enrolment that are averaged into one
        speaker_embedding: bool = True,  # whether an embedding of the voice scales and shifts the mixture's features
        embedding_dropout: float = 0.1,  # share of training items without it
        band_attention: bool = True,  # whether there is attention over bands
        # slope and middle of :meth:`presence`, fitted by `benchmarks/presence.py`
        presence: Sequence[float] = (24.0, 0.7),
    ) -> None:
        super().__init__()
        if width < 1 or head_width < 1 or width % head_width:
            raise UserError(f"extractor_conf: width {width} is not a multiple of head_width {head_width}; correct one")
        if kernel < 1 or kernel % 2 == 0:
            raise UserError(f"extractor_conf: kernel is {kernel}, expected an odd number")
        if min(encoder_blocks, extractor_blocks, enroll_pool) < 1:
            raise UserError("extractor_conf: encoder_blocks, extractor_blocks and enroll_pool must be 1 or more")
        if not (enroll_frames or speaker_embedding):
            raise UserError(
                "extractor_conf: with neither enroll_frames nor speaker_embedding, no target is known; set one"
            )
        if speaker_embedding and sample_rate != SAMPLE_RATE:
            raise UserError(
                f"extractor_conf: speaker_embedding is made at {SAMPLE_RATE} Hz, the model's rate is {sample_rate} Hz; set it"
                " to false, or train at 16 kHz"
            )
        if len(presence) != 2:
            raise UserError(f"extractor_conf: presence is {list(presence)}, expected two numbers: slope and middle")
        self.sample_rate, self.enroll_pool, self.enroll_frames = sample_rate, enroll_pool, enroll_frames
        self.presence_slope, self.presence_middle = map(float, presence)
        self.embedding_dropout = embedding_dropout
        self.spectrum = Spectrum(window, hop)
        self.window, self.hop, self.shortest = window, hop, (1, enroll_pool * hop)
        self.feature_width = len(band_widths) * width
        layout = BandLayout(band_widths, self.spectrum.bins)
        self.features = BandFeatures(layout, width)
        self.encoder = nn.ModuleList(
            DualPathBlock(width, head_width, kernel, number == encoder_blocks // 2, band_attention)
            for number in range(encoder_blocks)
        )
        self.extractor = nn.ModuleList(
            DualPathBlock(width, head_width, kernel, True, band_attention) for _ in range(extractor_blocks)
        )
        self.masks = BandMasks(layout, width)
        self.activity = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))
        self.voice = VoiceEncoder() if speaker_embedding else None
        self.modulation = nn.Linear(EMBEDDING_WIDTH, 2 * width) if speaker_embedding else None
        if self.modulation is not None:
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(self, mixture: Tensor, enrolls: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
        """See :class:`AbsWaveformExtractor`."""
        recordings = [row for enroll in enrolls for row in enroll]
        longest = max(map(len, recordings))
        # Shorter ones are repeated to the length of the longest: attention finds in them what it found before, and no padding
        # has to be kept out of it.
        rows = [row.repeat(-(-longest // len(row)))[:longest] for row in recordings]
        prefix = self._prefix(self._enroll_features(torch.stack(rows))) if self.enroll_frames else []
        enrolment = Enrolment(prefix, None if self.voice is None else self.voice(recordings))
        waveforms, activity, _ = self.extract(self.encode(mixture), enrolment)
        return waveforms, activity  # type: ignore[return-value]

    def encode(self, mixture: Tensor) -> EncodedMixture:
        """Encode mixtures ``[B, L]``, of any level."""
        mixture = mixture.float()
        mixture = mixture - mixture.mean(dim=1, keepdim=True)
        spectrum = self.spectrum(mixture)
        gain = _gain(mixture).view(-1, 1, 1)
        return EncodedMixture(self._encoded(spectrum * gain), spectrum, mixture.shape[1])

    def enroll(self, targets: Sequence[Sequence[Tensor]]) -> list[Enrolment]:
        """See :class:`AbsWaveformExtractor`; one row each, and the embeddings of all recordings are made together."""
        rows = [recording.float() for recordings in targets for recording in recordings]
        counts = [len(recordings) for recordings in targets]
        embedded = [None] * len(targets) if self.voice is None else self.voice(rows).split(counts)
        made = []
        for recordings, embedding in zip(targets, embedded, strict=True):
            prefix: list[KeysValues] = []
            if self.enroll_frames:
                encoded = [self._enroll_features(recording.unsqueeze(0)) for recording in recordings]
                prefix = self._prefix(torch.cat(encoded, dim=2))
            if embedding is not None:
                weights = embedding.new_tensor([[len(recording)] for recording in recordings])
                embedding = nn.functional.normalize((embedding * weights).sum(dim=0, keepdim=True), dim=1)
            made.append(Enrolment(prefix, embedding))
        return made

    def extract(self, mixture: EncodedMixture, enrolment: Enrolment) -> Voices:
        """Extract from B encoded mixtures with N * B rows of enrolments, first targets first.

        The features are those of all bands after the last block, as the masks are made from them.
        """
        rows = len(enrolment.embedding) if enrolment.embedding is not None else len(enrolment.prefix[0][0])
        times = rows // len(mixture.features)
        x = self._modulated(mixture.features.repeat(times, 1, 1, 1), enrolment.embedding)
        for number, block in enumerate(self.extractor):
            x = block(x, enrolment.prefix[number] if enrolment.prefix else None)
        features = self.masks.norm(x)
        spectrum = mixture.spectrum.repeat(times, 1, 1) * self.masks(features)
        activity = self.activity(x.mean(dim=1)).squeeze(-1).float()
        return Voices(self.spectrum.inverse(spectrum, mixture.samples), activity, features.transpose(1, 2))

    def presence(self, voices: Tensor, enrolments: Sequence[Enrolment]) -> Tensor | None:
        """See :class:`AbsWaveformExtractor`; by the likeness of embeddings, 0 for silence, None where embeddings are off."""
        if self.voice is None:
            return None
        enrolled = torch.cat([enrolment.embedding for enrolment in enrolments if enrolment.embedding is not None])
        likeness = (self.voice(list(voices)) * enrolled).sum(dim=1)
        present = torch.sigmoid(self.presence_slope * (likeness - self.presence_middle))
        return present * (voices.square().mean(dim=1) > SILENCE)

    def extract_rows(self, mixture: Tensor, enrolments: Sequence[Enrolment]) -> Voices:
        """See :class:`AbsWaveformExtractor`."""
        order: list[int] = []
        parts: list[Voices] = []
        for length in dict.fromkeys(each.length for each in enrolments):
            rows = [row for row, each in enumerate(enrolments) if each.length == length]
            enrolment = Enrolment.together([enrolments[row] for row in rows])
            parts.append(self.extract(self.encode(mixture[rows]), enrolment))
            order += rows
        back = torch.tensor(order).argsort()
        return parts[0] if len(parts) == 1 else Voices(*(torch.cat(part)[back] for part in zip(*parts, strict=True)))

    def _encoded(self, spectrum: Tensor) -> Tensor:
        x = self.features(spectrum)
        for block in self.encoder:
            x = block(x)
        return x

    def _enroll_features(self, recordings: Tensor) -> Tensor:
        """Return features ``[B, K, frames // enroll_pool, width]`` of recordings ``[B, L]``."""
        recordings = recordings.float()
        recordings = recordings - recordings.mean(dim=1, keepdim=True)
        encoded = self._encoded(self.spectrum(recordings * _gain(recordings).unsqueeze(1)))
        whole = encoded.shape[2] // self.enroll_pool * self.enroll_pool
        return encoded[:, :, :whole].unflatten(2, (-1, self.enroll_pool)).mean(dim=3) if whole else encoded

    def _prefix(self, features: Tensor) -> list[KeysValues]:
        return [block.time.keys_values(features) for block in self.extractor]  # type: ignore[union-attr, operator]

    def _modulated(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """Scale and shift features ``[B, K, T, width]`` by embeddings of the voice ``[B, 256]``."""
        if self.modulation is None or embedding is None:
            return x
        # Unit vectors have small entries; the factor brings them to about 1.
        scale, shift = self.modulation(embedding * EMBEDDING_WIDTH**0.5).chunk(2, dim=1)
        if self.training and self.embedding_dropout > 0:
            kept = (torch.rand(len(x), 1, device=x.device) >= self.embedding_dropout).to(scale.dtype)
            scale, shift = scale * kept, shift * kept
        return x * (1.0 + scale)[:, None, None] + shift[:, None, None]


def _gain(recordings: Tensor) -> Tensor:
    """Return the factors ``[B]`` that bring recordings ``[B, L]`` to :data:`LEVEL`; 1 for silence."""
    rms = recordings.square().mean(dim=1).sqrt()
    return torch.where(rms > 1e-7, LEVEL / rms.clamp(min=1e-7), torch.ones_like(rms))
