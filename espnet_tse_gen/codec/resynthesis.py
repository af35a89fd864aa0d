"""Recordings through a codec and back: the ceiling of every extraction through its codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from espnet_tse_gen.audio.files import check_output, output_subtype, write_audio
from espnet_tse_gen.audio.recordings import Recording, Recordings, load_recording
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.prepare import Preparation
from espnet_tse_gen.codec.registry import codec_class, load_codec, on_device, read_codec_config
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.jobs import Part, split_keys


def resynthesize_named(
    codec_dir: str | None,
    codec_config: str | None,
    weights: str | None,
    source: str | None,
    output: str | None,
    wav_scp: str | None,
    level_scp: str | None,
    output_dir: str | None,
    name: str | None,
    mixture: str,
    num_levels: int | None,
    job: int,
    num_jobs: int,
    device: str,
    overwrite: bool = False,
) -> str:
    """Resynthesize the recording or the table that a command line names; return what was done of a table.

    Raises:
        UserError: If options do not go together, or a file cannot be used.
    """
    table = {"wav_scp": wav_scp, "output_dir": output_dir, "name": name}
    single = {"input": source, "output": output}
    for option, value in (table if source is None and output is None else single).items():
        if value is None:
            raise UserError(f"--{option} is missing: give --input and --output, or --wav_scp, --output_dir and --name")
    if (codec_dir is None) == (codec_config is None):
        raise UserError("--codec_dir: give it, or --codec_config instead; one of the two")
    if weights is not None and codec_config is None:
        raise UserError("--weights: only with --codec_config; a codec directory has its own")
    codec = open_codec(codec_dir, codec_config, weights, device)
    if num_levels is not None and not 1 <= num_levels <= codec.num_levels:
        raise UserError(f"--num_levels: expected 1..{codec.num_levels} for codec '{codec.name}', got {num_levels}")
    if source is not None and output is not None:
        resynthesize_file(codec, source, output, num_levels, overwrite)
        return ""
    recordings = Recordings(str(wav_scp), level_scp)
    return resynthesize_table(codec, recordings, Path(str(output_dir)), str(name), mixture, job, num_jobs, num_levels)


def open_codec(directory: str | None, config: str | None, weights: str | None, device: str) -> AbsCodec:
    """Return the codec of a directory, or the one that codec_prepare makes of a configuration without recordings.

    Raises:
        UserError: If it cannot be loaded, or its weights are fitted to recordings, or not where they are looked for.
    """
    if directory is not None:
        return on_device(load_codec(directory), device)
    name = read_codec_config(str(config)).codec
    if codec_class(name).trainable:
        raise UserError(
            f"--codec_config {config}: codec '{name}' is fitted to recordings and has no weights of its own; make its "
            f"directory once ('tse-gen codec --codec_config {config} --wav_scp TABLE "
            "--output_dir DIR') and give that as --codec_dir DIR"
        )
    made_of = Preparation(str(config), weights=weights)
    codec, content = made_of.build()
    made_of.fill(codec, content)
    return on_device(codec, device)


def resynthesize(codec: AbsCodec, recording: Recording, num_levels: int | None = None) -> np.ndarray:
    """Return the recording after a round trip: float32, at its own rate, length and level.

    Args:
        recording: The decoder gets its mixture if it holds one.
        num_levels: Levels to decode, the first so many; ``None`` means all.
    """
    encoded = codec.encode(torch.from_numpy(recording.samples).unsqueeze(0))
    mixture = None if recording.mixture is None else torch.from_numpy(recording.mixture).unsqueeze(0)
    wav = codec.decode(encoded.codes, mixture=mixture, num_levels=num_levels)[0].cpu().numpy()
    return recording.restore(wav, codec.sample_rate)


def resynthesize_file(
    codec: AbsCodec, source: str, output: str, num_levels: int | None = None, overwrite: bool = False
) -> None:
    """Write one recording after a round trip.

    Raises:
        UserError: If a file cannot be read or written, or ``output`` is there and is not to be replaced.
    """
    check_output(output, [("--input", source)], overwrite)
    recording = load_recording(source, codec.sample_rate)
    _write(output, recording, resynthesize(codec, recording, num_levels))


def _write(path: str, recording: Recording, samples: np.ndarray) -> None:
    """Write what came back in the recording's sample format: floats may exceed full scale."""
    write_audio(path, samples, recording.rate, output_subtype(path, recording.subtype))


def resynthesize_table(
    codec: AbsCodec,
    table: Recordings,
    directory: Path,
    name: str,
    mixture: str,
    job: int,
    num_jobs: int,
    num_levels: int | None,
) -> str:
    """Write one job's part of a table of recordings after a round trip, unless it is there; return what was done.

    Args:
        directory: Where ``NAME.scp`` and ``wavs/NAME/KEY.wav`` go.
        mixture: ``true``: decode with the phase of the mixtures that set the level; ``auto``: if the codec can.
        num_levels: As in :func:`resynthesize`.

    Raises:
        UserError: If the codec or the table has no use of a mixture that is wanted, or a file cannot be used.
    """
    has_mixtures = table.level_scp is not None
    if mixture == "true" and not has_mixtures:
        raise UserError("--level_scp is missing: '--mixture true' takes the phase from the mixtures in it")
    if mixture == "true" and not codec.supports_mixture:
        raise UserError(f"--mixture: codec '{codec.name}' cannot use the mixture in decoding; choose false or auto")
    with_mixture = mixture != "false" and has_mixtures and codec.supports_mixture
    keys = split_keys(table, job, num_jobs)
    files = [table[key] for key in keys] + [table.level_path(key) for key in keys]
    settings = {"fingerprint": codec.fingerprint(), "mixture": with_mixture, "num_levels": num_levels}
    part = Part(directory, name, job, num_jobs, settings, keys, files)
    if part.is_complete():
        part.merge()
        return f"{part.scp}: is complete and up to date; kept"
    part.begin()
    entries: dict[str, str] = {}
    for key in keys:
        recording = table.load(key, codec.sample_rate, with_mixture)
        entries[key] = str(directory / "wavs" / name / f"{key}.wav")
        _write(entries[key], recording, resynthesize(codec, recording, num_levels))
    part.finish(entries)
    part.merge()
    return f"{part.scp}: {len(entries)} recordings resynthesized"
