"""The measures, one file for each tool or kind, and all columns that a score table can hold.

Every table and page reads :data:`BY_NAME`, so that a measure is named, rounded and explained in one way everywhere. A new
measure is a file with a :class:`Metric` and its place in :func:`choose_metrics` and :data:`_METRICS`. A measure that a network
gives exists once per network, its column ending in the network's name: ``similarity`` is Resemblyzer's, ``similarity_wavlm``
that of WavLM.
"""

from collections.abc import Iterable, Sequence

from espnet_tse_gen.scoring.metrics.base import Column, Metric, share
from espnet_tse_gen.scoring.metrics.espnet import ESPnet
from espnet_tse_gen.scoring.metrics.mos import DistillMOS, ESPnetMOS, SpeechMOS
from espnet_tse_gen.scoring.metrics.similarity import Similarity, SpeechBERTScore
from espnet_tse_gen.scoring.metrics.waveform import CISDR, Waveform
from espnet_tse_gen.scoring.metrics.words import Words
from espnet_tse_gen.scoring.networks import NetworkChoice
from espnet_tse_gen.utils.errors import unknown_name

_METRICS = (Waveform, ESPnet, CISDR, SpeechMOS, ESPnetMOS, DistillMOS, SpeechBERTScore, Similarity, Words)

# What follows from others, or from files of decoding.
_OTHERS = (
    share("failed", "SI-SDRi < 1 dB", "down", "share of outputs that gain less than 1 dB over the mixture"),
    share(
        "token_accuracy",
        "token accuracy",
        "up",
        "share of codec tokens equal to those of the clean target, over all codebooks (each codebook is in scores.csv)",
    ),
    share("silent", "silent", "down", "share of outputs that are digital silence"),
    Column(
        "silence_db",
        "absent target",
        "dB",
        1,
        "down",
        "energy of the output relative to the mixture where the clean target is silence: what is extracted of nobody",
    ),
    Column("RTF", "RTF", "", 3, "down", "seconds of computing per second of audio, codec and enrolment included"),
)

_BY_NAME = {column.name: column for metric in _METRICS for column in metric.columns} | {c.name: c for c in _OTHERS}

MAIN_COLUMNS: tuple[str, ...] = (
    "SI_SDR", "SI_SDR_aligned", "SI_SDRi", "SDR", "CI_SDR", "PESQ_WB", "PESQ_NB", "STOI", "ESTOI", "OVRL", "distill_mos",
    "similarity", "similarity_interferer", "confused", "similarity_wavlm", "similarity_espnet_spk", "SpeechBERTScore",
    "WER", "dWER", "WER_whisper", "dWER_whisper", "WER_whisper_tiny", "dWER_whisper_tiny", "failed", "silent",
    "silence_db", "token_accuracy", "level", "RTF",
)  # fmt: skip
"""Columns of the main table; those that a score file lacks are left out."""

BREAKDOWN_COLUMNS: tuple[str, ...] = ("SI_SDR_aligned", "SI_SDRi", "ESTOI", "similarity", "confused", "WER", "dWER")
"""Columns of the breakdowns by gender pair and input SIR."""

BY_NAME: dict[str, Column] = {name: _BY_NAME[name] for name in (*MAIN_COLUMNS, *_BY_NAME)}
"""All columns but those of single codebooks, in the order of ``scores.csv``: those of the main table first."""

PRESETS: dict[str, tuple[type[Metric], ...]] = {
    "signal": (ESPnet, Similarity),
    "generative": (ESPnet, Similarity, SpeechMOS),
    "full": (ESPnet, Similarity, SpeechMOS, ESPnetMOS, CISDR),
}
"""What is computed beside the waveform measures."""

CODEBOOK = "token_accuracy_codebook"
"""Before its number, the column of one codebook."""


def choose_metrics(preset: str, delay: int = 0, networks: Iterable[NetworkChoice] = ()) -> list[Metric]:
    """Return the measures of a preset and of further networks, recognizers not among them; check that they can be used.

    ``delay`` is how many samples outputs lag their references (the codec's constant delay; negative if they lead).
    """
    if preset not in PRESETS:
        raise unknown_name("scoring preset", preset, PRESETS)
    of_network = {"distill_mos": DistillMOS, "speechbertscore": SpeechBERTScore}
    metrics: list[Metric] = [Waveform(delay), *(metric() for metric in PRESETS[preset])]
    metrics += [of_network.get(choice.name, Similarity)(choice) for choice in networks]
    for metric in metrics:
        metric.check()
    return metrics


def column_of(name: str) -> Column:
    """Return how a column of scores is shown; the token accuracy of one codebook has one too."""
    if name in BY_NAME:
        return BY_NAME[name]
    number = name.removeprefix(CODEBOOK)
    return share(name, f"codebook {number}", "up", f"share of right tokens at codebook {number}")


def legend(columns: Sequence[str]) -> list[str]:
    """Return one line per measure: what it means."""
    return [f"{BY_NAME[column].label}: {BY_NAME[column].meaning}." for column in columns]
