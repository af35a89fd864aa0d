"""The measures that a score table can hold: column in ``scores.csv``, heading, unit, and which direction is better.

Every table and page reads this list, so that a measure is named, rounded and explained in one way everywhere. A new
measure is one entry here and one line where it is computed. A measure that a network gives exists once per network, its
column ending in the network's name: ``similarity`` is Resemblyzer's, ``similarity_wavlm`` that of WavLM.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """How a measure is named and shown.

    Attributes:
        column: Name in ``scores.csv``.
        label: Heading in tables.
        unit: Unit for people ("dB", "%", "").
        decimals: Digits after the point in tables.
        better: "up", "down", or "" where neither direction is better in itself.
        meaning: One sentence for the legend.
        scale: Factor from the stored to the shown value (100 for shares shown in per cent).
        weight: Column by which items are weighted in a mean, "" for equal weights. An error rate over a set is all
            errors over all words: the mean of the items' rates weighted by their words.
    """

    column: str
    label: str
    unit: str
    decimals: int
    better: str
    meaning: str
    scale: float = 1.0
    weight: str = ""

    @property
    def heading(self) -> str:
        """Heading with unit and an arrow towards the better side."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label}{unit}{ {'up': ' ↑', 'down': ' ↓'}.get(self.better, '') }"


def _speaker_metrics(suffix: str, name: str, encoder: str) -> tuple[Metric, ...]:
    """Similarity to target and interferer and confusion, by one speaker encoder."""
    return (
        Metric(
            f"similarity{suffix}", f"similarity{name}", "", 3, "up", f"{encoder} cosine between output and clean target"
        ),
        Metric(
            f"similarity_interferer{suffix}",
            f"similarity{name} to interferer",
            "",
            3,
            "down",
            f"{encoder} cosine between output and clean interferer (the nearest one)",
        ),
        Metric(
            f"confused{suffix}",
            f"confusion{name}",
            "%",
            1,
            "down",
            f"share of outputs that are closer to the interferer than to the target{' by ' + encoder if suffix else ''}",
            100.0,
        ),
    )


def _espnet_dnsmos() -> tuple[Metric, ...]:
    """What ESPnet's scorer computes with the same networks as ``speechmos``."""
    shown = {"OVRL": "OVRL", "SIG": "SIG", "BAK": "BAK", "P808": "P.808"}
    return tuple(
        Metric(f"{column}_espnet", f"DNSMOS {name} ESPnet", "", 2, "up", f"DNSMOS {name} as ESPnet enh_scoring has it")
        for column, name in shown.items()
    )


def _word_metrics(suffix: str, name: str, recognizer: str) -> tuple[Metric, ...]:
    """Word error rates by one recognizer: against transcripts, and against what it hears in the clean target."""
    kinds = {"sub": "substitutions", "del": "deletions", "ins": "insertions"}
    entries = []
    for rate, against in (("WER", "the transcript"), ("dWER", f"what {recognizer} hears in the clean target")):
        weight = f"{rate}{suffix}_words"
        meaning = f"words of {recognizer} that are wrong against {against}: errors over words, all items together"
        entries.append(Metric(f"{rate}{suffix}", f"{rate}{name}", "%", 1, "down", meaning, 100.0, weight))
        for kind, long in kinds.items():
            label, text = f"{rate}{name} {long}", f"{long} among the errors of {rate}{name}, over words"
            entries.append(Metric(f"{rate}{suffix}_{kind}", label, "%", 1, "down", text, 100.0, weight))
    clean = Metric(
        f"WER{suffix}_clean",
        f"WER{name} of clean",
        "%",
        1,
        "down",
        f"WER of {recognizer} on the clean targets of the same items, the floor of WER{name}",
        100.0,
        f"WER{suffix}_words",
    )
    return (*entries, clean)


METRICS: tuple[Metric, ...] = (
    Metric("SI_SDR", "SI-SDR", "dB", 2, "up", "scale-invariant signal-to-distortion ratio of the output as it is"),
    Metric(
        "SI_SDR_aligned",
        "SI-SDR aligned",
        "dB",
        2,
        "up",
        "SI-SDR after undoing the one constant delay of the codec; equal to SI-SDR where that delay is 0",
    ),
    Metric("SI_SDRi", "SI-SDRi", "dB", 2, "up", "aligned SI-SDR minus the SI-SDR of the unprocessed mixture"),
    Metric("SDR", "SDR", "dB", 2, "up", "BSS Eval signal-to-distortion ratio (ESPnet enh_scoring)"),
    Metric("SIR", "SIR", "dB", 2, "up", "BSS Eval signal-to-interference ratio (ESPnet enh_scoring)"),
    Metric("SAR", "SAR", "dB", 2, "up", "BSS Eval signal-to-artefact ratio (ESPnet enh_scoring)"),
    Metric("SI_SNR", "SI-SNR", "dB", 2, "up", "SI-SDR with the means removed (ESPnet enh_scoring)"),
    Metric("CI_SDR", "CI-SDR", "dB", 2, "up", "convolution-invariant SDR, which tolerates a short delay or filter"),
    Metric("PESQ_WB", "PESQ-WB", "", 2, "up", "wideband PESQ (ESPnet enh_scoring)"),
    Metric("PESQ_NB", "PESQ-NB", "", 2, "up", "narrowband PESQ (ESPnet enh_scoring)"),
    Metric("STOI", "STOI", "%", 1, "up", "short-time objective intelligibility (ESPnet enh_scoring)"),
    Metric("ESTOI", "ESTOI", "%", 1, "up", "extended STOI (ESPnet enh_scoring)"),
    Metric("OVRL", "DNSMOS OVRL", "", 2, "up", "DNSMOS P.835 overall quality, without reference"),
    Metric("SIG", "DNSMOS SIG", "", 2, "up", "DNSMOS P.835 speech quality"),
    Metric("BAK", "DNSMOS BAK", "", 2, "up", "DNSMOS P.835 background quality"),
    Metric("P808", "DNSMOS P.808", "", 2, "up", "DNSMOS P.808 overall quality"),
    *_espnet_dnsmos(),
    Metric(
        "SpeechBERTScore",
        "SpeechBERTScore",
        "",
        3,
        "up",
        "mean over the output's frames of the largest cosine to any frame of the clean target, features of a "
        "self-supervised network (the precision of Saeki et al. 2024)",
    ),
    *_speaker_metrics("", "", "Resemblyzer"),
    *_speaker_metrics("_wavlm", " WavLM", "WavLM-SV"),
    *_speaker_metrics("_espnet_spk", " ESPnet-SPK", "an ESPnet speaker model's"),
    Metric(
        "failed", "SI-SDRi < 1 dB", "%", 1, "down", "share of outputs that gain less than 1 dB over the mixture", 100.0
    ),
    Metric(
        "token_accuracy",
        "token accuracy",
        "%",
        1,
        "up",
        "share of codec tokens equal to those of the clean target, over all levels (each level is in scores.csv)",
        100.0,
    ),
    Metric("silent", "silent", "%", 1, "down", "share of outputs that are digital silence", 100.0),
    *_word_metrics("", "", "the ESPnet ASR model"),
    *_word_metrics("_whisper", " Whisper", "Whisper"),
    Metric("level", "level", "dB", 1, "", "energy of the output relative to the clean target"),
    Metric("RTF", "RTF", "", 3, "down", "seconds of computing per second of audio, codec and enrolment included"),
)

BY_COLUMN: dict[str, Metric] = {metric.column: metric for metric in METRICS}

# What ESPnet's scorer writes, and the order in which its tables are read.
ESPNET_COLUMNS: tuple[str, ...] = ("SDR", "SIR", "SAR", "SI_SNR", "STOI", "ESTOI", "PESQ_WB", "PESQ_NB")

# Of its DNSMOS tables: name of the table -> column, as these figures are speechmos's elsewhere.
ESPNET_DNSMOS: dict[str, str] = {
    "OVRL": "OVRL_espnet",
    "SIG": "SIG_espnet",
    "BAK": "BAK_espnet",
    "P808_MOS": "P808_espnet",
}

# Columns of the main table; those that a score file lacks are left out.
MAIN_COLUMNS: tuple[str, ...] = (
    "SI_SDR",
    "SI_SDR_aligned",
    "SI_SDRi",
    "SDR",
    "CI_SDR",
    "PESQ_WB",
    "PESQ_NB",
    "STOI",
    "ESTOI",
    "OVRL",
    "similarity",
    "similarity_interferer",
    "confused",
    "similarity_wavlm",
    "similarity_espnet_spk",
    "SpeechBERTScore",
    "WER",
    "dWER",
    "WER_whisper",
    "dWER_whisper",
    "failed",
    "silent",
    "token_accuracy",
    "level",
    "RTF",
)

# All others, for a second table.
FURTHER_COLUMNS: tuple[str, ...] = tuple(name for name in BY_COLUMN if name not in MAIN_COLUMNS)

# Columns of the breakdowns by gender pair and input SIR.
BREAKDOWN_COLUMNS: tuple[str, ...] = ("SI_SDR_aligned", "SI_SDRi", "ESTOI", "similarity", "confused", "WER", "dWER")

_LEVEL = re.compile(r"token_accuracy_level(\d+)")


def level_columns(columns: Iterable[str]) -> list[str]:
    """Return those of ``columns`` that hold the token accuracy of one codec level, in the order of the levels."""
    found = {int(match[1]): name for name in columns if (match := _LEVEL.fullmatch(name))}
    return [found[number] for number in sorted(found)]


def level_metric(column: str) -> Metric:
    """Return how the token accuracy of one level (a column of :func:`level_columns`) is shown."""
    number = column.removeprefix("token_accuracy_level")
    return Metric(column, f"level {number}", "%", 1, "up", f"share of right tokens at level {number}", 100.0)
