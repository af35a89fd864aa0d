"""How well a codec's tokens can be predicted: a small fixed network, trained for a short time, that names them.

Fidelity is half of what makes tokens useful. A model that extracts a speaker has to predict them from what it hears, and
tokens that follow the phase of the waveform cannot be predicted for voices that the model has not met. The probe is the
smallest model of that task which treats all codecs alike:

- It sees log-mel magnitudes at 100 frames/s of the recording at 16 kHz, whatever the codec's rates.
- Its trunk is the same for every codec and sees 0.3 s around each frame; only the output layers, one linear layer per
  codebook, have the codec's sizes. Between the two the trunk's output is interpolated to the times of the codec's frames.
- Weights, steps, learning rate and the audio of every batch are equal for all codecs.
- Half of the loss is codebook 1 and half the mean of the others, so that codebook 1 weighs the same in a codec of any depth.

It is trained twice: on the clean speech itself (``clean``), and on the same speech with another speaker mixed in 5 dB
below it (``mixture``), where the target is the louder voice. No enrolment is given: to learn whom to follow takes far
longer than a probe may, and would measure the same thing for every codec. The tokens to name are those of the clean
speech in both.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from codec_study.segments import CROP_SECONDS, RATE, SIR_DB, Segment, mix
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.mel import MelCodec
from espnet_tse_gen.utils.errors import UserError

CONDITIONS: tuple[str, ...] = ("clean", "mixture")
"""What the probe sees: the clean speech, or a mixture with another speaker."""

HOP = 160
BANDS = 80
WIDTH = 192
LAYERS = 4
KERNEL = 7
BATCH = 8
LEARNING_RATE = 2e-3
ACTIVE_DB = 40.0
"""The probe is fixed: figures of different codecs compare only if none of these differs."""


@dataclass(frozen=True)
class CodebookFigures:
    """How well one codebook's tokens can be predicted on unseen speakers: means over recordings, in bits per token."""

    ce: float  # cross-entropy of the probe
    accuracy: float  # share of tokens that the probe names, 0..1
    active_accuracy: float  # the same over the frames less than 40 dB below the loudest of the segment
    guess_ce: float  # cross-entropy of the frequencies of the tokens in training
    guess_accuracy: float  # accuracy of always naming the token that is most frequent in training
    entropy: float  # entropy of the tokens in training

    @property
    def gain(self) -> float:
        """Bits per token that the probe knows beyond the frequencies."""
        return self.guess_ce - self.ce

    @property
    def perplexity(self) -> float:
        """Entries of the codebook in use: ``2 ** entropy``."""
        return float(2.0**self.entropy)


@dataclass(frozen=True)
class ItemFigures:
    """Codebook 1 of one recording: cross-entropy in bits per token, and accuracy, 0..1."""

    key: str
    ce: float
    accuracy: float


@dataclass(frozen=True)
class ProbeResult:
    """What the probe found out about a codec's tokens in one condition."""

    condition: str
    codebooks: list[CodebookFigures]
    items: list[ItemFigures]
    training_ce: float  # cross-entropy of codebook 1 over the last tenth of the training steps, bits per token
    frame_rate: float  # frames per second
    steps: int
    sir_db: float  # target relative to interferer in the mixtures
    train_seconds: float  # audio that the probe was trained on, without repetitions
    parameters: dict[str, int]  # of the trunk, equal for all codecs, and of the output layers


class Probe(nn.Module):
    """Log-mel magnitudes at 100 frames/s to logits of every codebook at a codec's frames.

    The trunk is a convolution and ``LAYERS`` blocks after ConvNeXt (Liu et al. 2022, figure 4): a convolution per
    channel over time, then a two-layer perceptron per frame, added to the block's input.
    """

    def __init__(self, codebook_sizes: Sequence[int]) -> None:
        super().__init__()
        self.entry = nn.Conv1d(BANDS, WIDTH, 5, padding=2)
        self.mixers = nn.ModuleList(
            nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2, groups=WIDTH) for _ in range(LAYERS)
        )
        self.perceptrons = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
            for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(WIDTH)
        # Beside the interpolated features, where between its two neighbours a frame lies.
        self.exit = nn.Linear(WIDTH + 1, WIDTH)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, size) for size in codebook_sizes)

    def forward(self, features: Tensor, positions: Tensor) -> list[Tensor]:
        """Return the logits of each codebook, float ``[B, T, C]``.

        Args:
            features: float ``[B, F, BANDS]``, normalised.
            positions: float ``[B, T]``, the centres of the codec's frames on the axis of the features' frames.
        """
        hidden = self.entry(features.transpose(1, 2))
        for mixer, perceptron in zip(self.mixers, self.perceptrons, strict=True):
            hidden = hidden + perceptron(mixer(hidden).transpose(1, 2)).transpose(1, 2)
        hidden = self.norm(hidden.transpose(1, 2))
        last = hidden.shape[1] - 1
        low = positions.floor().clamp(0, last)
        weight = (positions - low).clamp(0, 1)[..., None]
        at = low.long()[..., None].expand(-1, -1, WIDTH)
        between = torch.lerp(hidden.gather(1, at), hidden.gather(1, (at + 1).clamp(max=last)), weight)
        hidden = functional.gelu(self.exit(torch.cat([between, weight], dim=2)))
        return [head(hidden) for head in self.heads]


def run_probe(
    codec: AbsCodec,
    train: Sequence[Segment],
    test: Sequence[Segment],
    condition: str,
    steps: int,
    device: str = "cpu",
) -> ProbeResult:
    """Train a probe, for ``steps`` steps of ``BATCH`` crops, on segments of some speakers, and judge it on those of others."""
    for name, segments in (("training", train), ("test", test)):
        if condition == "mixture" and len({segment.speaker for segment in segments}) < 2:
            raise UserError(f"probe: the {name} recordings have one speaker; a mixture needs two")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = _Task(codec, train, condition, device)
        probe = Probe(codec.codebook_sizes).to(device)
        training_ce = _train(probe, task, steps)
        codebooks, items = _judge(probe.eval(), task, test)
    trunk = sum(weight.numel() for name, weight in probe.named_parameters() if not name.startswith("heads"))
    heads = sum(weight.numel() for weight in probe.heads.parameters())
    seconds, parameters = sum(segment.wave.shape[0] for segment in train) / RATE, {"trunk": trunk, "heads": heads}
    return ProbeResult(condition, codebooks, items, training_ce, codec.frame_rate, steps, SIR_DB, seconds, parameters)


class _Task:
    """Makes features, mixtures and the places of a codec's frames."""

    def __init__(self, codec: AbsCodec, train: Sequence[Segment], condition: str, device: str) -> None:
        self.frame_rate, self.sizes = codec.frame_rate, codec.codebook_sizes
        self.train, self.condition, self.device = list(train), condition, device
        self.dice = np.random.default_rng(0)
        # Only its analysis is used, which needs no fitting.
        self.analysis = MelCodec(sample_rate=RATE, hop=HOP, n_fft=512, num_mels=BANDS, num_codebooks=1, codebook_size=1)
        sample = torch.cat([self.analysis.log_mel(segment.wave) for segment in self.train[:100]])
        self.mean, self.scale = sample.mean(dim=0), sample.std(dim=0).clamp(min=1e-3)

    def features(self, wave: Tensor) -> Tensor:
        """Normalised log-mel magnitudes ``[F, BANDS]`` of a waveform ``[L]``."""
        return (self.analysis.log_mel(wave) - self.mean) / self.scale

    def positions(self, first: int, count: int, start: float = 0.0) -> Tensor:
        """Where the centres of ``count`` codec frames lie on the axis of features that begin at ``start`` seconds."""
        centres = (first + torch.arange(count, dtype=torch.float64) + 0.5) / self.frame_rate
        return ((centres - start) * (RATE / HOP) - 0.5).float()

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Draw crops: features ``[B, F, BANDS]``, positions ``[B, T]``, codes ``[B, K, T]``."""
        count = int(CROP_SECONDS * self.frame_rate)
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for _ in range(BATCH):
            segment = self.train[self.dice.integers(len(self.train))]
            begin = self._place(segment)
            wave = segment.wave[begin : begin + int(CROP_SECONDS * RATE)]
            if self.condition == "mixture":
                other = self._other(segment, self.train, self.dice)
                place = self._place(other)
                wave = mix(wave, other.wave[place : place + wave.shape[0]])
            first = math.ceil(begin / RATE * self.frame_rate - 0.5)
            positions, codes = self.positions(first, count, begin / RATE), segment.codes[:, first : first + count]
            rows.append((self.features(wave), positions, codes))
        drawn, places, tokens = (torch.stack(parts).to(self.device) for parts in zip(*rows, strict=True))
        return drawn, places, tokens

    def whole(self, segment: Segment, others: Sequence[Segment]) -> tuple[Tensor, Tensor]:
        """Features and positions of a whole segment, a batch of one; in a mixture, always with the same other one."""
        wave = segment.wave
        if self.condition == "mixture":
            other = self._other(segment, others, np.random.default_rng(list(segment.key.encode()))).wave
            wave = mix(wave, other.repeat(-(-wave.shape[0] // other.shape[0]))[: wave.shape[0]])
        positions = self.positions(0, segment.codes.shape[1])
        return self.features(wave)[None].to(self.device), positions[None].to(self.device)

    def active(self, segment: Segment) -> Tensor:
        """Which codec frames hold speech, bool ``[T]``: those less than ``ACTIVE_DB`` below the segment's loudest."""
        power = self.analysis.log_mel(segment.wave).mul(2).exp().sum(dim=1)
        nearest = self.positions(0, segment.codes.shape[1]).round().long().clamp(0, power.shape[0] - 1)
        return power[nearest] > power.max() * 10 ** (-ACTIVE_DB / 10)

    def _place(self, segment: Segment) -> int:
        return int(self.dice.integers(segment.wave.shape[0] - int(CROP_SECONDS * RATE) + 1))

    def _other(self, segment: Segment, among: Sequence[Segment], dice: np.random.Generator) -> Segment:
        while True:
            other = among[int(dice.integers(len(among)))]
            if other.speaker != segment.speaker:
                return other


def _train(probe: Probe, task: _Task, steps: int) -> float:
    """Train, and return the mean cross-entropy of codebook 1 over the last tenth of the steps, in bits."""
    optimizer = torch.optim.AdamW(probe.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    warm = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * max(0, step - warm) / max(1, steps - warm))),
    )
    tail: list[float] = []
    for step in range(1, steps + 1):
        features, positions, codes = task.batch()
        losses = [
            functional.cross_entropy(logits.flatten(0, 1), codes[:, codebook].flatten())
            for codebook, logits in enumerate(probe(features, positions))
        ]
        loss = losses[0] if len(losses) == 1 else (losses[0] + torch.stack(losses[1:]).mean()) / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step > steps - max(1, steps // 10):
            tail.append(float(losses[0].detach()))
        if step % 100 == 0:
            logging.info(
                "probe, %s: step %d of %d, codebook 1: %.2f bits", task.condition, step, steps, _bits(losses[0])
            )
    return float(np.mean(tail)) / math.log(2)


def _judge(probe: Probe, task: _Task, test: Sequence[Segment]) -> tuple[list[CodebookFigures], list[ItemFigures]]:
    """Return the figures of every codebook, as means over recordings, and those of codebook 1 for each recording."""
    known = torch.cat([segment.codes for segment in task.train], dim=1)
    counts = [torch.bincount(codes, minlength=size).double() for codes, size in zip(known, task.sizes, strict=True)]
    # Half a token more of each, so that one that training never had does not cost an infinity.
    guesses = [((count + 0.5) / (count + 0.5).sum()).log() for count in counts]
    figures: list[list[list[float]]] = []
    with torch.no_grad():
        for segment in test:
            features, positions = task.whole(segment, test)
            active = task.active(segment)
            figures.append([])
            for codebook, logits in enumerate(probe(features, positions)):
                codes, scores = segment.codes[codebook], logits[0].cpu()
                hit = (scores.argmax(dim=1) == codes).double()
                of_active = float(hit[active].sum() / active.sum().clamp(min=1))
                usual = float((codes == counts[codebook].argmax()).double().mean())
                bits = [_bits(functional.cross_entropy(scores, codes)), _bits(-guesses[codebook][codes].mean())]
                figures[-1].append([bits[0], float(hit.mean()), of_active, bits[1], usual])
    items = [ItemFigures(segment.key, *found[0][:2]) for segment, found in zip(test, figures, strict=True)]
    codebooks = []
    for count, means in zip(counts, np.mean(figures, axis=0), strict=True):
        shares = count / count.sum()
        entropy = _bits(-torch.special.xlogy(shares, shares).sum())
        codebooks.append(CodebookFigures(*(float(mean) for mean in (*means, entropy))))
    return codebooks, items


def _bits(nats: Tensor) -> float:
    return float(nats.detach()) / math.log(2)
