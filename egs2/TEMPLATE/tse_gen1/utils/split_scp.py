#!/usr/bin/env python3
"""Split a Kaldi table into consecutive parts of nearly equal length, one per job.

Example: ``split_scp.py wav.scp split/wav.1.scp split/wav.2.scp``. Needs nothing but Python.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def split(lines: Sequence[str], parts: int) -> list[Sequence[str]]:
    """Cut ``lines`` into ``parts`` consecutive pieces whose lengths differ by one at most, the longer ones first."""
    least, longer = divmod(len(lines), parts)
    bounds = [part * least + min(part, longer) for part in range(parts + 1)]
    return [lines[start:end] for start, end in itertools.pairwise(bounds)]


def main(arguments: Sequence[str]) -> int:
    """Split ``arguments[0]`` into the files ``arguments[1:]``; return the exit status (2: wrong use or input)."""
    if len(arguments) < 2 or arguments[0].startswith("-"):
        print("usage: split_scp.py TABLE PART [PART ...]", file=sys.stderr)
        return 2
    source, targets = Path(arguments[0]), [Path(name) for name in arguments[1:]]
    try:
        lines = [line for line in source.read_text(encoding="utf-8").splitlines(keepends=True) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        print(f"split_scp.py: error: {source}: cannot be read ({error})", file=sys.stderr)
        return 2
    if len(lines) < len(targets):
        print(
            f"split_scp.py: error: {source}: has {len(lines)} lines, fewer than the {len(targets)} parts asked for; "
            "use fewer jobs",
            file=sys.stderr,
        )
        return 2
    for target, part in zip(targets, split(lines, len(targets)), strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        partial.write_text("".join(part), encoding="utf-8")
        os.replace(partial, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
