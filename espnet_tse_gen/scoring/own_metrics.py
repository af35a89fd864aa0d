"""The measures that ESPnet's scorer lacks, item by item, in several processes.

Presets choose what is computed: ``signal`` has the waveform measures and speaker similarity; ``generative`` adds
DNSMOS; ``full`` adds CI-SDR, and DNSMOS once more through ESPnet. Networks whose weights no package ships are added by
name (:mod:`espnet_tse_gen.scoring.networks`) to any preset. A measure that is not defined for an item is absent from its
row, never a number that stands for something else.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Protocol

import numpy as np

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.scoring.espnet_scorer import Scores
from espnet_tse_gen.scoring.items import Mixture
from espnet_tse_gen.scoring.networks import NetworkChoice, load_measures
from espnet_tse_gen.scoring.signal import align, energy_ratio_db, is_silent, si_sdr
from espnet_tse_gen.utils.errors import naming_extra, unknown_name
from espnet_tse_gen.utils.memory import keep_freed_memory

PRESETS: dict[str, frozenset[str]] = {
    "signal": frozenset({"similarity"}),
    "generative": frozenset({"similarity", "dnsmos"}),
    "full": frozenset({"similarity", "dnsmos", "dnsmos_espnet", "ci_sdr"}),
}


class Encoder(Protocol):
    """A speaker encoder: a recording in, its voice as a vector out."""

    def embed(self, samples: np.ndarray, sample_rate: int, trim: str = "keep") -> np.ndarray | None:
        """Return the voice of ``samples``, ``[D]``, or ``None`` where there is none."""


def check_preset(preset: str) -> frozenset[str]:
    """Return what a preset computes.

    Raises:
        UserError: If there is no such preset.
    """
    if preset not in PRESETS:
        raise unknown_name("scoring preset", preset, PRESETS)
    return PRESETS[preset]


class Scorer:
    """Computes the measures of a preset for one mixture at a time.

    Args:
        preset: Name in :data:`PRESETS`.
        delay: Samples by which outputs lag their references (the codec's constant delay; negative if they lead).
        networks: Further networks to score with.

    Raises:
        UserError: For an unknown preset, or a package or network that is needed and not there.
    """

    def __init__(self, preset: str = "signal", delay: int = 0, networks: Sequence[NetworkChoice] = ()) -> None:
        wanted = check_preset(preset)
        self.delay = delay
        self.encoders: dict[str, Encoder] = {}
        self.dnsmos: Any = None
        self.ci_sdr: Any = None
        if "similarity" in wanted:
            from espnet_tse_gen.scoring.speaker import SpeakerEncoder

            self.encoders[""] = SpeakerEncoder()
        if "dnsmos" in wanted:
            from espnet_tse_gen.scoring.mos import DNSMOS

            self.dnsmos = DNSMOS()
        if "ci_sdr" in wanted:
            with naming_extra("preset 'full'", "choose --preset generative"):
                import ci_sdr
            self.ci_sdr = ci_sdr.pt.ci_sdr
        encoders, self.comparers = load_measures(networks)
        self.encoders |= encoders

    def __call__(self, item: Mixture) -> list[dict[str, float]]:
        """Return column -> value for each output of ``item``; nothing for an output that cannot be scored."""
        rate = item.sample_rate
        rows: list[dict[str, float]] = [{} for _ in item.outputs]
        if not item.usable_outputs:
            return rows
        mixture, _ = read_audio(item.mixture, rate, item.key)
        clean = {index: read_audio(item.references[index], rate, item.key)[0] for index in item.usable_references}
        voices = {
            suffix: {index: encoder.embed(reference, rate) for index, reference in clean.items()}
            for suffix, encoder in self.encoders.items()
        }
        for index in item.usable_outputs:
            output, _ = read_audio(item.outputs[index], rate, item.key)
            row = self._waveform(clean[index], output, None if item.silent_mixture else mixture)
            for suffix, encoder in self.encoders.items():
                voice = encoder.embed(output, rate, trim="drop")
                row.update(similarities(voice, voices[suffix], index, suffix))
            for column, comparer in self.comparers.items():
                row[column] = comparer.compare(clean[index], output, rate)
            if self.dnsmos:
                row.update(self.dnsmos(output, rate))
            rows[index] = {column: value for column, value in row.items() if math.isfinite(value)}
        return rows

    def _waveform(self, reference: np.ndarray, output: np.ndarray, mixture: np.ndarray | None) -> dict[str, float]:
        shifted_reference, shifted_output = align(reference, output, self.delay)
        raw = si_sdr(reference, output)
        # Cropping by the delay may leave nothing of a signal that has its only samples at the very edge.
        usable = not is_silent(shifted_reference) and not is_silent(shifted_output)
        aligned = si_sdr(shifted_reference, shifted_output) if usable else raw
        row = {"SI_SDR": raw, "SI_SDR_aligned": aligned, "level": energy_ratio_db(output, reference)}
        if mixture is not None:
            row["SI_SDRi"] = aligned - si_sdr(reference, mixture)
        if self.ci_sdr is not None:
            import torch

            value = self.ci_sdr(
                torch.from_numpy(reference.astype(np.float64))[None],
                torch.from_numpy(output.astype(np.float64))[None],
                compute_permutation=False,
            )
            row["CI_SDR"] = float(value.reshape(()))
        return row


def similarities(
    voice: np.ndarray | None, voices: dict[int, np.ndarray | None], index: int, suffix: str
) -> dict[str, float]:
    """Return similarity to target and interferer, and confusion, of one output by one encoder.

    Args:
        voice: Voice of the output, ``[D]``; ``None`` where none is heard, which counts as similarity 0.
        voices: Voice of each usable reference.
        index: Which of them is the target.
        suffix: End of the columns' names.
    """
    from espnet_tse_gen.scoring.speaker import cosine

    target = cosine(voice, voices[index])
    row = {f"similarity{suffix}": target}
    others = [cosine(voice, other) for position, other in voices.items() if position != index]
    if others:
        row[f"similarity_interferer{suffix}"] = max(others)
        row[f"confused{suffix}"] = float(max(others) > target)
    return row


def score_items(
    mixtures: Sequence[Mixture], preset: str, delay: int, nj: int = 1, networks: Sequence[NetworkChoice] = ()
) -> Scores:
    """Compute the measures of ``preset`` and ``networks`` for all ``mixtures`` in ``nj`` processes.

    Returns:
        (key, speaker number from 1) -> column -> value; the same for every ``nj``.
    """
    nj = max(1, min(nj, len(mixtures)))
    if nj == 1:
        return _score_part(list(mixtures), preset, delay, networks)
    parts = [[mixtures[index] for index in part] for part in np.array_split(np.arange(len(mixtures)), nj)]
    scores: Scores = {}
    # "spawn": forking a process in which torch has started threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(nj, mp_context=context, initializer=keep_freed_memory) as pool:
        for result in pool.map(_score_part, parts, [preset] * nj, [delay] * nj, [networks] * nj):
            scores.update(result)
    return scores


def _score_part(mixtures: list[Mixture], preset: str, delay: int, networks: Sequence[NetworkChoice]) -> Scores:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        scorer = Scorer(preset, delay, networks)
        scores: Scores = {}
        for number, item in enumerate(mixtures, 1):
            for speaker, row in enumerate(scorer(item), 1):
                scores[item.key, speaker] = row
            if number % 100 == 0:
                logging.info("scored %d of %d mixtures", number, len(mixtures))
        return scores
    finally:
        torch.set_num_threads(threads)
