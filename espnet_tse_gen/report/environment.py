"""Under which conditions a result was made: date, versions, commit and command, for the head of every report."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import espnet_tse_gen

PACKAGES = (
    "espnet",
    "torch",
    "numpy",
    "mir_eval",
    "pystoi",
    "pesq",
    "resemblyzer",
    "speechmos",
    "ci_sdr",
    "distillmos",
    "jiwer",
)


def describe_environment(command: str | None = None) -> dict[str, str]:
    """Return what a reader needs to repeat a result, as heading -> text, in the order to print.

    Args:
        command: The command that made the result; by default that of this process.
    """
    versions = [f"{name} {version}" for name in PACKAGES if (version := _version(name))]
    facts = {
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "espnet_tse_gen": espnet_tse_gen.__version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "packages": ", ".join(versions),
        "command": command or shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
    }
    commit = _commit()
    if commit:
        facts["commit"] = commit
    return facts


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    """The commit that is checked out in the working directory, marked where files differ from it; "" outside git."""
    try:
        text = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return text.stdout.strip() if text.returncode == 0 else ""
