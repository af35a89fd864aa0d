import re
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from refused import refused
from scored_world import write_scores

from espnet_tse_gen.audio.files import read_header
from espnet_tse_gen.bin import make_results, report
from espnet_tse_gen.data.enrolment.protocol import Protocol, protocol_table
from espnet_tse_gen.report.clips import choose
from espnet_tse_gen.report.pictures import HEIGHT, WIDTH, write_spectrogram
from espnet_tse_gen.scoring.table import Row, replace_rows
from espnet_tse_gen.utils.files import write_scp


class Elements(HTMLParser):
    """Collects elements, and checks that tags are nested properly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def arguments(world: Path, *more: str) -> list[str]:
    systems = ["--systems", "mixture", f"greedy={world / 'exp/m/greedy'}"]
    return ["--exp_dir", str(world / "exp/m"), "--sets", f"test={world / 'data/test'}", *systems, *more]


@pytest.mark.slow
def test_the_page_is_whole_and_refers_to_nothing_outside_its_folder(world: Path) -> None:
    write_scores(world, "mixture", "greedy")
    log = "2026-01-01 INFO: 1epoch results: [train] loss=3.0, time=2 seconds, [valid] loss=4.0, time=3 seconds\n"
    (world / "exp/m/train.log").write_text(log)
    report.main(arguments(world, "--title", "<b>mine & yours</b>"))
    folder = world / "exp/m/report"
    text = (folder / "index.html").read_text()
    page = Elements(text)
    targets = [attributes.get(name) or "" for _, attributes in page.found for name in ("src", "href")]
    used = {target for target in targets if target and not target.startswith(("#", "data:"))}
    assert "//" not in re.sub(r"<dd>.*?</dd>", "", text)
    assert {"index.html", *used} == {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    ids = {attributes["id"] for _, attributes in page.found if "id" in attributes}
    assert {a["href"][1:] for a in page.all("a") if a["href"] and a["href"].startswith("#")} <= ids
    assert "&lt;b&gt;mine &amp; yours&lt;/b&gt;" in text

    images, players = page.all("img"), page.all("audio")
    # Four mixtures, each with two targets of clean, enrolment and one output: in the table, where the targets share the
    # mixture, and side by side. And one curve, the one about the model.
    assert len(players) == 4 * (1 + 2 * 3) + 4 * 2 * 4
    assert len(images) == 4 * 2 * 4 + 1
    assert all(image["alt"] and int(image["width"] or 0) > 0 and int(image["height"] or 0) > 0 for image in images)
    assert all("controls" in player and player["aria-label"] for player in players)
    assert {read_header(folder / str(player["src"])) for player in players} == {(16000, 8000)}
    headings = [text.index(title) for title in ("Different gender", "Female with female", "Male with male")]
    assert headings == sorted(headings)
    groups = re.findall(r'<th scope="rowgroup" class="group" colspan="\d+"><span>(.*?)</span>', text)
    assert groups == ["pair: different", "pair: female+female", "pair: male+male", "input SIR: 0 to 5 dB"]


def test_results_and_page_say_of_every_set_which_enrolments_it_has(world: Path) -> None:
    write_scores(world, "mixture", "greedy")
    about, folders = {}, []
    for name, digest in {"but": "3b7e" * 16, "random": "-", "mine.txt": "01ab" * 16}.items():
        folder = shutil.copytree(world / "data/test", world / "data" / name)
        protocol = Protocol(name, digest, mixtures=4, target_rows=8, seed=5, leaks=len(about))
        write_scp(folder / "protocol", protocol_table(protocol))
        about[name] = f"convention of 3,000 targets). {protocol.describe()}"
        folders.append(f"{name}={folder}")
        replace_rows(world / "exp/m/scores.csv", [Row("mixture", name, "anna_carl", 1, metrics={"ESTOI": 50.0})])
    exp = ["--exp_dir", str(world / "exp/m"), "--resamples", "20"]
    make_results.main([*exp, "--data_dirs", *folders])
    report.main([*exp, "--sets", *folders, "--systems", "mixture", "--num_mixtures", "0"])
    results, page = (world / "exp/m/RESULTS.md").read_text(), (world / "exp/m/report/index.html").read_text()
    assert len({*about.values()}) == len(about)
    for name, text in about.items():
        assert text in results[results.index(f"## Set {name}: ") :]
        assert f"{text}</p>" in unescape(page[page.index(f"Results: {name}</h2>") :])


def test_making_it_again_replaces_it_and_a_failure_leaves_the_old_one(world: Path) -> None:
    report.main(arguments(world, "--num_mixtures", "1"))
    folder = world / "exp/m/report"
    first = (folder / "index.html").read_text()
    assert first.count("<audio") == 7 + 8
    (world / "wavs/anna_carl_out2.wav").write_bytes(b"")
    refused("anna_carl", report.main, arguments(world, "--num_mixtures", "4"))
    assert (folder / "index.html").read_text() == first
    assert [path.name for path in (world / "exp/m").iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_is_no_report_is_left_alone_and_systems_without_anything_are_refused(world: Path) -> None:
    (world / "mine").mkdir()
    (world / "mine/thesis.txt").write_text("years of work")
    for _ in range(2):
        refused("not a report", report.main, arguments(world, "--output", str(world / "mine")))
        (world / "mine/index.html").write_text("<html>my pages</html>")
    refused(r"spk1\.scp", report.main, [*arguments(world)[:-1], f"other={world}"])
    refused("unknown system 'gredy': did you mean 'greedy'", report.main, [*arguments(world), "gredy"])
    assert (world / "mine/thesis.txt").exists()


def test_a_case_shows_mixture_every_system_clean_and_enrolment_in_this_order(world: Path) -> None:
    write_scores(world, "mixture", "greedy")
    # One system has the first target only, which leaves the other's cells empty.
    (world / "exp/m/first/test").mkdir(parents=True)
    shutil.copy(world / "exp/m/greedy/test/spk1.scp", world / "exp/m/first/test")
    report.main([*arguments(world), f"first={world / 'exp/m/first'}"])
    text = (world / "exp/m/report/index.html").read_text()
    target = text[text.index('<div class="clips">') : text.index("</article>")].split("<h5>")[0]
    order = re.findall(r"<figcaption>(.*?)<span", target)
    assert order == ["mixture", "greedy", "first", "clean (ground truth)", "enrolment"]
    assert target.count("SI-SDR") == 2  # The system without scores shows its duration.
    table = text[text.index("<table role") :]
    assert re.findall(r'<th role="columnheader" scope="col">(.*?)</th>', table) == [
        *("target", "mixture", "clean", "enrolment", "greedy", "first")
    ]
    # Two targets share the mixture's cell.
    assert table.count('rowspan="2"') == table.count('class="none">n/a</td>') == 4


def test_mixtures_are_spread_over_pairs_and_over_the_list() -> None:
    groups = {f"{index:03d}": ("different", "female+female", "male+male")[index % 10 // 4] for index in range(100)}
    chosen = choose(groups, 9)
    assert [groups[key] for key in chosen] == ["different"] * 3 + ["female+female"] * 3 + ["male+male"] * 3
    assert chosen == choose(groups, 9)
    assert int(chosen[2]) - int(chosen[0]) > 50
    assert sorted(choose(groups, 1000)) == sorted(groups)
    assert choose({"a": "male+male", "b": "different"}, 2) == ["b", "a"]


@pytest.mark.parametrize("length", [1, 50, 8000, 200_000])
def test_every_spectrogram_has_one_size_and_a_high_tone_is_at_the_top(tmp_path: Path, length: int) -> None:
    from PIL import Image

    write_spectrogram(tmp_path / "s.jpg", np.sin(2 * np.pi * 0.45 * np.arange(length)), 8000, 100.0)
    with Image.open(tmp_path / "s.jpg") as image:
        assert image.size == (WIDTH, HEIGHT)
        brightest = np.asarray(image).astype(int).sum(axis=(1, 2)).argmax()
    if length == 8000:
        assert brightest == pytest.approx(HEIGHT * 0.1, abs=3)
