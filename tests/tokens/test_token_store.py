"""Arks and journals: whatever moment a job is killed at, the result is that of one uninterrupted run."""

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

from espnet_tse_gen.tokens.store import Store, kaldi_bytes, read_places, remove_unused
from espnet_tse_gen.utils.errors import UserError

MANY = settings(max_examples=25, deadline=None, derandomize=True)
HEADER = {"fingerprint": "f", "kinds": ["", "_latents"]}
DIGESTS = [f"d{number}" for number in range(7)]


def arrays_of(digest: str) -> list[np.ndarray]:
    """Return the arrays of a recording: they depend on its digest alone, as a codec's do."""
    generator = np.random.default_rng(zlib.crc32(digest.encode()))
    codes = generator.integers(0, 100, (int(generator.integers(1, 6)), 2)).astype(np.int16)
    return [codes, generator.standard_normal((3, 2)).astype(np.float16)]


def make(directory: Path, digests: Sequence[str], batches: int | None = None, job: int = 1) -> int:
    """Append what is not there yet, or the first so many batches of two; return how many that were."""
    with Store(directory, "codes", job, HEADER) as store:
        left = [one for one in digests if one not in read_places(directory, HEADER)]
        for pair in [left[first : first + 2] for first in range(0, len(left), 2)][:batches]:
            store.append([(f"key_{one}", one, arrays_of(one)) for one in pair])
    return len(left)


def check(directory: Path, digests: Sequence[str]) -> None:
    places = read_places(directory, HEADER)
    for digest in digests:
        for place, array in zip(places[digest], arrays_of(digest), strict=True):
            found = kaldiio.load_mat(place)
            assert found.dtype == array.dtype and np.array_equal(found, array)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], Path]:
    """Return the files of an uninterrupted run, and a directory with a run that had one batch to go."""
    directory, partial = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("partial")
    make(directory, DIGESTS)
    make(partial, DIGESTS, batches=3)
    return content(directory), partial


@MANY
@given(data=st.data())
def test_killed_at_any_byte(whole: tuple[dict[str, bytes], Path], data: st.DataObject) -> None:
    """The journal may end within a line, and each ark anywhere behind what the journal's whole lines say."""
    wanted, partial = whole
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(shutil.copytree(partial, Path(folder) / "part"))
        journal = directory / "codes.1.journal"
        cut = data.draw(st.integers(0, journal.stat().st_size), label="bytes of the journal")
        journal.write_bytes(journal.read_bytes()[:cut])
        safe = DIGESTS[: 2 * max(0, journal.read_bytes().count(b"\n") - 1)]
        for which, kind in enumerate(HEADER["kinds"]):
            ark = directory / f"codes{kind}.1.ark"
            size = sum(len(kaldi_bytes(arrays_of(one)[which])) + len(f"key_{one} ") for one in safe)
            extra = data.draw(st.integers(0, ark.stat().st_size - size), label=f"bytes behind it in the ark{kind}")
            ark.write_bytes(ark.read_bytes()[: size + extra])
        assert make(directory, DIGESTS) == len(DIGESTS) - len(safe)
        assert content(directory) == wanted
        check(directory, DIGESTS)


@MANY
@given(where=st.integers(0, 10**6), name=st.sampled_from(["codes.1.ark", "codes_latents.1.ark", "codes.1.journal"]))
def test_a_damaged_byte_is_never_kept(whole: tuple[dict[str, bytes], Path], where: int, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(shutil.copytree(whole[1], Path(folder) / "part"))
        damaged = bytearray((directory / name).read_bytes())
        damaged[where % len(damaged)] ^= 1
        (directory / name).write_bytes(damaged)
        make(directory, DIGESTS)
        check(directory, DIGESTS)


@MANY
@given(
    before=st.lists(st.integers(0, 9), unique=True, min_size=1),
    after=st.lists(st.integers(0, 9), unique=True, min_size=1),
    batches=st.one_of(st.none(), st.integers(0, 5)),
    jobs=st.integers(1, 3),
)
def test_nothing_is_made_twice(before: list[int], after: list[int], batches: int | None, jobs: int) -> None:
    """After a run over another list, whole or killed, only what is new is made, whichever job's turn it is."""
    first, second = ([f"d{number}" for number in numbers] for numbers in (before, after))
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), first, batches)
        made = [make(Path(folder), second[job::jobs], job=job + 1) for job in range(jobs)]
        assert sum(made) == len(set(second) - set(first if batches is None else first[: 2 * batches]))
        check(Path(folder), second)


def test_a_failure_is_known_until_it_is_mended(tmp_path: Path) -> None:
    with Store(tmp_path, "codes", 1, HEADER) as store:
        store.append([("a", "d0", "no audio"), ("b", "d1", arrays_of("d1"))])
    assert read_places(tmp_path, HEADER)["d0"] == "no audio"
    with Store(tmp_path, "codes", 2, HEADER) as store:
        store.append([("a", "d0", arrays_of("d0"))])
    check(tmp_path, ["d0", "d1"])


def test_another_header_uses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    make(tmp_path, DIGESTS)
    other = {"fingerprint": "g", "kinds": [""]}
    assert not read_places(tmp_path, other)
    with Store(tmp_path, "codes", 1, other) as store:
        store.append([("a", "d0", arrays_of("d0")[:1])])
    assert not read_places(tmp_path, HEADER)
    assert sorted(content(tmp_path)) == ["codes.1.ark", "codes.1.journal"]
    assert np.array_equal(kaldiio.load_mat(read_places(tmp_path, other)["d0"][0]), arrays_of("d0")[0])


def test_what_no_table_refers_to_is_removed_unless_a_job_has_it(tmp_path: Path) -> None:
    for job in (1, 2, 3):
        make(tmp_path, DIGESTS[job::3], job=job)
    used = [place for places in read_places(tmp_path, HEADER).values() for place in places if ".2.ark:" in place]
    with Store(tmp_path, "codes", 3, HEADER):
        remove_unused(tmp_path, ["codes"], used)
    assert {name.split(".")[1] for name in content(tmp_path)} == {"2", "3"}
    remove_unused(tmp_path, ["other"], [])
    assert len(content(tmp_path)) == 6


def test_two_processes_do_not_write_one_part(tmp_path: Path) -> None:
    with Store(tmp_path, "codes", 1, HEADER):
        with pytest.raises(UserError, match="another process"), Store(tmp_path, "codes", 1, HEADER):
            pass
        with Store(tmp_path, "codes", 2, HEADER):
            pass
    make(tmp_path, ["d0"])
