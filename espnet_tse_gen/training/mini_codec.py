"""Training of the ``mini`` codec, as a design of ESPnet's GAN codec task.

The generator is :class:`~espnet_tse_gen.codec.mini.MiniNetwork`. It learns to match mel magnitudes and compressed
complex spectra at several resolutions and the waveform, what hearing makes of it (:class:`WaveformLoss`), and, from some
step on, to pass a discriminator. Codebooks start from k-means over the first batches' latents and then follow moving averages
(van den Oord et al., "Neural Discrete Representation Learning", 2017, appendix A.1); entries that fall out of use are placed
anew.
"""

from typing import Any, cast

import torch
from espnet2.gan_codec.abs_gan_codec import AbsGANCodec
from torch import Tensor, nn
from torch.nn import functional

from espnet_tse_gen.audio.losses import RATE, WaveformLoss
from espnet_tse_gen.codec.mel import kmeans
from espnet_tse_gen.codec.mini import MiniCodec, Quantizer
from espnet_tse_gen.training.mini_losses import SpectralDiscriminator, SpectralLoss, signal_to_noise
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.precision import check_precision

KMEANS_ITERATIONS = 8
UNUSED = 0.02
SNR_LIMIT = 20.0
"""dB beyond which a better ratio is not rewarded."""


class MovingAverages(nn.Module):
    """What moving averages know of a quantizer's codebooks, and their updates.

    They decay by ``decay`` per step. An entry whose average count falls below ``UNUSED`` is placed on a vector of the batch.
    """

    counts: Tensor
    sums: Tensor

    def __init__(self, quantizer: Quantizer, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("counts", torch.ones(quantizer.codebooks.shape[:2]))
        self.register_buffer("sums", torch.zeros_like(quantizer.codebooks))

    @torch.no_grad()
    def initialise(self, quantizer: Quantizer, latents: Tensor) -> None:
        """Set the codebooks by k-means, codebook by codebook, over ``latents`` ``[N, width]``."""
        residual = latents.clone()
        for codebook in range(quantizer.codebooks.shape[0]):
            quantizer.codebooks[codebook] = kmeans(residual, quantizer.codebooks.shape[1], iterations=KMEANS_ITERATIONS)
            residual = residual - quantizer.codebooks[codebook][quantizer.nearest(codebook, residual)]
        if _distributed():
            torch.distributed.broadcast(quantizer.codebooks, 0)
        self.counts.fill_(2.0)
        self.sums.copy_(quantizer.codebooks * 2.0)

    @torch.no_grad()
    def update(self, quantizer: Quantizer, codes: Tensor, inputs: list[Tensor]) -> None:
        """Move the codebooks towards what a batch put into them: for each codebook, vectors ``[N, width]`` that chose ``codes``.

        ``codes`` are int64 ``[N, codebooks]``.
        """
        size = quantizer.codebooks.shape[1]
        for codebook, vectors in enumerate(inputs):
            counts = torch.bincount(codes[:, codebook], minlength=size).float()
            sums = torch.zeros_like(self.sums[codebook]).index_add_(0, codes[:, codebook], vectors)
            for mine in (counts, sums) if _distributed() else ():
                torch.distributed.all_reduce(mine)
            self.counts[codebook].mul_(self.decay).add_(counts, alpha=1.0 - self.decay)
            self.sums[codebook].mul_(self.decay).add_(sums, alpha=1.0 - self.decay)
            quantizer.codebooks[codebook] = self.sums[codebook] / self.counts[codebook].clamp(min=1e-5).unsqueeze(1)
            dead = (self.counts[codebook] < UNUSED).nonzero()[:, 0]
            if len(dead):
                placed = vectors[torch.randint(len(vectors), (len(dead),), device=vectors.device)]
                quantizer.codebooks[codebook][dead] = placed
                self.counts[codebook][dead] = 0.2
                self.sums[codebook][dead] = placed * 0.2


class MiniGANCodec(AbsGANCodec):
    """The ``mini`` codec with its losses and discriminators."""

    steps: Tensor

    def __init__(
        self,
        sampling_rate: int = 16000,  # Hz; the `sample_rate` of `network` under ESPnet's name
        network: dict[str, Any] | None = None,  # arguments of MiniCodec
        precision: str = "float32",  # `float32` or `bfloat16`: of the generator's and discriminators' products in training
        warmup_steps: int = 30,  # steps without quantization, whose latents k-means then starts from
        codebook_decay: float = 0.97,  # of the codebooks' moving averages, per step
        # share of the crops that are decoded from their first codebooks only, as many as chance says
        codebook_dropout: float = 0.15,
        lambda_mel: float = 1.0,  # weight of the log-mel distance
        lambda_complex: float = 10.0,  # weight of the compressed complex spectra's distance
        lambda_snr: float = 0.05,  # weight of the signal-to-noise ratio, per dB
        # weights of what is missing of PESQ's points, of ESTOI and of the voices' likeness, at 16 kHz only; see
        # :class:`WaveformLoss`
        lambda_quality: float = 0.0,
        lambda_intelligibility: float = 0.0,
        lambda_likeness: float = 0.0,
        lambda_envelope: float = 1.0,  # weight of the log-mel distance of what the envelope codebooks alone describe
        lambda_commit: float = 1.0,  # weight of the distance between latents and their codebook vectors
        lambda_adv: float = 0.1,  # weight of passing the discriminators
        lambda_feat_match: float = 0.5,  # weight of the distance between the discriminators' inner layers
        # of the search in the waveform codebooks, in training; what is exported searches with its own number
        candidates: int = 1,
        # leave encoder and codebooks, and so the codes, as they are (with `--init_param`), and train the decoder alone
        decoder_only: bool = False,
        adversarial_start: int = -1,  # step from which discriminators are trained and count; -1 means never
        adversarial_ramp: int = 500,  # steps over which the weight of the discriminators then grows
        discriminator_channels: int = 16,  # channels of the discriminators' layers
        discriminator_windows: tuple[int, ...] = (512, 1024),  # window lengths of their spectra, samples
    ) -> None:
        super().__init__()
        check_precision(precision)
        codec = MiniCodec(**{**(network or {}), "sample_rate": sampling_rate})
        self.conf, self.frame_rate = codec.conf(), codec.frame_rate
        self.generator = codec.network.requires_grad_(not decoder_only)
        self.decoder_only, self.candidates = decoder_only, candidates
        for part in (self.generator.decoder, self.generator.synthesis):
            part.requires_grad_(True)
        self.precision = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.warmup_steps, self.codebook_dropout = warmup_steps, codebook_dropout
        self.lambda_mel, self.lambda_complex, self.lambda_snr = lambda_mel, lambda_complex, lambda_snr
        self.lambda_envelope, self.lambda_commit = lambda_envelope, lambda_commit
        self.lambda_adv, self.lambda_feat_match = lambda_adv, lambda_feat_match
        self.adversarial_start, self.adversarial_ramp = adversarial_start, max(1, adversarial_ramp)
        self.discriminator = SpectralDiscriminator(tuple(discriminator_windows), discriminator_channels)
        self.spectral_loss = SpectralLoss(sampling_rate)
        self.hearing = WaveformLoss(0.0, lambda_quality, lambda_intelligibility, lambda_likeness)
        if sampling_rate != RATE and any(self.hearing.weights.values()):
            raise UserError(
                f"codec_conf sampling_rate: lambda_quality, lambda_intelligibility and lambda_likeness need {RATE} Hz,"
                f" not {sampling_rate}; set them to 0"
            )
        self.quantizers = {"waveform": self.generator.waveform_quantizer}
        if self.generator.envelope_codebooks:
            self.quantizers = {"envelope": self.generator.envelope_quantizer, **self.quantizers}
        self.averages = nn.ModuleDict(
            {name: MovingAverages(each, codebook_decay) for name, each in self.quantizers.items()}
        )
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._seen: dict[str, list[Tensor]] = {name: [] for name in self.quantizers}
        self._kept: Tensor | None = None

    def meta_info(self) -> dict[str, Any]:
        """Return what ESPnet asks of a codec."""
        return {
            "fs": self.conf["sample_rate"],
            "num_streams": self.conf["num_codebooks"],
            "frame_shift": self.conf["hop"],
            "code_size_per_stream": [self.conf["codebook_size"]] * self.conf["num_codebooks"],
        }

    def forward(self, audio: Tensor, forward_generator: bool = True, **kwargs: Any) -> dict[str, Any]:
        """Return loss, statistics and weight of the generator's turn or the discriminators', as ESPnet's trainer takes them.

        Of ``audio [B, L]``, samples beyond the last whole frame are left out.
        """
        wav = audio[:, : audio.shape[1] // self.conf["hop"] * self.conf["hop"]]
        return self._generator_turn(wav) if forward_generator else self._discriminator_turn(wav)

    def encode(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return codes ``[K, B, T]`` of waveforms ``[B, 1, L]``."""
        wav = x[:, 0, : x.shape[-1] // self.conf["hop"] * self.conf["hop"]]
        return self.generator.encode(wav, self.conf["candidates"])[0].permute(2, 0, 1)

    def decode(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Return waveforms ``[B, 1, L]`` of codes ``[K, B, T]``."""
        codes = iter(x)
        parts = [
            torch.stack([book[next(codes)] for book in quantizer.codebooks]).sum(dim=0)
            for quantizer in self.quantizers.values()
        ]
        return self.generator.decode(torch.cat(parts, dim=-1)).unsqueeze(1)

    def inference(self, x: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """Return codes and their waveform for a waveform ``[L]``."""
        codes = self.encode(x.view(1, 1, -1))
        return {"wav": self.decode(codes).flatten(), "codec": codes[:, 0].T}

    @property
    def _adversarial(self) -> float:
        """The weight of the discriminators now, 0..1."""
        if self.adversarial_start < 0:
            return 0.0
        return min(1.0, max(0.0, (int(self.steps) - self.adversarial_start) / self.adversarial_ramp))

    def _computing(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=self.precision, enabled=self.precision != torch.float32)

    def _reconstruct(self, wav: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the waveform after the codec, the two losses of its inside, and the rows with all codebooks."""
        network, rows = self.generator, wav.shape[0]
        codebooks = torch.full((rows,), self.conf["num_codebooks"], device=wav.device)
        if self.training:
            fewer = torch.randint(1, self.conf["num_codebooks"] + 1, (rows,), device=wav.device)
            codebooks = torch.where(torch.rand(rows, device=wav.device) < self.codebook_dropout, fewer, codebooks)
        envelope, parts = None, []
        commit = envelope_loss = wav.new_zeros(())
        with self._computing(wav.device):
            spectra = network.spectra(wav)
            if network.envelope_codebooks:
                latents = network.encode_envelope(spectra).float()
                envelope, commit = self._quantize("envelope", latents, codebooks)
                described = network.envelope_decoder(envelope).float()
                envelope_loss = (described - network.log_mel(spectra)).abs().mean()
                parts.append(envelope)
            latents = network.encode_waveform(wav, spectra, envelope).float()
            quantized, distance = self._quantize("waveform", latents, codebooks - network.envelope_codebooks)
            made = network.decode(torch.cat((*parts, quantized), dim=-1))
        return made, commit + distance, envelope_loss, codebooks == self.conf["num_codebooks"]

    def _quantize(self, name: str, latents: Tensor, codebooks: Tensor) -> tuple[Tensor, Tensor]:
        """Return quantized latents, straight through, and the distance of latents and vectors; learn codebooks."""
        quantizer, flat = self.quantizers[name], latents.flatten(0, 1)
        averages = cast(MovingAverages, self.averages[name])
        if int(self.steps) < self.warmup_steps and not self.decoder_only:
            if self.training:
                self._seen[name].append(flat.detach())
            return latents, latents.new_zeros(())
        if self.training and not self.decoder_only and bool((averages.counts == 1.0).all()):
            # The first quantized step, also of a training that was resumed here and saw nothing before.
            with torch.autocast(flat.device.type, enabled=False):
                averages.initialise(quantizer, torch.cat([*self._seen[name], flat.detach()]))
            self._seen[name] = []
        with torch.autocast(flat.device.type, enabled=False):
            # In bfloat16 the nearest entry is missed where the latents' mean is far from 0, and quantization falls apart.
            codes, inputs, chosen = quantizer(flat, self.candidates if name == "waveform" else 1)
        if self.training and not self.decoder_only:
            averages.update(quantizer, codes, [vectors.detach() for vectors in inputs])
        distances = [
            functional.mse_loss(vectors, entry.detach()) for vectors, entry in zip(inputs, chosen, strict=True)
        ]
        distance = torch.stack(distances).sum()
        used = torch.arange(len(chosen), device=flat.device) < codebooks.unsqueeze(1)
        used = used.repeat_interleave(latents.shape[1], dim=0)
        total = torch.stack([entry * used[:, codebook : codebook + 1] for codebook, entry in enumerate(chosen)]).sum(
            dim=0
        )
        return (flat + (total - flat).detach()).view_as(latents), distance

    def _generator_turn(self, wav: Tensor) -> dict[str, Any]:
        made, commit, envelope_loss, whole = self._reconstruct(wav)
        mel, complex_ = self.spectral_loss(made, wav)
        ratio = signal_to_noise(wav, made)
        loss = self.lambda_mel * mel + self.lambda_complex * complex_
        loss = loss - self.lambda_snr * ratio.clamp(max=SNR_LIMIT).mean()
        loss = loss + self.lambda_envelope * envelope_loss + self.lambda_commit * commit
        hearing, parts = self.hearing(made, wav)
        loss = loss + hearing
        shown = ratio[whole].mean() if bool(whole.any()) else ratio.mean()
        stats = {"mel": mel, "complex": complex_, "snr": shown, "envelope": envelope_loss, "commit": commit, **parts}
        weight = self._adversarial
        if weight > 0.0:
            with self._computing(wav.device):
                # Without gradients of the discriminators' own weights, which clipping would count as the codec's.
                weights = {key: value.detach() for key, value in self.discriminator.named_parameters()}
                fake, fake_inside = torch.func.functional_call(self.discriminator, weights, (made,))
                with torch.no_grad():
                    _, real_inside = self.discriminator(wav)
            adversarial = sum((1.0 - score.float()).square().mean() for score in fake) / len(fake)
            match = sum(
                (inside.float() - wanted.float()).abs().mean() / wanted.float().abs().mean().clamp(min=1e-3)
                for inside, wanted in zip(fake_inside, real_inside, strict=True)
            ) / len(fake_inside)
            loss = loss + weight * (self.lambda_adv * adversarial + self.lambda_feat_match * match)
            stats |= {"adversarial": adversarial, "feature_match": match}
        if self.training:
            self._kept = made.detach()
            self.steps += 1
        return _turn(loss, stats | {"loss": loss}, wav.shape[0], 0)

    def _discriminator_turn(self, wav: Tensor) -> dict[str, Any]:
        """Score real crops and what the codec makes of them."""
        if self._adversarial <= 0.0:
            # ESPnet's trainer steps both optimizers; a loss of 0 leaves the discriminators as they are.
            idle = torch.stack([parameter.sum() for parameter in self.discriminator.parameters()]).sum() * 0.0
            return _turn(idle, {"discriminator_loss": idle}, wav.shape[0], 1)
        made = self._kept
        if made is None or made.shape != wav.shape or not self.training:
            with torch.no_grad():
                made = self._reconstruct(wav)[0]
        self._kept = None
        with self._computing(wav.device):
            fake, _ = self.discriminator(made.detach())
            real, _ = self.discriminator(wav)
        pairs = zip(real, fake, strict=True)
        loss = sum((1.0 - r.float()).square().mean() + f.float().square().mean() for r, f in pairs) / len(real)
        return _turn(loss, {"discriminator_loss": loss}, wav.shape[0], 1)


def _turn(loss: Tensor, stats: dict[str, Tensor], rows: int, optimizer: int) -> dict[str, Any]:
    from espnet2.torch_utils.device_funcs import force_gatherable

    values = {name: value.detach() for name, value in stats.items()}
    loss, values, weight = force_gatherable((loss, values, rows), loss.device)
    return {"loss": loss, "stats": values, "weight": weight, "optim_idx": optimizer}


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
