"""Which page uses which file, so that nothing is kept of a page that has been closed."""

from pathlib import Path


class Sessions:
    """Files by page. Two pages that were given the same recording share one."""

    def __init__(self) -> None:
        self._files: dict[str, set[str]] = {}

    def add(self, session: str, path: str) -> None:
        """Note that a page uses a file."""
        self._files.setdefault(session, set()).add(path)

    def close(self, session: str) -> None:
        """Remove a page's files that no other page uses."""
        left = self._files.pop(session, set()).difference(*list(self._files.values()))
        for path in left:
            Path(path).unlink(missing_ok=True)
