"""Use ESPnet's task machinery without what it does beside: attempts to download something, and a log set up too early."""

import contextlib
import logging
from collections.abc import Iterator
from unittest import mock


def import_quietly() -> None:
    """Import ``g2p_en`` before ``espnet2.tasks`` does, without what it fetches for NLTK: nothing here has to do with phonemes."""
    with contextlib.suppress(ImportError):
        import nltk
        import typeguard

        # What it imports of `inflect` would be rewritten with checks of types, which takes two seconds.
        untyped = mock.patch.object(typeguard, "typechecked", lambda target=None, **_: target or (lambda given: given))
        with mock.patch.object(nltk, "download", lambda *_, **__: False), untyped:
            import g2p_en  # noqa: F401


@contextlib.contextmanager
def no_log() -> Iterator[None]:
    """Log nothing inside the block: a first warning would set up a log of warnings only, and ESPnet's setup then does nothing."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
