"""Repositories of the Hugging Face hub, fetched by its own library, which has its own cache and variables (``HF_...``)."""

import contextlib
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from espnet_tse_gen.utils.errors import UserError, are_warnings_shown, naming_extra, reason_of
from espnet_tse_gen.utils.fetch import file_sha256

BAR_AFTER = 0.5  # seconds of fetching after which a bar is shown
_LOG_IN = "log in with 'hf auth login' or set HF_TOKEN"


def parse_tag(text: str) -> tuple[str, str] | None:
    """Return repository and revision (or "") of ``ORG/NAME`` or ``ORG/NAME@REVISION``; None for any other path or name."""
    found = re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)(?:@([\w./-]+))?", text, re.ASCII)
    return None if found is None or text.endswith(".zip") else (found[1], found[2] or "")


def snapshot(repository: str, revision: str, files: Iterable[str], fetch: bool = True) -> Path:
    """Return the folder with the files of a repository, which lacks those that the repository lacks.

    Args:
        repository: ``ORG/NAME``.
        revision: Branch, tag or commit; "" for the main branch.
        files: Names or patterns of the files that are wanted; nothing else is fetched.
        fetch: Fetch what is not in the cache, and check files by their SHA-256; otherwise no network is used.

    What cannot be had is a :class:`UserError` that calls the repository "it", as the caller says what it was to be.
    """
    with naming_extra("it"):
        from huggingface_hub import errors, snapshot_download
    options: dict[str, Any] = {"revision": revision or None, "allow_patterns": list(files)}
    try:
        with _progress() as bar:
            folder = Path(snapshot_download(repository, local_files_only=not fetch, tqdm_class=bar, **options))
    except errors.GatedRepoError:
        raise UserError(f"it is gated: accept its conditions on its page, and {_LOG_IN}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"it does not exist or is private: correct the name, or {_LOG_IN}") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"it has no branch, tag or commit '{revision}'; name another") from None
    except errors.HFValidationError as error:
        raise UserError(f"it cannot exist by this name ({reason_of(error)}); correct it") from None
    except errors.LocalEntryNotFoundError as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise UserError(
            f"it is not in the cache, nor can it be fetched ({reason_of(cause)}); run again with a network"
        ) from None
    except Exception as error:  # The libraries below it raise errors of their own.
        raise UserError(f"it cannot be fetched ({reason_of(error)}); run again later, or with a network") from None
    for path in folder.rglob("*") if fetch else ():
        blob = path.resolve()
        # The cache names large files by their SHA-256.
        if blob.is_file() and re.fullmatch(r"[0-9a-f]{64}", blob.name) and file_sha256(blob) != blob.name:
            raise UserError(
                f"it is damaged in the cache ({blob} is not what it is named by); delete that file and run again"
            )
    return folder


def cached(file: str) -> dict[str, Path]:
    """Return the snapshots in the cache that hold ``file``, by ``ORG/NAME@COMMIT``; none where the library is missing."""
    with contextlib.suppress(ImportError):
        from huggingface_hub.constants import HF_HUB_CACHE

        found = (path.parent for path in sorted(Path(HF_HUB_CACHE).glob(f"models--*--*/snapshots/*/{file}")))
        return {f"{path.parents[1].name.split('--', 1)[1].replace('--', '/')}@{path.name[:7]}": path for path in found}
    return {}


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """Give the bar that the library is to show, on a terminal where something may be said, and keep its log silent."""
    from huggingface_hub import utils

    opened: list[Any] = []

    class Bar(utils.tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "leave": False, "delay": BAR_AFTER})
            opened.append(self)

    log = logging.getLogger("huggingface_hub")
    level, bars = log.level, not utils.are_progress_bars_disabled()
    # A log of retries would be lines beside the one line of an error.
    log.setLevel(logging.CRITICAL)
    if bars and not (are_warnings_shown() and sys.stderr.isatty()):
        utils.disable_progress_bars()
    try:
        yield Bar
    finally:
        # The library leaves that to whenever they are forgotten.
        for bar in opened:
            bar.close()
        log.setLevel(level)
        if bars:
            utils.enable_progress_bars()
