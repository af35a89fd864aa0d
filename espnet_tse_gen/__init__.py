"""Masked generative target speaker extraction for ESPnet.

The package holds, from the bottom up: neural-codec adapters (``codec``), Libri2Mix and enrolment data (``data``), the
masked-token extractor (``masked``), its iterative decoding (``decoding``), scoring and reports (``scoring``), the ESPnet
tasks that wire them (``tasks``), and the doors for recipes, shell and Python (``bin``, ``cli``, ``inference``).

    from espnet_tse_gen import TargetSpeakerExtractor
    extractor = TargetSpeakerExtractor.from_pretrained("exp/my_model")
    voice = extractor(mixture, enroll, sample_rate=16000)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from espnet_tse_gen.inference import TargetSpeakerExtractor, load_extractor

__all__ = ["TargetSpeakerExtractor", "__version__", "load_extractor"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `import espnet_tse_gen` and `tse-gen --help` must not wait for torch.
    if name in ("TargetSpeakerExtractor", "load_extractor"):
        from espnet_tse_gen import inference

        return getattr(inference, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
