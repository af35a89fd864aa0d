"""Scoring a system as a command line names it: which tables, networks and recognizers a run is made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_tse_gen.scoring.items import speaker_tables
from espnet_tse_gen.scoring.metrics.words import Words
from espnet_tse_gen.scoring.networks import NetworkChoice, locate, parse_choice
from espnet_tse_gen.scoring.recognizers import ESPnetASR, Recognizer, Whisper, WhisperTiny
from espnet_tse_gen.scoring.run import ScoringJob, run_scoring
from espnet_tse_gen.utils.errors import UserError


def score_system(
    system: str,
    inf_scp: Sequence[Path],
    output_dir: Path,
    data_dir: Path | None,
    ref_scp: Sequence[Path],
    mixture_scp: Path | None,
    scores: Path | None,
    test_set: str | None,
    delay: str,
    ceiling_scp: Sequence[Path],
    networks: Sequence[str],
    download_networks: bool,
    device: str,
    text: Sequence[Path],
    clean_dir: Path | None,
    force: bool,
    preset: str,
    nj: int,
    **asr: Any,
) -> str:
    """Score a system; return a summary of one line. Arguments are the options of ``bin.score``, of ASR those in ``asr``.

    Raises:
        UserError: For options or files that cannot be used.
    """
    if data_dir is None and (not ref_scp or mixture_scp is None):
        raise UserError("--data_dir: is required unless both --ref_scp and --mixture_scp are given")
    for option, value in (("--system", system), ("--set", test_set)):
        if value is not None and not value.strip():
            raise UserError(f"{option}: is empty; give a name")
    if delay != "auto" and not delay.removeprefix("-").isdecimal():
        raise UserError(f"--delay: expected a whole number of samples or auto, not '{delay}'")
    if delay == "auto" and not ceiling_scp:
        raise UserError("--delay auto: needs --ceiling_scp, the clean speech through the codec")
    if asr["score_with_asr"] and asr["asr_exp"] is None:
        raise UserError("--score_with_asr: needs --asr_exp, the exp directory of an ESPnet ASR model")
    folder = data_dir or Path(str(mixture_scp)).parent
    choices = [parse_choice(one, device) for one in networks]
    for choice in choices:
        if choice.where:
            locate(choice, download_networks)
    texts = tuple(map(str, text or (folder / f"text_spk{number}" for number in range(1, len(inf_scp) + 1))))
    kept = str(output_dir), str(clean_dir or output_dir)
    job = ScoringJob(
        system=system,
        set=test_set or folder.resolve().name,
        mixture_scp=mixture_scp or folder / "wav.scp",
        ref_scps=ref_scp or speaker_tables(folder),
        inf_scps=inf_scp,
        output_dir=output_dir,
        scores=scores or output_dir / "scores.csv",
        data_dir=folder,
        preset=preset,
        delay=None if delay == "auto" else int(delay),
        ceiling_scps=ceiling_scp,
        nj=nj,
        networks=[choice for choice in choices if not choice.name.startswith("whisper")],
        further=[Words(one, norm, texts, *kept) for one, norm in _recognizers(choices, device, **asr)],
    )
    rows = run_scoring(job, force=force)
    scored = [row.metrics["SI_SDR_aligned"] for row in rows if "SI_SDR_aligned" in row.metrics]
    mean = f"aligned SI-SDR {sum(scored) / len(scored):.2f} dB" if scored else "none of them with scores"
    without = f", {len(rows) - len(scored)} without scores" if scored and len(scored) < len(rows) else ""
    return f"{job.system} on {job.set}: {len(rows)} items{without}, {mean} -> {job.scores}"


def _recognizers(
    choices: Sequence[NetworkChoice],
    device: str,
    score_with_asr: bool,
    asr_exp: Path | None,
    asr_model_file: str | None,
    asr_decode_config: Path | None,
    asr_text: str,
) -> list[tuple[Recognizer, str]]:
    """Return recognizers, each with the normalisation of its text."""
    recognizers: list[tuple[Recognizer, str]] = []
    if score_with_asr:
        decode = str(asr_decode_config) if asr_decode_config else None
        recognizers.append((ESPnetASR(str(asr_exp), asr_model_file, decode, device), asr_text))
    for name, kind in (("whisper", Whisper), ("whisper_tiny", WhisperTiny)):
        recognizers += [(kind(choice), "whisper_en") for choice in choices if choice.name == name]
    return recognizers
