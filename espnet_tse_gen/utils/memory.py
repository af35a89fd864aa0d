"""What a process arranges with its machine: freed memory is kept, and numba has a place for what it compiles."""

import atexit
import contextlib
import ctypes
import os
import shutil
import tempfile
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # parameters of glibc's mallopt


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, and return whether the C library takes the request; only glibc does.

    By default glibc gives every freed block of more than 32 MB back to the system and gets the next one page by page, each
    filled with zeros. A convolution frees and allocates one in every layer: 40 % of the time of EnCodec's encoder.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
    return False


def find_numba_cache() -> None:
    """Let numba keep what it compiles in a temporary folder of this process where the user's cache cannot be written.

    Without any place to keep it, numba refuses to compile what librosa asks for, and librosa cannot be imported.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
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
