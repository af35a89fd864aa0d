"""The explicit step that fetches a released file: progress bar, cache, and a check by SHA-256.

A file gets its name only when it is whole and its hash is right. The hash is kept beside it in ``<name>.sha256``; where nobody
has published one, the hash of the first fetch is what every later look at the file is held to (trust on first use).
"""

import contextlib
import fcntl
import hashlib
import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from espnet_tse_gen.utils.errors import UserError, reason_of
from espnet_tse_gen.utils.files import atomic_write

BLOCK = 1 << 20
TIMEOUT = 60.0  # seconds without a byte after which the connection counts as broken


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, hex; one that cannot be read is a :class:`UserError`."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    return digest.hexdigest()


def verify(path: str | Path, sha256: str | None = None, remember: bool = False) -> str:
    """Check a file against its known hash, else against the one kept beside it, and return its SHA-256.

    ``sha256`` is hex, or the first 8 or more digits of it; with ``remember``, it is kept beside the file. A file that is missing
    or is not the one that was meant is a :class:`UserError`.
    """
    path = Path(path)
    found, kept = file_sha256(path), _kept(path)
    wanted = sha256 or kept
    if wanted is not None and not found.startswith(wanted.lower()):
        whose = "that of the released file is" if sha256 else f"{_record(path).name} beside it says"
        raise UserError(
            f"{path}: is damaged or another file (its SHA-256 is {found}, {whose} {wanted}); delete it and fetch it "
            "again"
        )
    if remember and kept != found:
        _keep(path, found)
    return found


def fetch(url: str, path: str | Path, sha256: str | None = None) -> Path:
    """Return ``path``, fetched from ``url`` unless it is there already; checked by hash either way.

    A connection that breaks off leaves a file ``.<name>.part``, which the next call continues. ``sha256`` is as for
    :func:`verify`. What the network does not give, or gives as another file, is a :class:`UserError`.
    """
    path = Path(path)
    if path.is_file():
        verify(path, sha256, remember=True)
        return path
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "ab") as stream:
            # Two processes that write to it would spoil it; closing gives it free.
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{path}: is being fetched by another process; wait for it and run again") from None
            _receive(url, stream, resume=sha256 is not None, name=path.name)
            stream.flush()
            os.fsync(stream.fileno())
            found, wanted = file_sha256(partial), sha256 or _kept(path)
            if wanted is not None and not found.startswith(wanted.lower()):
                partial.unlink()
                whose = "expected" if sha256 else f"but {_record(path)} says that it was at the first fetch"
                raise UserError(f"{path}: {url} gave a file with SHA-256 {found}, {whose} {wanted}; nothing was kept")
            _keep(path, found)
            os.replace(partial, path)
    except UserError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        with contextlib.suppress(OSError):
            if partial.stat().st_size == 0:
                partial.unlink()
        known = f"SHA-256 {sha256}" if sha256 else "its SHA-256 is not published"
        told = error.reason if isinstance(error, urllib.error.URLError) and error.reason else error
        raise UserError(
            f"{path}: cannot be fetched from {url} ({reason_of(told)}); run again with a network, or "
            f"fetch that file elsewhere ({known}) and put it there"
        ) from error
    return path


def _receive(url: str, stream: BinaryIO, resume: bool, name: str) -> None:
    """Append to ``stream`` what is missing of the file at ``url``."""
    from tqdm import tqdm

    # Without a known hash nothing would tell that the two parts are of different files.
    have = stream.tell() if resume else stream.truncate(0)
    request = urllib.request.Request(url, headers={"User-Agent": "espnet_tse_gen"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return  # The part is the whole file; its hash decides.
        raise
    with response:
        if response.status != 206:
            have = stream.truncate(0)
        size = response.headers.get("Content-Length")
        if size is None and not resume:
            raise OSError("the server does not say how large the file is, and its hash is not known")
        total = have + int(size) if size is not None else None
        print(f"Fetching {name} from {url}", file=sys.stderr)
        with tqdm(total=total, initial=have, unit="B", unit_scale=True, unit_divisor=1024, desc=name) as bar:
            while block := response.read(BLOCK):
                stream.write(block)
                have += len(block)
                bar.update(len(block))
    if total is not None and have < total:
        raise OSError(f"the connection broke off after {have} of {total} bytes")


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _keep(path: Path, sha256: str) -> None:
    # The format of sha256sum, which can check it too. A shared cache that cannot be written is as good as any.
    with contextlib.suppress(UserError), atomic_write(_record(path)) as stream:
        stream.write(f"{sha256}  {path.name}\n")


def _kept(path: Path) -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if match := re.match(r"\s*([0-9a-fA-F]{64})\b", _record(path).read_text(encoding="utf-8")):
            return match[1].lower()
    return None
