"""Scoring a system as a command line names it: which tables, networks and recognizers a run is made of."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.scoring.items import Mixture, read_mixtures, speaker_tables
from espnet_tse_gen.scoring.metrics import choose_metrics
from espnet_tse_gen.scoring.metrics.words import NORMALISATIONS, Words
from espnet_tse_gen.scoring.networks import parse_choice
from espnet_tse_gen.scoring.recognizers import ESPnetASR, Whisper, WhisperTiny
from espnet_tse_gen.scoring.run import run_scoring
from espnet_tse_gen.scoring.signal import constant_delay
from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.files import read_scp
from espnet_tse_gen.utils.parallel import checked_device

DELAY_RECORDINGS = 50
"""How many clean recordings a codec's delay is measured on."""


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
    score_with_asr: bool,
    asr_exp: Path | None,
    asr_model_file: str | None,
    asr_decode_config: Path | None,
    asr_text: str,
) -> str:
    """Score a system; return a summary of one line. Arguments are the options of ``bin.score``."""
    if data_dir is None and (not ref_scp or mixture_scp is None):
        raise UserError("--data_dir: is required unless both --ref_scp and --mixture_scp are given")
    for option, value in (("--system", system), ("--set", test_set)):
        if value is not None and not value.strip():
            raise UserError(f"{option}: is empty; give a name")
    if delay != "auto" and not delay.removeprefix("-").isdecimal():
        raise UserError(f"--delay: expected a whole number of samples or auto, not '{delay}'")
    if delay == "auto" and not ceiling_scp:
        raise UserError("--delay auto: needs --ceiling_scp, the clean speech through the codec")
    if score_with_asr and asr_exp is None:
        raise UserError("--score_with_asr: needs --asr_exp, the exp directory of an ESPnet ASR model")
    if asr_text not in NORMALISATIONS:
        raise unknown_name("text normalisation", asr_text, NORMALISATIONS)
    checked_device(device)
    folder = data_dir or Path(str(mixture_scp)).parent
    choices = [parse_choice(one, device) for one in networks]
    for name, count in Counter(choice.name for choice in choices).items():
        if count > 1:
            raise UserError(
                f"--networks: '{name}' is given twice; score with one, then with the other to another table"
            )
    for choice in choices:
        if choice.where:
            choice.locate(download_networks)
    choose_metrics(preset, 0, others := [one for one in choices if not one.name.startswith("whisper")])
    mixtures = read_mixtures(mixture_scp or folder / "wav.scp", ref_scp or speaker_tables(folder), inf_scp, folder)
    samples = measured_delay(ceiling_scp, mixtures) if delay == "auto" else int(delay)
    shortest = min(mixtures, key=lambda item: item.length)
    if abs(samples) >= shortest.length:
        raise UserError(f"--delay {samples}: is not shorter than the {shortest.length} samples of '{shortest.key}'")
    texts = tuple(map(str, text or (folder / f"text_spk{number}" for number in range(1, len(inf_scp) + 1))))
    kept = str(output_dir), str(clean_dir or output_dir)
    words = []
    if score_with_asr:
        decoding = str(asr_decode_config) if asr_decode_config else None
        words.append(Words(ESPnetASR(str(asr_exp), asr_model_file, decoding, device), asr_text, texts, *kept))
    for name, kind in (("whisper", Whisper), ("whisper_tiny", WhisperTiny)):
        words += [Words(kind(one), "whisper_en", texts, *kept) for one in choices if one.name == name]
    for metric in words:
        metric.check()
    table, name = scores or output_dir / "scores.csv", test_set or folder.resolve().name
    rows = run_scoring(
        system, name, mixtures, [*choose_metrics(preset, samples, others), *words], inf_scp, output_dir, table,
        f"delay of {samples} samples undone" if samples else "", nj, force,
    )  # fmt: skip
    scored = [row.metrics["SI_SDR_aligned"] for row in rows if "SI_SDR_aligned" in row.metrics]
    mean = f"aligned SI-SDR {sum(scored) / len(scored):.2f} dB" if scored else "none of them with scores"
    without = f", {len(rows) - len(scored)} without scores" if scored and len(scored) < len(rows) else ""
    return f"{system} on {name}: {len(rows)} items{without}, {mean} -> {table}"


def measured_delay(ceiling_scps: Sequence[Path], mixtures: Sequence[Mixture]) -> int:
    """Measure the codec's delay, in samples, once, on clean speech that went through the codec."""
    speakers = min(len(item.references) for item in mixtures)
    if len(ceiling_scps) > speakers:
        raise UserError(f"--ceiling_scp: {len(ceiling_scps)} tables for {speakers} speaker(s); give one of each")
    pairs = [
        (item.references[index], ceiling[item.key], item)
        for index, ceiling in enumerate(map(read_scp, ceiling_scps))
        for item in mixtures
        if item.key in ceiling
    ]
    # Spread over the set, and over the speakers.
    chosen = pairs[:: -(-len(pairs) // DELAY_RECORDINGS) or 1]
    try:
        delay = constant_delay(
            (read_audio(clean)[0], read_audio(coded, item.rate, item.key)[0]) for clean, coded, item in chosen
        )
    except ValueError as error:
        raise UserError(f"--delay auto: cannot be measured on --ceiling_scp ({error})") from None
    logging.info("the codec delays by %d samples, measured on %d clean recordings", delay, len(chosen))
    return delay
