"""How the speaker embedding acts on the features between stacks: the forms of ConSM, conditional speaker modulation.

Of ConSM the sources of MC-SpEx (arXiv 2306.16250) at hand say that it exists, and its figure that it stands before
every repetition of the TCN stack and receives the speaker embedding each time. Its equations are inferred here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from espnet_tse_gen.discriminative.blocks import GlobalNorm
from espnet_tse_gen.utils.errors import unknown_name

MODULATIONS = ("film", "film_shared", "gate", "film_prelu_gln", "concat")


class FeatureModulation(nn.Module):
    """Gain and offset per channel, both linear in the embedding, on features normalised without gain and offset.

    ``(1 + G e) * gLN(x) + B e``. The maps keep PyTorch's initialisation: with zeros the output would not depend on
    the enrolment at first, and the speaker encoder would get no gradient from the signals.
    """

    def __init__(self, channel: int, embedding_dim: int) -> None:
        super().__init__()
        self.gain = nn.Linear(embedding_dim, channel)
        self.offset = nn.Linear(embedding_dim, channel)
        self.norm = GlobalNorm(channel, affine=False)

    def forward(self, x: Tensor, embedding: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return ``[B, C, T]`` from ``x`` ``[B, C, T]`` and ``embedding`` ``[B, embedding_dim]``."""
        gain, offset = 1 + self.gain(embedding), self.offset(embedding)
        return torch.addcmul(offset[:, :, None], self.norm(x, valid), gain[:, :, None])


class GateModulation(nn.Module):
    """A gate between 0 and 1 per channel on normalised features, without an offset: ``sigmoid(G e) * gLN(x)``."""

    def __init__(self, channel: int, embedding_dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(embedding_dim, channel)
        self.norm = GlobalNorm(channel, affine=False)

    def forward(self, x: Tensor, embedding: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return ``[B, C, T]`` from ``x`` ``[B, C, T]`` and ``embedding`` ``[B, embedding_dim]``."""
        return torch.sigmoid(self.gate(embedding))[:, :, None] * self.norm(x, valid)


class ModulationThenNorm(nn.Module):
    """Gain and offset on features as they come, then PReLU and gLN: ``gLN(PReLU((1 + G e) * x + B e))``."""

    def __init__(self, channel: int, embedding_dim: int) -> None:
        super().__init__()
        self.gain = nn.Linear(embedding_dim, channel)
        self.offset = nn.Linear(embedding_dim, channel)
        self.activation = nn.PReLU()
        self.norm = GlobalNorm(channel)

    def forward(self, x: Tensor, embedding: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return ``[B, C, T]`` from ``x`` ``[B, C, T]`` and ``embedding`` ``[B, embedding_dim]``."""
        gain, offset = 1 + self.gain(embedding), self.offset(embedding)
        return self.norm(self.activation(torch.addcmul(offset[:, :, None], x, gain[:, :, None])), valid)


def build_modulations(name: str, repetitions: int, channel: int, embedding_dim: int) -> nn.ModuleList:
    """Return the modules before the stacks: one for each, one for all (``film_shared``), or none (``concat``).

    Raises:
        UserError: ``name`` is unknown.
    """
    kinds: dict[str, type[nn.Module]] = {
        "film": FeatureModulation,
        "film_shared": FeatureModulation,
        "gate": GateModulation,
        "film_prelu_gln": ModulationThenNorm,
    }
    if name not in MODULATIONS:
        raise unknown_name("speaker modulation (option 'modulation')", name, MODULATIONS)
    count = {"concat": 0, "film_shared": 1}.get(name, repetitions)
    return nn.ModuleList(kinds[name](channel, embedding_dim) for _ in range(count))
