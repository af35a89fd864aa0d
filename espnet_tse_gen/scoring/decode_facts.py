"""What decoding leaves beside its outputs: how long it took, and how many tokens were right.

Beside a table ``spk1.scp`` lie ``spk1.N.rtf.json`` and, where the target's tokens were known,
``spk1.N.token_accuracy.csv`` of every job N; other systems may leave one ``rtf.json``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_csv, read_json

# Amounts, which are added up over jobs; everything else in the file is a condition.
AMOUNTS = ("rtf", "seconds", "wall_seconds", "audio_seconds", "recordings")


def read_rtf(scps: Sequence[Path]) -> tuple[float | None, str]:
    """Return all computing time over all audio of the outputs in ``scps``, ``None`` without files, and the conditions.

    Each file is a JSON table with ``wall_seconds`` (or ``seconds``) and ``audio_seconds``, or with ``rtf`` alone; its
    other plain values are the conditions.

    Raises:
        UserError: If a file is no such table.
    """
    jobs = [path for scp in scps for path in sorted(scp.parent.glob(f"{scp.stem}.*.rtf.json"))]
    single = scps[0].parent / "rtf.json"
    seconds = audio = 0.0
    conditions: dict[str, dict[str, None]] = {}
    for path in [single] if single.exists() else jobs:
        content = read_json(path)
        content = content if isinstance(content, dict) else {}
        try:
            whole = "audio_seconds" in content
            names = ("wall_seconds", "seconds") if whole else ("rtf",)
            seconds += float(next(content[name] for name in names if name in content))
            audio += float(content["audio_seconds"]) if whole else 1.0
        except (StopIteration, TypeError, ValueError):
            raise UserError(f"{path}: expected a table with 'wall_seconds' and 'audio_seconds', or 'rtf'") from None
        for name, value in content.items():
            if name not in AMOUNTS and isinstance(value, (str, int, float, list)) and value not in ("", []):
                conditions.setdefault(name, {})[_plain(value)] = None
    if not audio:
        return None, ""
    return seconds / audio, ", ".join(f"{name} {' or '.join(values)}" for name, values in conditions.items())


def read_token_accuracy(scp: Path) -> dict[str, dict[str, float]]:
    """Read the share of right tokens of the outputs in ``scp``, where it was measured.

    It is, by key, ``token_accuracy`` (mean over codebooks) and ``token_accuracy_codebook1``, ...

    Raises:
        UserError: If a file is not such a table.
    """
    result: dict[str, dict[str, float]] = {}
    for path in sorted(scp.parent.glob(f"{scp.stem}.*.token_accuracy.csv")):
        try:
            for cells in read_csv(path)[1]:
                key = cells.pop("key")
                codebooks = {f"token_accuracy_{name}": float(text) for name, text in cells.items()}
                result[key] = {"token_accuracy": sum(codebooks.values()) / len(codebooks), **codebooks}
        except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            raise UserError(f"{path}: cannot be read as 'key,codebook1,...' ({error}); decode again") from None
    return result


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
