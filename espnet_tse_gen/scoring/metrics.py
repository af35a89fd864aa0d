"""The measures that a score table can hold: column in ``scores.csv``, heading, unit, and which direction is better.

Every table and page reads this list, so that a measure is named, rounded and explained in one way everywhere. A new
measure is one entry here and one line where it is computed.
"""

from __future__ import annotations

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
    """

    column: str
    label: str
    unit: str
    decimals: int
    better: str
    meaning: str
    scale: float = 1.0

    @property
    def heading(self) -> str:
        """Heading with unit and an arrow towards the better side."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label}{unit}{ {'up': ' ↑', 'down': ' ↓'}.get(self.better, '') }"


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
    Metric("similarity", "similarity", "", 3, "up", "Resemblyzer cosine between output and clean target"),
    Metric(
        "similarity_interferer",
        "similarity to interferer",
        "",
        3,
        "down",
        "Resemblyzer cosine between output and clean interferer (the nearest one)",
    ),
    Metric(
        "confused",
        "confusion",
        "%",
        1,
        "down",
        "share of outputs that are closer to the interferer than to the target",
        100.0,
    ),
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
    Metric("level", "level", "dB", 1, "", "energy of the output relative to the clean target"),
    Metric("RTF", "RTF", "", 3, "down", "seconds of computing per second of audio, codec and enrolment included"),
)

BY_COLUMN: dict[str, Metric] = {metric.column: metric for metric in METRICS}

# What ESPnet's scorer writes, and the order in which its tables are read.
ESPNET_COLUMNS: tuple[str, ...] = ("SDR", "SIR", "SAR", "SI_SNR", "STOI", "ESTOI", "PESQ_WB", "PESQ_NB")

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
    "confused",
    "failed",
    "token_accuracy",
    "level",
    "RTF",
)

# Columns of the breakdowns by gender pair and input SIR.
BREAKDOWN_COLUMNS: tuple[str, ...] = ("SI_SDR_aligned", "SI_SDRi", "ESTOI", "similarity", "confused")
