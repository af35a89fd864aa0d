"""What decoding leaves beside its outputs: how long it took, and how many tokens were right.

Beside a table ``spk1.scp`` lie ``spk1.N.rtf.json`` and, where the target's tokens were known,
``spk1.N.token_accuracy.csv`` of every job N; other systems may leave one ``rtf.json``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_tse_gen.utils.errors import UserError

# Amounts, which are added up over jobs; everything else in the file is a condition.
AMOUNTS = ("rtf", "seconds", "wall_seconds", "audio_seconds", "recordings")


def rtf_files(scps: Sequence[Path]) -> list[Path]:
    """Return the files that hold the real-time factor of the outputs in ``scps``; none where it was not measured."""
    single = Path(scps[0]).parent / "rtf.json"
    if single.exists():
        return [single]
    return [path for scp in scps for path in sorted(scp.parent.glob(f"{scp.stem}.*.rtf.json"))]


def accuracy_files(scp: Path) -> list[Path]:
    """Return the files that hold the token accuracy of the outputs in ``scp``."""
    return sorted(scp.parent.glob(f"{scp.stem}.*.token_accuracy.csv"))


def read_rtf(paths: Sequence[Path]) -> tuple[float | None, str]:
    """Combine the timing of several jobs: all computing time over all audio.

    Each file is a JSON table with ``wall_seconds`` (or ``seconds``) and ``audio_seconds``, or with ``rtf`` alone; its
    other plain values are the conditions.

    Returns:
        The real-time factor, or ``None`` without files, and the conditions as one line.

    Raises:
        UserError: If a file is missing or is no such table.
    """
    seconds = audio = 0.0
    conditions: dict[str, list[str]] = {}
    for path in paths:
        spent, heard, facts = _read_timing(path)
        seconds, audio = seconds + spent, audio + heard
        for name, value in facts.items():
            known = conditions.setdefault(name, [])
            if value not in known:
                known.append(value)
    if not audio:
        return None, ""
    return seconds / audio, ", ".join(f"{name} {' or '.join(values)}" for name, values in conditions.items())


def read_token_accuracy(paths: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Read the share of right tokens: key -> ``token_accuracy`` (mean over levels) and ``token_accuracy_level1``, ...

    Raises:
        UserError: If a file is not such a table.
    """
    result: dict[str, dict[str, float]] = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8", newline="") as stream:
                for cells in csv.DictReader(stream):
                    key = cells.pop("key")
                    levels = {name: float(text) for name, text in cells.items()}
                    row = {f"token_accuracy_{name}": value for name, value in levels.items()}
                    result[key] = {"token_accuracy": sum(levels.values()) / len(levels), **row}
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, csv.Error) as error:
            raise UserError(f"{path}: cannot be read as 'key,level1,...' ({error}); decode again") from None
    return result


def _read_timing(path: Path) -> tuple[float, float, dict[str, str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run decoding first, or leave out --rtf_json") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None
    if isinstance(content, dict):
        facts = {name: _plain(value) for name, value in content.items() if name not in AMOUNTS and _is_plain(value)}
        seconds = _number(content.get("wall_seconds", content.get("seconds")))
        audio, rtf = _number(content.get("audio_seconds")), _number(content.get("rtf"))
        if seconds is not None and audio:
            return seconds, audio, facts
        if rtf is not None:
            return rtf, 1.0, facts
    raise UserError(f"{path}: expected a table with 'wall_seconds' and 'audio_seconds', or with 'rtf'")


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, list)) and value not in ("", [])


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(_plain(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
