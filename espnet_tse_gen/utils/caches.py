"""A place for what libraries compile and keep, where there is none, as in containers."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def find_numba_cache() -> None:
    """Let numba keep what it compiles in a temporary folder of this process where the user's cache cannot be written.

    Without any place to keep it, numba refuses to compile what librosa asks for, and librosa cannot be imported.
    """
    home = os.path.expanduser("~/.cache")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home)
    try:
        if not cache.is_absolute():  # a user without a home
            raise OSError
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except OSError:
        if "NUMBA_CACHE_DIR" not in os.environ:
            # Not a folder with a known name: what is read from it is run.
            os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="numba_")
            atexit.register(shutil.rmtree, os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)
