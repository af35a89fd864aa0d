"""A data directory: its tables by file name, read, checked and written together.

Keys are mixtures in ``wav.scp``, ``spk{n}.scp``, ``enroll_spk{n}.scp``, ``noise{n}.scp``, ``target_spk{n}`` (speaker),
``utterances_spk{n}`` (``SPEAKER/UTTERANCE`` of the target, then of its enrolments), ``utt2spk`` and ``spk2utt`` (both itself, as
every mixture is a "speaker" of its own); in ``text_spk{n}`` some of the mixtures. ``spk2gender`` and ``protocol`` have others.
``spk2enroll.json`` lists the recordings that training draws its enrolments from.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_gen.audio.files import read_header
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, check_same_keys, read_json, read_scp, write_scp

DYNAMIC_MARK = "*"
POOL = "spk2enroll.json"
_OF_MIXTURES = re.compile(r"(wav|(enroll_)?spk\d+|noise\d+)\.scp|(target|utterances)_spk\d+|utt2spk|spk2utt")
_OTHER = re.compile(r"text_spk\d+|spk2gender|protocol")

Pool = dict[str, list[tuple[str, str]]]
"""Speaker to ``(utterance, path)``."""


@dataclass
class DataDir:
    """Tables by file name, ``wav.scp`` among them, and the pool of training enrolments."""

    tables: dict[str, dict[str, str]]
    pool: Pool | None = None

    @classmethod
    def read(cls, folder: str | Path) -> "DataDir":
        """Read a data directory.

        Raises:
            UserError: If there is none, a table cannot be read, or one lacks a mixture or has another one.
        """
        folder = Path(folder)
        if not (folder / "wav.scp").is_file():
            raise UserError(f"{folder / 'wav.scp'}: no such file; expected a data directory, made by data preparation")
        names = sorted(path.name for path in folder.iterdir())
        keyed = sorted((name for name in names if _OF_MIXTURES.fullmatch(name)), key="wav.scp".__ne__)
        tables = dict(zip(keyed, check_same_keys(*(folder / name for name in keyed)), strict=True))
        tables |= {name: read_scp(folder / name) for name in names if _OTHER.fullmatch(name)}
        return cls(tables, read_pool(folder / POOL) if (folder / POOL).exists() else None)

    def write(self, folder: str | Path) -> None:
        """Write all tables that have a line, and remove others; ``wav.scp`` comes last: without it, a directory is not whole."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "wav.scp").unlink(missing_ok=True)
        for path in folder.iterdir():
            if _OF_MIXTURES.fullmatch(path.name) or _OTHER.fullmatch(path.name) or path.name == POOL:
                path.unlink()
        if self.pool is not None:
            with atomic_write(folder / POOL) as stream:
                json.dump(self.pool, stream)
        for name in sorted(self.tables, key="wav.scp".__eq__):
            if self.tables[name]:
                write_scp(folder / name, self.tables[name])

    def numbered(self, pattern: str) -> dict[int, dict[str, str]]:
        """Return the tables of each speaker, as ``spk{}.scp``, by number."""
        form = re.compile(re.escape(pattern).replace(r"\{\}", r"(\d+)"))
        found = {int(match[1]): name for name in self.tables if (match := form.fullmatch(name))}
        return {number: self.tables[found[number]] for number in sorted(found)}


def read_pool(path: str | Path) -> Pool:
    """Read ``spk2enroll.json``: speaker -> ``(utterance, path)``.

    Raises:
        UserError: If it is missing or not of that form.
    """
    content = read_json(path)
    try:
        return {str(speaker): [(str(name), str(file)) for name, file in own] for speaker, own in content.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: expected JSON {{speaker: [[utterance, path], ...]}} ({error})") from None


def remove_short(folder: str | Path, min_seconds: float) -> tuple[int, int]:
    """Take the mixtures shorter than ``min_seconds`` out of every table; return how many were kept and removed.

    Raises:
        UserError: If no mixture would be left, or a table lacks a key; nothing is changed then.
    """
    data = DataDir.read(folder)
    mixtures = data.tables["wav.scp"]
    headers = {key: read_header(path, key) for key, path in mixtures.items()}
    short = {key for key, (samples, rate) in headers.items() if samples < min_seconds * rate}
    if len(short) == len(mixtures):
        raise UserError(f"{folder}: all {len(mixtures)} mixtures are shorter than {min_seconds} s; lower --min_seconds")
    if short:
        for name, table in data.tables.items():
            if name not in ("spk2gender", "protocol"):
                data.tables[name] = {key: value for key, value in table.items() if key not in short}
        data.write(folder)
    return len(mixtures) - len(short), len(short)
