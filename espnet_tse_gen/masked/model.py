"""The model around a codec and a masked-token extractor: training step, validation figures, decoding's callable."""

import dataclasses
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from espnet_tse_gen.audio.losses import RATE, WaveformLoss
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.decoding.sampler import Means
from espnet_tse_gen.decoding.strategies import Predictor
from espnet_tse_gen.masked.abs_extractor import AbsMaskedExtractor, Signal
from espnet_tse_gen.masked.abs_front_end import AbsFrontEnd
from espnet_tse_gen.masked.features import at_frames
from espnet_tse_gen.masked.losses import (
    NORMALISATIONS,
    TokenScores,
    codebook_statistics,
    masked_cross_entropy,
    score_codebook,
)
from espnet_tse_gen.masked.masking import CODEBOOK_DISTRIBUTIONS, MODES, sample_mask
from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.precision import autocast, check_precision

VALIDATION_SEED = 20240602


class MaskedTSEModel(torch.nn.Module):
    """Masked generative target speaker extraction.

    Codec and front end are frozen and no submodules: a checkpoint carries their fingerprints in the place of their weights, and
    loading refuses one that was trained on another codec's tokens or another front end's estimates. Of a front end that is
    trained along, it also holds the weights. Options that do not fit are a :class:`UserError`.
    """

    codec_fingerprint: Tensor

    def __init__(
        self,
        codec: AbsCodec,  # turns waveforms into tokens and back
        extractor: AbsMaskedExtractor,  # predicts hidden tokens
        masking: str = "codebook",  # `codebook`, `joint` or `mixed`; see :func:`sample_mask`
        codebook_distribution: str = "linear",  # `linear` or `uniform`, of the codebook drawn in mode `codebook`
        joint_share: float = 0.5,  # share of jointly masked items in mode `mixed`
        loss_norm: str = "pooled",  # `pooled`, `per_sample` or `elbo`; see :func:`masked_cross_entropy`
        drop_enroll: float = 0.1,  # probability of hiding the enrolment of an item, for classifier-free guidance
        drop_both: float = 0.05,  # probability of hiding enrolment and mixture
        # `float32`, or `bfloat16` to run the extractor under autocast with float32 weights, loss and logits
        precision: str = "float32",
        # weight of the L1 distance between the extractor's latent head and the target's dequantized latents
        latent_weight: float = 0.0,
        extract_feats_in_collect_stats: bool = False,  # ESPnet's option; nothing is extracted here
        drop_front_end: float = 0.1,  # probability of hiding the front end's estimate; it is always hidden with the enrolment
        front_end: AbsFrontEnd | None = None,  # makes an estimate of the target, for an extractor that takes one
        # weight of :class:`WaveformLoss` of what soft decoding makes of the estimate; it needs recordings as targets, at 16 kHz
        decoded_weight: float = 0.0,
        # learning rate of the front end as a share of the extractor's, with `--optim muon`; 0: it is frozen
        front_end_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_precision(precision)
        for kind, name, valid in (
            ("masking mode", masking, MODES),
            ("codebook distribution", codebook_distribution, CODEBOOK_DISTRIBUTIONS),
            ("loss normalisation", loss_norm, NORMALISATIONS),
        ):
            if name not in valid:
                raise unknown_name(kind, str(name), valid)
        self.extractor, self.precision = extractor, precision
        self.masking, self.codebook_distribution, self.joint_share = masking, codebook_distribution, joint_share
        self.loss_norm, self.latent_weight, self.decoded_weight = loss_norm, latent_weight, decoded_weight
        self.drop_enroll, self.drop_both, self.drop_front_end = drop_enroll, drop_both, drop_front_end
        self.extract_feats_in_collect_stats = extract_feats_in_collect_stats
        codec.eval().requires_grad_(False)
        # In a list, so that the module system does not see it: no gradient, no entry in state_dict, no averaging.
        self._codec = [codec]
        self.register_buffer("codec_fingerprint", _digits(codec.fingerprint()))
        if extractor.takes_estimate != (front_end is not None):
            raise UserError(
                "extractor_conf: front_end_features and --front_end: only one of them is given; give the exp directory of a"
                " discriminative extractor and features such as latent+stft, or neither"
            )
        if decoded_weight > 0 and (front_end is None or not codec.supports_mixture or codec.sample_rate != RATE):
            raise UserError(
                f"model_conf decoded_weight: needs a front end, and a codec at {RATE} Hz that can use its estimate; choose 0"
            )
        if decoded_weight > 0:
            self.decoded_loss = WaveformLoss()
        self._front_end: list[AbsFrontEnd] = []
        if front_end is not None:
            if front_end.sample_rate != codec.sample_rate:
                raise UserError(
                    f"front end: gives estimates at {front_end.sample_rate} Hz, expected the codec's {codec.sample_rate} Hz;"
                    " load it for that rate"
                )
            self._front_end = [front_end.eval().requires_grad_(False)]
            self.register_buffer("front_end_fingerprint", _digits(front_end.fingerprint()))
            if front_end_rate > 0:
                if not front_end.feature_width:
                    raise UserError(
                        "model_conf front_end_rate: the front end has no features to be trained through; choose 0"
                    )
                front_end.train_along(front_end_rate)
                self.trained_front_end = front_end
        self.register_load_state_dict_pre_hook(_check_fingerprint)

    @property
    def codec(self) -> AbsCodec:
        """The frozen codec, on the model's device."""
        codec, device = self._codec[0], self.codec_fingerprint.device
        if next((t.device for t in codec.buffers()), next((t.device for t in codec.parameters()), device)) != device:
            codec.to(device)
        return codec

    @property
    def front_end(self) -> AbsFrontEnd | None:
        """The frozen front end, on the model's device; None without one."""
        return self._front_end[0].to(self.codec_fingerprint.device) if self._front_end else None

    def estimate(
        self, mixture: Tensor, mixture_lengths: Tensor, enroll: Tensor, enroll_lengths: Tensor
    ) -> Signal | None:
        """Return the front end's estimate of the target as the codec sees it; None without a front end.

        Waveforms are ``[B, L]`` at the codec's rate and the common level, lengths ``[B]`` samples.
        """
        front_end = self.front_end
        if front_end is None:
            return None
        waveform, features = front_end(mixture, mixture_lengths, enroll, enroll_lengths, self.precision)
        signal = self.encode(waveform, mixture_lengths)
        if features is None:
            return signal
        frames, rate = signal.valid.shape[1], self.codec.frame_rate
        return dataclasses.replace(signal, features=at_frames(features, front_end.feature_rate, frames, rate))

    def encode(self, wav: Tensor, lengths: Tensor, embedding: Tensor | None = None) -> Signal:
        """Encode waveforms ``[B, L]`` of ``lengths [B]`` at the codec's rate; ``embedding [B, E]`` is that of an enrolment."""
        with torch.no_grad(), torch.autocast(wav.device.type, enabled=False):
            wav = wav.float() * (torch.arange(wav.shape[1], device=wav.device) < lengths[:, None])
            encoded = self.codec.encode(wav, lengths)
        valid = torch.arange(encoded.codes.shape[-1], device=wav.device) < encoded.lengths[:, None]
        return Signal(wav, encoded.codes, encoded.latents, valid, embedding)

    def forward(
        self,
        speech_mix: Tensor,
        speech_mix_lengths: Tensor,
        enroll_ref1: Tensor,
        enroll_ref1_lengths: Tensor,
        codes_ref1: Tensor | None = None,
        codes_ref1_lengths: Tensor | None = None,
        speech_ref1: Tensor | None = None,
        speech_ref1_lengths: Tensor | None = None,
        embed_ref1: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """One step: mask, predict, and return ESPnet's ``(loss, stats, weight)``.

        Args:
            speech_mix: ``[B, L]`` mixture at the codec's rate and at the common level; lengths are ``[B]`` samples.
            enroll_ref1: ``[B, Le]`` enrolment.
            codes_ref1: ``[B, T, K]`` precomputed tokens of the target, as they lie on disk.
            speech_ref1: ``[B, L]`` target; encoded here where there are no precomputed tokens.
            embed_ref1: ``[B, E]`` speaker embedding of the enrolment, for an extractor that takes one.
        """
        if self.decoded_weight > 0 and speech_ref1 is None:
            raise UserError("model_conf decoded_weight: targets are given as tokens; give recordings, or choose 0")
        mixture = self.encode(speech_mix, speech_mix_lengths)
        enroll = self.encode(enroll_ref1, enroll_ref1_lengths, embedding=embed_ref1)
        estimate = self.estimate(speech_mix, speech_mix_lengths, enroll_ref1, enroll_ref1_lengths)
        target = self._target_codes(mixture, codes_ref1, speech_ref1, speech_ref1_lengths)
        rows, num_codebooks = target.shape[0], target.shape[1]
        # In validation every batch has its own mask, always the same one: codebooks and ratios vary, epochs compare.
        generator = None if self.training else torch.Generator().manual_seed(VALIDATION_SEED + int(target.sum()))
        mask = sample_mask(
            mixture.valid, num_codebooks, self.masking, self.codebook_distribution, self.joint_share, generator
        )
        visible = target.masked_fill(mask.hidden, self.extractor.codebook_size)
        drop_enroll = drop_mixture = drop_estimate = None
        if self.training and self.drop_enroll + self.drop_both > 0:
            draw = torch.rand(rows).to(target.device)
            drop_enroll = draw < self.drop_enroll + self.drop_both
            drop_mixture = draw < self.drop_both
        if self.training and estimate is not None and self.drop_front_end > 0:
            drop_estimate = torch.rand(rows).to(target.device) < self.drop_front_end
        with self._autocast():
            conditions = self.extractor.encode_conditions(
                mixture, enroll, drop_enroll, drop_mixture, estimate, drop_estimate
            )
            hidden = self.extractor(visible, conditions)
            scores = self.score(hidden, target, mask.counted)
        loss, weight = masked_cross_entropy(scores, mask.ratio.to(target.device), self.loss_norm)
        cross_entropy = torch.cat([score.cross_entropy for score in scores]).mean().detach()
        stats = {"ce": cross_entropy, **codebook_statistics(scores, num_codebooks)}
        stats["acc"] = torch.cat([score.top1 for score in scores]).float().mean()
        if self.latent_weight > 0:
            distance = self._latent_distance(hidden, target, mixture.valid)
            stats["latent_l1"] = distance.detach()
            loss = loss + self.latent_weight * distance
        if self.decoded_weight > 0 and estimate is not None and speech_ref1 is not None:
            decoded = self._decoded(hidden, target, mask.hidden, estimate, conditions)
            told = torch.ones_like(decoded[:, 0], dtype=torch.bool)
            for dropped in (drop_enroll, drop_estimate):
                told = told if dropped is None else told & ~dropped
            worth, figures = self.decoded_loss(decoded[told], speech_ref1[told])
            stats |= {f"decoded_{name}": figure for name, figure in figures.items()}
            loss = loss + self.decoded_weight * worth
        if not self.training:
            lengths = speech_mix_lengths, enroll_ref1_lengths
            with torch.no_grad(), self._autocast():
                stats |= self._validation_figures(
                    mixture, enroll, estimate, lengths, target, visible, mask.counted, stats["ce"]
                )
        stats["loss"] = loss.detach()
        # ESPnet gathers what processes return, and wants a dimension for it.
        stats = {name: value.reshape(1) for name, value in stats.items()}
        return loss.reshape(1), stats, torch.as_tensor(weight, dtype=loss.dtype, device=loss.device).reshape(1)

    def score(self, hidden: Tensor, target: Tensor, counted: Tensor) -> list[TokenScores]:
        """Score the predictions at the ``counted [B, K, T]`` positions; only these positions reach a head."""
        scores = []
        for codebook in range(target.shape[1]):
            rows, frames = counted[:, codebook].nonzero(as_tuple=True)
            if rows.numel() or codebook == 0:
                logits = self.extractor.logits(hidden[rows, frames], codebook)
                scores.append(score_codebook(logits, target[rows, codebook, frames], rows, codebook))
        return scores

    def conditions(
        self, mixture: Signal, enroll: Signal, drop_enroll: bool = False, estimate: Signal | None = None
    ) -> Any:
        """Do once what all decoding passes share, and return the extractor's conditions.

        Args:
            mixture: What :meth:`encode` has made of the mixtures; ``enroll`` of the enrolments.
            drop_enroll: Hide the enrolment, for the unconditional branch of guidance, and with it the estimate.
            estimate: What :meth:`estimate` has made of the same signals; None without a front end.
        """
        drop = torch.ones_like(mixture.valid[:, 0]) if drop_enroll else None
        with self._autocast():
            return self.extractor.encode_conditions(mixture, enroll, drop, estimate=None if drop_enroll else estimate)

    def predictor(self, conditions: Any) -> Predictor:
        """Return decoding's ``f(codes, codebook)``: logits ``[B, T, C]`` of one, or ``[B, K, T, C]`` for ``codebook=None``."""

        def predict(codes: Tensor, codebook: int | None) -> Tensor:
            with torch.no_grad(), self._autocast():
                hidden = self.extractor(codes, conditions)
                codebooks = range(self.extractor.num_codebooks) if codebook is None else [codebook]
                logits = [self.extractor.logits(hidden, k).float() for k in codebooks]
            return torch.stack(logits, dim=1) if codebook is None else logits[0]

        return predict

    def collect_feats(self, **batch: Tensor) -> dict[str, Tensor]:
        """Return no features: lengths are all that the statistics stage needs."""
        return {}

    def _autocast(self) -> AbstractContextManager[Any]:
        return autocast(self.precision, self.codec_fingerprint.device.type)

    def _target_codes(
        self, mixture: Signal, codes: Tensor | None, wav: Tensor | None, lengths: Tensor | None
    ) -> Tensor:
        if codes is not None:
            codes = codes.long().transpose(1, 2)
            if codes.shape != mixture.codes.shape:
                raise UserError(
                    f"codes_ref1 is {tuple(codes.shape)} (batch, codebooks, frames), expected {tuple(mixture.codes.shape)};"
                    " extract the tokens again with the codec of this training"
                )
            return codes * mixture.valid[:, None, :]
        if wav is None or lengths is None:
            raise UserError("neither codes_ref1 nor speech_ref1 is among the data; give one of them for every target")
        return self.encode(wav, lengths).codes

    def rest(self, conditions: Any, latents: Tensor) -> Tensor | None:
        """Return the rest of the means, see :class:`Means`, for an estimate's ``latents [B, T, D]``.

        With it, where the network adds nothing, the estimate stays as it is. None for heads that do not see the estimate.
        """
        with self._autocast():
            alone = [self.extractor.estimate_logits(conditions, k) for k in range(self.extractor.num_codebooks)]
        seen = [each.float() for each in alone if each is not None]
        if not seen:
            return None
        means = Means(self.codec.all_codebooks(), latents)
        own = (means.codebooks != 0).any(dim=1)[:, None]
        return latents.unsqueeze(1) * own - means.of(torch.stack(seen, dim=1))

    def _decoded(self, hidden: Tensor, target: Tensor, unknown: Tensor, estimate: Signal, conditions: Any) -> Tensor:
        """Return what soft decoding makes of the estimate, ``[B, L]``: means where tokens are unknown, else the target's."""
        codebooks, given = range(self.extractor.num_codebooks), estimate.latents.transpose(1, 2)
        means = Means(self.codec.all_codebooks(), given, self.rest(conditions, given))
        found = means.of(torch.stack([self.extractor.logits(hidden, k).float() for k in codebooks], dim=1))
        entries = torch.stack([means.codebooks[k][target[:, k]] for k in codebooks], dim=1)
        latents = torch.where(unknown.unsqueeze(-1), found, entries).sum(dim=1).transpose(1, 2)
        frames = estimate.valid.sum(dim=1)
        return self.codec.decode_latents(latents, frames, estimate=estimate.wav)[:, : estimate.wav.shape[1]]

    def _latent_distance(self, hidden: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        predicted = self.extractor.predict_latents(hidden)
        if predicted is None:
            raise UserError("model_conf: latent_weight needs a latent head; set extractor_conf: latent_head: true")
        with torch.no_grad():
            wanted = self.codec.latents_of(target)
        distance = (predicted.float() - wanted).abs().mean(dim=1)
        return (distance * valid).sum() / valid.sum()

    def _validation_figures(
        self,
        mixture: Signal,
        enroll: Signal,
        estimate: Signal | None,
        lengths: tuple[Tensor, Tensor],
        target: Tensor,
        visible: Tensor,
        counted: Tensor,
        right: Tensor,
    ) -> dict[str, Tensor]:
        """Figures that tell extraction from imitation: the worth of the right enrolment, and accuracy from nothing visible."""
        # The same figures of every batch: the processes of a distributed training exchange them one by one.
        figures = {"enroll_gain": torch.full_like(right, torch.nan)}
        if target.shape[0] > 1:
            other = torch.arange(target.shape[0], device=target.device).roll(1)
            # The front end, too, is asked for the wrong speaker.
            misled = self.estimate(mixture.wav, lengths[0], enroll.wav[other], lengths[1][other])
            conditions = self.extractor.encode_conditions(mixture, enroll.rows(other), estimate=misled)
            hidden = self.extractor(visible, conditions)
            wrong = torch.cat([score.cross_entropy for score in self.score(hidden, target, counted)]).mean()
            # How much worse another item's enrolment predicts: zero for a model that ignores the enrolment.
            figures["enroll_gain"] = wrong - right
        nothing = torch.full_like(target, self.extractor.codebook_size)
        hidden = self.extractor(nothing, self.extractor.encode_conditions(mixture, enroll, estimate=estimate))
        codebooks = 1 if self.masking == "codebook" else target.shape[1]
        all_valid = (
            mixture.valid[:, None, :] & (torch.arange(target.shape[1], device=target.device) < codebooks)[:, None]
        )
        scores = self.score(hidden, target, all_valid)
        figures["acc_all_hidden"] = torch.cat([score.top1 for score in scores]).float().mean()
        return figures


def _digits(fingerprint: str) -> Tensor:
    """Return a SHA-256 as 32 floats, which survive ESPnet's n-best averaging; it sums integer buffers."""
    return torch.tensor(list(bytes.fromhex(fingerprint)), dtype=torch.float32)


def _check_fingerprint(module: torch.nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    for kind, trained, remedy in (
        ("codec", "on the tokens of another codec", "codec directory that lies"),
        ("front_end", "with the estimates of another front end", "front_end directory that lies"),
    ):
        stored: Tensor | None = state_dict.get(f"{prefix}{kind}_fingerprint")
        own: Tensor | None = getattr(module, f"{kind}_fingerprint", None)
        if stored is None or own is None or torch.equal(stored.cpu().to(own.dtype), own.cpu()):
            continue
        first, mine = (bytes(int(value) for value in digits.flatten()[:6].tolist()).hex() for digits in (stored, own))
        raise UserError(
            f"checkpoint was trained {trained} (fingerprint {first}..., this {kind.replace('_', ' ')} is {mine}...);"
            f" decode it with the {remedy} beside it, or train again"
        )
