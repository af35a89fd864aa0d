"""Whether an output is still current: the one answer to this question.

The state of an output is a digest of all that it is made from: the package's version, options, and files by path, size and time.
Its maker puts the state down beside it once it is whole; an output beside which another state stands is made again.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import espnet_tse_gen


def file_state(path: str | Path | None) -> list[int] | None:
    """Return size (bytes) and time of modification (nanoseconds) of a file, or None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(path or "")
        return [status.st_size, status.st_mtime_ns]
    return None


def state_of(*values: Any, files: Iterable[str | Path | None] = (), version: str | None = None) -> str:
    """Return a digest (32 hex digits) of values (what JSON can hold, paths), files, there or not, and the code's version."""
    inputs = [(str(path), file_state(path)) for path in files]
    content = [espnet_tse_gen.__version__ if version is None else version, values, inputs]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


def words_state(words: Iterable[str]) -> str:
    """Return the state of a stage, as its script names it: options, and files by their content, weights by size and time.

    A table (``*scp``) and a list of enrolments (``*.json``) bring the recordings that they list.
    """
    values, listed = [], dict[str, None]()
    for word in words:
        path, content = Path(word), None
        # Unlike Path.is_file, it says no to options that are longer than a name may be.
        if os.path.isfile(word):
            weights = path.suffix in (".pth", ".safetensors")  # too large to be read for this
            content = file_state(path) if weights else hashlib.sha256(path.read_bytes()).hexdigest()
            listed |= dict.fromkeys([] if weights else _listed(path))
        values.append([word, content])
    return state_of(values, files=listed)


def is_current(record: str | Path, state: str, output: str | Path) -> bool:
    """Return whether ``output`` is there, and the file ``record`` says that it was made from ``state``."""
    try:
        return Path(output).exists() and Path(record).read_text(encoding="utf-8").strip() == state
    except (OSError, UnicodeDecodeError):
        return False


def _listed(path: Path) -> Iterator[str]:
    """Yield the paths that a table or a list of enrolments names."""
    if path.name.endswith("scp"):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            # Of an archive, its offset is no part of the name.
            yield from (re.sub(r":\d+$", "", value.strip()) for value in line.split(maxsplit=1)[1:])
    elif path.suffix == ".json":
        with contextlib.suppress(ValueError):
            yield from _strings(json.loads(path.read_bytes()))


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, (list, dict)):
        for one in content.values() if isinstance(content, dict) else content:
            yield from _strings(one)
