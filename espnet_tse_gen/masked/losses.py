"""Cross-entropy over hidden tokens, its normalisations, and the accuracies that the training log shows."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

NORMALISATIONS = ("pooled", "per_sample", "elbo")


@dataclass(frozen=True)
class TokenScores:
    """Per-token results at the counted positions of one codebook."""

    codebook: int  # the codec codebook
    rows: Tensor  # `[N]`, the batch row of each token
    cross_entropy: Tensor  # `[N]`, in nats, float32
    top1: Tensor  # `[N]` bool, whether the most probable token is right
    top10: Tensor  # `[N]` bool, whether the right token is among the ten most probable


def score_codebook(logits: Tensor, targets: Tensor, rows: Tensor, codebook: int) -> TokenScores:
    """Score ``logits [N, C]`` of one codebook against ``targets [N]`` in float32."""
    logits = logits.float()
    cross_entropy = F.cross_entropy(logits, targets, reduction="none")
    with torch.no_grad():
        right = logits.gather(1, targets[:, None])
        # Ties go to the lower id, as in argmax; without that, uniform logits would count as right.
        earlier = torch.arange(logits.shape[1], device=logits.device) < targets[:, None]
        better = ((logits > right) | ((logits == right) & earlier)).sum(dim=1)
    return TokenScores(codebook, rows, cross_entropy, better == 0, better < 10)


def masked_cross_entropy(
    scores: list[TokenScores], ratio: Tensor, normalisation: str = "pooled"
) -> tuple[Tensor, Tensor]:
    """Reduce the scores of all codebooks to ``(loss, weight)``: a scalar, and what it weighs when averaged with other batches.

    ``pooled``: sum over counted tokens of the whole batch, divided by their number. ``per_sample``: mean per item, then mean over
    items. ``elbo``: every token weighted by (pi/2) tan(pi r/2), the masked-diffusion bound under the cosine schedule (Sahoo et
    al. 2024), capped at 10.
    """
    values = torch.cat([score.cross_entropy for score in scores])
    rows = torch.cat([score.rows for score in scores])
    count = torch.tensor(float(values.numel()), device=values.device)
    if normalisation == "pooled":
        return values.sum() / count, count
    if normalisation == "per_sample":
        batch = ratio.shape[0]
        total = values.new_zeros(batch).index_add(0, rows, values)
        number = values.new_zeros(batch).index_add(0, rows, torch.ones_like(values))
        present = number > 0
        return (total[present] / number[present]).mean(), present.sum().float()
    # The ratio is m = cos(pi r / 2), so pi r / 2 = acos(m).
    weight = ((math.pi / 2) * torch.tan(torch.acos(ratio.clamp(0.0, 1.0)))).clamp(0.0, 10.0).to(values.device)
    return (values * weight[rows]).sum() / count, count


def codebook_statistics(scores: list[TokenScores], num_codebooks: int) -> dict[str, Tensor]:
    """Return mean cross-entropy, top-1 and top-10 accuracy per codebook (from 1), NaN where nothing was counted."""
    nothing = scores[0].cross_entropy.new_empty(0)
    # The mean of nothing is NaN.
    counted = dict.fromkeys(range(num_codebooks), (nothing, nothing, nothing))
    counted |= {score.codebook: (score.cross_entropy.detach(), score.top1, score.top10) for score in scores}
    return {
        f"{name}_codebook{codebook + 1}": values.float().mean()
        for codebook, figures in counted.items()
        for name, values in zip(("ce", "acc", "acc10"), figures, strict=True)
    }
