"""Tables and yaml: read with errors that name file and key, written whole or not at all."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refused import refused

from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, check_same_keys, read_scp, read_yaml, write_scp, write_yaml

WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1)


@given(st.dictionaries(WORDS, st.lists(WORDS, min_size=1).map(" ".join), min_size=1))
def test_a_table_comes_back_as_written(tmp_path_factory: pytest.TempPathFactory, table: dict[str, str]) -> None:
    path = tmp_path_factory.getbasetemp() / "table.scp"
    write_scp(path, table)
    assert read_scp(path) == table and list(read_scp(path)) == sorted(table)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\n  \n", ": is empty"),
        (b"a x\nb\n", ":2: expected 'key value', found 'b'"),
        (b"a x\na y\n", ":2: key 'a' appears twice"),
        (b"a \xff\xfe\n", ": .* save it as UTF-8"),
        (None, ": no such file"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / "t.scp").write_bytes(content)
    refused(f"{tmp_path}/t.scp{says}", read_scp, tmp_path / "t.scp")
    refused(f"{tmp_path}: cannot be read", read_scp, tmp_path)


def test_missing_and_extra_keys_are_named(tmp_path: Path) -> None:
    for name, keys in (("all", "abc"), ("less", "ac"), ("more", "abcd"), ("same", "cba")):
        write_scp(tmp_path / name, dict.fromkeys(keys, "x"))
    whole, same, less, more = (tmp_path / name for name in ("all", "same", "less", "more"))
    check_same_keys(whole, same, whole)
    refused(r"less: 1 key\(s\) of .*all are missing, first 'b'", check_same_keys, whole, same, less)
    refused(r"more: 1 key\(s\) are not in .*all, first 'd'", check_same_keys, whole, more)


def test_what_fails_while_being_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with atomic_write(path) as stream:
        stream.write("old")
    with pytest.raises(RuntimeError, match="stop"), atomic_write(path) as stream:
        stream.write("new")
        raise RuntimeError("stop")
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]
    with pytest.raises(UserError, match=r"file.txt/x.txt: cannot be written"), atomic_write(path / "x.txt"):
        pass
    with pytest.raises(UserError, match="cannot be written"), atomic_write(tmp_path / "y") as stream:
        raise OSError(28, os.strerror(28))
    assert stream.closed and not (tmp_path / "y").exists()


def test_yaml_keeps_its_order_and_characters(tmp_path: Path) -> None:
    path, content = tmp_path / "c.yaml", {"z": 1, "a": {"name": "Łódź"}, "list": [1.5, None, True]}
    write_yaml(path, content)
    assert read_yaml(path) == content and list(read_yaml(path)) == list(content)
    for bad in (b"a: [1", b"- 1\n", b"", b"\xff\xfe", b"a: !!python/object/apply:os.getcwd []", b"a: 2024-13-01"):
        path.write_bytes(bad)
        refused("c.yaml: ", read_yaml, path)
