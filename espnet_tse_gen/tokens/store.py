"""Arks that grow by whole batches and survive being killed at any moment.

A part that is being made lies in ``NAME.JOB.ark.part``, with one line per batch in ``NAME.JOB.journal.part`` that is
written once the batch is on the disk: which recordings, where, and with which checksum. A job that is started again
checks what the journal says, cuts off what it does not, and goes on behind it. Where the list of recordings has changed
meanwhile, a recording has been mended or the number of jobs is another, the new ark is begun anew and every array that
is still right is copied, from any ark of the directory, instead of being made again. Either way the result is the same
to the byte as that of one uninterrupted run.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np

from espnet_tse_gen.utils.errors import UserError

PART, OLD = ".part", ".old"
"""What follows a file's name while it is being made, and, with a number, once another takes its place. The latter are
kept until the whole table is made: other jobs may still copy from them."""
FORMAT = 1
"""Of the journal; a journal of another format is not used."""


class Place(NamedTuple):
    """Where an array lies in an ark."""

    offset: int
    """Of the array, behind key and space: what a Kaldi table names."""
    size: int
    """Bytes."""
    checksum: int
    """CRC-32 of the recording's digest and these bytes."""


@dataclass(frozen=True)
class Made:
    """The arrays of one recording, as bytes of a Kaldi ark, one for each ark of the part; or why there are none."""

    key: str
    digest: str
    """Of what it is made from."""
    arrays: tuple[bytes, ...] = ()
    failure: str | None = None


@dataclass
class _Journal:
    """What a journal says: its header, and for every batch each recording's digest with its places or its failure."""

    header: dict[str, Any]
    batches: list[list[tuple[str, list[Place] | str]]] = field(default_factory=list)
    size: int = 0
    """Bytes of its whole lines; a line that was being written when the job was killed does not count."""

    def made(self) -> dict[str, list[Place]]:
        """Return the places of all recordings that have some, by digest."""
        return {digest: places for batch in self.batches for digest, places in batch if not isinstance(places, str)}


class PartWriter:
    """Writes the arks of one part of a table; a context manager that holds the part for this process.

    Args:
        directory: Where the table is; made if missing.
        table: Name of the table, such as ``codes_spk1``.
        job: Number of the part.
        kinds: What is appended to the table's name for each ark, such as ``("", "_latents")``.
        header: What all arrays depend on beside their recordings (plain values): arrays made under another header are
            not used again.

    Raises:
        UserError: If the directory cannot be written, or another process is at work on the same part.
    """

    def __init__(
        self, directory: str | Path, table: str, job: int, kinds: Sequence[str], header: Mapping[str, Any]
    ) -> None:
        self.directory, self.kinds = Path(directory), list(kinds)
        self.header = {"format": FORMAT, **header, "kinds": self.kinds}
        self.journal = self.directory / f"{table}.{job}.journal"
        self.arks = [self.directory / f"{table}{kind}.{job}.ark" for kind in kinds]
        self.places: dict[str, list[Place]] = {}
        """Where the arrays of every key that is done lie, one place per ark."""
        self.failures: dict[str, str] = {}
        """Why a key has none."""
        self._streams: list[IO[bytes]] = []
        self._reusable: _Reusable | None = None

    def __enter__(self) -> PartWriter:
        with self._writing():
            self.directory.mkdir(parents=True, exist_ok=True)
            # The first ark's stream holds the lock; it stays open under whatever name the file gets.
            self._streams = [_opened_alone(_with(self.arks[0], PART))]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams:
            # A full disk is reported where it was met; closing would meet it again.
            with contextlib.suppress(OSError):
                stream.close()
        self._streams = []
        if self._reusable is not None:
            self._reusable.close()

    def resume(self, items: Sequence[tuple[str, str]]) -> int:
        """Go on with what is there and return how many of ``items`` are done.

        Args:
            items: Key and digest of every recording of the part, in the order in which they will be appended.
        """
        found = _read_journal(_with(self.journal, PART))
        places = self._verified(found, items) if found is not None and found.header == self.header else None
        with self._writing():
            if found is not None and places is not None:
                self.places = {key: place for (key, _), place in zip(items[: len(places)], places, strict=True)}
                last = places[-1] if places else []
                self._open([place.offset + place.size for place in last] or [0] * len(self.arks), found.size)
            else:
                self._begin_anew()
        self._reusable = _Reusable(self.directory, self.header, {digest for _, digest in items[len(self.places) :]})
        return len(self.places)

    def reuse(self, digest: str) -> tuple[bytes, ...] | None:
        """Return the arrays of a recording that another ark of the directory holds, or ``None``."""
        return None if self._reusable is None else self._reusable.get(digest)

    def append(self, batch: Sequence[Made]) -> None:
        """Write the arrays of a batch, and then its line in the journal.

        Raises:
            UserError: If the disk is full or the files cannot be written; what was appended before is safe.
        """
        line: list[list[Any]] = []
        blocks = [bytearray() for _ in self.arks]
        with self._writing():
            starts = [stream.tell() for stream in self._streams[:-1]]
            for made in batch:
                if made.failure is not None:
                    self.failures[made.key] = made.failure
                    line.append([made.digest, made.failure])
                    continue
                places = []
                for block, start, array in zip(blocks, starts, made.arrays, strict=True):
                    block += f"{made.key} ".encode()
                    places.append(Place(start + len(block), len(array), _checksum(made.digest, array)))
                    block += array
                self.places[made.key] = places
                line.append([made.digest, places])
            contents = [bytes(block) for block in blocks] + [_line(line)]
            for stream, content in zip(self._streams, contents, strict=True):
                # In this order: a line in the journal is a promise that its arrays are on the disk.
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())

    def finish(self) -> list[dict[str, str]]:
        """Give the arks their names and return their tables: for each, key to ``path:offset``."""
        with self._writing():
            self._set_aside("")
            for path in (*self.arks, self.journal):
                os.replace(_with(path, PART), path)
        return [
            {key: f"{ark}:{places[number].offset}" for key, places in self.places.items()}
            for number, ark in enumerate(self.arks)
        ]

    def _verified(self, found: _Journal, items: Sequence[tuple[str, str]]) -> list[list[Place]] | None:
        """Return the places of all that the journal lists, if that is how ``items`` begin and all of it is there."""
        listed = [entry for batch in found.batches for entry in batch]
        if len(listed) > len(items):
            return None
        places: list[list[Place]] = []
        with contextlib.ExitStack() as stack:
            try:
                arks = [stack.enter_context(open(_with(ark, PART), "rb")) for ark in self.arks]
            except OSError:
                return None
            for (digest, place), (_, wanted) in zip(listed, items[: len(listed)], strict=True):
                # What failed before is tried again, and then comes before what follows it.
                if digest != wanted or isinstance(place, str):
                    return None
                if any(_array(ark, one, digest) is None for ark, one in zip(arks, place, strict=True)):
                    return None
                places.append(place)
        return places

    def _begin_anew(self) -> None:
        """Start empty arks; those that are there are set aside if any of their arrays may be of use."""
        if self._set_aside(PART):
            held = self._streams.pop()
            self._streams = [_opened_alone(_with(self.arks[0], PART))]
            held.close()
        self._open([0] * len(self.arks), 0)
        self._streams[-1].write(_line(self.header))
        self._streams[-1].flush()

    def _set_aside(self, suffix: str) -> bool:
        """Give arks and journal another name if any of their arrays may be of use; return whether they got one."""
        found = _read_journal(_with(self.journal, suffix))
        if found is None or not found.made() or not _usable(found.header, self.header):
            return False
        taken = 0
        for path in self.directory.glob(f"{self.journal.name}{OLD}*"):
            number = path.name.rpartition(OLD)[2]
            before = _read_journal(path)
            if before is not None and before.made().keys() <= found.made().keys():
                # All that it has, the new one has too: what is set aside again and again must not pile up.
                for old in (*self.arks, self.journal):
                    _with(old, f"{OLD}{number}").unlink(missing_ok=True)
            elif number.isdigit():
                taken = max(taken, int(number))
        for path in (*self.arks, self.journal):
            with contextlib.suppress(FileNotFoundError):
                os.replace(_with(path, suffix), _with(path, f"{OLD}{taken + 1}"))
        return True

    def _open(self, sizes: Sequence[int], journal_size: int) -> None:
        """Open arks and journal, cut to the given sizes, for appending."""
        for path in (*self.arks[1:], self.journal):
            self._streams.append(_opened(_with(path, PART)))
        for stream, size in zip(self._streams, (*sizes, journal_size), strict=True):
            stream.truncate(size)
            stream.seek(size)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.arks[0]}: cannot be written ({error.strerror or error}); check free space and permissions and run "
                "this again: what is done is kept"
            ) from error


class _Reusable:
    """The arrays that the arks of a directory hold, by the digest of what they were made from.

    The arks are opened at once, so that they can be read even after another job has replaced or removed them.

    Args:
        directory: Whose journals are read.
        header: Of the part that will use the arrays.
        wanted: The digests that it needs.
    """

    def __init__(self, directory: Path, header: Mapping[str, Any], wanted: Collection[str]) -> None:
        self._where: dict[str, tuple[list[IO[bytes]], list[Place]]] = {}
        self._files = contextlib.ExitStack()
        for path in sorted(directory.glob("*.journal*")) if wanted else []:
            found = _read_journal(path)
            if found is None or not _usable(found.header, header):
                continue
            kinds = header["kinds"]
            # A line that does not tell of every kind of array is none.
            made = found.made().items()
            listed = {digest: places for digest, places in made if digest in wanted and len(places) == len(kinds)}
            if listed:
                last, places = list(listed.items())[-1]
                arks = [self._ark(path, kind, place, last) for kind, place in zip(kinds, places, strict=True)]
                opened = [ark for ark in arks if ark is not None]
                if len(opened) == len(arks):
                    self._where |= {digest: (opened, where) for digest, where in listed.items()}

    def _ark(self, journal: Path, kind: str, place: Place, digest: str) -> IO[bytes] | None:
        """Open the ark that a journal tells of. A job may have been killed while it gave its files new names, so that
        what it is called does not tell which it is; what it holds of the recording ``digest`` at ``place`` does.
        """
        table, _, job = journal.name.partition(".journal")[0].rpartition(".")
        for path in sorted(journal.parent.glob(f"{table}{kind}.{job}.ark*")):
            with contextlib.suppress(OSError):
                stream = open(path, "rb")  # noqa: SIM115 (closed here or by close)
                if _array(stream, place, digest) is not None:
                    return self._files.enter_context(stream)
                stream.close()
        return None

    def get(self, digest: str) -> tuple[bytes, ...] | None:
        """Return the arrays of a recording if they are there and whole."""
        arks, places = self._where.get(digest, ([], []))
        arrays = [_array(ark, place, digest) for ark, place in zip(arks, places, strict=True)]
        whole = tuple(array for array in arrays if array is not None)
        return whole if arrays and len(whole) == len(arrays) else None

    def close(self) -> None:
        """Close the arks."""
        self._files.close()


def kaldi_bytes(array: np.ndarray) -> bytes:
    """Return ``array`` as it lies in a Kaldi ark behind key and space, readable with ``kaldiio.load_mat``."""
    import kaldiio

    stream = io.BytesIO()
    kaldiio.save_ark(stream, {"k": np.ascontiguousarray(array)}, write_function="numpy")
    return stream.getvalue()[2:]


def _usable(header: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether arrays made under a header are those wanted; a further kind of array beside them does no harm."""
    common = [{key: value for key, value in one.items() if key != "kinds"} for one in (header, wanted)]
    kinds = header.get("kinds")
    return common[0] == common[1] and isinstance(kinds, list) and kinds[: len(wanted["kinds"])] == wanted["kinds"]


def _with(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _line(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def _opened(path: Path) -> IO[bytes]:
    """Open a file for reading and writing without emptying it."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")


def _opened_alone(path: Path) -> IO[bytes]:
    """Open a file for this process alone.

    Raises:
        UserError: If another process has it.
    """
    while True:
        stream = _opened(path)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            raise UserError(f"{path}: another process is writing it; wait until that has ended") from None
        except OSError:
            return stream  # a file system without locks
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(stream.fileno())):
                return stream
        stream.close()  # it was given another name while this process waited for it


def _array(stream: IO[bytes], place: Place, digest: str) -> bytes | None:
    """Return the bytes at ``place`` if they are those that were written there for the recording ``digest``."""
    stream.seek(place.offset)
    found = stream.read(place.size)
    return found if len(found) == place.size and _checksum(digest, found) == place.checksum else None


def _checksum(digest: str, array: bytes) -> int:
    return zlib.crc32(array, zlib.crc32(digest.encode()))


def _read_journal(path: Path) -> _Journal | None:
    """Return what a journal says, up to its last whole line; ``None`` if there is none or it is of another kind."""
    found: _Journal | None = None
    try:
        with open(path, "rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                content = json.loads(line)
                if found is None:
                    found = _Journal(dict(content))
                else:
                    found.batches.append([(str(digest), _places(where)) for digest, where in content])
                found.size += len(line)
    except OSError:
        return None
    except (ValueError, TypeError):
        pass  # what stands before the damaged line holds
    return found


def _places(where: Any) -> list[Place] | str:
    return where if isinstance(where, str) else [Place(*map(int, place)) for place in where]
