"""The measures that ESPnet's scorer lacks, item by item, in several processes.

Presets choose what is computed: ``signal`` has the waveform measures and speaker similarity; ``generative`` adds
DNSMOS; ``full`` adds CI-SDR.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from espnet_tse_gen.errors import UserError, unknown_name
from espnet_tse_gen.fileio import read_audio
from espnet_tse_gen.scoring.espnet_scorer import Scores
from espnet_tse_gen.scoring.items import Mixture
from espnet_tse_gen.scoring.signal import align, energy_ratio_db, faint_noise, is_silent, si_sdr

PRESETS: dict[str, frozenset[str]] = {
    "signal": frozenset({"similarity"}),
    "generative": frozenset({"similarity", "dnsmos"}),
    "full": frozenset({"similarity", "dnsmos", "ci_sdr"}),
}


class Scorer:
    """Computes the measures of a preset for one mixture at a time.

    Args:
        preset: Name in :data:`PRESETS`.
        delay: Samples by which outputs lag their references (the codec's constant delay; negative if they lead).

    Raises:
        UserError: For an unknown preset, or a package that the preset needs and that is not installed.
    """

    def __init__(self, preset: str = "signal", delay: int = 0) -> None:
        if preset not in PRESETS:
            raise unknown_name("scoring preset", preset, PRESETS)
        wanted = PRESETS[preset]
        self.delay = delay
        self.encoder: Any = None
        self.dnsmos: Any = None
        self.ci_sdr: Any = None
        if "similarity" in wanted:
            from espnet_tse_gen.scoring.speaker import SpeakerEncoder

            self.encoder = SpeakerEncoder()
        if "dnsmos" in wanted:
            from espnet_tse_gen.scoring.mos import DNSMOS

            self.dnsmos = DNSMOS()
        if "ci_sdr" in wanted:
            try:
                import ci_sdr
            except ImportError as error:
                raise UserError(
                    f"preset 'full' needs the ci_sdr package ({error}); run: pip install ci_sdr, "
                    "or choose --preset generative"
                ) from None
            self.ci_sdr = ci_sdr.pt.ci_sdr

    def __call__(self, item: Mixture) -> list[dict[str, float]]:
        """Return column -> value for each output of ``item``."""
        rate = item.sample_rate
        mixture, _ = read_audio(item.mixture, rate, item.key)
        references = [read_audio(path, rate, item.key)[0] for path in item.references]
        voices = [self.encoder.embed(reference, rate) for reference in references] if self.encoder else []
        rows = []
        for index, path in enumerate(item.outputs):
            if index in item.silent_outputs:
                output = faint_noise(item.length, item.key)
            else:
                output, _ = read_audio(path, rate, item.key)
            row = self._waveform(references[index], output, mixture)
            if self.encoder:
                # The noise that stands in for silence may pass the voice detection; silence has no voice.
                silent = index in item.silent_outputs
                row.update(self._speaker(voices, index, None if silent else output, rate))
            if self.dnsmos:
                row.update(self.dnsmos(output, rate))
            rows.append(row)
        return rows

    def _waveform(self, reference: np.ndarray, output: np.ndarray, mixture: np.ndarray) -> dict[str, float]:
        shifted_reference, shifted_output = align(reference, output, self.delay)
        raw = si_sdr(reference, output)
        # Cropping by the delay may leave nothing of a signal that has its only samples at the very edge.
        usable = not is_silent(shifted_reference) and not is_silent(shifted_output)
        aligned = si_sdr(shifted_reference, shifted_output) if usable else raw
        row = {
            "SI_SDR": raw,
            "SI_SDR_aligned": aligned,
            "SI_SDRi": aligned - si_sdr(reference, mixture),
            "level": energy_ratio_db(output, reference),
        }
        if self.ci_sdr is not None:
            import torch

            value = self.ci_sdr(
                torch.from_numpy(reference.astype(np.float64))[None],
                torch.from_numpy(output.astype(np.float64))[None],
                compute_permutation=False,
            )
            if bool(torch.isfinite(value).all()):
                row["CI_SDR"] = float(value.reshape(()))
        return row

    def _speaker(
        self, voices: Sequence[np.ndarray], index: int, output: np.ndarray | None, rate: int
    ) -> dict[str, float]:
        from espnet_tse_gen.scoring.speaker import cosine

        voice = None if output is None else self.encoder.embed(output, rate, trim="drop")
        row = {"similarity": cosine(voice, voices[index])}
        others = [cosine(voice, other) for position, other in enumerate(voices) if position != index]
        if others:
            row["similarity_interferer"] = max(others)
            row["confused"] = float(max(others) > row["similarity"])
        return row


def score_items(mixtures: Sequence[Mixture], preset: str, delay: int, nj: int = 1) -> Scores:
    """Compute the measures of ``preset`` for all ``mixtures`` in ``nj`` processes.

    Returns:
        (key, speaker number from 1) -> column -> value; the same for every ``nj``.
    """
    nj = max(1, min(nj, len(mixtures)))
    if nj == 1:
        return _score_part(list(mixtures), preset, delay)
    parts = [[mixtures[index] for index in part] for part in np.array_split(np.arange(len(mixtures)), nj)]
    scores: Scores = {}
    # "spawn": forking a process in which torch has started threads can hang.
    with ProcessPoolExecutor(nj, mp_context=multiprocessing.get_context("spawn")) as pool:
        for result in pool.map(_score_part, parts, [preset] * nj, [delay] * nj):
            scores.update(result)
    return scores


def _score_part(mixtures: list[Mixture], preset: str, delay: int) -> Scores:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        scorer = Scorer(preset, delay)
        scores: Scores = {}
        for number, item in enumerate(mixtures, 1):
            for speaker, row in enumerate(scorer(item), 1):
                scores[item.key, speaker] = row
            if number % 100 == 0:
                logging.info("scored %d of %d mixtures", number, len(mixtures))
        return scores
    finally:
        torch.set_num_threads(threads)
