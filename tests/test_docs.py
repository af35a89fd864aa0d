"""What the page for users quotes is what the commands say."""

import re
from pathlib import Path


def test_quoted_messages_are_those_of_the_commands(repository: Path) -> None:
    source = "".join(path.read_text() for path in sorted((repository / "espnet_tse_gen").rglob("*.py")))
    # Texts go on behind a line's end, and hold names.
    source = re.sub(r'"\s*f?"', "", re.sub(r"\{[^{}]*\}", "…", source))
    page = (repository / "docs/if_something_goes_wrong.md").read_text()
    quoted = [text for line in page.splitlines() if line.startswith("**") for text in re.findall("`([^`]+)`", line)]
    messages = [text for text in quoted if " " in text and not re.match("--|tse-gen |ffmpeg |file ", text)]
    assert len(messages) >= 18
    assert [text for text in messages if text not in source] == []
