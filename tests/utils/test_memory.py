"""Freed memory is kept, so that a large block costs no page faults the second time; in a process of its own."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from espnet_tse_gen.utils.errors import run_main
from espnet_tse_gen.utils.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(50_000_000, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
assert all(ThreadPoolExecutor(2).map(lambda _: np.ones(100_000_000, dtype=np.uint8)[-1] == 1, range(2)))
if sys.argv[1] == "command":
    run_main(lambda: print(faults(), faults()))
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_large_block_is_not_given_back() -> None:
    counts = {}
    for how in ("keep", "command", "leave"):
        run = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True)
        counts[how] = int(run.stdout.split()[-1])
    # Systems that back large blocks with huge pages have few faults anyway.
    assert counts["keep"] <= counts["leave"]
    assert counts["keep"] < 100 and counts["command"] < 100
