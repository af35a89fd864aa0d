"""The ESPnet model around encoder, extractor and decoder: ESPnet's own, with speakers' labels and several scales.

ESPnet's model passes no label on, decodes one waveform per speaker, and counts padding in its losses.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from espnet2.enh.decoder.abs_decoder import AbsDecoder
from espnet2.enh.encoder.abs_encoder import AbsEncoder
from espnet2.enh.espnet_model_tse import ESPnetExtractionModel
from espnet2.enh.extractor.abs_extractor import AbsExtractor
from espnet2.enh.loss.wrappers.abs_wrapper import AbsLossWrapper
from torch import Tensor

from espnet_tse_gen.discriminative.abs_extractor import AbsEmbeddingExtractor
from espnet_tse_gen.discriminative.build import build_parts, load_built, rate_of
from espnet_tse_gen.discriminative.coding import MultiScaleConvDecoder, MultiScaleConvEncoder
from espnet_tse_gen.discriminative.registry import WAVEFORM_EXTRACTORS
from espnet_tse_gen.training.losses import LABEL, Estimate
from espnet_tse_gen.training.waveform_model import ESPnetWaveformModel
from espnet_tse_gen.utils.precision import autocast, check_precision
from espnet_tse_gen.utils.registry import built

# ESPnet checks the types of its model's parts; those of this package must work where ESPnet is not installed.
AbsEncoder.register(MultiScaleConvEncoder)
AbsExtractor.register(AbsEmbeddingExtractor)
AbsDecoder.register(MultiScaleConvDecoder)


class ESPnetTSEModel(ESPnetExtractionModel):
    """ESPnet's target speaker extraction model, for SpEx+, MC-SpEx and ESPnet's own extractors.

    A decoder with ``decode_scales`` gives several waveforms per speaker to the losses; the first is the result.
    """

    def __init__(
        self,
        encoder: AbsEncoder,  # waveform to features
        extractor: AbsExtractor,  # mixture and enrolment features to target features
        decoder: AbsDecoder,  # features to waveforms
        loss_wrappers: list[AbsLossWrapper],  # the losses; may be empty for a model that only extracts
        num_spk: int = 1,  # targets per item
        flexible_numspk: bool = False,  # ESPnet's option
        share_encoder: bool = True,  # whether the encoder also encodes the enrolment
        precision: str = "float32",  # or `bfloat16`: the network runs under autocast, with float32 weights and losses
        extract_feats_in_collect_stats: bool = False,  # ESPnet's option
    ) -> None:
        check_precision(precision)
        own = num_spk, flexible_numspk, share_encoder, extract_feats_in_collect_stats
        super().__init__(encoder, extractor, decoder, loss_wrappers, *own)
        self.precision = precision
        self.sample_rate = 0  # Hz of the recordings it was trained on; set by whoever builds it from a configuration
        self._labels: dict[str, Tensor] = {}

    def forward(
        self, speech_mix: Tensor, speech_mix_lengths: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """One step: ESPnet's ``(loss, stats, weight)``.

        Args:
            speech_mix: ``[B, L]``, or ``[B, L, C]`` for an encoder of several channels.
            speech_mix_lengths: ``[B]`` samples; None where all have one length.
            **kwargs: ``speech_ref{n} [B, L]``, ``enroll_ref{n} [B, Le]`` with their lengths, and ``spk_label_ref{n} [B, 1]``,
                the number of the enrolled speaker or -1.
        """
        labels = [key for key in kwargs if key.startswith(f"{LABEL}_ref") and not key.endswith("_lengths")]
        self._labels = {key.replace("_ref", "_spk"): kwargs.pop(key) for key in labels}
        try:
            return super().forward(speech_mix, speech_mix_lengths, **kwargs)
        finally:
            self._labels = {}

    def forward_enhance(
        self,
        speech_mix: Tensor,
        speech_lengths: Tensor,
        enroll_ref: Sequence[Tensor],
        enroll_ref_lengths: Sequence[Tensor],
        additional: dict[str, Any] | None = None,
    ) -> tuple[list[Estimate] | None, Any, Any, dict[str, Any]]:
        """Extract every speaker from ``speech_mix [B, L]`` with ``enroll_ref [B, Le]`` of each.

        Returns:
            Per speaker the estimate ``[B, L]``, or a list of them, one per scale; features of the mixture and of the
            estimates; and what the extractor tells beside them, with the labels.
        """
        with autocast(self.precision, next(self.parameters()).device.type):
            if hasattr(self.decoder, "decode_scales"):
                features, frames = self.encoder(speech_mix, speech_lengths)
                found, others = [], {}
                for number, (enroll, lengths) in enumerate(zip(enroll_ref, enroll_ref_lengths, strict=True), 1):
                    encoded, valid = self.encoder(enroll, lengths) if self.share_encoder else (enroll, lengths)
                    masked, _, told = self.extractor(features, frames, encoded, valid, f"_spk{number}", additional)
                    found.append(masked)
                    others.update(told)
                speech: list[Estimate] | None = [self.decoder.decode_scales(each, speech_lengths) for each in found]
            else:
                speech, features, found, others = super().forward_enhance(
                    speech_mix, speech_lengths, enroll_ref, enroll_ref_lengths, additional
                )
        if speech is not None:
            device = speech_mix.device
            within = torch.arange(speech_mix.shape[1], device=device) < speech_lengths.to(device).unsqueeze(1)
            speech = [_silenced(each, within) for each in speech]
        return speech, features, found, {**others, **self._labels}


def _silenced(estimate: Estimate, within: Tensor) -> Estimate:
    """Return ``estimate [B, L]`` or ``[B, L, C]``, or one per scale, with silence where ``within [B, L]`` is false."""
    if not isinstance(estimate, Tensor):
        return [_silenced(scale, within) for scale in estimate]  # type: ignore[misc]
    size = min(estimate.shape[1], within.shape[1])
    kept = within[:, :size]
    return estimate[:, :size] * (kept if estimate.dim() == 2 else kept.unsqueeze(-1))


def build_model(
    config: Mapping[str, Any], loss_wrappers: Sequence[AbsLossWrapper] = ()
) -> ESPnetTSEModel | ESPnetWaveformModel:
    """Build an untrained model to train with ESPnet; without losses, one that only extracts, or has a loss of its own.

    Of a training configuration, ``encoder``, ``extractor``, ``decoder``, each with its ``_conf``, ``model_conf`` and
    ``sample_rate`` are read; what cannot be used is a :class:`UserError`.
    """
    parts = build_parts(config)
    model_conf = config.get("model_conf") or {}
    if config.get("extractor") in WAVEFORM_EXTRACTORS:
        return built("model_conf", ESPnetWaveformModel, model_conf, Exception, extractor=parts["extractor"])
    model = built("model_conf", ESPnetTSEModel, model_conf, Exception, **parts, loss_wrappers=list(loss_wrappers))
    model.sample_rate = rate_of(config)
    return model


def load_training_model(
    config_file: str | Path, model_file: str | Path | None, device: str = "cpu"
) -> ESPnetTSEModel | ESPnetWaveformModel:
    """Load a trained model as ESPnet's, without losses; as :func:`load_model` in all else."""
    return load_built(build_model, Path(config_file), model_file, device)
