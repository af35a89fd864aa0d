"""Iterative masked decoding: options, schedule, strategies and the loop, for any network behind a callable."""

from espnet_tse_gen.decoding.chunks import Chunk, PredictorFactory, decode_chunks, plan_chunks
from espnet_tse_gen.decoding.guidance import Predictor, scale_from_weight
from espnet_tse_gen.decoding.options import PRESETS, DecodingOptions
from espnet_tse_gen.decoding.sampler import DecodingError, Sampler
from espnet_tse_gen.decoding.schedule import mask_counts, mask_ratio

__all__ = [
    "PRESETS",
    "Chunk",
    "DecodingError",
    "DecodingOptions",
    "Predictor",
    "PredictorFactory",
    "Sampler",
    "decode_chunks",
    "mask_counts",
    "mask_ratio",
    "plan_chunks",
    "scale_from_weight",
]
