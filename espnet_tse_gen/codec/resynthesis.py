"""Recordings through a codec and back: the ceiling of every extraction through its codes."""

from pathlib import Path

import torch

from espnet_tse_gen.audio.recordings import Recording, Recordings, load_recording
from espnet_tse_gen.audio.writing import check_output, output_subtype, write_audio
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.prepare import Preparation
from espnet_tse_gen.codec.registry import codec_class, load_codec, read_codec_config
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.jobs import Part, split_keys
from espnet_tse_gen.utils.parallel import checked_device


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
    num_codebooks: int | None,
    job: int,
    num_jobs: int,
    device: str,
    overwrite: bool = False,
) -> str:
    """Resynthesize the recording or the table that options of ``bin.codec_resynth`` name; return what was done of a table.

    Raises:
        UserError: If options do not go together, or a file cannot be used.
    """
    table = {"wav_scp": wav_scp, "output_dir": output_dir, "name": name}
    single = {"input": source, "output": output}
    for option, value in (table if source is None and output is None else single).items():
        if value is None:
            raise UserError(f"--{option} is missing: give --input and --output, or --wav_scp, --output_dir and --name")
    codec = _open_codec(codec_dir, codec_config, weights, device)
    if num_codebooks is not None and not 1 <= num_codebooks <= codec.num_codebooks:
        raise UserError(
            f"--num_codebooks: expected 1..{codec.num_codebooks} for codec '{codec.name}', got {num_codebooks}"
        )
    if source is not None and output is not None:
        check_output(output, [("--input", source)], overwrite)
        _resynthesize(codec, load_recording(source, codec.sample_rate), output, num_codebooks)
        return ""
    recordings = Recordings(str(wav_scp), level_scp)
    if mixture == "true" and recordings.level_scp is None:
        raise UserError("--level_scp is missing: '--mixture true' takes the phase from the mixtures in it")
    if mixture == "true" and not codec.supports_mixture:
        raise UserError(f"--mixture: codec '{codec.name}' cannot use the mixture in decoding; choose false or auto")
    with_mixture = mixture != "false" and recordings.level_scp is not None and codec.supports_mixture
    keys, folder = split_keys(recordings, job, num_jobs), Path(str(output_dir))
    files = [recordings[key] for key in keys] + [recordings.level_path(key) for key in keys]
    settings = {"fingerprint": codec.fingerprint(), "mixture": with_mixture, "num_codebooks": num_codebooks}
    part = Part(folder, str(name), job, num_jobs, settings, keys, files)
    if part.is_complete():
        part.merge()
        return f"{part.scp}: is complete and up to date; kept"
    for key in keys:
        if "/" in key:
            raise UserError(f"{wav_scp}: key '{key}': holds a slash and cannot name a file; rename it")
    part.begin()
    made = {key: str(folder / "wavs" / str(name) / f"{key}.wav") for key in keys}
    for key, path in made.items():
        _resynthesize(codec, recordings.load(key, codec.sample_rate, with_mixture), path, num_codebooks)
    part.finish(made)
    part.merge()
    return f"{part.scp}: {len(made)} recordings resynthesized"


def _open_codec(directory: str | None, config: str | None, weights: str | None, device: str) -> AbsCodec:
    """Return the codec of a directory, or the one that codec_prepare makes of a configuration without recordings."""
    if (directory is None) == (config is None):
        raise UserError("--codec_dir: give it, or --codec_config instead; one of the two")
    if directory is not None:
        if weights is not None:
            raise UserError("--weights: only with --codec_config; a codec directory has its own")
        return load_codec(directory).to(checked_device(device))
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
    return codec.to(checked_device(device))


def _resynthesize(codec: AbsCodec, recording: Recording, path: str, num_codebooks: int | None) -> None:
    """Write a recording after a round trip, at its own rate, length, level and sample format: floats may exceed full scale."""
    codes = codec.encode(torch.from_numpy(recording.samples).unsqueeze(0)).codes
    mixture = None if recording.mixture is None else torch.from_numpy(recording.mixture).unsqueeze(0)
    made = codec.decode(codes, mixture=mixture, num_codebooks=num_codebooks)[0].cpu().numpy()
    samples = recording.restore(made, codec.sample_rate)
    write_audio(path, samples, recording.rate, output_subtype(path, recording.subtype))
