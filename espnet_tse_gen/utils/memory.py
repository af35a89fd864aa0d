"""Memory of long-running commands on the CPU."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameters of glibc's ``mallopt``."""


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, and return whether the C library takes the request.

    By default glibc gives every freed block of more than 32 MB back to the system and gets the next one page by page,
    each filled with zeros. A convolution over half a minute of audio frees and allocates such a block in every layer,
    which costs EnCodec's encoder 40 % of its time. Other C libraries than glibc are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
    return False
