"""The ESPnet model around an extractor that turns waveforms into waveforms: the dual-path extractor."""

from typing import Any

import torch
from espnet2.train.abs_espnet_model import AbsESPnetModel
from torch import Tensor

from espnet_tse_gen.audio.losses import RATE, WaveformLoss
from espnet_tse_gen.discriminative.abs_waveform_extractor import AbsWaveformExtractor
from espnet_tse_gen.dual_path.losses import extraction_loss
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.precision import autocast, check_precision


class ESPnetWaveformModel(AbsESPnetModel):
    """Trains an extractor of waveforms; all targets of a mixture share its encoding."""

    def __init__(
        self,
        extractor: AbsWaveformExtractor,
        level_weight: float = 0.2,  # of the waveform's ratio without a free scale; that of SI-SDR is 1
        spectrum_weight: float = 0.5,  # of the spectrum's part
        # of what absent targets leave. Each part is the mean of the rows that have it, and is weighed by their share
        silence_weight: float = 0.3,
        activity_weight: float = 2.0,  # of the activity
        quality_weight: float = 0.0,  # see :class:`WaveformLoss`; at 16 kHz only, as the next two
        intelligibility_weight: float = 0.0,
        likeness_weight: float = 0.0,
        precision: str = "float32",  # or `bfloat16`: the network runs under autocast, with float32 weights and losses
    ) -> None:
        check_precision(precision)
        super().__init__()
        self.extractor, self.precision, self.sample_rate = extractor, precision, extractor.sample_rate
        self.level_weight, self.spectrum_weight = level_weight, spectrum_weight
        self.silence_weight, self.activity_weight = silence_weight, activity_weight
        if (quality_weight or intelligibility_weight or likeness_weight) and extractor.sample_rate != RATE:
            raise UserError(
                f"model_conf: quality_weight, intelligibility_weight and likeness_weight are for {RATE} Hz, the extractor is "
                f"for {extractor.sample_rate} Hz; set them to 0"
            )
        # SI-SDR is among the parts of the other loss, with its bounds.
        self.hearing = WaveformLoss(0.0, quality_weight, intelligibility_weight, likeness_weight)

    def forward(
        self, speech_mix: Tensor, speech_mix_lengths: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """One step: ESPnet's ``(loss, stats, weight)``.

        Args:
            speech_mix: ``[B, L]``.
            speech_mix_lengths: ``[B]`` samples; None where all have one length.
            **kwargs: ``speech_ref{n} [B, L]`` and ``enroll_ref{n} [B, Le]`` with their lengths.
        """
        count = sum(key.startswith("enroll_ref") and not key.endswith("_lengths") for key in kwargs)
        enrolls = []
        for n in range(1, count + 1):
            rows = kwargs[f"enroll_ref{n}"]
            lengths = kwargs.get(f"enroll_ref{n}_lengths", [rows.shape[1]] * len(rows))
            enrolls.append([row[:length] for row, length in zip(rows, lengths, strict=True)])
        size = speech_mix.shape[1]
        valid = torch.ones_like(speech_mix, dtype=torch.bool)
        if speech_mix_lengths is not None:
            valid = torch.arange(size, device=speech_mix.device) < speech_mix_lengths.to(speech_mix.device).unsqueeze(1)
        with autocast(self.precision, speech_mix.device.type):
            voices, logits = self.extractor(speech_mix, enrolls)
        target = torch.cat([kwargs[f"speech_ref{n}"] for n in range(1, count + 1)])
        mixture, valid = speech_mix.repeat(count, 1), valid.repeat(count, 1)
        parts = extraction_loss(voices, target, mixture, valid, logits, self.extractor.window, self.extractor.hop)
        present = target.abs().amax(dim=1) > 0
        share = present.float().mean()
        loss = (
            share * (parts.si_sdr + self.level_weight * parts.waveform + self.spectrum_weight * parts.spectrum)
            + (1.0 - share) * self.silence_weight * parts.silence
            + self.activity_weight * parts.activity
        )
        stats = {name: part.detach() for name, part in parts._asdict().items()}
        stats["si_sdr_loss"] = stats.pop("si_sdr")
        # NaN where there is none: ESPnet's reporter leaves it out of its means.
        for names, some in ((("si_sdr_loss", "waveform", "spectrum"), present), (("silence",), ~present)):
            if not some.any():
                stats |= {name: torch.full_like(stats[name], torch.nan) for name in names}
        heard, figures = self.hearing(voices * valid, target)
        loss = loss + share * heard
        stats |= figures
        stats["loss"] = loss.detach()
        # ESPnet gathers what processes return, and wants a dimension for it.
        stats = {name: value.reshape(1) for name, value in stats.items()}
        return loss.reshape(1), stats, torch.tensor([float(len(speech_mix))], device=loss.device)

    def collect_feats(self, speech_mix: Tensor, speech_mix_lengths: Tensor, **_: Any) -> dict[str, Tensor]:
        """Return what ESPnet's statistics stage measures."""
        return {"feats": speech_mix, "feats_lengths": speech_mix_lengths}
