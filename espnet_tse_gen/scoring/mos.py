"""DNSMOS (Reddy et al. 2022), a quality estimate without reference, by ``speechmos``, whose wheel holds the networks.

P.835 gives OVRL, SIG and BAK, P.808 one overall figure; they are different numbers and have a column each.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from espnet_tse_gen.utils.errors import naming_extra

RATE = 16000


class DNSMOS:
    """Scores recordings of any rate.

    Raises:
        UserError: If ``speechmos`` or its ``onnxruntime`` is missing.
    """

    def __init__(self) -> None:
        with naming_extra("DNSMOS", "choose --preset signal"):
            import onnxruntime
            from speechmos import dnsmos
        folder = Path(dnsmos.__file__).parent / "dnsmos_models"
        primary, p808 = str(folder / "sig_bak_ovr.onnx"), str(folder / "model_v8.onnx")
        self._score = dnsmos.DNSMOS(primary, p808)
        # One thread, as every other measure: several processes score side by side.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._score.onnx_sess = onnxruntime.InferenceSession(primary, options)
        self._score.p808_onnx_sess = onnxruntime.InferenceSession(p808, options)

    def __call__(self, samples: np.ndarray, sample_rate: int) -> dict[str, float]:
        """Return the columns OVRL, SIG, BAK, P808 of ``samples``, float ``[L]``, not silent."""
        import librosa

        wave = np.asarray(samples, dtype=np.float32)
        if sample_rate != RATE:
            wave = librosa.resample(wave, orig_sr=sample_rate, target_sr=RATE)
        scores = self._score(np.clip(wave, -1.0, 1.0), RATE, False)
        return {
            "OVRL": float(scores["ovrl_mos"]),
            "SIG": float(scores["sig_mos"]),
            "BAK": float(scores["bak_mos"]),
            "P808": float(scores["p808_mos"]),
        }
