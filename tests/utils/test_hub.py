"""Tags of the hub, and what its cache holds."""

import re
import sys
from pathlib import Path

import pytest
from hub_server import COMMIT, running_hub, use_hub
from hypothesis import given
from hypothesis import strategies as st
from refused import refused

from espnet_tse_gen.utils.errors import hear_warnings
from espnet_tse_gen.utils.hub import cached, parse_tag, snapshot

NAMES = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,9}", fullmatch=True)


@given(NAMES, NAMES.filter(lambda name: not name.endswith(".zip")), st.sampled_from(["", "main", "v1.0", "refs/pr/3"]))
def test_a_tag_is_two_names_and_perhaps_a_revision(owner: str, name: str, revision: str) -> None:
    assert parse_tag(f"{owner}/{name}" + (revision and f"@{revision}")) == (f"{owner}/{name}", revision)


def test_paths_are_no_tags() -> None:
    texts = ["name", "a/b/c", "./a", "../a", "/a/b", "~/a", "a/", "a/b@"]
    for text in (*texts, "a/b.zip", "a b/c", "a/b\n", "ä/b", "@main", "a/b@c d"):
        assert parse_tag(text) is None, text


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    for name, content in {"config.yaml": b"a: 1\n", "part/model.safetensors": bytes(3000), "more.bin": b"-"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_what_is_wanted_is_fetched_once_and_checked(repository: Path, tmp_path: Path, monkeypatch) -> None:
    files, nowhere = ["config.yaml", "part/model.safetensors", "other.yaml"], "it is not in the cache, nor can it be"
    with running_hub({"acme/voice": repository}) as hub:
        use_hub(hub.address, tmp_path / "cache", monkeypatch)
        refused(nowhere, snapshot, "acme/voice", "", files, False)
        assert not hub.asked and cached("config.yaml") == {}
        folder = snapshot("acme/voice", "v1", files)
        found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        assert found == files[:2] and not any("more.bin" in path for path in hub.asked)
        assert cached("config.yaml") == {f"acme/voice@{COMMIT[:7]}": folder} and cached("other.yaml") == {}
        asked = len(hub.asked)
        assert snapshot("acme/voice", COMMIT, files) == snapshot("acme/voice", "v1", files, False) == folder
        assert len(hub.asked) == asked
    # Nobody answers any more.
    assert snapshot("acme/voice", "v1", files) == folder
    refused(nowhere, snapshot, "acme/other", "", files)
    blob = (folder / "part" / "model.safetensors").resolve()
    blob.write_bytes(bytes(2999) + b"1")
    refused(re.escape(f"it is damaged in the cache ({blob} is not"), snapshot, "acme/voice", "v1", files)


def test_bars_are_shown_where_something_may_be_said(repository: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    from huggingface_hub.utils import enable_progress_bars

    monkeypatch.setattr("espnet_tse_gen.utils.hub.BAR_AFTER", 0)
    enable_progress_bars()  # which transformers switches off in the whole process
    with running_hub({"acme/voice": repository}) as hub:
        for terminal, shown in ((True, True), (True, False), (False, True)):
            use_hub(hub.address, tmp_path / f"cache_{terminal}_{shown}", monkeypatch)
            monkeypatch.setattr(sys.stderr, "isatty", lambda answer=terminal: answer)
            with hear_warnings(shown):
                snapshot("acme/voice", "", ["*.yaml"])
            told = capsys.readouterr()
            assert "Fetching 1 files" in told.err if terminal and shown else not told.err
            assert told.out == ""


def test_what_the_hub_refuses_is_one_line(repository: Path, tmp_path: Path, monkeypatch) -> None:
    with running_hub({"acme/voice": repository, "acme/gated": repository}, gated=("acme/gated",)) as hub:
        use_hub(hub.address, tmp_path / "cache", monkeypatch)
        for name, revision, message in (
            ("acme/gated", "", "it is gated: accept its conditions on its page, and log in with 'hf auth login'"),
            ("acme/other", "", "it does not exist or is private: correct the name, or log in with 'hf auth login'"),
            ("acme/voice", "v2", "it has no branch, tag or commit 'v2'"),
            ("acme/a--b", "", "it cannot exist by this name ("),
        ):
            refused(re.escape(message), snapshot, name, revision, ["config.yaml"])
