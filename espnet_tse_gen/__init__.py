"""Masked generative target speaker extraction for ESPnet.

The package holds, from the bottom up: what every room uses (``utils``, ``audio``), codecs (``codec``) and codes of a data set
(``tokens``), data and enrolments (``data``), the extractors (``masked`` with ``decoding``, ``dual_path``, ``discriminative``),
extraction with a trained model (``inference``), ESPnet's tasks (``training``), scores and the page (``scoring``, ``report``),
and the doors for recipes and shell (``bin``, ``cli``).

    from espnet_tse_gen import TargetSpeakerExtractor
    extractor = TargetSpeakerExtractor.from_pretrained("exp/my_model")
    voice = extractor(mixture, enroll, sample_rate=16000)
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from espnet_tse_gen.codec.registry import load_codec
    from espnet_tse_gen.decoding.options import DecodingOptions
    from espnet_tse_gen.inference.base import TargetSpeakerExtractor

    load_extractor = TargetSpeakerExtractor.from_pretrained

__all__ = ["DecodingOptions", "TargetSpeakerExtractor", "__version__", "load_codec", "load_extractor"]
_MODULES = {
    "DecodingOptions": "decoding.options",
    "TargetSpeakerExtractor": "inference.base",
    "load_codec": "codec.registry",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: `import espnet_tse_gen` and `tse-gen --help` must not wait for torch.
    if name == "load_extractor":
        return __getattr__("TargetSpeakerExtractor").from_pretrained
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
