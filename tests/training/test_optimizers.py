"""Muon beside ESPnet's optimizers."""

import copy

import torch
from torch import nn

from espnet_tse_gen.training.optimizers import MuonAdamW, parameter_groups


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 1), nn.Embedding(40, 24))
    model[1].bias.requires_grad_(False)
    return model


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> float:
    for number in range(first, last):
        x = torch.randn(64, 24, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        loss = (model[:4](x).squeeze(1) - x.abs().sum(dim=1) / 5).square().mean() + model[4].weight.square().mean()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_layers_are_muons_and_all_else_that_is_trained_is_adamws() -> None:
    model = network()
    muon, adamw = parameter_groups(model)
    assert [id(each) for each in muon["params"]] == [id(model[0].weight)]
    rest = [model[0].bias, model[1].weight, model[3].weight, model[3].bias, model[4].weight]
    assert [id(each) for each in adamw["params"]] == [id(each) for each in rest]


def test_an_update_moves_all_directions_of_a_layer_alike() -> None:
    model = network()
    before = model[0].weight.detach().clone()
    steps(model, MuonAdamW(parameter_groups(model), lr=1e-2, weight_decay=0.0), 0, 1)
    gradient = torch.linalg.svdvals(model[0].weight.grad)
    update = torch.linalg.svdvals(model[0].weight.detach() - before)
    assert gradient[0] > 5 * gradient[-1] and update[0] < 3 * update[-1]
    # Its mean square is that of an update by AdamW: a fifth of the learning rate.
    assert 0.5 < (model[0].weight.detach() - before).square().mean().sqrt() / (0.2 * 1e-2) < 1.5


def test_it_learns_and_a_schedule_moves_both_learning_rates() -> None:
    model = network()
    optimizer = MuonAdamW(parameter_groups(model), lr=1e-2)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
    first = steps(model, optimizer, 0, 1)
    assert [group["lr"] for part in optimizer.parts.values() for group in part.param_groups] == [0.5e-2] * 2
    schedule.step()
    schedule.step()
    assert [group["lr"] for part in optimizer.parts.values() for group in part.param_groups] == [1e-2] * 2
    assert steps(model, optimizer, 1, 200) < 0.3 * first


def test_a_module_may_learn_at_a_share_of_the_rate() -> None:
    model, slow = network(), network()
    slow[3].learning_rate_scale = 0.1
    groups = parameter_groups(slow)
    assert sorted(group["scale"] for group in groups) == [0.1, 1.0, 1.0]
    before = [weight.detach().clone() for weight in model.parameters()]
    moved = []
    for each in (model, slow):
        optimizer = MuonAdamW(parameter_groups(each), lr=1e-2, weight_decay=0.0)
        steps(each, optimizer, 0, 1)
        assert {group["lr"] for group in optimizer.param_groups} == {1e-2}
        moved.append([new.detach() - old for new, old in zip(each.parameters(), before, strict=True)])
    own = {id(parameter) for parameter in slow[3].parameters()}
    for parameter, all_alike, scaled in zip(slow.parameters(), *moved, strict=True):
        torch.testing.assert_close(scaled, (0.1 if id(parameter) in own else 1.0) * all_alike, rtol=1e-3, atol=1e-7)


def test_a_training_goes_on_where_it_was() -> None:
    through = network()
    optimizer = MuonAdamW(parameter_groups(through), lr=1e-2)
    steps(through, optimizer, 0, 5)
    resumed = copy.deepcopy(through)
    other = MuonAdamW(parameter_groups(resumed), lr=1.0)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(through, optimizer, 5, 10)
    steps(resumed, other, 5, 10)
    for name, value in through.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
