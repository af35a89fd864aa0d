"""The order of rooms that CONTRIBUTING.md promises."""

import ast
import re
from pathlib import Path

MODEL_ROOMS = {"decoding", "masked", "dual_path", "discriminative", "inference", "training"}


def rooms(repository: Path) -> dict[str, int]:
    """Return the place of every room in the table "Where does what belong"."""
    table = (repository / "CONTRIBUTING.md").read_text().split("## Where does what belong")[1].split("\n## ")[0]
    rows = [
        re.findall(r"`(\w+)(?:/|\.py)`", line.split("|")[1]) for line in table.splitlines() if line.startswith("| `")
    ]
    return {room: place for place, row in enumerate(rows) for room in row}


def test_no_room_imports_one_that_stands_below_it(repository: Path) -> None:
    place, package, wrong = rooms(repository), repository / "espnet_tse_gen", []
    found = {path.relative_to(package).parts[0].removesuffix(".py") for path in package.rglob("*.py")} - {"__init__"}
    assert found == set(place)
    for path in package.rglob("*.py"):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("espnet_tse_gen.") and room in place:
                imported = str(node.module).split(".")[1]
                knows_models = room in ("scoring", "report") and imported in MODEL_ROOMS
                if place[imported] > place[room] or knows_models:
                    wrong.append(f"{path}:{node.lineno}: {node.module}")
    assert not wrong
