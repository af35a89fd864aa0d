"""What decoding leaves beside its outputs: how long it took, and how many tokens were right.

Beside a table ``spk1.scp`` lie ``spk1.N.rtf.json`` and, where the target's tokens were known,
``spk1.N.token_accuracy.csv`` of every job N.
"""

from collections.abc import Sequence
from pathlib import Path

from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_csv, read_json

# Amounts, which are added up over jobs; everything else in the file is a condition.
AMOUNTS = ("wall_seconds", "audio_seconds", "recordings")


def read_rtf(scps: Sequence[Path]) -> tuple[float | None, str]:
    """Return all computing time over all audio of the outputs in ``scps``, ``None`` without files, and the conditions."""
    wall = audio = 0.0
    conditions: dict[str, dict[str, None]] = {}
    for path in (path for scp in scps for path in sorted(scp.parent.glob(f"{scp.stem}.*.rtf.json"))):
        content = read_json(path)
        try:
            wall += content["wall_seconds"]
            audio += content["audio_seconds"]
        except (KeyError, TypeError):
            raise UserError(f"{path}: expected a table with 'wall_seconds' and 'audio_seconds'; decode again") from None
        for name, value in content.items():
            if name not in AMOUNTS:
                conditions.setdefault(name, {})[str(value)] = None
    told = ", ".join(f"{name} {' or '.join(values)}" for name, values in conditions.items())
    return (wall / audio, told) if audio else (None, "")


def read_token_accuracy(scp: Path) -> dict[str, dict[str, float]]:
    """Read, by key, ``token_accuracy`` (mean over codebooks) and ``token_accuracy_codebook1``, ..., where it was measured."""
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
