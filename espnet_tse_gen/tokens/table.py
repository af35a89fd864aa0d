"""Which recordings a token extraction encodes, in which job, and how the tables over them are put together.

Several tables may be made at once. A recording (a file, together with the mixture that sets its level) that is named
more than once, in one table or in several, is encoded once, by the first table that names it; every key refers to the
same place in the ark. Job ``N`` of ``M`` takes every ``M``-th recording of each table and leaves ``NAME.N.scp`` and a
manifest ``NAME.N.json``; the job that finds all parts complete writes ``NAME.scp`` and the manifest ``NAME.json``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_tse_gen.audio.recordings import Recordings
from espnet_tse_gen.tokens.store import OLD
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, read_scp, write_scp
from espnet_tse_gen.utils.jobs import split_keys

LATENTS = "_latents"
"""What is appended to a table's name for the table of latents."""


@dataclass(frozen=True)
class Item:
    """A recording to encode."""

    key: str
    path: str
    level_path: str | None
    """The mixture that sets its level; ``None``: it sets its own."""

    def digest(self) -> str:
        """Return a digest of paths, sizes and modification times, there or not; of nothing else the tokens depend."""
        digest = hashlib.sha256()
        for path in (self.path, self.level_path):
            digest.update(f"{path}\n".encode())
            with contextlib.suppress(OSError, TypeError):
                status = Path(str(path)).stat()
                digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:32]


@dataclass(frozen=True)
class TokenList:
    """A table to make."""

    name: str
    recordings: Recordings
    keys: Sequence[str]
    """Those of ``recordings`` to encode."""


class TokenTables:
    """The tables that one call makes, and this job's part of each.

    Args:
        output_dir: Where the tables go.
        lists: The tables to make.
        job: Number of the job, from 1.
        num_jobs: Number of all jobs.
        common: What all tokens depend on beside their recordings: plain values, with the codec's ``fingerprint``.
        latents: Whether each table has one of latents beside it.

    Raises:
        UserError: If two tables have the same name or ``job`` is not within ``1..num_jobs``.
    """

    def __init__(
        self,
        output_dir: str | Path,
        lists: Sequence[TokenList],
        job: int,
        num_jobs: int,
        common: Mapping[str, Any],
        latents: bool = False,
    ) -> None:
        self.directory, self.lists, self.job, self.num_jobs = Path(output_dir), lists, job, num_jobs
        self.names = [one.name for one in lists]
        self.kinds = ("", LATENTS) if latents else ("",)
        owners: dict[tuple[str, str], tuple[str, str]] = {}
        self._owner: dict[str, dict[str, tuple[str, str]]] = {}
        self._items: dict[str, dict[str, Item]] = {}
        digest = hashlib.sha256()
        for one in lists:
            if one.name in self._owner:
                raise UserError(f"--name {one.name}: given twice; every table needs a name of its own")
            self._owner[one.name], self._items[one.name] = {}, {}
            for key in sorted(one.keys):
                path, level = one.recordings[key], one.recordings.level_path(key)
                level = None if level == path else level
                owner = owners.setdefault((path, level or path), (one.name, key))
                self._owner[one.name][key] = owner
                if owner == (one.name, key):
                    self._items[one.name][key] = Item(key, path, level)
                digest.update(f"{one.name}\n{key}\n{path}\n{level}\n".encode())
        self.common = {**common, "lists": digest.hexdigest(), "num_jobs": num_jobs, "latents": latents}
        self._shares = {name: split_keys(items, job, num_jobs) for name, items in self._items.items()}

    def share(self, name: str) -> list[Item]:
        """Return the recordings of table ``name`` that this job encodes."""
        return [self._items[name][key] for key in self._shares[name]]

    def encoded(self) -> int:
        """Return the number of recordings that all jobs encode."""
        return sum(len(items) for items in self._items.values())

    def is_complete(self, name: str, files: str) -> bool:
        """Return whether this job's part of table ``name`` is there, whole, and made of the same recordings.

        Args:
            name: The table.
            files: Digest of the part's recordings as they are now.
        """
        manifest = self._manifest(name, self.job)
        return (
            manifest is not None
            and manifest.get("files") == files
            and not manifest.get("missing")
            and all(self._part(name, kind, self.job, "scp").is_file() for kind in self.kinds)
            and (not self._shares[name] or all(self._part(name, k, self.job, "ark").is_file() for k in self.kinds))
        )

    def begin(self, name: str) -> None:
        """Declare this job's part of table ``name``, and with it all tables, unfinished."""
        paths = [self._part(name, "", self.job, suffix) for suffix in ("json", "scp", "errors")]
        try:
            for path in (*paths, self._part(name, LATENTS, self.job, "scp")):
                path.unlink(missing_ok=True)
            self._remove_tables()
        except OSError as error:
            raise UserError(
                f"{self.directory}: cannot be written ({error.strerror or error}); check permissions"
            ) from error

    def finish(
        self, name: str, files: str, tables: Sequence[Mapping[str, str]], missing: Mapping[str, str], seconds: float
    ) -> None:
        """Write the tables of this job's part of table ``name``, and then its manifest.

        Args:
            name: The table.
            files: Digest of the part's recordings.
            tables: Key to place of every recording: of the codes, and of the latents if they are wanted.
            missing: Why recordings have no tokens.
            seconds: Audio that was encoded.
        """
        for kind, table in zip(self.kinds, tables, strict=True):
            self._write(self._part(name, kind, self.job, "scp"), table)
        with atomic_write(self._part(name, "", self.job, "json")) as stream:
            content = {**self.common, "files": files, "missing": dict(missing), "seconds": round(seconds, 3)}
            json.dump(content, stream, indent=1, sort_keys=True)

    def merge(self, manifest: Mapping[str, Any], max_errors: int) -> dict[str, str] | None:
        """Write every table and its manifest if all parts are complete and made alike.

        Args:
            manifest: What the tables' manifests say of the codec.
            max_errors: Recordings of all jobs that may have no tokens.

        Returns:
            Why recordings have no tokens, key by key; ``None`` if parts are still missing and nothing was written.

        Raises:
            UserError: If more recordings than ``max_errors`` have no tokens, or a table would be empty.
        """
        parts = self._manifests()
        if any(part is None for part in parts.values()):
            return None
        seconds = dict.fromkeys(self.names, 0.0)
        missing: dict[tuple[str, str], str] = {}
        for (name, _), part in parts.items():
            content = part or {}
            seconds[name] += float(content.get("seconds", 0.0))
            missing |= {(name, key): str(reason) for key, reason in dict(content.get("missing", {})).items()}
        if len(missing) > max_errors:
            own = [part for (_, job), part in parts.items() if job == self.job]
            if not any((part or {}).get("missing") for part in own):
                return None  # the job whose recordings these are may be about to try them again
            raise UserError(
                f"{len(missing)} of {self.encoded()} recordings of all jobs cannot be encoded, first: "
                f"{next(iter(missing.values()))}. All are listed in {self.directory}/*.errors; correct or remove them and "
                f"run this again, or allow them to be missing with --max_errors {len(missing)}"
            )
        for kind in self.kinds:
            places = {name: self._places(name, kind) for name in self.names}
            for name in self.names:
                table = {
                    key: places[owner[0]][owner[1]]
                    for key, owner in self._owner[name].items()
                    if owner[1] in places[owner[0]]
                }
                if not table:
                    raise UserError(f"{self.directory}/{name}{kind}.scp: none of its recordings could be encoded")
                write_scp(self.directory / f"{name}{kind}.scp", table)
        for name in self.names:
            absent = {key: missing[owner] for key, owner in self._owner[name].items() if owner in missing}
            content = {
                **manifest,
                "recordings": len(self._owner[name]) - len(absent),
                "encoded": len(self._items[name]) - sum(owner[0] == name for owner in missing),
                "seconds": round(seconds[name], 3),
                "missing": absent,
            }
            with atomic_write(self.directory / f"{name}.json") as stream:
                json.dump(content, stream, indent=1, sort_keys=True)
        if self._manifests() != parts:
            self._remove_tables()  # another job has begun its part anew meanwhile
            return None
        self._remove_surplus()
        return {f"{name} {key}": reason for (name, key), reason in missing.items()}

    def list_failures(self, name: str, failures: Iterable[str]) -> None:
        """Write why recordings of this job's part of table ``name`` have no tokens, one line each."""
        with atomic_write(self.errors(name)) as stream:
            stream.writelines(f"{reason}\n" for reason in failures)

    def errors(self, name: str) -> Path:
        """Return the file that :meth:`list_failures` writes."""
        return self._part(name, "", self.job, "errors")

    def _part(self, name: str, kind: str, job: int, suffix: str) -> Path:
        return self.directory / f"{name}{kind}.{job}.{suffix}"

    def _manifests(self) -> dict[tuple[str, int], dict[str, Any] | None]:
        return {(name, job): self._manifest(name, job) for name in self.names for job in range(1, self.num_jobs + 1)}

    def _manifest(self, name: str, job: int) -> dict[str, Any] | None:
        """Return the manifest of a part that was made alike, or ``None``."""
        try:
            content = json.loads(self._part(name, "", job, "json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        alike = isinstance(content, dict) and all(content.get(key) == value for key, value in self.common.items())
        return content if alike else None

    def _places(self, name: str, kind: str) -> dict[str, str]:
        """Return the places of all recordings that the parts of a table hold."""
        places: dict[str, str] = {}
        for job in range(1, self.num_jobs + 1):
            part = self._part(name, kind, job, "scp")
            places |= read_scp(part) if part.stat().st_size else {}
        return places

    def _write(self, path: Path, table: Mapping[str, str]) -> None:
        if table:
            write_scp(path, table)
            return
        # More jobs than recordings: an empty part is complete, though an empty table is an error everywhere else.
        with atomic_write(path):
            pass

    def _remove_tables(self) -> None:
        for name in self.names:
            for tail in (".json", ".scp", f"{LATENTS}.scp"):
                (self.directory / f"{name}{tail}").unlink(missing_ok=True)

    def _remove_surplus(self) -> None:
        """Remove what an earlier run with more jobs, or with latents, left, and what was set aside to copy from."""
        for name in self.names:
            for path in self.directory.glob(f"{name}*.*"):
                for kind in ("", LATENTS):
                    job, _, rest = path.name.removeprefix(f"{name}{kind}.").partition(".")
                    if path.name != f"{name}{kind}.{job}.{rest}" or not job.isdigit():
                        continue
                    if int(job) > self.num_jobs or kind not in self.kinds or OLD in rest:
                        path.unlink(missing_ok=True)
