"""Extraction from a recording's file to a file, as a command line names them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_tse_gen.audio.files import check_output, output_subtype, read_audio, read_with_format, write_audio
from espnet_tse_gen.audio.recordings import resample

ABSENT = 0.5
"""Confidence below which a warning is given."""


def extract_file(
    mixture: Path, enroll: Sequence[Path], output: Path, overwrite: bool = False, **extractor: Any
) -> None:
    """Extract a voice, and print what was written; on stderr, that the target is probably absent or the output silent.

    Args:
        enroll: One or more recordings of the target.
        output: The file to write, at the mixture's rate and, where its container has it, with its sample format.
        extractor: What :func:`~espnet_tse_gen.inference.base.open_extractor` takes.

    Raises:
        UserError: If a recording, the model or an option cannot be used; then nothing is written.
    """
    check_output(output, [("the mixture", mixture), *(("--enroll", path) for path in enroll)], overwrite)
    # The recordings first: a mistake in their names should not wait for torch.
    mixed, rate, _, subtype = read_with_format(mixture)
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
    samples, subtype, sure = extraction.samples, output_subtype(output, subtype), extraction.confidence
    write_audio(output, samples, rate, subtype)
    clipped = int((abs(samples) > 1.0).sum()) if subtype not in ("FLOAT", "DOUBLE") else 0
    told = "" if sure is None else f", confidence {sure:.2f}"
    told += f" ({clipped} samples were clipped: the mixture is close to full scale)" if clipped else ""
    print(f"{output}: {len(samples) / rate:.2f} s at {rate} Hz{told}")
    if not samples.any():
        print(f"{output}: is silent; in {mixture} there is nothing to extract from", file=sys.stderr)
    elif sure is not None and sure < ABSENT:
        print(f"{output}: the enrolled speaker is probably not in {mixture} (confidence {sure:.2f})", file=sys.stderr)
