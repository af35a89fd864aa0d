"""What the extractors share: an embedding of the enrolment, extraction with an embedding, and a speaker classifier."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from espnet_tse_gen.discriminative.blocks import NUM_SCALES, zero_padding
from espnet_tse_gen.utils.errors import UserError


class AbsEmbeddingExtractor(nn.Module, ABC):
    """An extractor in two halves, ``embed`` and ``extract``, so that an enrolment's embedding can be kept.

    ``input_dim`` channels are those of all three scales; an option that does not fit is a :class:`UserError`.
    """

    padding_exact = True
    """A padded batch gives what its items give one by one."""

    def __init__(self, input_dim: int, num_train_spk: int, embedding_dim: int) -> None:
        super().__init__()
        if input_dim < NUM_SCALES or input_dim % NUM_SCALES:
            raise UserError(
                f"extractor: features of {input_dim} channels: expected a multiple of {NUM_SCALES}, "
                "one part per scale: use the encoder 'ms_conv'"
            )
        if num_train_spk < 0:
            raise UserError(
                f"extractor: option 'num_train_spk' is {num_train_spk}: expected the number of training speakers, "
                "or 0 for no classifier"
            )
        self.scale_channel = input_dim // NUM_SCALES
        self.classifier = nn.Linear(embedding_dim, num_train_spk) if num_train_spk else None

    @abstractmethod
    def embed(self, input_aux: Tensor, ilens_aux: Tensor) -> Tensor:
        """Return the speaker embeddings ``[B, embedding_dim]`` of encoded enrolments ``[B, Te, 3N]``.

        ``ilens_aux [B]`` are valid frames; an enrolment that is too short is a :class:`UserError`.
        """

    @abstractmethod
    def extract(self, input: Tensor, ilens: Tensor, embedding: Tensor, num_scales: int = 1) -> Tensor:
        """Return the target's features ``[B, T, num_scales * N]``, the mixture's ``[B, T, 3N]`` under a mask.

        They are zero beyond an item's length (``ilens [B]`` frames) where lengths differ. Of the scales, short first, all are
        wanted in training, 1 to decode the short one alone.
        """

    def forward(
        self,
        input: Tensor,
        ilens: Tensor,
        input_aux: Tensor,
        ilens_aux: Tensor,
        suffix_tag: str = "",
        additional: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor, OrderedDict[str, Tensor]]:
        """Embed the enrolments and extract their speakers; arguments and errors as of :meth:`embed` and :meth:`extract`.

        Returns:
            The target's features ``[B, T, 3N]``, ``ilens``, and ``enroll_emb`` ``[B, embedding_dim]`` and, with a
            classifier, ``spk_logits`` ``[B, num_train_spk]``, both with their gradient and ``suffix_tag`` after their names.
        """
        embedding = self.embed(input_aux, ilens_aux)
        others = OrderedDict({f"enroll_emb{suffix_tag}": embedding})
        if self.classifier is not None:
            others[f"spk_logits{suffix_tag}"] = self.classifier(embedding)
        return self.extract(input, ilens, embedding, NUM_SCALES), ilens, others

    def apply_masks(self, masks: Tensor, features: Tensor, valid: Tensor | None) -> Tensor:
        """Return masked features ``[B, T, channels]`` from masks ``[B, channels, T]`` and the encoder's features.

        Padded frames are set to zero, because the decoder's windows reach from them into valid samples.
        """
        return zero_padding(masks * features[:, : masks.shape[1]], valid).transpose(1, 2)
