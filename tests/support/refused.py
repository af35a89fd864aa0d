"""What a user's mistake must end in: one line that says what is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from espnet_tse_gen.utils.errors import UserError


def refused(message: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """Require that ``function`` raises a one-line :class:`UserError` that matches ``message``, and return the line."""
    with pytest.raises(UserError, match=message) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused_command(message: str, main: Callable[[list[str]], Any], *arguments: str | Path) -> str:
    """Require the same of a command with these arguments."""
    return refused(message, main, [str(one) for one in arguments])
