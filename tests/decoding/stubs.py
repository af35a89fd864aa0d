"""Networks small enough to reason about, behind the callable that the sampler takes."""

import torch
from torch import Tensor

from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.decoding.sampler import Sampler
from espnet_tse_gen.decoding.strategies import Predictor

CODEBOOKS, SIZE = 4, 24


class TinyNet:
    """A float64 network of one attention layer: every prediction depends on all tokens, and on no padding.

    What it returns at padding is NaN, as the softmax of a fully masked row would be: nothing may depend on it.
    """

    def __init__(
        self, condition: Tensor, valid: Tensor, codebooks: int = CODEBOOKS, size: int = SIZE, seed: int = 0
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        width = condition.shape[-1]
        self.condition, self.valid = condition, valid
        self.tables = torch.randn(codebooks, size + 1, width, generator=generator, dtype=torch.float64)
        self.heads = torch.randn(codebooks, width, size, generator=generator, dtype=torch.float64)

    def __call__(self, codes: Tensor, codebook: int | None) -> Tensor:
        hidden = sum(table[codes[:, k]] for k, table in enumerate(self.tables)) + self.condition
        attention = (hidden @ hidden.mT / 4).masked_fill(~self.valid.unsqueeze(1), -torch.inf).softmax(dim=-1)
        mixed = torch.tanh(hidden / 2 + attention @ hidden.masked_fill(~self.valid.unsqueeze(-1), 0.0))
        heads = self.heads if codebook is None else self.heads[codebook : codebook + 1]
        logits = torch.einsum("btd,kdc->bktc", mixed, heads).masked_fill(~self.valid[:, None, :, None], torch.nan)
        return logits if codebook is None else logits[:, 0]


class Spy:
    """Passes calls on and keeps what the network was given, and what it said."""

    def __init__(self, f: Predictor) -> None:
        self.f = f
        self.codes: list[Tensor] = []
        self.codebooks: list[int | None] = []
        self.logits: list[Tensor] = []

    def __call__(self, codes: Tensor, codebook: int | None) -> Tensor:
        logits = self.f(codes, codebook)
        self.codes.append(codes.clone())
        self.codebooks.append(codebook)
        self.logits.append(logits.clone())
        return logits


def valid_frames(lengths: list[int], frames: int | None = None) -> Tensor:
    """Bool ``[B, T]``."""
    return torch.arange(frames or max(lengths)) < torch.tensor(lengths).unsqueeze(1)


def conditions(lengths: list[int], width: int = 8, seed: int = 1) -> list[Tensor]:
    """One float64 ``[T_b, width]`` per row, independent of the other rows."""
    made = [torch.Generator().manual_seed(seed + 100 * row) for row in range(len(lengths))]
    return [
        torch.randn(length, width, generator=generator, dtype=torch.float64)
        for length, generator in zip(lengths, made, strict=True)
    ]


def network(lengths: list[int], frames: int | None = None, seed: int = 1) -> tuple[TinyNet, Tensor]:
    """A network and its ``valid`` for rows of these lengths; padding holds something large."""
    valid = valid_frames(lengths, frames)
    padded = torch.full((*valid.shape, 8), 50.0, dtype=torch.float64)
    for row, condition in zip(padded, conditions(lengths, seed=seed), strict=True):
        row[: len(condition)] = condition
    return TinyNet(padded, valid), valid


def oracle(truth: Tensor, size: int = SIZE) -> Predictor:
    """The network that knows: one-hot of the truth ``[B, K, T]``, times 1e4."""
    logits = torch.nn.functional.one_hot(truth, size).float() * 1e4

    def f(codes: Tensor, codebook: int | None) -> Tensor:
        return logits if codebook is None else logits[:, codebook]

    return f


def random_fixed(valid: Tensor, share: float, seed: int = 0, codebooks: int = CODEBOOKS, size: int = SIZE) -> Tensor:
    """Int64 ``[B, K, T]``: random tokens at a random share of all positions, MASK elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    shape = (valid.shape[0], codebooks, valid.shape[1])
    tokens = torch.randint(0, size, shape, generator=generator)
    return tokens.masked_fill(torch.rand(shape, generator=generator) >= share, size)


# Every strategy at least once, in both modes.
VARIANTS = {
    "greedy": {"steps": (5, 2)},
    "one_step": {"steps": 1},
    "stochastic": {"steps": (5, 2), "temperature": 1.0, "choice_temperature": 1.0, "top_k": 0.3},
    "nucleus": {"steps": 3, "temperature": 1.3, "top_p": 0.8, "anneal": False},
    "random": {"steps": 4, "temperature": 1.0, "order": "random"},
    "halton": {"steps": 4, "order": "halton"},
    "guided": {"steps": 4, "guidance": 1.7, "guidance_schedule": "linear"},
    "rescore": {"steps": (6, 2), "remask": "rescore", "rescore_rounds": 2},
    "remdm_cap": {"steps": 6, "remask": "remdm_cap", "remdm_eta": 0.4, "temperature": 1.0},
    "remdm_rescale": {"steps": 6, "remask": "remdm_rescale", "remdm_eta": 0.7, "temperature": 1.0},
    "joint": {"joint": True, "steps": 9},
    "joint_stochastic": {"joint": True, "steps": 7, "temperature": 1.0, "choice_temperature": 4.5, "coarse_first": 1.0},
    "joint_remdm": {"joint": True, "steps": 7, "remask": "remdm_cap", "remdm_eta": 0.3, "order": "halton"},
    "joint_rescore": {"joint": True, "steps": 7, "remask": "rescore", "guidance": 0.5},
}


def make(variant: str, **changes: object) -> Sampler:
    return Sampler(DecodingOptions(**{**VARIANTS[variant], **changes}), CODEBOOKS, SIZE)  # type: ignore[arg-type]


def run(variant: str, lengths: list[int], *, rows=None, frames=None, fixed=None, spy=None, **changes) -> torch.Tensor:
    f, valid = network(lengths, frames)
    without, _ = network(lengths, frames, seed=50)
    return make(variant, **changes).decode(spy(f) if spy else f, valid, fixed, rows, without)
