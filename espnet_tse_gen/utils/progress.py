"""How far a long job over recordings is: a bar on a terminal, and now and then a line where a log file is written."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any


class AudioProgress:
    """Shows seconds of audio done, their rate in seconds of audio per second, and the time left, on stderr.

    Args:
        total: Seconds of audio of the whole job.
        recordings: Number of recordings of the whole job.
        done: Seconds of audio that were done before; they do not count in the rate.
        done_recordings: Recordings that were done before.
        label: What is being worked on.
        interval: Seconds between two lines of a log.
    """

    def __init__(
        self,
        total: float,
        recordings: int,
        done: float = 0.0,
        done_recordings: int = 0,
        label: str = "",
        interval: float = 30.0,
    ) -> None:
        self.total, self.recordings, self.label, self.interval = total, recordings, label, interval
        self.done, self.done_recordings, self._before = done, done_recordings, done
        self._start = self._shown = time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=round(total, 1),
                initial=round(done, 1),
                desc=label,
                unit=" s of audio",
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f} s [{elapsed}<{remaining}, {rate_fmt}]",
            )

    def update(self, seconds: float, recordings: int = 1, kept: bool = False) -> None:
        """Count ``seconds`` of audio of so many recordings as done; those that were only ``kept`` not in the rate."""
        self.done += seconds
        self.done_recordings += recordings
        self._before += seconds if kept else 0.0
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(seconds)
        elif now - self._shown >= self.interval:
            self._shown = now
            left = (self.total - self.done) / self.rate if self.rate else 0.0
            print(
                f"{time.strftime('%H:%M:%S')} {self.label}: {self.done_recordings} of {self.recordings} recordings, "
                f"{self.done / 3600:.2f} of {self.total / 3600:.2f} h, {self.rate:.1f} s of audio/s, {_clock(left)} left",
                file=sys.stderr,
                flush=True,
            )

    @property
    def rate(self) -> float:
        """Seconds of audio per second, since the start."""
        return (self.done - self._before) / max(time.monotonic() - self._start, 1e-6)

    def __enter__(self) -> AudioProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
