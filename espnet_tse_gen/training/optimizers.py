"""``--optim muon`` beside ESPnet's optimizers."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

LEAST_WIDTH = 16  # of a layer, for its weight to be one of Muon's: fewer directions leave nothing to balance


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the weights of linear layers, AdamW for all else (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982).

    Muon moves all directions of a matrix alike, by as much as AdamW would, so that both take one learning rate.
    """

    def __init__(
        self,
        # or :func:`parameter_groups`; `matrices` are Muon's, and `scale` is a group's share of the learning rate
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),  # AdamW's
        momentum: float = 0.95,  # Muon's
        weight_decay: float = 0.02,  # of both
    ) -> None:
        super().__init__(params, {"lr": lr, "matrices": False, "scale": 1.0})
        muon, adamw = (
            [
                {key: group[key] for key in ("params", "scale")}
                for group in self.param_groups
                if group["matrices"] == own
            ]
            for own in (True, False)
        )
        common: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        self.parts: dict[str, torch.optim.Optimizer] = {}
        if muon:
            self.parts["muon"] = torch.optim.Muon(muon, momentum=momentum, adjust_lr_fn="match_rms_adamw", **common)
        if adamw:
            self.parts["adamw"] = torch.optim.AdamW(adamw, betas=betas, **common)
        self._share_groups()

    def _share_groups(self) -> None:
        # Schedulers set the learning rate in these.
        self.param_groups = [group for part in self.parts.values() for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update all parameters that have a gradient; ``closure`` computes the loss again."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Schedulers set one rate for all groups.
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] *= group["scale"]
        for part in self.parts.values():
            part.step()
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state that :meth:`state_dict` returned."""
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])
        self._share_groups()


OWN_OPTIMIZERS: dict[str, Any] = {"muon": MuonAdamW}  # values of --optim beside ESPnet's


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return the trained parameters of ``model`` as groups for :class:`MuonAdamW`.

    Modules with a ``learning_rate_scale`` above 0 have groups of their own.
    """
    layers = (module.weight for module in model.modules() if isinstance(module, nn.Linear))
    wide = {id(weight) for weight in layers if min(weight.shape) >= LEAST_WIDTH}
    scales: dict[int, float] = {}
    for module in model.modules():
        scale = float(getattr(module, "learning_rate_scale", 0))
        scales |= {id(parameter): scale for parameter in module.parameters() if scale > 0}
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((scales.get(id(parameter), 1.0), id(parameter) in wide), []).append(parameter)
    return [{"params": own, "matrices": matrices, "scale": scale} for (scale, matrices), own in groups.items()]
