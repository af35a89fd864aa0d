"""Freed memory is kept, so that a large block costs no page faults the second time; in a process of its own."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from espnet_tse_gen.utils.errors import run_main
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(50_000_000, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def main():
    print(faults(), faults())
run_main(main) if sys.argv[1] == "command" else main()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_large_block_is_not_given_back() -> None:
    counts = {}
    for how in ("command", "leave"):
        run = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True)
        counts[how] = int(run.stdout.split()[-1])
    # Systems that back large blocks with huge pages have few faults anyway.
    assert counts["command"] <= counts["leave"] and counts["command"] < 100
