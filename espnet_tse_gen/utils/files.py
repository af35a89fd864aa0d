"""Tables as Kaldi lays them out, JSON, CSV and yaml, written atomically.

A file that is missing or cannot be read is a :class:`UserError` that names it, and the line or key.
"""

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from espnet_tse_gen.utils.errors import UserError, reason_of


class OutputError(UserError):
    """What is written does not get to its place, whatever it is."""


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "w", **kwargs: Any) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` and rename it when the block ends without an exception.

    A directory that cannot be written or a full disk is an :class:`OutputError`.
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
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check free space and permissions"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def is_lfs_pointer(path: str | Path) -> bool:
    """Return whether a file only says where Git LFS has what belongs there."""
    begin = b"version https://git-lfs"
    try:
        with open(path, "rb") as stream:
            return stream.read(len(begin)) == begin
    except OSError:
        return False


def read_text(path: str | Path) -> str:
    """Return the text of a UTF-8 file, without the byte order mark that editors on Windows begin it with."""
    if is_lfs_pointer(path):
        raise UserError(f"{path}: is a pointer of Git LFS in the place of the file; run 'git lfs pull'")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage that makes it, or correct the path") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read as text ({error.reason}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def read_scp(path: str | Path) -> dict[str, str]:
    """Read a Kaldi table ``key value...``, in file order; none is empty or has a line without a value or a key twice."""
    table: dict[str, str] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
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
    """Write ``table`` as a Kaldi table, sorted by key; a key or value that cannot stand in one is a :class:`UserError`."""
    for key, value in table.items():
        if key.split() != [key]:
            raise UserError(f"{path}: the name '{key}' has a space, which a table's key must not have; rename it")
        if not value.strip() or "\n" in value:
            raise UserError(f"{path}: key '{key}': the value '{value!r}' is empty or of several lines")
    with atomic_write(path) as stream:
        stream.writelines(f"{key} {table[key]}\n" for key in sorted(table))


def check_same_keys(reference: str | Path, *others: str | Path) -> list[dict[str, str]]:
    """Read tables, ``reference`` first, all of which must have its keys; the first missing or extra one is an error."""
    tables = [read_scp(path) for path in (reference, *others)]
    for other, table in zip(others, tables[1:], strict=True):
        missing, extra = tables[0].keys() - table.keys(), table.keys() - tables[0].keys()
        if missing:
            raise UserError(
                f"{other}: {len(missing)} key(s) of {reference} are missing, first '{min(missing)}'; add them"
            )
        if extra:
            raise UserError(f"{other}: {len(extra)} key(s) are not in {reference}, first '{min(extra)}'; remove them")
    return tables


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None


def read_csv(path: str | Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read a CSV file with a header: its columns, and its rows; what a short row lacks is empty."""
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="")
        return list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read as CSV ({error})") from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a yaml mapping."""
    import yaml

    text = read_text(path)
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError is that of a date that is none
        raise UserError(f"{path}: cannot be read as yaml ({reason_of(error, 500)})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a yaml mapping 'name: value'")
    return content


def write_yaml(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as yaml in its own key order."""
    import yaml

    with atomic_write(path) as stream:
        yaml.safe_dump(dict(content), stream, sort_keys=False, allow_unicode=True)
