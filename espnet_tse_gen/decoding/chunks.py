"""Long recordings in chunks: every chunk is given the tokens of its overlap with the one before.

The shared tokens stay as they are at all levels, so that the chunks' codes join into one stream that the codec
decodes once, and no waveform is cross-faded. The last chunk is the final window of full length, with as much more
overlap as that takes: a short rest with little context is never decoded alone. Everything here is in frames.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from espnet_tse_gen.decoding.noise import RowId
from espnet_tse_gen.decoding.sampler import Sampler
from espnet_tse_gen.decoding.strategies import Predictor


def plan_chunks(frames: int, chunk: int, overlap: int) -> list[tuple[int, int]]:
    """Return first frame and end (excluded) of each chunk of a recording.

    Args:
        frames: Length of the recording.
        chunk: Length of a chunk; 0 puts everything into one.
        overlap: Least overlap of two chunks, less than ``chunk``.
    """
    chunks = [(0, min(chunk or frames, frames))]
    while (done := chunks[-1][1]) < frames:
        start = min(done - overlap, frames - chunk)
        chunks.append((start, start + chunk))
    return chunks


def decode_chunks(
    sampler: Sampler,
    make_f: Callable[[int, int], tuple[Predictor, Predictor | None]],
    frames: int,
    chunk: int,
    overlap: int,
    row_ids: Sequence[RowId] = (0,),
    device: torch.device | str = "cpu",
) -> Tensor:
    """Decode recordings of one common length; one that fits a chunk is decoded exactly as ``sampler.decode`` does.

    Args:
        sampler: Decodes a chunk.
        make_f: Called once per chunk with its first frame and the frame after its last: returns the conditional network, and
            the unconditional one or None.
        frames: Length T of the recordings. Longer batches of different lengths go row by row: their last chunks differ.
        chunk: Frames per chunk, as ``DecodingOptions.chunk_frames`` gives them; 0 puts everything into one.
        overlap: Frames that a chunk is given from the one before, at least.
        row_ids: One id per recording, for its noise; B of them.

    Returns:
        int64 ``[B, K, T]`` on ``device``.
    """
    codes = torch.full((len(row_ids), sampler.num_levels, frames), sampler.mask_id, dtype=torch.int64, device=device)
    for start, end in plan_chunks(frames, chunk, overlap):
        # What the chunk before has decoded is in place already, the rest is MASK: the window is what is given.
        window = codes[:, :, start:end]
        valid = torch.ones(len(row_ids), end - start, dtype=torch.bool, device=device)
        # Noise is counted from a chunk's start; without the start in the id all chunks would draw the same.
        ids = [f"{row}@{start}" for row in row_ids] if start else row_ids
        conditional, unconditional = make_f(start, end)
        window.copy_(sampler.decode(conditional, valid, window, ids, unconditional))
    return codes
