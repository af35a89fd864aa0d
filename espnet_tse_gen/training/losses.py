"""Losses of extractors that predict a waveform at several scales and classify the enrolled speaker.

The scales are weighed 0.8/0.1/0.1 in the code of SpEx+'s authors (Ge et al., Interspeech 2020, arXiv 2005.04686), and the
speaker's cross-entropy 0.5 in its final version.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from espnet2.enh.loss.criterions.time_domain import TimeDomainLoss
from espnet2.enh.loss.wrappers.abs_wrapper import AbsLossWrapper
from torch import Tensor

from espnet_tse_gen.utils.errors import UserError

LABEL, LOGITS = "spk_label", "spk_logits"
"""What carries the speaker's number and its scores in ESPnet's ``others``, each followed by ``_spk1``, ``_spk2`` ..."""
UNKNOWN_SPEAKER = -1  # label of an enrolment whose speaker is not among the training speakers
Estimate = Tensor | Sequence[Tensor]

_MISSING = {
    LOGITS: "the extractor does not classify speakers; set extractor_conf num_train_spk",
    LABEL: "spk_label_ref{} is not among the data; use preprocessor: tse_gen with --train_spk2enroll or dynamic mixing",
}


class MultiScaleSolver(AbsLossWrapper):
    """Weighted sum of a waveform loss over the scales of each speaker's estimate, in the order of the speakers.

    An estimate that is one waveform (TD-SpeakerBeam's) is one scale. Rows whose reference is digital silence are left out.
    """

    def __init__(
        self,
        criterion: TimeDomainLoss,  # per row
        weight: float = 1.0,  # of this loss among all; applied by the model
        scale_weights: Sequence[float] = (0.8, 0.1, 0.1),  # one per scale, the shortest first; none below 0
    ) -> None:
        super().__init__()
        if min(scale_weights, default=0.0) < 0 or sum(scale_weights) <= 0:
            raise UserError(f"wrapper_conf: scale_weights {list(scale_weights)}: expected 0 or more, one of them above")
        self.criterion, self.weight = criterion, weight
        self.scale_weights = tuple(map(float, scale_weights))

    def forward(
        self, ref: Sequence[Tensor], inf: Sequence[Estimate], others: Mapping[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Return the loss, its parts by scale, and ESPnet's permutation.

        References ``[B, L]`` are one per speaker, and so are estimates, or one per scale of each speaker.
        """
        total = ref[0].new_zeros((), dtype=torch.float32)
        by_scale = defaultdict[int, list[Tensor]](list)
        for reference, estimate in zip(ref, inf, strict=True):
            scales = [estimate] if isinstance(estimate, Tensor) else list(estimate)
            weights = (1.0,) if isinstance(estimate, Tensor) else self.scale_weights
            if len(scales) != len(weights):
                raise UserError(
                    f"wrapper_conf: scale_weights has {len(weights)} weights, expected {len(scales)}, one per scale"
                )
            heard = reference.abs().amax(dim=1) > 0
            for number, (weight, scale) in enumerate(zip(weights, scales, strict=True)):
                # In float32 whatever the network computes in: ratios of small differences.
                rows = self.criterion(reference[heard].float(), scale[heard].float())
                loss = rows.mean() if len(rows) else scale.float().sum() * 0.0
                by_scale[number].append(loss)
                total = total + weight * loss / len(ref)
        name = self.criterion.name
        stats = {f"{name}_s{number}": torch.stack(losses).mean().detach() for number, losses in by_scale.items()}
        stats[name] = total.detach()
        order = torch.arange(len(ref)).expand(ref[0].shape[0], -1)
        return total, stats, {"perm": order}


class SpeakerCrossEntropy(TimeDomainLoss):
    """Cross-entropy of the enrolled speaker among the training speakers; a ``TimeDomainLoss`` to ESPnet's model alone."""

    def __init__(self, name: str = "spk_ce", only_for_test: bool = False) -> None:
        super().__init__(name, only_for_test=only_for_test)

    def forward(self, ref: Tensor, inf: Tensor) -> Tensor:
        """Return the cross-entropy ``[B]`` of scores ``inf [B, S]`` for speakers ``ref [B]``, none of them unknown."""
        return torch.nn.functional.cross_entropy(inf.float(), ref, reduction="none")


class SpeakerSolver(AbsLossWrapper):
    """Reads labels and scores from ESPnet's ``others`` and applies :class:`SpeakerCrossEntropy` to the labelled rows.

    Where no row has a known speaker, as in validation on other speakers, the loss is exactly zero and keeps its graph.
    """

    def __init__(self, criterion: TimeDomainLoss, weight: float = 0.5) -> None:
        super().__init__()
        self.criterion, self.weight = criterion, weight

    def forward(
        self, ref: Sequence[Tensor], inf: Sequence[Estimate], others: Mapping[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Return the loss, itself and the accuracy as figures, and nothing more.

        ``others`` holds ``spk_logits_spk{n} [B, S]`` and ``spk_label_spk{n} [B]`` of every speaker, or it is a UserError: the
        model does not classify, or the data come without speakers.
        """
        given = others or {}
        numbers = range(1, len(ref) + 1)
        for number in numbers:
            for kind, missing in _MISSING.items():
                if f"{kind}_spk{number}" not in given:
                    raise UserError(f"criterion 'spk_ce': {missing.format(number)}, or take spk_ce out of criterions")
        scores = torch.cat([given[f"{LOGITS}_spk{number}"] for number in numbers])
        speakers = torch.cat([given[f"{LABEL}_spk{number}"].reshape(-1) for number in numbers])
        known = speakers != UNKNOWN_SPEAKER
        if known.any():
            rows = self.criterion(speakers[known], scores[known])
            loss, right = rows.mean(), (scores[known].argmax(dim=1) == speakers[known]).float().mean()
        else:
            loss, right = scores.float().sum() * 0.0, torch.full_like(scores[0, 0], torch.nan, dtype=torch.float32)
        return loss, {self.criterion.name: loss.detach(), "spk_acc": right.detach()}, {}
