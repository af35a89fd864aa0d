"""What the extractors share: an embedding of the enrolment, extraction with an embedding, and a speaker classifier."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from espnet_tse_gen.discriminative.blocks import NUM_SCALES
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
        """Return the embeddings ``[B, embedding_dim]`` of encoded enrolments ``[B, Te, 3N]`` of ``ilens_aux [B]`` frames.

        An enrolment that is too short is a :class:`UserError`.
        """

    @abstractmethod
    def extract(self, input: Tensor, ilens: Tensor, embedding: Tensor, num_scales: int = 1) -> Tensor:
        """Return the target's features ``[B, T, num_scales * N]``, the mixture's ``[B, T, 3N]`` under a mask.

        They are zero beyond ``ilens [B]`` frames where lengths differ. Training wants all scales, of which the short one,
        the first, is enough to decode.
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
            classifier, ``spk_logits`` ``[B, num_train_spk]``, with ``suffix_tag`` after their names.
        """
        embedding = self.embed(input_aux, ilens_aux)
        others = OrderedDict({f"enroll_emb{suffix_tag}": embedding})
        if self.classifier is not None:
            others[f"spk_logits{suffix_tag}"] = self.classifier(embedding)
        return self.extract(input, ilens, embedding, NUM_SCALES), ilens, others
