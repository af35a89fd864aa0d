"""Programs and scripts of the recipes, started as a user starts them."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start(*command: str | Path, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, without a terminal and with these changes of the environment."""
    return subprocess.run(
        [str(word) for word in command], cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def output_of(result: subprocess.CompletedProcess[str]) -> str:
    """Require that a program succeeded, and return what it printed."""
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout


def refused_in(result: subprocess.CompletedProcess[str], message: str) -> None:
    """Require that a program ended with status 2 and one line that has ``message``."""
    assert result.returncode == 2 and message in result.stderr and result.stderr.count("\n") == 1, result.stderr


def running(process: int) -> bool:
    """Return whether there is a process of this id that has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
