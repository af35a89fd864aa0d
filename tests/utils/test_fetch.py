"""Fetching released weights from a server of our own on this machine: interruptions, damage, and what is said offline."""

import contextlib
import dataclasses
import fcntl
import hashlib
import http.server
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from dac_maker import SMALL, write_dac
from refused import refused

from espnet_tse_gen.bin import codec_prepare
from espnet_tse_gen.codec import encodec
from espnet_tse_gen.codec.dac import RELEASES
from espnet_tse_gen.codec.registry import build_codec, load_codec
from espnet_tse_gen.utils.fetch import fetch, verify

CONTENT = bytes(range(256)) * 20000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves ``content`` at every address, from where a Range asks; says which ranges were asked for."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content, self.cut, self.says_size, self.knows_ranges = content, len(content), True, True
        self.ranges: list[str | None] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                server.ranges.append(wanted)
                start = int(wanted[6:-1]) if wanted and server.knows_ranges else 0
                if start >= len(server.content):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if server.says_size:
                    self.send_header("Content-Length", str(len(server.content) - start))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(server.content[start : server.cut])

            def log_message(self, *args: object) -> None:
                pass

        # One of HTTP asks the network for its own name, which takes seconds where nobody answers.
        self.http = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/weights.pth"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def test_a_fetched_file_is_whole_and_is_not_fetched_again(server: Server, tmp_path: Path, capsys) -> None:
    path = tmp_path / "cache" / "weights.pth"
    assert fetch(server.url, path, SHA256) == path
    assert path.read_bytes() == CONTENT
    assert sorted(item.name for item in path.parent.iterdir()) == ["weights.pth", "weights.pth.sha256"]
    assert (tmp_path / "cache/weights.pth.sha256").read_text() == f"{SHA256}  weights.pth\n"
    shown = capsys.readouterr().err
    assert server.url in shown and "100%" in shown
    fetch(server.url, path, SHA256[:8])
    assert len(server.ranges) == 1


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_broken_connection_is_taken_up_again(server: Server, tmp_path: Path, knows_ranges: bool) -> None:
    path = tmp_path / "weights.pth"
    server.cut, server.knows_ranges = 3_000_000, knows_ranges
    line = refused("broke off after 3000000 of 5120000 bytes", fetch, server.url, path, SHA256)
    assert SHA256 in line and server.url in line
    assert [item.name for item in tmp_path.iterdir()] == [".weights.pth.part"]
    server.cut = len(CONTENT)
    fetch(server.url, path, SHA256)
    assert server.ranges == [None, "bytes=3000000-"] and path.read_bytes() == CONTENT
    assert not (tmp_path / ".weights.pth.part").exists()


@pytest.mark.parametrize(
    ("part", "sha256", "asked"), [(CONTENT, SHA256, "bytes=5120000-"), (b"of another", None, None)]
)
def test_a_part_is_taken_up_again_where_the_hash_is_known(server: Server, tmp_path: Path, part, sha256, asked) -> None:
    (tmp_path / ".weights.pth.part").write_bytes(part)
    assert fetch(server.url, tmp_path / "weights.pth", sha256).read_bytes() == CONTENT
    assert server.ranges == [asked]


def test_another_file_than_meant_is_not_kept(server: Server, tmp_path: Path) -> None:
    said = f"gave a file with SHA-256 {SHA256}, expected {'0' * 64}; nothing was kept"
    refused(said, fetch, server.url, tmp_path / "weights.pth", "0" * 64)
    assert not list(tmp_path.iterdir())


def test_the_first_fetch_is_trusted_and_remembered(server: Server, tmp_path: Path) -> None:
    path = fetch(server.url, tmp_path / "weights.pth")
    path.write_bytes(CONTENT[:-1])
    refused(r"is damaged or another file .* weights\.pth\.sha256 beside it says", fetch, server.url, path)
    path.unlink()
    server.content = server.content[::-1]
    refused("at the first fetch", fetch, server.url, path)
    assert not path.exists()
    (tmp_path / "weights.pth.sha256").unlink()
    assert fetch(server.url, path).read_bytes() == server.content


def test_a_file_of_unknown_size_and_hash_is_refused(server: Server, tmp_path: Path) -> None:
    server.says_size = False
    refused(r"does not say how large .*\(its SHA-256 is not published\)", fetch, server.url, tmp_path / "weights.pth")
    assert not list(tmp_path.iterdir())
    assert fetch(server.url, tmp_path / "weights.pth", SHA256).read_bytes() == CONTENT


def test_two_processes_do_not_write_one_file(server: Server, tmp_path: Path) -> None:
    with open(tmp_path / ".weights.pth.part", "wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        refused("being fetched by another process", fetch, server.url, tmp_path / "weights.pth", SHA256)
    assert not server.ranges


def test_offline_names_file_hash_and_address(server: Server, tmp_path: Path) -> None:
    server.http.server_close()
    for url in (server.url, "no address"):
        path = tmp_path / "cache/weights.pth"
        refused(f"^{path}: cannot be fetched from {url} .*{SHA256}", fetch, url, path, SHA256)
        assert not list((tmp_path / "cache").iterdir())
    refused("cannot be fetched from .*'ascii' codec can't encode", fetch, f"{server.url}/\u00e4", path, SHA256)


def test_verify(tmp_path: Path) -> None:
    path = tmp_path / "a"
    refused("no such file", verify, path)
    path.write_bytes(CONTENT)
    assert verify(path) == verify(path, SHA256[:8].upper()) == SHA256 and not (tmp_path / "a.sha256").exists()
    verify(path, remember=True)
    path.write_bytes(b"")
    refused(r"damaged .*a\.sha256 beside it says", verify, path)
    refused(rf"that of the released file is {SHA256}\)", verify, path, SHA256)


def test_codec_prepare_fetches_only_when_asked(server: Server, tmp_path: Path, monkeypatch) -> None:
    write_dac(tmp_path / "raw.pth")
    server.content = (tmp_path / "raw.pth").read_bytes()
    server.cut, sha256 = len(server.content), hashlib.sha256(server.content).hexdigest()
    release = dataclasses.replace(RELEASES[16000], url=server.url, sha256=sha256, model_conf=SMALL)
    monkeypatch.setitem(RELEASES, 16000, release)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "dac.yaml").write_text("codec: dac\ncodec_conf: {num_codebooks: 2}\n")
    command = ["--codec_config", f"{tmp_path}/dac.yaml", "--output_dir", f"{tmp_path}/codec"]
    line = refused("no such file", codec_prepare.main, command)
    assert sha256 in line and server.url in line and "--download true" in line and not server.ranges
    # What is named is not fetched, and the advice does not say so.
    named, says = [*command, "--weights", f"{tmp_path}/nowhere.pth"], "nowhere.pth: no such file .* Put them there, or"
    assert "--download" not in refused(says, codec_prepare.main, named)
    codec_prepare.main([*command, "--download", "true"])
    codec = load_codec(tmp_path / "codec")
    cached = tmp_path / "home/.cache/descript/dac/weights_16khz_8kbps_0.0.5.pth"
    assert f"sha256: {sha256}" in (tmp_path / "codec/codec.yaml").read_text() and len(server.ranges) == 1
    codec_prepare.main([*command, "--output_dir", f"{tmp_path}/other"])
    assert load_codec(tmp_path / "other").fingerprint() == codec.fingerprint() and len(server.ranges) == 1
    cached.write_bytes(cached.read_bytes()[:-1] + b"x")
    refused("is damaged or another file", codec_prepare.main, [*command, "--output_dir", f"{tmp_path}/third"])
    assert not (tmp_path / "third").exists()


def test_encodecs_weights_are_fetched_to_where_its_package_looks(server: Server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(encodec, "URL", server.url)
    monkeypatch.setattr(encodec, "SHA256", SHA256)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    path = build_codec("encodec").download_pretrained()
    assert path == tmp_path / "hub/checkpoints/encodec_24khz-d7cc33bc.th" and path.read_bytes() == CONTENT
