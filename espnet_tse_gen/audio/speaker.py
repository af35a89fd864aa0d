"""Speaker similarity by Resemblyzer (a GE2E speaker encoder, Wan et al. 2018), whose weights are part of its wheel.

The figure is the cosine between the embeddings of two recordings. Silence is cut by the encoder's own voice detection
before embedding; where that leaves nothing of an output, its similarity counts as 0, so that a mute system does not
escape the average.
"""

import warnings

import numpy as np

from espnet_tse_gen.utils.errors import naming_extra


class SpeakerEncoder:
    """Embeds recordings of any rate.

    Raises:
        UserError: If the ``resemblyzer`` package, or ``pkg_resources`` which its voice detection needs, is missing.
    """

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # The package uses names that SciPy and setuptools announce to remove; nothing for the user to do.
            warnings.simplefilter("ignore")
            with naming_extra("speaker similarity"):
                from resemblyzer import VoiceEncoder, audio
        self._audio = audio
        self._encoder = VoiceEncoder("cpu", verbose=False)

    def embed(self, samples: np.ndarray, sample_rate: int, trim: str = "keep") -> np.ndarray | None:
        """Return the voice of ``samples``, float ``[L]``, not silent: a unit vector ``[256]``.

        Where no voice is detected, ``trim`` "keep" embeds the whole recording, and "drop" returns ``None``.
        """
        import librosa

        rate = int(self._audio.sampling_rate)
        wave = np.asarray(samples, dtype=np.float64)
        if sample_rate != rate:
            wave = librosa.resample(wave, orig_sr=sample_rate, target_sr=rate)
        # Float overshoots would wrap around in the 16-bit samples of the voice detection.
        wave = wave / max(1.0, float(np.max(np.abs(wave), initial=0.0)))
        wave = self._audio.normalize_volume(wave, self._audio.audio_norm_target_dBFS, increase_only=True)
        wave = wave / max(1.0, float(np.max(np.abs(wave), initial=0.0)))
        window = self._audio.vad_window_length * rate // 1000
        voiced = self._audio.trim_long_silences(wave) if len(wave) >= window else wave[:0]
        if not len(voiced):
            if trim == "drop":
                return None
            voiced = wave
        return np.asarray(self._encoder.embed_utterance(voiced.astype(np.float32)), dtype=np.float64)


def cosine(first: np.ndarray | None, second: np.ndarray | None) -> float:
    """Cosine of two embeddings ``[D]``; 0 where one is ``None`` or null."""
    if first is None or second is None:
        return 0.0
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norm if norm > 0 else 0.0
