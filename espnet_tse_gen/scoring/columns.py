"""How a measure is named and shown: its column in ``scores.csv``, heading, unit, and which direction is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column of scores.

    Attributes:
        name: Name in ``scores.csv``.
        label: Heading in tables.
        unit: Unit for people ("dB", "%", "").
        decimals: Digits after the point in tables.
        better: "up", "down", or "" where neither direction is better in itself.
        meaning: One sentence for the legend.
        scale: Factor from the stored to the shown value (100 for shares shown in per cent).
        weight: Column by which items are weighted in a mean, "" for equal weights. An error rate over a set is all
            errors over all words: the mean of the items' rates weighted by their words.
    """

    name: str
    label: str
    unit: str
    decimals: int
    better: str
    meaning: str
    scale: float = 1.0
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
