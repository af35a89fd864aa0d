"""Tables as Kaldi lays them out, and yaml, read with checks and written atomically.

Every writer writes to a temporary name beside the target and renames it, so that what exists under its final name is
whole. Every reader names the file and the key in its error.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from espnet_tse_gen.utils.errors import UserError


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "w", **kwargs: Any) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` and rename it to ``path`` when the block ends without an exception.

    Raises:
        UserError: If the directory cannot be written or the disk is full.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    if "b" not in mode:
        kwargs.setdefault("encoding", "utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, mode, **kwargs) as stream:
            yield stream
        os.replace(partial, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); check free space and permissions"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def read_scp(path: str | Path) -> dict[str, str]:
    """Read a Kaldi table ``key value...`` into a dictionary, in file order.

    Raises:
        UserError: If the file is missing, empty, or has a line without a value or a key twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage that makes it, or correct the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a text table ({error})") from None
    table: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split(maxsplit=1)
        if not fields:
            continue
        if len(fields) != 2:
            raise UserError(f"{path}:{number}: expected 'key value', found '{line.strip()}'")
        if fields[0] in table:
            raise UserError(f"{path}:{number}: key '{fields[0]}' appears twice; every key must be unique")
        table[fields[0]] = fields[1].strip()
    if not table:
        raise UserError(f"{path}: is empty; expected at least one line 'key value'")
    return table


def write_scp(path: str | Path, table: Mapping[str, str]) -> None:
    """Write ``table`` as a Kaldi table, sorted by key, atomically."""
    with atomic_write(path) as stream:
        for key in sorted(table):
            stream.write(f"{key} {table[key]}\n")


def check_same_keys(reference: str | Path, *others: str | Path) -> None:
    """Require that every table in ``others`` has exactly the keys of ``reference``.

    Raises:
        UserError: Naming the file and the first missing or extra key.
    """
    wanted = read_scp(reference).keys()
    for other in others:
        found = read_scp(other).keys()
        missing, extra = wanted - found, found - wanted
        if missing:
            raise UserError(
                f"{other}: {len(missing)} key(s) of {reference} are missing, first '{min(missing)}'; add them"
            )
        if extra:
            raise UserError(f"{other}: {len(extra)} key(s) are not in {reference}, first '{min(extra)}'; remove them")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a yaml mapping.

    Raises:
        UserError: If the file is missing, not yaml, or not a mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as yaml ({reason})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a yaml mapping 'name: value'")
    return content


def write_yaml(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as yaml in its own key order, atomically."""
    import yaml

    with atomic_write(path) as stream:
        yaml.safe_dump(dict(content), stream, sort_keys=False, allow_unicode=True)
