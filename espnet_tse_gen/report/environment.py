"""Under which conditions a result was made: date, versions, commit and command, for the head of every report."""

import contextlib
import datetime
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import espnet_tse_gen
from espnet_tse_gen.scoring.metrics.base import versions


def describe_environment(command: str | None = None) -> dict[str, str]:
    """Return what a reader needs to repeat a result, as heading -> text; ``command`` made it, by default this process."""
    facts = {
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "espnet_tse_gen": espnet_tse_gen.__version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "packages": versions(),
        "command": command or shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
    }
    # That of the working directory, marked where files differ from it; none outside git.
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        facts["commit"] = subprocess.run(git, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    return facts
