"""The page end to end: a server as a user starts it, asked by a browser and by programs."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from chromium import Chromium, find_chromium
from programs import ROOT, refused_in, running, start
from tiny_model import mixture, voice

from espnet_tse_gen import TargetSpeakerExtractor

httpx = pytest.importorskip("httpx", reason="needs the extra serve (pip install gradio)")
pytest.importorskip("gradio", reason="needs the extra serve (pip install gradio)")
pytestmark = pytest.mark.slow

RATE = 16000
REQUESTS = int(os.environ.get("TSE_GEN_SERVE_REQUESTS", "12"))
# Notes in a file whom the server and its worker want to reach.
WATCH = """import os, socket
def watched(function, place):
    def call(*given, **more):
        asked = given[place][0] if isinstance(given[place], tuple) else given[place]
        if asked not in ("127.0.0.1", "localhost", None) and not str(asked).startswith("/"):
            open(os.environ["ASKED"], "a").write(f"{asked}\\n")
        return function(*given, **more)
    return call
socket.getaddrinfo = watched(socket.getaddrinfo, 0)
socket.socket.connect = watched(socket.socket.connect, 1)
"""
PLAY = """(async () => {
  const audio = [...document.querySelectorAll("audio")][2];
  await audio.play();
  for (let n = 0; n < 500 && !(audio.currentTime > 0.05); n += 1) await new Promise((resolve) => setTimeout(resolve, 20));
  return [audio.duration, audio.currentTime];
})()"""
BUTTON = "[...document.querySelectorAll('button')].find((button) => button.innerText.trim() === 'Extract')"
FILES = "document.querySelectorAll('input[type=file]').length"
PLAYERS = "document.querySelectorAll('audio').length"
TEXT = "document.body.innerText"


class Server:
    """``tse-gen serve`` with a folder of its own for what it keeps."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address, self.folder, self.asked = f"http://127.0.0.1:{port}", folder / "tmp", folder / "asked"
        self.folder.mkdir()
        (folder / "sitecustomize.py").write_text(WATCH)
        # A proxy that is none: nothing that the server says to itself goes there.
        environment = {
            **os.environ,
            "TMPDIR": str(self.folder),
            "ASKED": str(self.asked),
            "http_proxy": "http://192.0.2.1:9",
        }
        environment["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, sys.path)])
        options = ["--port", str(port), "--threads", "1", "--max-upload-mb", "2", "--max-minutes", "0.5"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "espnet_tse_gen", "serve", *options], env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = [self.process.stdout.readline()]
        assert self.said[0].startswith(self.address), self.said[0] + self.process.stdout.read()
        threading.Thread(target=lambda: self.said.extend(self.process.stdout), daemon=True).start()

    @property
    def worker(self) -> int:
        """The process with the model."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        children = [child for task in tasks for child in task.read_text().split()]
        return next(int(child) for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text())

    def files(self) -> list[Path]:
        """What is kept."""
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def extract(self, mixed: bytes, enroll: bytes | None, times: str = "", name: str = "m.wav") -> list[Any]:
        """What the server answers to a program."""
        with httpx.Client(base_url=f"{self.address}/gradio_api", timeout=900, trust_env=False) as client:
            given = [("files", (name, mixed))] + ([("files", ("e.wav", enroll))] if enroll else [])
            sent = client.post("/upload", files=given)
            if sent.status_code != 200:
                raise ValueError(sent.text)
            paths = [*sent.json(), None][:2]
            return self.call(client, *paths, times)

    def call(self, client: Any, mixed: str, enroll: str | None, times: str) -> list[Any]:
        """What the server answers to these inputs, of which the first two are paths."""
        data = [path and {"path": path, "meta": {"_type": "gradio.FileData"}} for path in (mixed, enroll)] + [times]
        event = client.post("/call/extract", json={"data": data}).raise_for_status().json()["event_id"]
        told = client.get(f"/call/extract/{event}").text
        kind, answer = re.findall(r"event: (complete|error)\ndata: (.*)", told)[-1]
        if kind == "error":
            raise ValueError(json.loads(answer)["error"])
        return json.loads(answer)

    def played(self, file: dict[str, str]) -> np.ndarray:
        """The samples of a recording in an answer, int16."""
        got = httpx.get(f"{self.address}/gradio_api/file={file['path']}", trust_env=False).raise_for_status()
        return soundfile.read(io.BytesIO(got.content), dtype="int16")[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server, which must leave nothing behind and have asked nobody."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    worker = server.worker
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 130
    assert not running(worker)
    assert server.files() == [] and list(server.folder.glob("tse-gen-serve*")) == []
    assert not server.asked.exists(), server.asked.read_text()
    # Gradio shows where it refused what was not uploaded.
    assert f"{ROOT}/espnet_tse_gen/" not in "".join(server.said)


@pytest.fixture
def browser(tmp_path: Path, server: Server) -> Iterator[Chromium]:
    """A browser with the page."""
    executable = find_chromium()
    if executable is None:
        pytest.skip("needs Chromium or Chrome (Debian: chromium)")
    with Chromium(executable, tmp_path / "profile", seconds=300) as chromium:
        chromium.open(f"{server.address}/", 1280)
        chromium.wait(f"{FILES} === 2 && !!{BUTTON}")
        yield chromium
    shutil.rmtree(tmp_path / "profile", ignore_errors=True)


def wav(samples: np.ndarray) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format="WAV")
    return stream.getvalue()


ENROLL = wav(voice(1.5, 110.0, seed=5, rate=RATE))


def recording(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def give(browser: Chromium, mixed: Path, enroll: Path) -> None:
    """Drop both recordings; a field that has one has no place for another."""
    browser.upload("input[type=file]", mixed)
    browser.wait(f"{FILES} === 1 && {PLAYERS} === 1")
    browser.upload("input[type=file]", enroll)
    browser.wait(f"{FILES} === 0 && {PLAYERS} === 2")


def test_a_voice_is_extracted_and_played_and_nothing_is_kept(browser: Chromium, server: Server, tmp_path: Path) -> None:
    mixed = recording(tmp_path, "meeting.wav", wav(mixture(3.0, rate=RATE)))
    give(browser, mixed, recording(tmp_path, "alice.wav", ENROLL))
    browser.run(f"{BUTTON}.click()")
    browser.wait(f"{PLAYERS} === 4 && {TEXT}.includes('onfidence')", 120)
    duration, position = browser.run(PLAY)
    assert abs(duration - 3.0) < 0.01 and position > 0.05
    browser.wait("[...document.images].some((image) => image.naturalWidth > 1000)")
    assert {request.split("/")[2] for request in browser.requests if request.startswith("http")} == {server.address[7:]}
    assert browser.failures == [] and browser.messages == []
    assert browser.run("document.documentElement.scrollWidth") <= 1280
    assert {path.name for path in server.files()} == {"meeting.wav", "alice.wav", "audio.wav", "image.png"}
    browser.call("Page.navigate", url="about:blank")
    end = time.monotonic() + 30
    while server.files() and time.monotonic() < end:
        time.sleep(0.1)
    assert server.files() == []


def test_the_keyboard_suffices(browser: Chromium, tmp_path: Path) -> None:
    browser.upload("input[type=file]", recording(tmp_path, "m.wav", wav(mixture(2.0, rate=RATE))))
    browser.wait(f"{PLAYERS} === 1")
    reached = []
    for _ in range(30):
        browser.press("Tab", 9)
        reached.append(browser.run("(document.activeElement.ariaLabel || document.activeElement.tagName) + ' ' + "
                                   "(document.activeElement.placeholder || document.activeElement.innerText || '')"))  # fmt: skip
        if "12.5-18.0" in reached[-1]:
            break
    assert any(one.startswith("AUDIO") for one in reached) and any("Upload" in one for one in reached), reached
    assert browser.run(
        "getComputedStyle(document.activeElement).boxShadow + getComputedStyle(document.activeElement).outline"
    )
    browser.call("Input.insertText", text="0.5-1.5")
    browser.press("Tab", 9)
    assert browser.run(f"document.activeElement === {BUTTON}")
    browser.press("Enter", 13, "\r")
    browser.wait(f"{PLAYERS} === 3 && {TEXT}.includes('onfidence')", 120)


def test_a_recording_of_the_microphone_is_extracted(browser: Chromium) -> None:
    for players in (1, 2):
        browser.run(f"document.querySelectorAll('button[aria-label=\"Record audio\"]')[{players - 1}].click()")
        browser.wait("!!document.querySelector('.record-button')")
        browser.run("document.querySelector('.record-button').click()")
        time.sleep(2.5)
        browser.run("document.querySelector('.stop-button').click()")
        browser.wait(f"{PLAYERS} === {players}")
    browser.run(f"{BUTTON}.click()")
    browser.wait(f"{PLAYERS} === 4 && {TEXT}.includes('onfidence')", 120)


def test_what_cannot_be_used_is_said_in_one_sentence(browser: Chromium, server: Server, tmp_path: Path) -> None:
    browser.run(f"{BUTTON}.click()")
    browser.wait(f"{TEXT}.includes('Give a mixture, and an enrolment or where it is in the mixture')")
    browser.upload("input[type=file]", recording(tmp_path, "big.wav", bytes(3_000_000)))
    browser.wait(f"{TEXT}.includes('maximum allowed size of 2.0 Mb: \"big.wav\"')")
    browser.open(f"{server.address}/", 390)
    browser.wait(f"{FILES} === 2 && !!{BUTTON}")
    give(browser, recording(tmp_path, "m<b>.wav", b"not audio"), recording(tmp_path, "e.wav", ENROLL))
    browser.run(f"{BUTTON}.click()")
    browser.wait(f"{TEXT}.includes('mb.wav: is not a readable audio file')")
    assert browser.run("document.documentElement.scrollWidth") <= 390


def test_a_killed_worker_is_said_and_the_next_extraction_works(
    browser: Chromium, server: Server, tmp_path: Path
) -> None:
    long = recording(tmp_path, "m.wav", wav(mixture(29.0, rate=RATE)))
    give(browser, long, recording(tmp_path, "e.wav", ENROLL))
    before = server.worker
    browser.run(f"{BUTTON}.click()")
    browser.wait(f"/Extracting - [1-9]/.test({TEXT})", 120)
    os.kill(before, signal.SIGKILL)
    browser.wait(f"{TEXT}.includes('The extraction was broken off: its process has ended')")
    browser.run(f"{BUTTON}.click()")
    browser.wait(f"{PLAYERS} === 4 && {TEXT}.includes('onfidence')", 120)
    assert server.worker != before


def test_programs_are_refused_in_one_sentence(server: Server) -> None:
    mixed = wav(mixture(1.0, rate=RATE))
    for message, given in {
        "is not a readable audio file": (b"not audio", ENROLL),
        "m.wav: is longer than 0.5 minutes": (wav(np.zeros(31 * RATE)), ENROLL),
        "Give a mixture": (mixed, None),
        "Enrolment in the mixture 3: expected START-END": (mixed, None, "3"),
        "enrolment 0.5-9: m.wav ends at 1.00 s": (mixed, None, "0.5-9"),
        "maximum allowed size": (bytes(3_000_000), ENROLL),
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            server.extract(*given)
        assert "\n" not in str(caught.value)
    # The folders in a name lead nowhere.
    assert len(server.extract(mixed, ENROLL, name="../../../x.wav")) == 4
    assert not (server.folder.parent / "x.wav").exists()


@pytest.mark.parametrize("path", ["../../x.wav", "/etc/passwd", "http://example.com/x.wav", "https://192.0.2.1/x.wav"])
def test_what_was_not_uploaded_is_neither_read_nor_fetched(server: Server, path: str) -> None:
    message = "not uploaded by a user|is an address; upload a recording instead"
    client = httpx.Client(base_url=f"{server.address}/gradio_api", timeout=60, trust_env=False)
    with client, pytest.raises(ValueError, match=message):
        server.call(client, path, None, "0-1")


def test_requests_at_once_are_all_answered_each_with_its_own(server: Server) -> None:
    def memory() -> int:
        states = [Path(f"/proc/{process}/status").read_text() for process in (server.process.pid, server.worker)]
        return sum(int(re.findall(r"VmRSS:\s+(\d+) kB", state)[0]) for state in states)

    mixtures = [mixture(1.0 + number % 5 / 5, seed=number, rate=RATE) for number in range(REQUESTS)]
    server.extract(wav(mixtures[0]), ENROLL)
    before, began = memory(), time.monotonic()
    with ThreadPoolExecutor(REQUESTS) as pool:
        answers = list(pool.map(lambda samples: server.extract(wav(samples), ENROLL), mixtures))
    seconds, grown = time.monotonic() - began, (memory() - before) // 1024
    print(f"{REQUESTS} requests at once: {seconds:.1f} s, memory grew by {grown} MB from {before // 1024} MB")
    extractor = TargetSpeakerExtractor.from_pretrained()
    enroll = soundfile.read(io.BytesIO(ENROLL), dtype="float32")[0]
    for samples, answer in zip(mixtures, answers, strict=True):
        stored = soundfile.read(io.BytesIO(wav(samples)), dtype="float32")[0]
        wanted = np.clip(np.rint(32768 * extractor(stored, enroll, RATE)), -32768, 32767)
        assert np.abs(server.played(answer[1]) - wanted).max() <= 1
    assert grown < 300


def test_an_address_that_is_taken_is_refused_in_one_line(server: Server) -> None:
    port = server.address.rpartition(":")[2]
    done = start(sys.executable, "-m", "espnet_tse_gen", "serve", "--port", port, PYTHONPATH=str(ROOT))
    refused_in(done, f"tse-gen: error: --host 127.0.0.1 --port {port}: cannot be listened at; choose another port")
