"""Splitting a table over parallel jobs, and putting their parts together again.

Job ``N`` of ``M`` takes every ``M``-th key and writes ``NAME.N.scp`` and a manifest ``NAME.N.json`` that says what the
part was made from. A part whose manifest still holds is not made again, and the job that finds all parts complete
writes ``NAME.scp``; jobs may run in any order, on one machine or many.
"""

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, read_scp, read_text, write_scp
from espnet_tse_gen.utils.state import state_of


def split_keys(keys: Iterable[str], job: int, num_jobs: int) -> list[str]:
    """Return the keys of one job (1-based), sorted: every ``num_jobs``-th of the sorted keys.

    Raises:
        UserError: If ``job`` is not within ``1..num_jobs``.
    """
    if not 1 <= job <= num_jobs:
        raise UserError(f"--job: expected 1..{num_jobs} (--num_jobs), got {job}")
    return sorted(keys)[job - 1 :: num_jobs]


def read_key_file(path: str | Path, keys: Iterable[str]) -> list[str]:
    """Return the first column of ``path``, each of which must be among ``keys``.

    Raises:
        UserError: If the file is missing or empty, or names an unknown key.
    """
    chosen = {line.split()[0] for line in read_text(path).splitlines() if line.strip()}
    unknown = sorted(chosen.difference(keys))
    if unknown or not chosen:
        raise UserError(f"{path}: expected keys of the table, found {f'{unknown[0]!r}' if unknown else 'none'}")
    return sorted(chosen)


class Part:
    """The part of a table ``directory/name.scp`` that one job makes."""

    def __init__(
        self,
        directory: str | Path,  # where the table is
        name: str,  # the table's name without suffix
        job: int,
        num_jobs: int,
        settings: dict[str, Any],  # what all parts are made with, plain values
        keys: Iterable[str],
        # what its part is made from; a part that was made from something else is made again
        files: Iterable[str | None],
    ) -> None:
        self.directory, self.name, self.job, self.num_jobs = Path(directory), name, job, num_jobs
        self.state = {**settings, "all": state_of(num_jobs, settings), "own": state_of(list(keys), files=files)}
        self.scp = self.directory / f"{name}.{job}.scp"

    def _manifest(self, job: int) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self.directory / f"{self.name}.{job}.json").read_text(encoding="utf-8")))
        return {}

    def is_complete(self) -> bool:
        """Return whether the part exists and was made from the same source."""
        return self.scp.is_file() and self._manifest(self.job) == self.state

    def begin(self) -> None:
        """Declare the part, and with it the whole table, unfinished."""
        for path in (self.directory / f"{self.name}.{self.job}.json", self.scp, self.directory / f"{self.name}.scp"):
            path.unlink(missing_ok=True)

    def finish(self, table: dict[str, str]) -> None:
        """Write the part's table and then its manifest."""
        write_scp(self.scp, table)
        with atomic_write(self.directory / f"{self.name}.{self.job}.json") as stream:
            json.dump(self.state, stream, indent=1, sort_keys=True)

    def merge(self) -> bool:
        """Write ``name.scp`` if all parts are complete and made alike; return whether it was written."""
        table: dict[str, str] = {}
        for job in range(1, self.num_jobs + 1):
            part = self.directory / f"{self.name}.{job}.scp"
            if not part.is_file() or self._manifest(job).get("all") != self.state["all"]:
                return False
            table |= read_scp(part) if part.stat().st_size else {}
        write_scp(self.directory / f"{self.name}.scp", table)
        return True
