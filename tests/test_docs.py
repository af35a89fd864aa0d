"""What documents say is so: quoted messages, commands and their options, code, decoding options, links.

Every block of code is run in a small world, or its options are held against the parser of the program, as ``CHECKED`` says; what
can be neither run nor checked stands below a comment ``<!-- not run: REASON -->``, one of ``NOT_RUN``.
"""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml
from documented import (
    CHECKED,
    COMMANDS,
    NOT_RUN,
    PAGES,
    PYTHON,
    RECIPES,
    RUN,
    Block,
    blocks,
    check,
    commands,
    script_options,
    training_parser,
)
from programs import ROOT
from tiny_discriminative import discriminative_exp_dir
from tiny_model import mixture, tiny_exp_dir, voice
from training_runs import make_corpus

from espnet_tse_gen.cli import main
from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.inference.options import SegmentOptions
from espnet_tse_gen.utils.files import read_scp, write_scp


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands name: recordings of two voices, models, data directories."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("meeting", "a", "broken", "meetings/monday", "meetings/tuesday"):
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / f"{name}.wav", mixture(3.2, seed=len(name), rate=16000), 16000)
    for number, name in enumerate(("alice", "alice_1", "alice_2")):
        soundfile.write(folder / f"{name}.wav", voice(1.5, 110.0, seed=number, rate=16000), 16000)
    (folder / "short.yaml").write_text("segment_seconds: 5.0\n")
    (folder / "mine.yaml").write_text("temperature: 0.0\n")
    links = {"my_masked": tiny_exp_dir(), "my_voices": discriminative_exp_dir("dual_path")}
    links |= dict.fromkeys(("my_model", "my_spex_plus", "spex_plus_16k"), discriminative_exp_dir("spex_plus"))
    links["codec_mel_16k"] = tiny_exp_dir() / "codec"
    (folder / "exp").mkdir()
    for name, path in links.items():
        (folder / "exp" / name).symlink_to(path)
    mixtures = make_corpus(folder / "made") / "valid"
    keys = {key: key for key in read_scp(mixtures / "wav.scp")}
    for table in ("utt2spk", "spk2utt"):
        write_scp(mixtures / table, keys)
    write_scp(folder / "data/my_speech/utt2spk", {"alice_0001": "alice"})
    for name in ("dev", "test"):
        (folder / "data" / name).symlink_to(mixtures)
    for name in ("conf", "espnet_tse_gen"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def place(world: Path, folder: Path) -> Path:
    """Return ``folder`` with all of the world in it, and the folders of recipes, in which a block may write."""
    for path in world.iterdir():
        (folder / path.name).symlink_to(path)
    for recipe in RECIPES:
        (folder / recipe.relative_to(ROOT)).mkdir(parents=True)
    return folder


def run_block(block: Block) -> None:
    """Run what is for this: commands of ``tse-gen``, and Python."""
    if block.language == "python":
        rate = 16000
        enroll_1, enroll_2 = voice(1.0, 110.0, 1, rate), voice(1.0, 110.0, 2, rate)
        names: dict[str, Any] = {
            "mixture": mixture(1.5, rate=rate),
            "enroll": enroll_1,
            "enroll_1": enroll_1,
            "enroll_2": enroll_2,
        }
        names |= {"mixtures": [names["mixture"]] * 2, "enrolls": [enroll_1, enroll_2]}
        exec(compile(block.text, block.place, "exec"), names)
        return
    for words in commands(block.text):
        if words[0] == "cd":
            os.chdir(words[1])
        elif words[0] == "tse-gen" and words[1] in COMMANDS:
            assert main(words[1:]) in (None, 0), words
        elif words[0] in PYTHON and words[1] == "-c":
            exec(compile(words[2], block.place, "exec"), {})


def shell_kinds(page: Path, block: Block) -> set[str]:
    """Check the commands of a block; return what :func:`check` says of them."""
    folder, kinds = page.parent if page.parent in RECIPES else None, set()
    for words in commands(block.text):
        if words[0] == "cd" and not block.marker:
            assert (ROOT / words[1]).is_dir(), words
        if words[0] == "cd" and (ROOT / words[1] / "run.sh").exists():
            folder = ROOT / words[1]
        kind = check(words, folder, block.marker == "own")
        assert kind in (RUN, *CHECKED) or block.marker, f"neither run nor checked: {words}"
        kinds.add(kind)
    return kinds - {""}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks(page: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block is run, or checked."""
    for number, block in enumerate(blocks(page)):
        # Those that are examples of files; tests/test_extending.py runs those of a codec and an extractor.
        shown = block.language in ("yaml", "json", "text") or (
            page.name.startswith("add_a") and block.language == "python"
        )
        try:
            kinds = shell_kinds(page, block) if block.language == "sh" else {RUN}
            if RUN in kinds and not block.marker and not shown:
                (tmp_path / str(number)).mkdir()
                monkeypatch.chdir(place(world, tmp_path / str(number)))
                run_block(block)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{block.place}: {type(error).__name__}: {error}\n{block.text}") from error


def test_every_reason_is_one_of_a_block() -> None:
    found = [(page, block) for page in PAGES for block in blocks(page)]
    assert {block.marker for _, block in found} - {None} == NOT_RUN.keys()
    kinds = [shell_kinds(page, block) for page, block in found if block.language == "sh"]
    assert set.union(*kinds) == {RUN, *CHECKED}


def test_options_in_the_text_are_those_of_a_program() -> None:
    sources = [
        *ROOT.glob("espnet_tse_gen/**/*.py"),
        *ROOT.glob("benchmarks/**/*.py"),
        *ROOT.glob("egs2/TEMPLATE/*/utils/*.py"),
    ]
    known = set(re.findall(r'"--([\w-]+)"', "".join(path.read_text() for path in sources)))
    for script in (*ROOT.glob("egs2/*/*/*.sh"), *ROOT.glob("egs2/*/*/local/*.sh")):
        known |= script_options(script).keys()
    for kind in (DecodingOptions, SegmentOptions):
        known |= set(kind.__dataclass_fields__)
    for task in ("tse", "tse_gen"):
        known |= {name.lstrip("-") for name in training_parser(task)._option_string_actions}
    # Of pip, sbatch and ESPnet's scoring.
    known |= {"is_tse", "index-url", "no-deps", "partition", "account", "qos", "time", "mem", "option", "max-jobs-run"}
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for code in re.findall("`([^`]+)`", text):
            for name in re.findall(r"(?<![\w-])--([a-zA-Z][\w-]*)", code):
                assert name in known, f"{page}: `{code}`: no program has --{name}"


def test_every_decoding_option_and_preset_is_explained() -> None:
    page = (ROOT / "docs/decoding.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", page, re.MULTILINE))
    for field in dataclasses.fields(DecodingOptions):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert yaml.safe_load(told.pop(field.name)) == default
    assert not told
    assert all(f"`{field.name}`" in page for field in dataclasses.fields(SegmentOptions))
    for preset in ROOT.glob("conf/decode/*.yaml"):
        assert f"| `{preset.stem}` |" in page


def figures(page: str) -> dict[str, dict[str, str]]:
    """Return the last table of a page that begins with systems: by system and column, without intervals."""
    table = re.findall(r"^\| system \|.*\n(?:\|.*\n)+", (ROOT / page).read_text(), re.MULTILINE)[-1]
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    return {row[0]: {name: cell.split(" [")[0] for name, cell in zip(head, row, strict=True)} for row in rows}


def test_figures_of_the_readme_are_those_of_the_recipe() -> None:
    shown, measured = figures("README.md"), figures("egs2/librispeech/tse_gen1/README.md")
    assert shown.keys() == measured.keys()
    for system, row in shown.items():
        assert row.items() <= measured[system].items()
        card = ROOT / "espnet_tse_gen/pretrained" / system.split(",")[0] / "README.md"
        if card.is_file():
            told = f"SI-SDR {row['SI-SDR (dB)']} dB, PESQ-WB {row['PESQ-WB']}, ESTOI {row['ESTOI (%)']} %"
            assert f"- Figures: {told} on" in card.read_text()


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/models/dual_path_16k.html").exists()


def test_quoted_messages_are_those_of_the_commands(repository: Path) -> None:
    source = "".join(path.read_text() for path in sorted((repository / "espnet_tse_gen").rglob("*.py")))
    # Texts go on behind a line's end, and hold names.
    source = re.sub(r'"\s*f?"', "", re.sub(r"\{[^{}]*\}", "…", source))
    page = (repository / "docs/if_something_goes_wrong.md").read_text()
    quoted = [text for line in page.splitlines() if line.startswith("**") for text in re.findall("`([^`]+)`", line)]
    messages = [text for text in quoted if " " in text and not re.match("--|tse-gen |ffmpeg |file ", text)]
    assert len(messages) >= 18
    assert [text for text in messages if text not in source] == []
