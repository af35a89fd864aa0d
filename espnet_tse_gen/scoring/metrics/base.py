"""The interface of a measure, and how it is named and shown."""

import abc
import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from espnet_tse_gen.scoring.items import Item
from espnet_tse_gen.scoring.networks import NetworkChoice
from espnet_tse_gen.utils.errors import naming_extra

PACKAGES = ("espnet", "torch", "numpy", "mir_eval", "pystoi", "pesq", "resemblyzer", "speechmos", "ci_sdr", "distillmos",
            "jiwer")  # fmt: skip
"""What scores are computed by."""


@dataclass(frozen=True)
class Column:
    """One column of scores."""

    name: str  # Name in ``scores.csv``
    label: str  # Heading in tables
    unit: str  # Unit for people ("dB", "%", "")
    decimals: int  # Digits after the point in tables
    better: str  # "up", "down", or "" where neither direction is better in itself
    meaning: str  # One sentence for the legend
    scale: float = 1.0  # Factor from the stored to the shown value (100 for shares shown in per cent)
    # Column by which items are weighted in a mean, "" for equal weights. An error rate over a set is all errors
    # over all words: the mean of the items' rates weighted by their words
    weight: str = ""

    @property
    def heading(self) -> str:
        """Heading with unit and an arrow towards the better side."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label}{unit}{ {'up': ' ↑', 'down': ' ↓'}.get(self.better, '') }"

    def show(self, value: float) -> str:
        """Return ``value`` in the column's unit and precision, without a negative zero."""
        return f"{round(value * self.scale, self.decimals) + 0.0:.{self.decimals}f}"


def decibels(name: str, label: str, meaning: str) -> Column:
    """Return a column of decibels, the higher the better."""
    return Column(name, label, "dB", 2, "up", meaning)


def opinion(name: str, label: str, meaning: str) -> Column:
    """Return a column of scores from 1 to 5, the higher the better."""
    return Column(name, label, "", 2, "up", meaning)


def share(name: str, label: str, better: str, meaning: str, weight: str = "") -> Column:
    """Return a column of shares that are shown in per cent."""
    return Column(name, label, "%", 1, better, meaning, 100.0, weight)


Scores = Mapping[tuple[str, int], Mapping[str, Any]]
"""(mixture id, number of the target from 1) -> column -> value."""


class Metric(abc.ABC):
    """One measure, or several of one tool.

    Subclasses are frozen dataclasses of a few options: an instance is handed to other processes and stands for what was
    computed, so networks are loaded at the first use in a process and not kept in it.
    """

    columns: ClassVar[tuple[Column, ...]]  # all columns that it may give
    packages: ClassVar[tuple[str, ...]] = ()  # modules that it imports and that the package works without
    instead: ClassVar[str] = ""  # what else a user without these can do

    @abc.abstractmethod
    def score(self, item: Item) -> dict[str, Any]:
        """Return column -> value for one item; a measure that is not defined on it is left out, or not finite.

        Text is no score; :meth:`finish` gets it.
        """

    def finish(self, folder: Path, scores: Scores) -> None:  # noqa: B027  what most measures need not do
        """Write what is to be read beside the scores, and log what is to be known, once all items are scored."""

    def describe(self) -> str:
        """Name the network and its revision, for the foot of the tables; "" for what needs no such note."""
        network: NetworkChoice | None = getattr(self, "network", None)
        return network.describe() if network else ""

    def state(self) -> str:
        """Return all that the scores follow from, beside the recordings."""
        return f"{self!r} {self.describe()} {versions()}"

    def check(self) -> None:
        """Require the packages, and what else can be seen before the first item."""
        require(self.columns[0].label, self.packages, self.instead)


def require(label: str, packages: Iterable[str], instead: str = "") -> None:
    """Require packages of the measure ``label``, or raise :class:`UserError` with the command that installs one."""
    with naming_extra(f"the measure '{label}'", instead):
        for name in packages:
            if importlib.util.find_spec(name) is None:
                raise ModuleNotFoundError(name=name)


def versions() -> str:
    """Return the versions of those of :data:`PACKAGES` that are installed."""
    found = []
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)
