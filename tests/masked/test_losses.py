"""The loss counts hidden tokens only (P8)."""

import math

import pytest
import torch

from espnet_tse_gen.masked.losses import TokenScores, codebook_statistics, masked_cross_entropy, score_codebook
from espnet_tse_gen.masked.masking import sample_mask


def _score(logits, codes, counted):
    scores = []
    for codebook in range(codes.shape[1]):
        rows, frames = counted[:, codebook].nonzero(as_tuple=True)
        scores.append(score_codebook(logits[rows, codebook, frames], codes[rows, codebook, frames], rows, codebook))
    return scores


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(3)
    valid = torch.arange(20) < torch.tensor([20, 11, 1])[:, None]
    codes = torch.randint(16, (3, 4, 20), generator=generator)
    logits = torch.randn(3, 4, 20, 16, generator=generator)
    return valid, codes, logits


@pytest.mark.parametrize("mode", ["codebook", "joint"])
@pytest.mark.parametrize("norm", ["pooled", "per_sample", "elbo"])
def test_p08_only_counted_positions_reach_the_loss(case, mode, norm):
    valid, codes, logits = case
    mask = sample_mask(valid, 4, mode, generator=torch.Generator().manual_seed(0))

    def run(targets):
        leaf = logits.clone().requires_grad_()
        loss, _ = masked_cross_entropy(_score(leaf, targets, mask.counted), mask.ratio, norm)
        loss.backward()
        return loss.detach(), leaf.grad

    changed = torch.where(mask.counted, codes, (codes + 5) % 16)
    (loss, grad), (other_loss, other_grad) = run(codes), run(changed)
    assert torch.equal(loss, other_loss) and torch.equal(grad, other_grad)
    assert not grad[~mask.counted].any()
    assert grad[mask.counted].abs().sum() > 0


def test_elbo_weight_is_the_masked_diffusion_weight():
    ratio = torch.tensor([0.5])
    scores = [TokenScores(0, torch.tensor([0]), torch.tensor([1.0]), torch.tensor([True]), torch.tensor([True]))]
    loss, _ = masked_cross_entropy(scores, ratio, "elbo")
    # m = cos(pi r / 2) = 1/2 means pi r / 2 = pi / 3; the weight is (pi / 2) tan(pi / 3).
    assert loss.item() == pytest.approx(math.pi / 2 * math.sqrt(3), rel=1e-5)


def test_accuracies_are_those_of_argmax_and_of_the_ten_best(case):
    _, codes, logits = case
    flat, targets = logits.flatten(0, 2), codes.flatten()
    scores = score_codebook(flat, targets, torch.zeros_like(targets), 0)
    assert torch.equal(scores.top1, flat.argmax(dim=1) == targets)
    assert torch.equal(scores.top10, (flat.topk(10, dim=1).indices == targets[:, None]).any(dim=1))
    uniform = score_codebook(torch.zeros(5, 16), torch.arange(5) + 8, torch.zeros(5).long(), 0)
    assert not uniform.top1.any()


def test_codebooks_without_counted_tokens_are_not_a_number_in_the_log_only(case):
    valid, codes, logits = case
    counted = torch.zeros(3, 4, 20, dtype=torch.bool)
    counted[:, 2] = valid
    statistics = codebook_statistics(_score(logits, codes, counted), 4)
    assert torch.isfinite(statistics["ce_codebook3"]) and torch.isnan(statistics["ce_codebook1"])
