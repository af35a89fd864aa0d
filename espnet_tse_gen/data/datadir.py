"""What a data directory holds: which tables there are, what an enrolment is called, and removing short mixtures."""

from __future__ import annotations

import re
from pathlib import Path

from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_scp, write_scp

DYNAMIC_MARK = "*"
POOL = "spk2enroll.json"


def numbered_tables(folder: str | Path, prefix: str, suffix: str = ".scp") -> list[Path]:
    """Return ``prefix1suffix``, ``prefix2suffix`` ... of ``folder``, in the order of their numbers."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)" + re.escape(suffix))
    found = [(int(match.group(1)), path) for path in Path(folder).iterdir() if (match := pattern.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def mixture_tables(folder: str | Path) -> list[Path]:
    """Return the tables whose keys are mixtures, ``wav.scp`` last.

    Raises:
        UserError: If ``folder`` is no data directory.
    """
    folder = Path(folder)
    if not (folder / "wav.scp").is_file():
        raise UserError(f"{folder / 'wav.scp'}: no such file; expected a data directory, made by data preparation")
    prefixes = (("spk", ".scp"), ("enroll_spk", ".scp"), ("noise", ".scp"), ("target_spk", ""))
    tables = [path for prefix, suffix in prefixes for path in numbered_tables(folder, prefix, suffix)]
    tables += [folder / name for name in ("utt2spk", "spk2utt") if (folder / name).exists()]
    return [*tables, folder / "wav.scp"]


def enrolled_utterance(path: str) -> str:
    """Return the utterance that an enrolment file holds: its name, or the n-th part of ``s{n}/UTT1_UTT2.wav``.

    Formatted files keep the name of their source's folder in front of a dash (``s1-0a1b2c3d/UTT1_UTT2.wav``).
    """
    file = Path(path)
    source = re.fullmatch(r"s(\d+)(-[0-9a-f]{8})?", file.parent.name)
    parts = file.stem.split("_")
    if source and 0 < int(source.group(1)) <= len(parts) and len(parts) > 1:
        return parts[int(source.group(1)) - 1]
    return file.stem


def read_header(path: str, key: str) -> tuple[int, int, int]:
    """Return ``(samples, rate in Hz, channels)`` of an audio file.

    Raises:
        UserError: If it is missing, not audio, or empty.
    """
    import soundfile

    name = f"{path} (key '{key}')"
    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        if not Path(path).exists():
            raise UserError(f"{name}: no such file") from None
        raise UserError(f"{name}: is not a readable audio file ({error}); replace or remove it") from None
    if info.frames == 0:
        raise UserError(f"{name}: has no samples; replace or remove it")
    return int(info.frames), int(info.samplerate), int(info.channels)


def remove_short(folder: str | Path, min_seconds: float) -> tuple[int, int]:
    """Take the mixtures shorter than ``min_seconds`` out of every table of a data directory.

    Returns:
        ``(mixtures kept, mixtures removed)``.

    Raises:
        UserError: If no mixture would be left, or a table lacks a key; nothing is changed then.
    """
    tables = mixture_tables(folder)
    mixtures = read_scp(tables[-1])
    kept = []
    for key, path in mixtures.items():
        samples, rate, _ = read_header(path, key)
        if samples >= min_seconds * rate:
            kept.append(key)
    if not kept:
        raise UserError(
            f"{tables[-1]}: all {len(mixtures)} mixtures are shorter than {min_seconds} s; lower --min_seconds"
        )
    if len(kept) < len(mixtures):
        contents = [(table, read_scp(table)) for table in tables]
        for table, content in contents:
            missing = set(kept) - content.keys()
            if missing:
                raise UserError(
                    f"{table}: {len(missing)} key(s) of wav.scp are missing, first '{min(missing)}'; add them"
                )
        # wav.scp comes last: if this is interrupted, running it again finds the same short mixtures.
        for table, content in contents:
            write_scp(table, {key: content[key] for key in kept})
    return len(kept), len(mixtures) - len(kept)
