"""The masked-token extractor: mixture added per frame, enrolment as a cached prefix, one output head per codebook.

``mixture_features: tokens`` is the published method, ``latent+tokens`` and its kin the recommended one. The enrolment is a prefix
that the target attends to (see :mod:`espnet_tse_gen.masked.transformer`).
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.masked.abs_extractor import AbsMaskedExtractor, Signal
from espnet_tse_gen.masked.features import ESTIMATE_FEATURES, FEATURES, FrameInput, TokenEmbedding, parse_features
from espnet_tse_gen.masked.transformer import PrefixCache, Transformer
from espnet_tse_gen.utils.errors import UserError

NO_FEATURES = "none"
"""What ``enroll_features`` is called where only the speaker embedding tells who is wanted; ``front_end_features`` likewise."""


@dataclass(frozen=True)
class Conditions:
    """All that stays the same over the decoding passes of a batch."""

    mixture: Tensor  # `[B, T, d]`, the encoded mixture
    valid: Tensor  # `[B, T]` bool
    cache: PrefixCache  # keys and values of the enrolment
    speaker: Tensor | None  # `[B, 1, d]`, the enrolment as one vector, or None
    estimate: Tensor | None = None  # `[B, T, D + 1]`, the estimate's latents and a 1, for the heads; or None

    def frames(self, start: int, end: int) -> "Conditions":
        """Return the conditions of the target frames ``start`` to ``end``."""
        estimate = None if self.estimate is None else self.estimate[:, start:end]
        mixture, valid = self.mixture[:, start:end], self.valid[:, start:end]
        return dataclasses.replace(self, mixture=mixture, valid=valid, estimate=estimate)


class MaskedExtractor(AbsMaskedExtractor):
    """Bidirectional transformer over partly hidden target tokens; an unknown name or impossible size is a UserError."""

    def __init__(
        self,
        codec: AbsCodec,  # its weights are not part of the extractor
        width: int = 512,  # d
        layers: int = 12,  # blocks of the token transformer
        heads: int = 8,  # attention heads
        mixture_layers: int = 4,  # blocks of the mixture encoder, which runs once per utterance
        mixture_features: str | Sequence[str] = "latent+tokens",  # `tokens`, `latent`, `stft`, joined by `+`
        # the same, of the enrolment; `none` leaves it to the speaker embedding alone
        enroll_features: str | Sequence[str] = "latent+tokens",
        embedding: str = "sum",  # `sum` or `codec`; see :class:`TokenEmbedding`
        enroll_stride: int = 1,  # enrolment frames averaged into one, which shortens the prefix
        # window of the `stft` feature, in samples; 0 takes three codec frames, rounded up to a power of two
        stft_size: int = 0,
        max_enroll_seconds: float = 10.0,  # a longer enrolment is cut. The target starts at this position
        dropout: float = 0.1,
        speaker_vector: bool = False,  # whether the enrolment's mean is also added to every target frame
        # width E of a speaker embedding of the enrolment that is also added to every target frame; 0 for none
        speaker_embedding: int = 0,
        conv_kernel: int = 0,  # odd kernel of the blocks' depthwise convolution; 0 for none
        # whether hidden states also regress the target's latents, an extraction signal before cross-entropy has one
        latent_head: bool = False,
        # features, as of the mixture, of the estimate that a frozen front end makes of the target, and `features`, its
        # own; added to the mixture's frames before the mixture encoder. `none` for no front end
        front_end_features: str | Sequence[str] = NO_FEATURES,
        front_end_width: int = 0,  # width of the front end's own features, for `features` among these; the front end knows
        # above 0, the heads also see the estimate's latents, and start from what these say: the logit of an entry is so many
        # times the negative square of its distance to them. For codecs each of whose codebooks has latent dimensions of its own
        estimate_head: float = 0.0,
    ) -> None:
        super().__init__()
        if enroll_stride < 1:
            raise UserError(f"extractor_conf: enroll_stride must be at least 1, not {enroll_stride}")
        if speaker_embedding < 0 or (enroll_features == NO_FEATURES and not speaker_embedding):
            raise UserError(
                f"extractor_conf: enroll_features {enroll_features} and speaker_embedding {speaker_embedding} leave nothing"
                " of the enrolment; give speaker_embedding: 256, or features"
            )
        self.num_codebooks = codec.num_codebooks
        self.codebook_size = codec.codebook_size
        self.enroll_stride = enroll_stride
        self.max_enroll_seconds = max_enroll_seconds
        self.max_enroll_frames = max(1, math.ceil(max_enroll_seconds * codec.frame_rate / enroll_stride))
        stft_size = stft_size or 2 ** math.ceil(math.log2(3 * codec.hop))

        def frame_input(
            features: str | Sequence[str], shared: TokenEmbedding | None = None, valid: Sequence[str] = FEATURES
        ) -> FrameInput:
            names = parse_features(features, valid)
            tokens = (shared or TokenEmbedding(codec, width, embedding)) if "tokens" in names else None
            return FrameInput(names, tokens, codec, width, stft_size, front_end_width)

        # Tokens of enrolment and estimate are meant to be clean speech, so they share the target's tables; the mixture's have
        # their own.
        shared = self.target_embedding = TokenEmbedding(codec, width, embedding)
        self.mixture_input = frame_input(mixture_features)
        self.enroll_input = None if enroll_features == NO_FEATURES else frame_input(enroll_features, shared)
        self.mixture_encoder = Transformer(width, mixture_layers, heads, dropout, conv_kernel)
        self.mixture_project = nn.Linear(width, width, bias=False)
        self.backbone = Transformer(width, layers, heads, dropout, conv_kernel)
        self.target_segment = nn.Parameter(torch.randn(width) * 0.02)
        self.enroll_segment = nn.Parameter(torch.randn(width) * 0.02)
        self.null_enroll = nn.Parameter(torch.randn(width) * 0.02)
        self.null_mixture = nn.Parameter(torch.randn(width) * 0.02)
        # Zero heads: training starts from the uniform distribution, a cross-entropy of exactly ln C.
        self.heads = nn.Parameter(torch.zeros(codec.num_codebooks, codec.codebook_size, width))
        self.speaker_map = (
            nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width, bias=False)]) if speaker_vector else None
        )
        self.speaker_embedding = speaker_embedding
        self.embedding_map = nn.Linear(speaker_embedding, width, bias=False) if speaker_embedding else None
        self.latent_head = nn.Linear(width, codec.latent_dim) if latent_head else None
        self.takes_estimate = front_end_features != NO_FEATURES
        self.estimate_heads = None
        if estimate_head:
            if not self.takes_estimate or not codec.codebooks_apart:
                raise UserError(
                    "extractor_conf: estimate_head needs a front end, and a codec whose codebooks have latent dimensions of"
                    " their own, as mel's with split: bands have; choose 0"
                )
            books = codec.all_codebooks().detach()
            squares = books.square().sum(dim=2, keepdim=True)
            self.estimate_heads = nn.Parameter(estimate_head * torch.cat((2.0 * books, -squares), dim=2))
        self.front_end_input = None
        if self.takes_estimate:
            if "features" in parse_features(front_end_features, ESTIMATE_FEATURES) and front_end_width < 1:
                raise UserError(
                    "extractor_conf: front_end_features: 'features' are those of a front end that has some, as dual_path has;"
                    " give one of these by --front_end, or leave 'features' out"
                )
            self.front_end_input = frame_input(front_end_features, shared, ESTIMATE_FEATURES)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=1.0 / math.sqrt(module.in_features))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, nn.RMSNorm | TokenEmbedding) or module is self:
                for parameter in module.parameters(recurse=False):
                    # Read by ESPnet's --exclude_weight_decay: gains, embeddings and single vectors do not decay.
                    parameter._no_weight_decay = parameter is not self.heads  # type: ignore[attr-defined]
        if self.estimate_heads is not None and self.latent_head is not None:
            # It adds to the estimate's latents, and starts from them.
            nn.init.zeros_(self.latent_head.weight)

    def encode_conditions(
        self,
        mixture: Signal,
        enroll: Signal,
        drop_enroll: Tensor | None = None,
        drop_mixture: Tensor | None = None,
        estimate: Signal | None = None,
        drop_estimate: Tensor | None = None,
    ) -> Conditions:
        """Encode the mixture and cache the enrolment; see :class:`AbsMaskedExtractor`."""
        mixed = self.mixture_input(mixture)
        if self.front_end_input is not None:
            mixed = mixed + self._estimate(estimate, drop_enroll, drop_estimate)
        encoded = self.mixture_project(self.mixture_encoder(mixed, mixture.valid))
        if drop_mixture is not None:
            encoded = torch.where(drop_mixture[:, None, None], self.null_mixture.to(encoded.dtype), encoded)
        if self.enroll_input is None:
            frames, valid = self.null_enroll.to(encoded.dtype).expand(len(encoded), 1, -1), enroll.valid[:, :1]
        else:
            frames, valid = _average(self.enroll_input(enroll), enroll.valid, self.enroll_stride)
        frames, valid = frames[:, : self.max_enroll_frames], valid[:, : self.max_enroll_frames]
        if drop_enroll is not None:
            beginning = torch.arange(valid.shape[1], device=valid.device) == 0
            frames = torch.where(drop_enroll[:, None, None], self.null_enroll.to(frames.dtype), frames)
            valid = torch.where(drop_enroll[:, None], beginning, valid)
        cache = self.backbone.prefix(frames + self.enroll_segment.to(frames.dtype), valid)
        speaker = None
        if self.speaker_map is not None:
            first, second = self.speaker_map
            activity = nn.functional.silu(first(frames)) * valid[..., None].to(frames.dtype)
            speaker = second(activity.sum(dim=1, keepdim=True) / valid.sum(dim=1)[:, None, None].to(activity.dtype))
        if self.embedding_map is not None:
            given = self._embedding(enroll, drop_enroll)
            speaker = given if speaker is None else speaker + given
        latents = None if self.estimate_heads is None else self._latents(mixture, estimate, drop_enroll, drop_estimate)
        return Conditions(encoded, mixture.valid, cache, speaker, latents)

    def forward(self, codes: Tensor, conditions: Conditions) -> Tensor:
        """Return hidden states ``[B, T, d]``, followed by what the heads see of an estimate; see :class:`AbsMaskedExtractor`."""
        frames = self.target_embedding(codes, conditions.valid) + conditions.mixture + self.target_segment
        if conditions.speaker is not None:
            frames = frames + conditions.speaker
        hidden = self.backbone(frames, conditions.valid, conditions.cache, offset=self.max_enroll_frames)
        seen = conditions.estimate
        return hidden if seen is None else torch.cat((hidden, seen.to(hidden.dtype)), dim=2)

    def _estimate(self, estimate: Signal | None, *drops: Tensor | None) -> Tensor | float:
        """Return what the front end's estimate adds to the mixture's frames, ``[B, T, d]``; zero for dropped rows."""
        dropped = _any(*drops)
        if estimate is None or self.front_end_input is None:
            if dropped is None or not bool(dropped.all()):
                raise UserError(
                    "extractor_conf: front_end_features: expected a front end's estimate for every mixture, found none;"
                    " give --front_end, or front_end_features: none"
                )
            return 0.0
        frames = self.front_end_input(estimate)
        return frames if dropped is None else torch.where(dropped[:, None, None], torch.zeros_like(frames), frames)

    def _latents(self, mixture: Signal, estimate: Signal | None, *drops: Tensor | None) -> Tensor:
        """Return the estimate's latents and a 1 for the heads, ``[B, T, D + 1]``; zero for dropped rows."""
        latents = mixture.latents.transpose(1, 2)
        if estimate is None:
            return torch.zeros_like(torch.cat((latents, latents[..., :1]), dim=2))
        given = estimate.latents.transpose(1, 2)
        given = torch.cat((given, torch.ones_like(given[..., :1])), dim=2)
        dropped = _any(*drops)
        return given if dropped is None else given * ~dropped[:, None, None]

    def _embedding(self, enroll: Signal, drop: Tensor | None) -> Tensor:
        """Return what the speaker embeddings add to every target frame, ``[B, 1, d]``; zero for the rows ``drop``."""
        given = enroll.embedding
        if given is None or given.shape[1] != self.speaker_embedding or self.embedding_map is None:
            found = "none" if given is None else f"{given.shape[1]} numbers"
            raise UserError(
                f"extractor_conf: speaker_embedding: expected an embedding of {self.speaker_embedding} numbers for every"
                f" enrolment, found {found}; give --speaker_embeddings, made by embed_speakers"
            )
        weight = self.embedding_map.weight
        # Of unit length, so that only the direction counts; scaled to the size of the features beside it.
        unit = nn.functional.normalize(given.to(weight.dtype), dim=1) * math.sqrt(self.speaker_embedding)
        added = self.embedding_map(unit)[:, None]
        return added if drop is None else added * ~drop[:, None, None]

    def logits(self, hidden: Tensor, codebook: int) -> Tensor:
        """Map what :meth:`forward` returns, ``[..., d]``, to the logits ``[..., C]`` of ``codebook``."""
        head = self.heads[codebook]
        if self.estimate_heads is None:
            return nn.functional.linear(hidden, head)
        known = self._known(hidden[..., head.shape[1] :], self.estimate_heads[codebook])
        return nn.functional.linear(hidden[..., : head.shape[1]], head) + known

    def estimate_logits(self, conditions: Conditions, codebook: int) -> Tensor | None:
        """Return the logits ``[B, T, C]`` that the estimate alone gives; None without ``estimate_head``."""
        if self.estimate_heads is None or conditions.estimate is None:
            return None
        return self._known(conditions.estimate, self.estimate_heads[codebook])

    def _known(self, seen: Tensor, head: Tensor) -> Tensor:
        # In float32: distances are differences of large numbers.
        with torch.autocast(seen.device.type, enabled=False):
            return nn.functional.linear(seen.float(), head.float())

    def predict_latents(self, hidden: Tensor) -> Tensor | None:
        """Map hidden states ``[B, T, d]`` to latents ``[B, D, T]``, or None without a latent head."""
        if self.latent_head is None:
            return None
        latents = self.latent_head(hidden[..., : self.latent_head.in_features])
        if self.estimate_heads is not None:
            latents = latents + hidden[..., self.latent_head.in_features : -1]
        return latents.transpose(1, 2)


def _any(*drops: Tensor | None) -> Tensor | None:
    """Return which rows, bool ``[B]``, any of the drops names; None where none does."""
    rows = [drop for drop in drops if drop is not None]
    return torch.stack(rows).any(dim=0) if rows else None


def _average(frames: Tensor, valid: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Average every ``stride`` frames of ``[B, T, d]`` over the valid ones; return also which results are valid."""
    if stride == 1:
        return frames, valid
    missing = -frames.shape[1] % stride
    frames = nn.functional.pad(frames, (0, 0, 0, missing)).unflatten(1, (-1, stride))
    present = nn.functional.pad(valid, (0, missing)).unflatten(1, (-1, stride))
    count = present.sum(dim=2)
    # Frames on padding are zero already.
    return frames.sum(dim=2) / count.clamp_min(1)[..., None].to(frames.dtype), count > 0
