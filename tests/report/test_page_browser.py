"""The report page in a headless Chromium: it loads, plays, fits a phone, and can be used from the keyboard."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chromium import Chromium, find_chromium
from scored_world import write_scores

from espnet_tse_gen.bin import report

pytestmark = pytest.mark.slow

SYSTEMS = ("a first", "second_system_with_a_rather_long_name", "third")
PLAY_ALL = """(async () => {
  const bad = [];
  for (const audio of document.querySelectorAll("audio")) {
    const heard = new Promise((resolve, reject) => {
      const started = Date.now();
      const look = () => {
        if (audio.error) reject(new Error(audio.error.message));
        else if (audio.currentTime > 0) resolve();
        else if (Date.now() - started > 10000) reject(new Error("silent"));
        else setTimeout(look, 5);
      };
      look();
    });
    try {
      await Promise.all([audio.play(), heard]);
      if (!(Math.abs(audio.duration - 2) < 0.01)) bad.push(audio.src + " lasts " + audio.duration);
    } catch (error) { bad.push(audio.src + ": " + error.message); }
  }
  return bad;
})()"""
LOAD_IMAGES = """Promise.all([...document.images].map(async (image) => {
  image.loading = "eager";
  await image.decode();
  const box = image.getBoundingClientRect();
  return [image.naturalWidth, image.naturalHeight, box.width, box.height];
}))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A running browser."""
    executable = find_chromium()
    if executable is None:
        pytest.skip("needs Chromium or Chrome (Debian: chromium)")
    profile = tmp_path_factory.mktemp("profile")
    with Chromium(executable, profile, seconds=300) as chromium:
        yield chromium
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, make_world: Callable[[Path], Path]) -> Path:
    """Folder with the reports ``whole``, of all mixtures and three systems, and ``small``, of one mixture and one."""
    world = make_world(tmp_path_factory.mktemp("browser"))
    write_scores(world, "mixture", "greedy", *SYSTEMS)
    (world / "exp/m/train.log").write_text(
        "".join(
            f"2026-01-01 (trainer:394) INFO: {epoch}epoch results: [train] loss={3 / epoch:.3f}, acc_codebook1=0.5, "
            f"time=4 minutes and 2.5 seconds, [valid] loss={4 / epoch:.3f}, acc_codebook1=0.4, acc_codebook2=0.2\n"
            for epoch in (1, 2, 3)
        )
    )
    options = ["--exp_dir", str(world / "exp/m"), "--sets", f"test={world / 'data/test'}", "--resamples", "20"]
    outputs = world / "exp/m/greedy"
    whole = [f"{name}={outputs}" for name in SYSTEMS]
    report.main([*options, "--output", str(world / "whole"), "--systems", "mixture", *whole])
    small = ["--output", str(world / "small"), "--num_mixtures", "1", "--systems", "mixture", f"greedy={outputs}"]
    report.main([*options, *small])
    return world


def test_every_recording_plays_every_image_has_a_size_and_nothing_else_is_asked_for(
    browser: Chromium, pages: Path
) -> None:
    folder = pages / "whole"
    browser.requests.clear()
    browser.open(folder / "index.html", 1280)
    assert browser.run("document.querySelectorAll('audio').length") == 4 * (1 + 2 * 5) + 4 * 2 * 6
    assert browser.run(PLAY_ALL) == []
    assert browser.run("[...document.querySelectorAll('audio')].filter((audio) => !audio.paused).length") <= 1
    sizes = browser.run(LOAD_IMAGES)
    assert len(sizes) == 4 * 2 * 6 + 2
    assert all(side > 0 for size in sizes for side in size)
    own = folder.resolve().as_uri() + "/"
    assert {url for url in browser.requests if not url.startswith((own, "data:"))} == set()
    asked = {url.removeprefix(own) for url in browser.requests if url.startswith(own)}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert asked == there - {"scores.csv"}
    assert browser.failures == []
    assert browser.messages == []


def test_the_page_itself_forbids_requests_to_elsewhere(browser: Chromium, pages: Path) -> None:
    browser.open(pages / "small/index.html", 1280)
    refused = """new Promise((resolve) => {
      document.addEventListener("securitypolicyviolation", (event) => resolve(event.blockedURI), { once: true });
      document.body.append(Object.assign(new Image(), { src: "http://localhost/pixel.png" }));
    })"""
    assert browser.run(refused) == "http://localhost/pixel.png"


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_nothing_is_wider_than_the_window(browser: Chromium, pages: Path, width: int) -> None:
    browser.open(pages / "whole/index.html", width)
    browser.run("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= width
    # Players stand in the window or in a region that scrolls, and are large enough for a finger.
    outside = """[...document.querySelectorAll("audio, img")].filter((element) => {
      const box = element.getBoundingClientRect();
      const scrolls = element.closest(".scroll");
      const low = element.tagName === "AUDIO" && (box.width < 120 || box.height < 32);
      return low || box.left < 0 || (box.right > innerWidth && !(scrolls && getComputedStyle(scrolls).overflowX === "auto"));
    }).length"""
    assert browser.run(outside) == 0
    if width < 600:
        listen = "[...document.querySelectorAll('.listen audio')]"
        assert browser.run(f"Math.max(...{listen}.map((audio) => audio.getBoundingClientRect().right))") <= width


def test_every_control_is_reached_by_tab_shows_it_and_obeys(browser: Chromium, pages: Path) -> None:
    browser.open(pages / "small/index.html", 1280)
    browser.run("window.wanted = [...document.querySelectorAll('a, audio, summary, .scroll')].filter("
                "(element) => element.checkVisibility()); window.unseen = []; 0")  # fmt: skip
    look = """(() => {
      const now = document.activeElement;
      const outline = getComputedStyle(now).outlineStyle;
      if (now !== document.body && now.tagName !== "AUDIO" && outline === "none") unseen.push(now.outerHTML);
      now.dataset.reached = "yes";
      return now === document.body;
    })()"""
    for _ in range(300):
        browser.press("Tab", 9)
        if browser.run(look):
            break
    assert browser.run("wanted.filter((element) => !element.dataset.reached).map((element) => element.outerHTML)") == []
    assert browser.run("unseen") == []

    browser.run("document.querySelector('audio').focus()")
    assert browser.run("getComputedStyle(document.querySelector('audio')).outlineStyle") != "none"
    browser.press(" ", 32, " ")
    started = "new Promise((resolve) => { const a = document.querySelector('audio'); if (!a.paused) resolve(true);"
    assert browser.run(f"{started} a.onplay = () => resolve(true); setTimeout(() => resolve(false), 5000); }})")
    browser.run("document.querySelector('summary').focus()")
    browser.press("Enter", 13, "\r")
    assert browser.run("document.querySelector('details').open")
