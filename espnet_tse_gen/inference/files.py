"""Extraction from a recording's file to a file, as a command line names them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import soundfile

from espnet_tse_gen.audio.files import read_audio, write_audio
from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.utils.errors import UserError

if TYPE_CHECKING:
    import numpy as np

ABSENT = 0.5
"""Confidence below which a warning is given."""
OUTPUT_FORMATS = {".wav": "WAV", ".flac": "FLAC"}


def extract_file(
    mixture: Path, enroll: Sequence[Path], output: Path, overwrite: bool = False, **extractor: Any
) -> None:
    """Extract a voice, and print what was written; on stderr, that the target is probably absent.

    Args:
        mixture: The recording.
        enroll: One or more recordings of the target.
        output: The file to write, at the mixture's rate and, where its container has it, with its sample format.
        overwrite: Replace what is there.
        extractor: What :func:`~espnet_tse_gen.inference.base.open_extractor` takes.

    Raises:
        UserError: If a recording, the model or an option cannot be used; then nothing is written.
    """
    if output.suffix.lower() not in OUTPUT_FORMATS:
        raise UserError(f"--output {output}: expected a name that ends in {' or '.join(OUTPUT_FORMATS)}")
    for option, path in (("the mixture", mixture), *(("--enroll", path) for path in enroll)):
        if output.exists() and path.exists() and output.samefile(path):
            raise UserError(f"--output {output}: is the file of {option}; choose another name")
    if output.exists() and not overwrite:
        raise UserError(f"--output {output}: is there already; choose another name or add --overwrite")
    # The recordings first: a mistake in their names should not wait for torch.
    mixed, rate = read_audio(mixture)
    (first, enroll_rate), *others = (read_audio(path) for path in enroll)
    voices = [first, *(resample(samples, own, enroll_rate) for samples, own in others)]
    from espnet_tse_gen.inference.base import open_extractor

    opened = open_extractor(**extractor)
    request = opened.request(
        mixed,
        voices if others else first,
        rate,
        enroll_sample_rate=enroll_rate,
        mixture_name=str(mixture),
        enroll_name="enrolment" if others else str(enroll[0]),
    )
    extraction = opened.extract([request])[0]
    samples, subtype = extraction.samples, _subtype(mixture, output)
    write_audio(output, samples, rate, subtype)
    print(f"{output}: {len(samples) / rate:.2f} s at {rate} Hz{_clipping(samples, subtype)}")
    if extraction.confidence is not None and extraction.confidence < ABSENT:
        print(
            f"{output}: the enrolled speaker is probably not in {mixture} (confidence {extraction.confidence:.2f})",
            file=sys.stderr,
        )


def _subtype(mixture: Path, output: Path) -> str:
    """Return the sample format of the mixture, or 16 bits where the output's container does not have it."""
    subtype = soundfile.info(mixture).subtype
    return subtype if soundfile.check_format(OUTPUT_FORMATS[output.suffix.lower()], subtype) else "PCM_16"


def _clipping(samples: np.ndarray, subtype: str) -> str:
    clipped = int((abs(samples) > 1.0).sum()) if subtype not in ("FLOAT", "DOUBLE") else 0
    return f" ({clipped} samples were clipped: the mixture is close to full scale)" if clipped else ""
