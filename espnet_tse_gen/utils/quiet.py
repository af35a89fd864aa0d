"""Use ESPnet's task machinery without what it does beside: attempts to download something, and a log set up too early.

``espnet2.tasks`` imports ``g2p_en``, which at import asks NLTK for two corpora and, where they are not installed, tries to
fetch them from the network. Nothing here converts text to phonemes, so nothing is fetched.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator
from unittest import mock


@contextlib.contextmanager
def no_nltk_download() -> Iterator[None]:
    """Make ``nltk.download`` do nothing inside the block; corpora that are installed are found as always."""
    with contextlib.ExitStack() as patches:
        with contextlib.suppress(ImportError):
            import nltk

            patches.enter_context(mock.patch.object(nltk, "download", lambda *_, **__: False))
        yield


def import_quietly() -> None:
    """Import what would download, so that later imports find it done. Calling it again does nothing."""
    if "g2p_en" in sys.modules:
        return
    with no_nltk_download(), contextlib.suppress(ImportError):
        import typeguard

        # What it imports of `inflect` would be rewritten with checks of types, which takes two seconds.
        with mock.patch.object(typeguard, "typechecked", lambda target=None, **_: target or (lambda given: given)):
            import g2p_en  # noqa: F401


@contextlib.contextmanager
def no_log() -> Iterator[None]:
    """Log nothing inside the block.

    The first warning of a program that has not set up its log sets up one that shows warnings only, and ESPnet's own setup
    then does nothing: a training would be silent.
    """
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
