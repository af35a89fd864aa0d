"""Token arrays in Kaldi arks that only ever grow, and a journal beside each that says what in it is safe.

A job appends a batch to its own arks ``TABLE.JOB.ark``, waits until it is on the disk, and then adds a line to
``TABLE.JOB.journal``: for every recording the digest of what it was made from, and where its arrays lie or why there are none.
A job that was killed cuts off what its journal does not promise and goes on behind it. Arrays are found by digest in all
journals of a directory, so that nothing is made twice, whichever job or table made it.
"""

import contextlib
import fcntl
import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from espnet_tse_gen.utils.errors import UserError

FORMAT = 1
"""Of the journal; one of another format is not used."""

Places = dict[str, "list[str] | str"]
"""Digest of a recording to ``path:offset`` of each of its arrays, as a Kaldi table names them, or to why it has none."""


class Store:
    """One job's arks of a table's recordings, open for appending; a context manager that holds them for this process.

    ``header`` is what all arrays depend on beside their recordings, plain values. Its ``kinds`` are the endings of the arks'
    names, such as ``["", "_latents"]``. Arks that were made under another header are begun anew.

    Raises:
        UserError: If the files cannot be written, or another process has them.
    """

    def __init__(self, directory: Path, table: str, job: int, header: Mapping[str, Any]) -> None:
        self._header = {"format": FORMAT, **header}
        self._journal = directory / f"{table}.{job}.journal"
        self._paths = [*_arks(self._journal, header["kinds"]), self._journal]
        self._streams: list[IO[bytes]] = []

    def __enter__(self) -> "Store":
        with self._writing():
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            self._streams = [os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") for path in self._paths]
            if not _locked(self._streams[-1]):
                self.__exit__()
                raise UserError(f"{self._journal}: another process is writing it; wait until that has ended")
            sizes = self._verified()
            for stream, size in zip(self._streams, sizes, strict=True):
                stream.truncate(size)
                stream.seek(size)
            if not sizes[-1]:
                self._streams[-1].write(_line(self._header))
                self._streams[-1].flush()
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams:
            with contextlib.suppress(OSError):  # a full disk was reported where it was met
                stream.close()

    def append(self, batch: Sequence[tuple[str, str, Sequence[np.ndarray] | str]]) -> None:
        """Write a batch (key, digest, and one array for each ark or why there is none), and then its line in the journal.

        Raises:
            UserError: If the files cannot be written; what was appended before is safe.
        """
        entries: list[list[Any]] = []
        blocks = [bytearray() for _ in self._paths[:-1]]
        with self._writing():
            for key, digest, arrays in batch:
                if isinstance(arrays, str):
                    entries.append([digest, arrays])
                    continue
                places = []
                for stream, block, array in zip(self._streams[:-1], blocks, arrays, strict=True):
                    block += f"{key} ".encode()
                    made = kaldi_bytes(array)
                    places.append([stream.tell() + len(block), len(made), _checksum(digest, made)])
                    block += made
                entries.append([digest, places])
            contents: list[bytes | bytearray] = [*blocks, _line(entries)]
            for stream, part in zip(self._streams, contents, strict=True):
                # In this order: a line in the journal is a promise that its arrays are on the disk.
                stream.write(part)
                stream.flush()
                os.fsync(stream.fileno())

    def _verified(self) -> list[int]:
        """Return how many bytes of each file hold: all up to the first line of the journal that does not."""
        sizes = [0] * len(self._streams)
        for number, (line, size) in enumerate(_lines(self._streams[-1])):
            if number == 0:
                if line != self._header:
                    for path in set(_arks(self._journal, line.get("kinds", []))).difference(self._paths):
                        path.unlink(missing_ok=True)
                    break
            else:
                kept = [entry for entry in line if not isinstance(entry[1], str)]
                if not all(self._holds(digest, places) for digest, places in kept):
                    break
                if kept:
                    sizes[:-1] = [offset + count for offset, count, _ in kept[-1][1]]
            sizes[-1] = size
        return sizes

    def _holds(self, digest: str, places: Sequence[Sequence[int]]) -> bool:
        for stream, (offset, size, checksum) in zip(self._streams[:-1], places, strict=True):
            stream.seek(offset)
            content = stream.read(size)
            if len(content) != size or _checksum(digest, content) != checksum:
                return False
        return True

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self._paths[0]}: cannot be written ({error.strerror or error}); check free space and permissions and "
                "run this again: what is done is kept"
            ) from error


def read_places(directory: Path, header: Mapping[str, Any]) -> Places:
    """Return what the journals of a directory say of all recordings whose arrays were made under ``header``."""
    places: Places = {}
    for path in sorted(directory.glob("*.journal")):
        with contextlib.suppress(OSError), open(path, "rb") as stream:
            lines = _lines(stream)
            if next(lines, (None, 0))[0] != {"format": FORMAT, **header}:
                continue
            arks = _arks(path, header["kinds"])
            for digest, found in (entry for line, _ in lines for entry in line):
                if not isinstance(found, str):
                    places[digest] = [f"{ark}:{place[0]}" for ark, place in zip(arks, found, strict=True)]
                elif not isinstance(places.get(digest), list):
                    places[digest] = found
    return places


def remove_unused(directory: Path, tables: Sequence[str], used: Sequence[str]) -> None:
    """Remove arks of ``tables`` at which no place in ``used`` points, unless a job is at work on them."""
    arks = {place.rpartition(":")[0] for place in used}
    for journal in directory.glob("*.journal"):
        with contextlib.suppress(OSError), open(journal, "r+b") as stream:
            first = next(_lines(stream), None)
            found = _arks(journal, first[0].get("kinds", [])) if first else []
            if journal.stem.rpartition(".")[0] in tables and not arks & set(map(str, found)) and _locked(stream):
                for path in (*found, journal):
                    path.unlink(missing_ok=True)


def kaldi_bytes(array: np.ndarray) -> bytes:
    """Return ``array`` as it lies in a Kaldi ark behind key and space, readable with ``kaldiio.load_mat``."""
    import kaldiio

    stream = io.BytesIO()
    kaldiio.save_ark(stream, {"k": np.ascontiguousarray(array)}, write_function="numpy")
    return stream.getvalue()[2:]


def _arks(journal: Path, kinds: Sequence[str]) -> list[Path]:
    table, _, job = journal.stem.rpartition(".")
    return [journal.with_name(f"{table}{kind}.{job}.ark") for kind in kinds]


def _lines(stream: IO[bytes]) -> Iterator[tuple[Any, int]]:
    """Yield the content of a journal's whole and undamaged lines, and the bytes up to each one's end."""
    size = 0
    for line in stream:
        size += len(line)
        try:
            yield json.loads(line if line.endswith(b"\n") else b""), size
        except ValueError:
            return


def _line(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def _locked(stream: IO[bytes]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


def _checksum(digest: str, array: bytes) -> int:
    return zlib.crc32(array, zlib.crc32(digest.encode()))
