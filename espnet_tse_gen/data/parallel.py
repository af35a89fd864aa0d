"""Many small independent jobs on several processes, with progress and with errors that name the cause."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from espnet_tse_gen.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_jobs(
    function: Callable[[Item], Result], items: Sequence[Item], num_jobs: int = 1, description: str = "", chunk: int = 16
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order.

    Args:
        function: A function at module level (it is pickled when ``num_jobs`` exceeds 1).
        items: Its arguments.
        num_jobs: Number of processes; 1 runs in this one.
        description: What is being done; progress goes to stderr under this name, at most ten lines. Empty: silent.
        chunk: Number of items that a process takes at a time.

    Raises:
        UserError: What ``function`` raises, unchanged; or that a worker process was killed.
    """
    if num_jobs < 1:
        raise UserError(f"--nj is {num_jobs}; expected a positive number of processes")
    workers = min(num_jobs, -(-len(items) // chunk))
    if workers <= 1:
        yield from _report(map(function, items), len(items), description)
        return
    # "spawn" and not "fork": the caller may hold threads (torch, BLAS), which a forked child would inherit locked.
    executor = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from _report(executor.map(function, items, chunksize=chunk), len(items), description)
    except BrokenProcessPool:
        raise UserError(
            f"{description or 'a job'}: a worker process was killed (out of memory?); run it again with a smaller --nj"
        ) from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _report(results: Iterator[Result], total: int, description: str) -> Iterator[Result]:
    step = max(1, total // 10)
    for done, result in enumerate(results, 1):
        yield result
        if description and total >= 2000 and (done % step == 0 or done == total):
            print(f"{description}: {done}/{total}", file=sys.stderr, flush=True)
