"""Losses of waveforms: SI-SDR, and those that follow hearing: quality, intelligibility and likeness of the voice.

Intelligibility is that of ESTOI, likeness that of Resemblyzer's embeddings. The quality loss is the disturbance of PESQ (ITU-T
P.862; Rix et al., ICASSP 2001), without its search for delays and bad intervals, as Martín-Doñas et al. (Signal Processing
Letters 2018) made a loss of it: spectra in half a Bark, a loudness in each, and how far loudness is from the target's; what was
added counts for more than what was lost. The scale of frequency is that of Zwicker and Terhardt (JASA 1980), the threshold of
hearing that of Terhardt (Hearing Research 1979) and loudness that of Zwicker and Fastl (Psychoacoustics, 1990).

Networks that are trained by a measure look better by it than they are: judge them by others, too.
"""

import torch
from torch import Tensor, nn

from espnet_tse_gen.audio.voice_encoder import VoiceEncoder
from espnet_tse_gen.utils.errors import naming_extra

RATE = 16000
_WINDOW = 512  # samples; 32 ms, half of them new in each frame
_LISTENING = 10.0**9.4  # power of speech as it is presented; by this, the loss is on PESQ's scale
_SPEECH_BAND = (325.0, 3250.0)  # Hz; its power is the level of speech
_BARK = 0.5  # width of a band
_EXPONENT, _SONE = 0.23, 0.187  # of loudness, and its unit
_SYMMETRIC, _ASYMMETRIC = 0.1, 0.0309  # weights in the mean opinion score
_ADDED = (50.0, 1.2, 3.0, 12.0)  # the asymmetry's offset, exponent, least and greatest factor
_SPAN, _STRIDE = 20, 10  # frames that are pooled by their worst ones
_SHORTEST = RATE // 2  # samples; ESTOI correlates 0.4 s
_EPSILON = 1e-8


class WaveformLoss(nn.Module):
    """The weighted sum of losses of waveforms at 16 kHz; nothing in it is trained or saved. See :meth:`forward`."""

    bands: Tensor
    level: Tensor
    threshold: Tensor

    def __init__(
        self,
        si_sdr_weight: float = 1.0,  # of SI-SDR in dB, negative
        quality_weight: float = 10.0,  # of the points on PESQ's scale that are missing
        intelligibility_weight: float = 60.0,  # of what ESTOI is below 1
        likeness_weight: float = 40.0,  # of what the cosine of Resemblyzer's embeddings is below 1
    ) -> None:
        super().__init__()
        self.weights = {
            "si_sdr": -si_sdr_weight,
            "quality": quality_weight,
            "intelligibility": intelligibility_weight,
            "unlikeness": likeness_weight,
        }
        # Not as modules: their constants are parameters, and would be saved with the network. Made when they are first used,
        # so that a trained model needs the packages of its losses no more.
        self._stoi: tuple[nn.Module, ...] = ()
        self._voice: tuple[VoiceEncoder, ...] = ()
        frequencies = torch.arange(_WINDOW // 2 + 1, dtype=torch.float64) * RATE / _WINDOW
        half = RATE / _WINDOW / 2
        low, high = (_bark((frequencies + side).clamp(min=0.0)) for side in (-half, half))
        # On the CPU also where a model is built without memory, on the device "meta".
        count = int(_bark(torch.tensor(RATE / 2.0, device="cpu")) / _BARK)
        edges = torch.arange(count + 1, dtype=torch.float64) * _BARK
        # The share of each bin's width that lies in each band. The bin at 0 Hz is that of no band.
        inside = torch.minimum(high, edges[1:, None]) - torch.maximum(low, edges[:-1, None])
        bands = inside.clamp(min=0.0) / (high - low)
        bands[:, 0] = 0.0
        middle = ((bands * frequencies).sum(dim=1) / bands.sum(dim=1)) / 1000.0  # kHz
        threshold = 3.64 * middle**-0.8 - 6.5 * torch.exp(-0.6 * (middle - 3.3) ** 2) + 1e-3 * middle**4
        speech = (frequencies >= _SPEECH_BAND[0]) & (frequencies <= _SPEECH_BAND[1])
        for name, values in (("bands", bands), ("level", speech), ("threshold", 10.0 ** (threshold / 10.0))):
            self.register_buffer(name, values.float(), persistent=False)

    def forward(self, estimate: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of estimates of ``target [B, L]``, and its parts by name; targets that are silent do not count.

        Parts are means without gradients: SI-SDR always, others where they have a weight; NaN where all targets are silent.
        """
        heard = target.abs().amax(dim=1) > 0
        loss, parts = estimate.sum() * 0.0, {}
        for name, weight in self.weights.items():
            if weight or name == "si_sdr":
                part = loss.new_full((), torch.nan)
                if heard.any():
                    part = self.part(name, estimate[heard].float(), target[heard].float()).mean()
                    loss = loss + weight * part
                parts[name] = part.detach()
        return loss, parts

    def part(self, name: str, estimate: Tensor, target: Tensor) -> Tensor:
        """Return one part ``[B]`` of estimates of ``target [B, L]``, none of them silent."""
        if name == "si_sdr":
            return si_sdr(estimate, target)
        if name == "unlikeness":
            if not self._voice:
                self._voice = (VoiceEncoder(),)
                self._voice[0].load_pretrained("model_conf likeness_weight")
            encoder = self._voice[0].to(target.device)
            return 1.0 - (encoder(list(estimate)) * encoder(list(target))).sum(dim=1)
        missing = max(0, _SHORTEST - target.shape[1])
        estimate, target = (nn.functional.pad(x, (0, missing)) for x in (estimate, target))
        if name == "quality":
            return self.quality(estimate, target)
        if not self._stoi:
            with naming_extra("model_conf intelligibility_weight"):
                from torch_stoi import NegSTOILoss  # imports SciPy and torchaudio

            self._stoi = (NegSTOILoss(RATE, use_vad=True, extended=True, do_resample=False),)
        found: Tensor = self._stoi[0].to(target.device)(estimate, target)
        return 1.0 + found

    def quality(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Return the disturbance ``[B]`` of ``estimate`` against ``target [B, L]``, neither of them silent: 0 to 4.5 and more."""
        found, wanted = self._powers(estimate), self._powers(target)
        # What a filter that stays the same changed does not disturb, and neither does a level that changes slowly.
        heard = self._audible(wanted, 100.0).sum(dim=2) >= 1e7
        mean = [
            (self._audible(power, 100.0) * heard.unsqueeze(2)).mean(dim=1, keepdim=True) for power in (found, wanted)
        ]
        wanted = wanted * ((mean[0] + 1e3) / (mean[1] + 1e3)).clamp(0.01, 100.0)
        audible = self._audible(wanted, 1.0).sum(dim=2)
        ratio = (audible + 5e3) / (self._audible(found, 1.0).sum(dim=2) + 5e3)
        ratio = torch.cat([ratio[:, :1], 0.8 * ratio[:, 1:] + 0.2 * ratio[:, :-1]], dim=1).clamp(3e-4, 5.0)
        found = found * ratio.unsqueeze(2)
        loudness, aim = self._loudness(found), self._loudness(wanted)
        difference = loudness - aim
        # Small differences are not heard beside a loud sound.
        disturbance = (difference.abs() - 0.25 * torch.minimum(loudness, aim)).clamp(min=0.0)
        offset, exponent, least, greatest = _ADDED
        added = ((found + offset) / (wanted + offset)) ** exponent
        added = torch.where(added < least, torch.zeros_like(added), added.clamp(max=greatest))
        total = len(self.bands) * _BARK
        quiet = ((audible + 1e5) / 1e7) ** 0.04
        symmetric = total * ((disturbance * _BARK).square().sum(dim=2) / total + _EPSILON).sqrt()
        asymmetric = (disturbance * added * _BARK).sum(dim=2)
        return _SYMMETRIC * _pooled(symmetric / quiet) + _ASYMMETRIC * _pooled(asymmetric / quiet)

    def _powers(self, x: Tensor) -> Tensor:
        """Return the power ``[B, T, K]`` of waveforms in each band, at the level of listening."""
        window = torch.hann_window(_WINDOW, device=x.device)
        spectrum = torch.stft(x, _WINDOW, _WINDOW // 2, window=window, center=False, return_complex=True)
        power = (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2)
        level = (power @ self.level).mean(dim=1)
        return (power * (_LISTENING / (level + _EPSILON)).view(-1, 1, 1)) @ self.bands.T

    def _audible(self, power: Tensor, factor: float) -> Tensor:
        return power * (power > factor * self.threshold)

    def _loudness(self, power: Tensor) -> Tensor:
        scale = _SONE * (self.threshold / 0.5) ** _EXPONENT
        return scale * ((0.5 + 0.5 * power / self.threshold).clamp(min=1.0) ** _EXPONENT - 1.0)


def si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """Return the scale-invariant signal-to-distortion ratio ``[B]`` in dB of ``[B, L]`` (Le Roux et al., ICASSP 2019)."""
    estimate = estimate - estimate.mean(dim=1, keepdim=True)
    target = target - target.mean(dim=1, keepdim=True)
    scale = (estimate * target).sum(dim=1, keepdim=True) / (target.square().sum(dim=1, keepdim=True) + _EPSILON)
    projected = scale * target
    error = (estimate - projected).square().sum(dim=1)
    return 10.0 * torch.log10((projected.square().sum(dim=1) + _EPSILON) / (error + _EPSILON))


def _bark(frequency: Tensor) -> Tensor:
    """Return frequencies in Hz as Bark."""
    return 13.0 * torch.atan(0.00076 * frequency) + 3.5 * torch.atan((frequency / 7500.0) ** 2)


def _pooled(frames: Tensor) -> Tensor:
    """Return one figure of frames ``[B, T]``: the worst ones of every span count most."""
    frames = frames.clamp(max=45.0)
    size = min(_SPAN, frames.shape[1])
    spans = frames.unfold(1, size, min(_STRIDE, size))
    return ((spans**6).mean(dim=2) + _EPSILON).pow(1 / 3).mean(dim=1).sqrt()
