"""Quality estimates without reference: DNSMOS and Distill-MOS, by packages whose wheels hold the networks.

DNSMOS (Reddy et al. 2022), by ``speechmos``: P.835 gives OVRL, SIG and BAK, P.808 one overall figure; they are different numbers
and have a column each. Distill-MOS (Stahl and Gamper 2025), by ``distillmos``, gives one overall figure.
"""

import contextlib
import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np

from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.scoring.items import Item
from espnet_tse_gen.scoring.metrics.base import Metric, opinion
from espnet_tse_gen.scoring.networks import RATE, NetworkChoice


@functools.cache
def dnsmos() -> Callable[[np.ndarray, int], dict[str, float]]:
    """Return what gives the columns OVRL, SIG, BAK, P808 of a recording, float ``[L]``, not silent, at a rate."""
    import onnxruntime
    import speechmos.dnsmos

    networks = _networks()
    score = speechmos.dnsmos.DNSMOS(*networks)
    # One thread, as every other measure: several processes score side by side.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    score.onnx_sess, score.p808_onnx_sess = (onnxruntime.InferenceSession(one, options) for one in networks)

    def columns(samples: np.ndarray, sample_rate: int) -> dict[str, float]:
        scores = score(np.clip(resample(samples, sample_rate, RATE), -1.0, 1.0), RATE, False)
        return {column: float(scores[f"{column.lower()}_mos"]) for column in ("OVRL", "SIG", "BAK", "P808")}

    return columns


@dataclass(frozen=True)
class SpeechMOS(Metric):
    """DNSMOS of the output."""

    columns = (
        opinion("OVRL", "DNSMOS OVRL", "DNSMOS P.835 overall quality, without reference"),
        opinion("SIG", "DNSMOS SIG", "DNSMOS P.835 speech quality"),
        opinion("BAK", "DNSMOS BAK", "DNSMOS P.835 background quality"),
        opinion("P808", "DNSMOS P.808", "DNSMOS P.808 overall quality"),
    )
    packages = ("speechmos", "onnxruntime")
    instead = "choose --preset signal"

    def score(self, item: Item) -> dict[str, float]:
        return dnsmos()(item.output, item.rate)


@dataclass(frozen=True)
class ESPnetMOS(Metric):
    """What ESPnet's scorer computes with the same networks."""

    columns = tuple(
        opinion(f"{name}_espnet", f"DNSMOS {shown} ESPnet", f"DNSMOS {shown} as ESPnet enh_scoring has it")
        for name, shown in {"OVRL": "OVRL", "SIG": "SIG", "BAK": "BAK", "P808": "P.808"}.items()
    )
    packages = ("speechmos", "onnxruntime", "espnet2")
    instead = "choose --preset generative"

    def score(self, item: Item) -> dict[str, float]:
        import torch

        with torch.no_grad():
            scores = _espnet()(item.output, item.rate)
        names = {"OVRL": "OVRL", "SIG": "SIG", "BAK": "BAK", "P808": "P808_MOS"}
        return {f"{column}_espnet": float(scores[name]) for column, name in names.items()}


@dataclass(frozen=True)
class DistillMOS(Metric):
    """One figure: segments of 7.68 s at most 1 s apart, each at its own peak, shorter ones filled with zeros."""

    network: NetworkChoice

    columns = (opinion("distill_mos", "Distill-MOS", "Distill-MOS overall quality, without reference"),)
    packages = ("distillmos",)
    instead = "leave out --networks distill_mos"

    def score(self, item: Item) -> dict[str, float]:
        import torch

        with torch.no_grad():
            wave = torch.from_numpy(resample(item.output, item.rate, RATE))[None].to(self.network.device)
            return {"distill_mos": float(_distill_mos(self.network.device)(wave))}


@functools.cache
def _distill_mos(device: str) -> Any:
    # The package prints where its weights are.
    with contextlib.redirect_stdout(io.StringIO()):
        import distillmos

        return distillmos.ConvTransformerSQAModel().eval().to(device)


@functools.cache
def _espnet() -> Any:
    from espnet2.enh.layers.dnsmos import DNSMOS_local

    return DNSMOS_local(*_networks(), use_gpu=False, convert_to_torch=False)


def _networks() -> tuple[str, str]:
    """Files of the P.835 and the P.808 network."""
    folder = Path(str(distribution("speechmos").locate_file("speechmos/dnsmos_models")))
    return str(folder / "sig_bak_ovr.onnx"), str(folder / "model_v8.onnx")
