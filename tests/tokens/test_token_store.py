"""Arks and journals: whatever moment a writer is killed at, the result is that of one uninterrupted run."""

from __future__ import annotations

import shutil
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import kaldiio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_tse_gen.tokens.store import Made, PartWriter, kaldi_bytes
from espnet_tse_gen.utils.errors import UserError

MANY = settings(max_examples=25, deadline=None, derandomize=True)
KINDS = ("", "_latents")
HEADER = {"fingerprint": "f"}


def arrays_of(digest: str) -> tuple[bytes, ...]:
    """Return the arrays of a recording: they depend on its digest alone, as a codec's do."""
    generator = np.random.default_rng(zlib.crc32(digest.encode()))
    codes = generator.integers(0, 100, (int(generator.integers(1, 6)), 2)).astype(np.int16)
    return kaldi_bytes(codes), kaldi_bytes(generator.standard_normal((3, 2)).astype(np.float16))


def items_of(digests: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"key{number}", digest) for number, digest in enumerate(digests)]


def make(
    directory: Path,
    digests: Sequence[str],
    batch: int = 2,
    batches: int | None = None,
    job: int = 1,
    bad: frozenset[str] = frozenset(),
) -> tuple[int, int]:
    """Make a part, or its first so many batches; return how many recordings were there already and how many copied."""
    items, copied = items_of(digests), 0
    with PartWriter(directory, "codes", job, KINDS, HEADER) as writer:
        there = writer.resume(items)
        for number, first in enumerate(range(there, len(items), batch)):
            if number == batches:
                return there, copied
            made = []
            for key, digest in items[first : first + batch]:
                found = writer.reuse(digest)
                assert found is None or found == arrays_of(digest)
                copied += found is not None
                failure = f"no {key}" if digest in bad else None
                made.append(Made(key, digest, () if failure else found or arrays_of(digest), failure))
            writer.append(made)
        if not writer.failures:
            tables = writer.finish()
            for table, which in zip(tables, (0, 1), strict=True):
                for key, digest in items:
                    assert kaldi_bytes(kaldiio.load_mat(table[key])) == arrays_of(digest)[which]
    return there, copied


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if ".old" not in path.name}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, bytes], Path]:
    """Return digests, the files of an uninterrupted run, and a directory with a run that had one batch to go."""
    digests = [f"d{number}" for number in range(7)]
    make(tmp_path_factory.mktemp("whole"), digests)
    directory = tmp_path_factory.mktemp("uninterrupted")
    make(directory, digests)
    partial = tmp_path_factory.mktemp("partial")
    make(partial, digests, batches=3)
    return digests, content(directory), partial


@MANY
@given(data=st.data())
def test_killed_at_any_byte(whole: tuple[list[str], dict[str, bytes], Path], data: st.DataObject) -> None:
    """The journal may end within a line, and each ark anywhere behind what the journal's whole lines say."""
    digests, wanted, partial = whole
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "part"
        shutil.copytree(partial, directory)
        journal = directory / "codes.1.journal.part"
        cut = data.draw(st.integers(0, journal.stat().st_size), label="bytes of the journal")
        journal.write_bytes(journal.read_bytes()[:cut])
        complete = max(0, journal.read_bytes().count(b"\n") - 1)
        for kind, which in zip(KINDS, (0, 1), strict=True):
            ark = directory / f"codes{kind}.1.ark.part"
            safe = sum(len(arrays_of(one)[which]) + len(key) + 1 for key, one in items_of(digests)[: 2 * complete])
            extra = data.draw(st.integers(0, ark.stat().st_size - safe), label=f"bytes behind it in the ark{kind}")
            ark.write_bytes(ark.read_bytes()[: safe + extra])
        there, copied = make(directory, digests)
        assert there == 2 * complete and not copied
        assert content(directory) == wanted


@MANY
@given(where=st.integers(0, 10**6), kind=st.sampled_from(["codes.1.ark", "codes_latents.1.ark", "codes.1.journal"]))
def test_a_damaged_byte_is_never_kept(whole: tuple[list[str], dict[str, bytes], Path], where: int, kind: str) -> None:
    digests, wanted, partial = whole
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "part"
        shutil.copytree(partial, directory)
        path = directory / f"{kind}.part"
        damaged = bytearray(path.read_bytes())
        damaged[where % len(damaged)] ^= 1
        path.write_bytes(damaged)
        make(directory, digests)
        found = content(directory)
        # A key in an ark is not covered by a checksum, but readers go by the table and do not see it.
        for name in wanted:
            if name != kind or name.endswith("journal"):
                assert found[name] == wanted[name]
        assert kaldi_bytes(kaldiio.load_mat(f"{directory}/codes.1.ark:5")) == arrays_of("d0")[0]


@MANY
@given(
    before=st.lists(st.integers(0, 9), unique=True, min_size=1),
    after=st.lists(st.integers(0, 9), unique=True, min_size=1),
    batches=st.one_of(st.none(), st.integers(0, 5)),
    again=st.integers(0, 5),
)
def test_a_changed_list_makes_what_it_would_make_alone(
    before: list[int], after: list[int], batches: int | None, again: int
) -> None:
    """After a run of another list, whole or killed, and a killed one of this: only what is new is made, the rest copied."""
    first, second = ([f"d{number}" for number in numbers] for numbers in (before, after))
    with tempfile.TemporaryDirectory() as folder:
        directory, alone = Path(folder) / "one", Path(folder) / "alone"
        make(directory, first, batches=batches)
        make(directory, second, batches=again)
        there, copied = make(directory, second)
        make(alone, second)
        assert content(directory) == content(alone)
        known = set(second) & set(first if batches is None else first[: 2 * batches])
        assert there + copied >= len(known)


def test_more_jobs_copy_from_fewer(tmp_path: Path) -> None:
    digests = [f"d{number}" for number in range(9)]
    make(tmp_path, digests)
    counts = [make(tmp_path, digests[job - 1 :: 3], job=job) for job in (1, 2, 3)]
    assert counts == [(0, 3)] * 3


def test_failures_are_tried_again_and_the_rest_is_copied(tmp_path: Path) -> None:
    digests = [f"d{number}" for number in range(7)]
    for _ in range(3):
        make(tmp_path / "a", digests, bad=frozenset({"d3"}))
        assert sorted(path.suffix for path in (tmp_path / "a").glob("*.part")) == [".part"] * 3
        assert len(list((tmp_path / "a").glob("*.journal.old*"))) <= 1  # they do not pile up
    assert make(tmp_path / "a", digests) == (0, 6)
    make(tmp_path / "b", digests)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_killed_between_two_names(tmp_path: Path, whole: tuple[list[str], dict[str, bytes], Path]) -> None:
    digests, wanted, _ = whole
    for files in (["codes.1.ark"], ["codes.1.ark", "codes_latents.1.ark"]):
        directory = tmp_path / str(len(files))
        directory.mkdir()
        for name, data in wanted.items():
            (directory / (name if name in files else f"{name}.part")).write_bytes(data)
        assert make(directory, digests) == (0, 7)
        assert content(directory) == wanted


def test_another_header_uses_nothing(tmp_path: Path) -> None:
    make(tmp_path, ["d0", "d1", "d2"], batches=1)
    with PartWriter(tmp_path, "codes", 1, KINDS, {"fingerprint": "g"}) as writer:
        assert writer.resume(items_of(["d0", "d1", "d2"])) == 0
        assert writer.reuse("d0") is None


def test_codes_are_copied_from_a_part_with_latents(tmp_path: Path) -> None:
    make(tmp_path, ["d0", "d1", "d2"])
    with PartWriter(tmp_path, "codes", 1, KINDS[:1], HEADER) as writer:
        assert writer.resume(items_of(["d2", "d0"])) == 0
        assert writer.reuse("d2") == arrays_of("d2")[:1]
    with PartWriter(tmp_path, "other", 1, ("", "_features"), HEADER) as writer:
        assert writer.resume(items_of(["d2"])) == 0
        assert writer.reuse("d2") is None


def test_two_processes_do_not_write_one_part(tmp_path: Path) -> None:
    with PartWriter(tmp_path, "codes", 1, KINDS, HEADER) as writer:
        writer.resume(items_of(["d0"]))
        with pytest.raises(UserError, match="another process"), PartWriter(tmp_path, "codes", 1, KINDS, HEADER):
            pass
        with PartWriter(tmp_path, "codes", 2, KINDS, HEADER):
            pass
    make(tmp_path, ["d0"])
