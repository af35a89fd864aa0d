"""The losses: what each scale counts, what silence and unknown speakers do, and what is said where labels are missing."""

import pytest
import torch
from espnet2.enh.loss.criterions.time_domain import SISNRLoss
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from torch import Tensor

from espnet_tse_gen.audio.losses import si_sdr
from espnet_tse_gen.training.losses import MultiScaleSolver, SpeakerCrossEntropy, SpeakerSolver


def signals(seed: int, count: int, rows: int = 3, size: int = 200) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, size, generator=generator) for _ in range(count)]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    weights=st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3).filter(lambda given: sum(given) > 0.01),
)
def test_t04_the_loss_is_the_weighted_sum_over_the_scales(seed: int, weights: list[float]) -> None:
    reference, noise, *others = signals(seed, 4)
    scales = [reference + 0.5 * noise, *others]
    total, stats, _ = MultiScaleSolver(SISNRLoss(), scale_weights=weights)([reference], [scales])
    each = [-si_sdr(scale, reference).mean() for scale in scales]
    wanted = sum(weight * loss for weight, loss in zip(weights, each, strict=True))
    torch.testing.assert_close(total, wanted, rtol=1e-4, atol=1e-4)
    for number, loss in enumerate(each):
        torch.testing.assert_close(stats[f"si_snr_loss_s{number}"], loss, rtol=1e-4, atol=1e-4)


def test_one_waveform_per_speaker_counts_whole() -> None:
    first, second, *estimates = signals(2, 4)
    total, stats, _ = MultiScaleSolver(SISNRLoss())([first, second], estimates)
    wanted = -(si_sdr(estimates[0], first).mean() + si_sdr(estimates[1], second).mean()) / 2
    torch.testing.assert_close(total, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(stats["si_snr_loss_s0"], wanted, rtol=1e-4, atol=1e-4)


def test_silent_references_are_left_out() -> None:
    reference, *scales = signals(3, 4)
    silent, kept, solver = reference.clone(), [0, 2], MultiScaleSolver(SISNRLoss())
    silent[1] = 0
    wanted = solver([reference[kept]], [[scale[kept] for scale in scales]])[0]
    torch.testing.assert_close(solver([silent], [scales])[0], wanted)
    nothing = solver([torch.zeros_like(reference)], [[scale.requires_grad_() for scale in scales]])[0]
    assert nothing.item() == 0
    nothing.backward()
    assert all(scale.grad is not None and not scale.grad.any() for scale in scales)


def test_impossible_scale_weights_are_refused() -> None:
    for weights in ((0.8, -0.1, 0.1), (0.0, 0.0, 0.0)):
        refused("scale_weights", MultiScaleSolver, SISNRLoss(), scale_weights=weights)
    reference, *scales = signals(4, 3)
    refused("3 weights, expected 2", MultiScaleSolver(SISNRLoss()), [reference], [scales])


def test_t02_unknown_speakers_cost_exactly_nothing() -> None:
    solver = SpeakerSolver(SpeakerCrossEntropy())
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    reference = [torch.ones(4, 10)]
    labels = torch.tensor([[1], [-1], [4], [-1]])
    loss, stats, _ = solver(reference, [], {"spk_logits_spk1": logits, "spk_label_spk1": labels})
    wanted = torch.nn.functional.cross_entropy(logits[[0, 2]], torch.tensor([1, 4]))
    torch.testing.assert_close(loss, wanted)
    assert stats["spk_ce"].item() == loss.item()
    nothing, _, _ = solver(reference, [], {"spk_logits_spk1": logits, "spk_label_spk1": torch.full((4, 1), -1)})
    assert nothing.item() == 0
    nothing.backward()
    assert logits.grad is not None and not logits.grad.any()


@pytest.mark.parametrize(
    ("kept", "message"),
    [("spk_logits_spk1", "spk_label_ref1 is not among the data"), ("spk_label_spk1", "does not classify")],
)
def test_t03_missing_labels_and_scores_fail_loudly(kept: str, message: str) -> None:
    given = {"spk_logits_spk1": torch.zeros(2, 3), "spk_label_spk1": torch.zeros(2, 1, dtype=torch.int64)}
    refused(message, SpeakerSolver(SpeakerCrossEntropy()), [torch.ones(2, 8)], [], {kept: given[kept]})
