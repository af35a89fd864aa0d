"""Many small independent jobs on several processes, with progress and with errors that name the cause."""

import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from espnet_tse_gen.utils.errors import UserError, warn
from espnet_tse_gen.utils.memory import keep_freed_memory

Item = TypeVar("Item")
Result = TypeVar("Result")

# A log file gets a line only of so many jobs, and not more often than this, in seconds.
_WORTH_A_LINE, _LINE_INTERVAL = 500, 30.0


def set_threads(number: int) -> None:
    """Let torch compute with ``number`` threads (0: as it likes), at most one per core: more take many times as long."""
    if number < 0:
        raise UserError(f"--num_threads: expected 0 or more, got {number}")
    if number:
        import torch

        cores = len(os.sched_getaffinity(0))
        if number > cores:
            warn(f"--num_threads: {number} are more than this machine has cores; {cores} are used")
        torch.set_num_threads(min(number, cores))


def checked_device(device: str) -> str:
    """Return ``device``, which must be ``cpu``, or ``cuda`` or ``cuda:N`` of this machine, or it is a :class:`UserError`."""
    import torch

    if not (found := re.fullmatch(r"cpu(?::0)?|cuda(?::(0|[1-9][0-9]{0,3}))?", str(device))):
        raise UserError(f"device '{device}': unknown; expected cpu, cuda or cuda:N")
    if "cuda" in str(device) and int(found[1] or 0) >= torch.cuda.device_count():
        raise UserError(f"device '{device}': this machine has {torch.cuda.device_count()} CUDA device(s); use cpu")
    return device


def map_jobs(
    function: Callable[[Item], Result], items: Sequence[Item], num_jobs: int = 1, description: str = "", chunk: int = 16
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order, by ``num_jobs`` processes that take ``chunk`` items at a time.

    Progress goes to stderr under the name ``description``, if there is one: a bar on a terminal, elsewhere a line now and then.
    A worker process that was killed is a :class:`UserError`; what ``function`` raises comes unchanged. One job runs in this
    process; for more, ``function`` is pickled and must stand at module level.
    """
    if num_jobs < 1:
        raise UserError(f"--nj is {num_jobs}; expected a positive number of processes")
    workers = min(num_jobs, -(-len(items) // chunk))
    if workers <= 1:
        yield from _report(map(function, items), len(items), description)
        return
    # "spawn" and not "fork": the caller may hold threads (torch, BLAS), which a forked child would inherit locked.
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), set_up_worker)
    try:
        yield from _report(executor.map(function, items, chunksize=chunk), len(items), description)
    except BrokenProcessPool:
        raise UserError(
            f"{description or 'a job'}: a worker process was killed (out of memory?); run it again with a smaller --nj"
        ) from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def set_up_worker() -> None:
    """Make this process one that works for another."""
    # Ctrl-C reaches all processes of a terminal; workers would answer with a traceback each, so they leave it to the parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()


def _report(results: Iterator[Result], total: int, description: str) -> Iterator[Result]:
    if description and sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(results, total=total, desc=description, leave=False, smoothing=0.05)
        return
    start = shown = time.monotonic()
    for done, result in enumerate(results, 1):
        yield result
        now = time.monotonic()
        if description and total >= _WORTH_A_LINE and (done == total or now - shown >= _LINE_INTERVAL):
            shown = now
            left = round((now - start) / done * (total - done))
            remaining = f", {left // 60}:{left % 60:02d} minutes left" if done < total else ""
            print(f"{description}: {done}/{total}{remaining}", file=sys.stderr, flush=True)
