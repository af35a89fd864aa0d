"""A Hugging Face hub on this machine, as far as its own library asks one for the files of a model."""

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

COMMIT = "1" * 40
LARGE = (".safetensors", ".pth")
"""Ends of the names of files that have a SHA-256; the others are named as git does."""


class Hub(http.server.ThreadingHTTPServer):
    """Folders as repositories ``ORG/NAME``, each with one commit: its branch ``main``, its tag ``v1``.

    Args:
        repositories: Name to folder.
        gated: Names of those that show what they hold and do not give it.
    """

    daemon_threads = True

    def __init__(self, repositories: Mapping[str, Path], gated: tuple[str, ...] = ()) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.gated = repositories, gated
        self.asked: list[str] = []  # paths, in their order
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def running_hub(repositories: Mapping[str, Path], gated: tuple[str, ...] = ()) -> Iterator[Hub]:
    """Serve inside the block."""
    with Hub(repositories, gated) as hub:
        threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True).start()
        yield hub
        hub.shutdown()


def use_hub(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library in this process ask ``address``, and keep what it fetches in ``cache``."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # which of the two holds it depends on the release
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        name, (what, *rest) = "/".join(parts[2:4] if api else parts[:2]), (parts[4:] if api else parts[2:]) or [""]
        folder = self.server.repositories.get(name)
        if folder is None:
            self.send(401, headers={"X-Error-Code": "RepoNotFound"})
        elif what in ("revision", "tree", "resolve") and rest[0] not in ("main", "v1", COMMIT):
            self.send(404, headers={"X-Error-Code": "RevisionNotFound"})
        elif api:
            files = [entry(folder, file) for file in sorted(folder.rglob("*")) if file.is_file()]
            siblings = [{"rfilename": file["path"]} for file in files]
            told = files if what == "tree" else {"id": name, "sha": COMMIT, "siblings": siblings}
            self.send(200, json.dumps(told).encode(), {"Content-Type": "application/json"}, body)
        elif name in self.server.gated:
            self.send(403, headers={"X-Error-Code": "GatedRepo"})
        elif what == "resolve" and (file := folder.joinpath(*rest[1:])).is_file():
            found = entry(folder, file)
            tag = found["lfs"]["oid"] if "lfs" in found else found["oid"]
            self.send(200, file.read_bytes(), {"ETag": f'"{tag}"'}, body)
        else:
            self.send(404, headers={"X-Error-Code": "EntryNotFound"})

    def send(
        self, status: int, content: bytes = b"", headers: Mapping[str, str] | None = None, body: bool = True
    ) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "X-Repo-Commit": COMMIT, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


def entry(folder: Path, file: Path) -> dict[str, Any]:
    """What the hub tells of a file."""
    content = file.read_bytes()
    told: dict[str, Any] = {"type": "file", "path": str(file.relative_to(folder)), "size": len(content)}
    told["oid"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if file.suffix in LARGE:
        told["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return told
