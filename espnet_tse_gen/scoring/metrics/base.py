"""The interface of a measure."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from espnet_tse_gen.scoring.columns import Column
from espnet_tse_gen.scoring.items import Item
from espnet_tse_gen.utils.errors import naming_extra

Scores = Mapping[tuple[str, int], Mapping[str, Any]]
"""(mixture id, number of the target from 1) -> column -> value."""


class Metric:
    """One measure, or several of one tool.

    Subclasses are frozen dataclasses of a few options: an instance is handed to other processes and stands for what was
    computed, so networks are loaded at the first use in a process and not kept in it.
    """

    columns: ClassVar[tuple[Column, ...]]
    """All columns that it may give."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Modules that it imports and that the package works without."""
    instead: ClassVar[str] = ""
    """What else a user without these can do."""

    def score(self, item: Item) -> dict[str, Any]:
        """Return column -> value for one item; a measure that is not defined on it is left out, or not finite.

        Text is no score; :meth:`finish` gets it.
        """
        raise NotImplementedError

    def finish(self, folder: Path, scores: Scores) -> None:
        """Write what is to be read beside the scores, and log what is to be known, once all items are scored."""

    def describe(self) -> str:
        """Name the network and its revision, for the foot of the tables; "" for what needs no such note.

        Raises:
            UserError: If its files are not on this machine.
        """
        return ""

    def state(self) -> str:
        """Return all that the scores follow from, beside the recordings."""
        return f"{self!r} {self.describe()}"

    def check(self) -> None:
        """Require the packages.

        Raises:
            UserError: With the command that installs the first that is missing.
        """
        with naming_extra(f"the measure '{self.columns[0].label}'", self.instead):
            for name in self.packages:
                if importlib.util.find_spec(name) is None:
                    raise ModuleNotFoundError(name=name)
