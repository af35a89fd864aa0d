"""Splitting a table over parallel jobs, and putting their parts together again.

Job ``N`` of ``M`` takes every ``M``-th key and writes ``NAME.N.scp`` and a manifest ``NAME.N.json`` that says what the
part was made from. The job that finds all parts complete writes ``NAME.scp``; jobs may run in any order, anywhere.
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
    """Return the keys of one job in ``1..num_jobs`` (else a UserError): every ``num_jobs``-th of the sorted keys."""
    if not 1 <= job <= num_jobs:
        raise UserError(f"--job: expected 1..{num_jobs} (--num_jobs), got {job}")
    return sorted(keys)[job - 1 :: num_jobs]


def read_key_file(path: str | Path, keys: Iterable[str]) -> list[str]:
    """Return the first column of ``path``, at least one line, each of ``keys``; anything else is a :class:`UserError`."""
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
        files: Iterable[str | None],  # what this part is made from; one made from something else is made again
    ) -> None:
        self.table, self.num_jobs = Path(directory) / f"{name}.scp", num_jobs
        self.state = {**settings, "all": state_of(num_jobs, settings), "own": state_of(list(keys), files=files)}
        self.scp = self._part(job)

    def _part(self, job: int) -> Path:
        return self.table.with_name(f"{self.table.stem}.{job}.scp")

    def is_complete(self) -> bool:
        """Return whether the part exists and was made from the same source."""
        return self.scp.is_file() and _manifest(self.scp) == self.state

    def begin(self) -> None:
        """Declare the part, and with it the whole table, unfinished."""
        for path in (self.scp.with_suffix(".json"), self.scp, self.table):
            path.unlink(missing_ok=True)

    def finish(self, table: dict[str, str]) -> None:
        """Write the part's table and then its manifest."""
        write_scp(self.scp, table)
        with atomic_write(self.scp.with_suffix(".json")) as stream:
            json.dump(self.state, stream, indent=1, sort_keys=True)

    def merge(self) -> bool:
        """Write ``name.scp`` if all parts are complete and made alike; return whether it was written."""
        table: dict[str, str] = {}
        for job in range(1, self.num_jobs + 1):
            part = self._part(job)
            if not part.is_file() or _manifest(part).get("all") != self.state["all"]:
                return False
            table |= read_scp(part) if part.stat().st_size else {}
        write_scp(self.table, table)
        return True


def _manifest(part: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(part.with_suffix(".json").read_text(encoding="utf-8")))
    return {}
