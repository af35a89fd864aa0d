"""From all masked to all predicted: iterative masked decoding with any network behind a callable.

The network is a function ``f(codes, codebook) -> logits``. Codebook-progressive decoding (SoundStorm, Borsos et al. 2023)
goes through the codebooks from coarse to fine; joint decoding (MaskGIT over all codebooks at once) treats all codebooks
of all frames as one set. In either, a pass predicts every masked position, keeps the tokens that the order ranks
highest and masks the others again, until the schedule reaches zero.

Rows are independent: their schedules are counted from their own valid frames and their noise from their own id, so that
a batch gives what each row gives alone.

Long recordings go in chunks, each of which is given the tokens of its overlap with the one before, so that the chunks' codes
join into one stream that the codec decodes once, and no waveform is cross-faded. The last chunk is the final window of full
length: a short rest with little context is never decoded alone.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from espnet_tse_gen.decoding.noise import RowId, RowNoise, unit_interval
from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.decoding.strategies import (
    Places,
    Predictor,
    Step,
    choose_tokens,
    expected_again,
    filter_top_k,
    filter_top_p,
    guided_logits,
    mask_counts,
    mask_ratio,
    order_score,
    rescored,
)


class DecodingError(RuntimeError):
    """The network or the decoding loop broke its contract: logits that are not finite, or a position left masked."""


class Means(NamedTuple):
    """What soft decoding makes of a frame: the sum of its tokens' mean vectors, each of the pass that commits the token."""

    codebooks: Tensor
    """``[K, C, D]``."""
    latents: Tensor
    """``[B, T, D]``, updated in place."""
    rest: Tensor | None = None
    """``[B, K, T, D]``, what is added to each mean: what an estimate's latents have beyond the mean that it alone predicts."""

    def of(self, logits: Tensor, codebook: int | None = None) -> Tensor:
        """Return the mean vectors ``[B, K, T, D]`` under logits ``[B, K, T, C]``, of all codebooks or of one, with their rest."""
        which = slice(None) if codebook is None else slice(codebook, codebook + 1)
        mean = torch.einsum("bktc,kcd->bktd", logits.softmax(dim=-1).float(), self.codebooks[which])
        return mean if self.rest is None else mean + self.rest[:, which]


class _Batch(NamedTuple):
    """What stays the same during the decoding of one batch."""

    conditional: Predictor
    unconditional: Predictor | None
    codes: Tensor  # int64 [B, K, T], updated in place
    frame: Tensor  # int64 [B, T], number of a frame among its row's valid frames
    noise: RowNoise
    finite: Tensor  # bool [], stays on the device until the end
    means: Means | None
    vectors: Tensor | None  # [B, K, T, D], the means of the tokens that are committed


class Sampler:
    """Decodes the codes of ``num_codebooks`` codebooks of ``codebook_size`` entries, of which one more is MASK.

    Raises:
        UserError: If ``options.steps`` lists more codebooks than there are.
    """

    def __init__(self, options: DecodingOptions, num_codebooks: int, codebook_size: int) -> None:
        self.options = options
        self.num_codebooks = num_codebooks
        self.codebook_size = codebook_size
        self.mask_id = codebook_size
        self.steps = options.codebook_steps(num_codebooks)
        self.codebooks: tuple[int | None, ...] = (None,) if options.joint else tuple(range(num_codebooks))
        self.top_k = options.top_k_count(codebook_size)

    @property
    def passes(self) -> int:
        """Passes per recording, at most: calls of the conditional network (guidance doubles them)."""
        return sum(self.steps) + len(self.codebooks) * len(rescored(self.options, 1)) + (self.options.start > 0)

    @torch.no_grad()
    def decode(
        self,
        f: Predictor,
        valid: Tensor,
        fixed: Tensor | None = None,
        row_ids: Sequence[RowId] | None = None,
        unconditional: Predictor | None = None,
        means: Means | None = None,
        estimate: Tensor | None = None,
    ) -> Tensor:
        """Predict all codes, int64 ``[B, K, T]``, 0 at padding.

        Args:
            f: The network, ``f(codes [B, K, T], codebook) -> logits``, ``[B, T, C]`` for a codebook and ``[B, K, T, C]`` for
                codebook ``None``. It sees MASK at hidden positions and 0 at padding, and must not change ``codes``; the
                tensor is updated in place between passes.
            valid: bool ``[B, T]``, true where a frame is no padding.
            fixed: int64 ``[B, K, T]``, tokens that are given and stay as they are; MASK where there is none.
            row_ids: From which the noise of each row is drawn; 0..B-1 if not given.
            unconditional: The network with null conditions, for guidance.
            means: Filled in beside the codes, where wanted; frames of which no token is hidden stay as they are.
            estimate: int64 ``[B, K, T]``, codes of an estimate, of which the share ``options.start`` is taken.

        Raises:
            UserError: If the options ask for guidance without ``unconditional``.
            DecodingError: If the network returns NaN or infinite logits at a position that it had to predict.
        """
        row_ids = range(len(valid)) if row_ids is None else row_ids
        if fixed is None:
            shape = len(valid), self.num_codebooks, valid.shape[1]
            fixed = torch.full(shape, self.mask_id, dtype=torch.int64, device=valid.device)
        codes = fixed.masked_fill(~valid.unsqueeze(1), 0).contiguous()
        # The only wait for the device before the end: how many positions every row has to fill, codebook by codebook. All
        # counts of all passes follow from it on the host, before the first one.
        to_fill = codes == self.mask_id
        if estimate is not None and self.options.start:
            self._take(f, codes, estimate)
        hidden = codes == self.mask_id
        taken, hidden = to_fill & ~hidden, hidden.sum(dim=-1)
        masked = (hidden.sum(dim=1, keepdim=True) if self.options.joint else hidden).T.tolist()
        plans = [
            self._plan(row_ids, codebook, steps, codebook_masked, valid.device)
            for codebook, steps, codebook_masked in zip(self.codebooks, self.steps, masked, strict=True)
        ]
        noise = RowNoise(self.options.seed, row_ids, valid.device)
        finite = torch.ones((), dtype=torch.bool, device=valid.device)
        vectors = None if means is None else means.latents.new_zeros(*codes.shape, means.latents.shape[2])
        if means is not None and vectors is not None and self.options.start:
            known = codes.clamp(max=self.codebook_size - 1)
            entries = torch.stack([book[known[:, number]] for number, book in enumerate(means.codebooks)], dim=1)
            vectors = torch.where(taken.unsqueeze(-1), entries, vectors)
        batch = _Batch(f, unconditional, codes, valid.cumsum(dim=1) - 1, noise, finite, means, vectors)
        for codebook, plan in zip(self.codebooks, plans, strict=True):
            if plan:
                self._decode_codebook(batch, codebook, plan)
        left = (codes == self.mask_id).any()
        sound, unfinished = torch.stack([finite, left]).tolist()
        if not sound:
            raise DecodingError("the network returned NaN or infinite logits at a valid position")
        if unfinished:
            raise DecodingError("internal error: a valid position is still masked after the last pass")
        if means is not None and vectors is not None:
            filled = to_fill.any(dim=1).unsqueeze(-1)
            means.latents.copy_(torch.where(filled, vectors.sum(dim=1), means.latents))
        return codes

    def _take(self, f: Predictor, codes: Tensor, estimate: Tensor) -> None:
        """Put a share of an estimate's codes into the masked positions of ``codes [B, K, T]``: the likeliest ones of each row."""
        masked = (codes == self.mask_id).flatten(1)
        likely = f(codes, None).log_softmax(dim=-1).gather(-1, estimate.unsqueeze(-1)).flatten(1)
        count = (self.options.start * masked.sum(dim=1, keepdim=True)).long()
        codes.copy_(torch.where(_lowest(-likely, masked, count).view_as(codes), estimate, codes))

    def _plan(
        self, row_ids: Sequence[RowId], codebook: int | None, steps: int, masked: list[int], device: torch.device
    ) -> list[Step]:
        """Plan the passes of a codebook with ``masked`` positions per row."""

        def counts(numbers: Sequence[int]) -> Tensor | None:
            return torch.tensor(numbers, device=device).unsqueeze(1) if any(numbers) else None

        schedules = [mask_counts(count, steps) for count in masked]
        passes = []
        for number in range(1, max(map(len, schedules), default=0) + 1):
            keep, again = [], []
            for row, count, schedule in zip(row_ids, masked, schedules, strict=True):
                after = schedule[number - 1] if number <= len(schedule) else 0  # a row that is done just waits
                decoded = count - schedule[number - 2] if after and number > 1 else 0
                expected = expected_again(self.options, decoded, after) if decoded else 0.0
                # Rounded up or down at random, so that the mean is exact; `after` is whole, hence never exceeded.
                lot = unit_interval(self.options.seed, row, codebook, number, "again") if expected else 0.0
                again.append(math.floor(expected + lot))
                keep.append(after - again[-1])
            heat = 1.0 - number / steps if self.options.anneal else 1.0
            passes.append(Step(codebook, number, heat, mask_ratio(number - 1, steps), counts(keep), counts(again)))
        for numbers in zip(*(rescored(self.options, count) for count in masked), strict=True) if passes else ():
            share = self.options.rescore_fraction
            passes.append(Step(codebook, len(passes) + 1, 0.0, share, rescored=counts(numbers)))
        return passes

    def _decode_codebook(self, batch: _Batch, codebook: int | None, plan: list[Step]) -> None:
        """Fill the masked positions of a codebook, or of all codebooks where ``codebook`` is None."""
        # [B, P], a view into the codes: what is written here is what the network sees next.
        tokens = batch.codes.flatten(1) if codebook is None else batch.codes[:, codebook]
        places = self._places(batch, codebook)
        generated = tokens == self.mask_id
        certainty = torch.zeros(tokens.shape, device=tokens.device)
        for now in plan:
            if now.rescored is not None:
                tokens.masked_fill_(_lowest(certainty, generated, now.rescored), self.mask_id)
            hidden = tokens == self.mask_id
            logits = self._logits(batch, codebook, now.mask_ratio)
            chosen = choose_tokens(logits, self.options.temperature * now.heat, now, places, batch.noise)
            picked = chosen.unsqueeze(-1)
            finite = logits.gather(-1, picked).squeeze(-1).isfinite()
            batch.finite.logical_and_((finite | ~hidden).all())
            tokens.copy_(torch.where(hidden, chosen, tokens))
            if batch.means is not None and batch.vectors is not None:
                vectors = batch.vectors if codebook is None else batch.vectors[:, codebook : codebook + 1]
                shape = (-1, vectors.shape[2])
                found = batch.means.of(logits.unflatten(1, shape), codebook)
                vectors.copy_(torch.where(hidden.unflatten(1, shape).unsqueeze(-1), found, vectors))

            # Where every row commits all it has, and nobody asks later, confidence costs nothing.
            if now.keep is not None or self.options.remask == "rescore":
                confidence = logits.log_softmax(dim=-1).gather(-1, picked).squeeze(-1)
                certainty = torch.where(hidden, confidence, certainty)
            if now.keep is not None:
                score = order_score(self.options, confidence, now, places, batch.noise)
                tokens.masked_fill_(_lowest(score, hidden, now.keep), self.mask_id)
            if now.again is not None:
                lots = batch.noise.uniform(places.counter, codebook, now.number, "again")
                tokens.masked_fill_(_lowest(lots, generated & ~hidden, now.again), self.mask_id)

    def _logits(self, batch: _Batch, codebook: int | None, ratio: float) -> Tensor:
        """Call the network and filter: logits ``[B, P, C]``."""
        networks = batch.conditional, batch.unconditional
        logits = guided_logits(self.options, ratio, *networks, batch.codes, codebook)
        size, codebooks, frames = batch.codes.shape
        expected = [size, *([codebooks] if codebook is None else []), frames, self.codebook_size]
        if list(logits.shape) != expected:
            raise ValueError(f"logits of codebook {codebook}: expected shape {expected}, got {list(logits.shape)}")
        logits = logits.reshape(size, -1, self.codebook_size)
        if self.top_k:
            logits = filter_top_k(logits, self.top_k)
        return filter_top_p(logits, self.options.top_p) if self.options.top_p else logits

    def _places(self, batch: _Batch, codebook: int | None) -> Places:
        which = torch.arange(self.num_codebooks, device=batch.frame.device)
        which = which if codebook is None else which[codebook : codebook + 1]
        codebooks = which.repeat_interleave(batch.frame.shape[1])
        return Places(batch.frame.repeat(1, len(which)), codebooks, self.num_codebooks)


def plan_chunks(frames: int, chunk: int, overlap: int) -> list[tuple[int, int]]:
    """Return first frame and end (excluded) of each chunk of a recording of so many ``frames``.

    ``chunk`` is their length, 0 for all in one, and ``overlap``, less than it, the least that two share.
    """
    chunks = [(0, min(chunk or frames, frames))]
    while (done := chunks[-1][1]) < frames:
        start = min(done - overlap, frames - chunk)
        chunks.append((start, start + chunk))
    return chunks


def decode_chunks(
    sampler: Sampler,
    make_f: Callable[[int, int], tuple[Predictor, Predictor | None, Tensor | None, Tensor | None]],
    frames: int,
    chunk: int,
    overlap: int,
    row_ids: Sequence[RowId] = (0,),
    device: torch.device | str = "cpu",
    means: Means | None = None,
) -> Tensor:
    """Decode recordings of ``frames`` frames each; one that fits a chunk is decoded exactly as ``sampler.decode`` does.

    Args:
        make_f: Called once per chunk with its first frame and the frame after its last: returns the conditional network, the
            unconditional one or None, the rest of the means, or None, and the codes of an estimate, or None.
        chunk: Frames per chunk, as ``DecodingOptions.chunk_frames`` gives them; 0 puts everything into one.
        overlap: Frames that a chunk is given from the one before, at least.
        row_ids: One id per recording, for its noise; B of them.
        means: As :meth:`Sampler.decode` takes them.

    Returns:
        int64 ``[B, K, T]`` on ``device``.
    """
    codes = torch.full((len(row_ids), sampler.num_codebooks, frames), sampler.mask_id, dtype=torch.int64, device=device)
    for start, end in plan_chunks(frames, chunk, overlap):
        # What the chunk before has decoded is in place already, the rest is MASK: the window is what is given.
        window = codes[:, :, start:end]
        valid = torch.ones(len(row_ids), end - start, dtype=torch.bool, device=device)
        # Noise is counted from a chunk's start; without the start in the id all chunks would draw the same.
        ids = [f"{row}@{start}" for row in row_ids] if start else row_ids
        conditional, unconditional, rest, estimate = make_f(start, end)
        part = None if means is None else means._replace(latents=means.latents[:, start:end], rest=rest)
        window.copy_(sampler.decode(conditional, valid, window, ids, unconditional, part, estimate))
    return codes


def _lowest(score: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """Mark the ``count`` ``[B, 1]`` lowest scores of a row ``among`` (bool ``[B, P]``) its positions; ties by index."""
    order = score.masked_fill(~among, math.inf).argsort(dim=-1, stable=True)
    first = torch.arange(score.shape[-1], device=score.device) < count
    return torch.zeros_like(among).scatter_(-1, order, first)
