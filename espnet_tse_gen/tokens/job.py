"""The work of a token extraction job: read recordings ahead, encode them in batches, append what is made to the arks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from espnet_tse_gen.audio.recordings import load_recording
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.tokens.store import Made, PartWriter, kaldi_bytes
from espnet_tse_gen.tokens.table import Item, TokenTables
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.progress import AudioProgress


@dataclass(frozen=True)
class ExtractionOptions:
    """How a job goes about it; none of these changes what it makes."""

    batch_size: int = 16
    """Recordings in a batch at most."""
    batch_seconds: float = 60.0
    """Audio in a batch at most, each recording counted as long as the longest."""
    max_errors: int = 0
    """Recordings that may be unreadable."""
    num_workers: int = 2
    """Threads that read recordings ahead."""
    log_interval: float = 30.0
    """Seconds between lines of progress in a log."""


def integer_type(codec: AbsCodec) -> str:
    """Return the type of codes on disk: the smallest that ESPnet's reader of arks takes (it refuses unsigned ones)."""
    return "int16" if codec.codebook_size <= 1 << 15 else "int32"


class Extraction:
    """Makes a job's parts of the tables.

    Args:
        codec: On the device where it computes.
        tables: The tables.
        options: How.
    """

    def __init__(self, codec: AbsCodec, tables: TokenTables, options: ExtractionOptions) -> None:
        self.codec, self.tables, self.options = codec, tables, options

    def make_part(self, name: str) -> dict[str, str]:
        """Make this job's part of table ``name`` unless it is there; print a line on it.

        Returns:
            Why recordings have no tokens, by key. The part is unfinished if these are more than ``max_errors``.

        Raises:
            UserError: If the part cannot be written, or a batch does not fit the memory.
        """
        tables, share = self.tables, self.tables.share(name)
        label = f"{tables.directory}/{name}, job {tables.job} of {tables.num_jobs}"
        with ThreadPoolExecutor(self.options.num_workers) as workers:
            digests = dict(
                zip((item.key for item in share), workers.map(lambda item: item.digest(), share), strict=True)
            )
            files = hashlib.sha256("".join(f"{key} {one}\n" for key, one in digests.items()).encode()).hexdigest()
            if tables.is_complete(name, files):
                print(f"{label}: is complete and up to date; kept")
                return {}
            tables.begin(name)
            if not share:
                tables.finish(name, files, [{} for _ in tables.kinds], {}, 0.0)
                print(f"{label}: has no recordings of its own")
                return {}
            seconds = dict(zip(digests, workers.map(lambda item: _duration(item.path), share), strict=True))
            # The longest first: what does not fit the memory shows at once.
            order = sorted(share, key=lambda item: (-seconds[item.key], item.key))
            common = {key: tables.common[key] for key in ("codec", "fingerprint")}
            header = {**common, "dtype": integer_type(self.codec)}
            with PartWriter(tables.directory, name, tables.job, tables.kinds, header) as writer:
                kept = writer.resume([(item.key, digests[item.key]) for item in order])
                done = sum(seconds[item.key] for item in order[:kept])
                with AudioProgress(
                    sum(seconds.values()), len(order), done, kept, label, self.options.log_interval
                ) as progress:
                    batches = list(self._batches(order[kept:], seconds))
                    kept += self._encode(writer, batches, digests, seconds, progress, workers)
                failures = {item.key: writer.failures[item.key] for item in order if item.key in writer.failures}
                if failures:
                    tables.list_failures(name, failures.values())
                if len(failures) <= self.options.max_errors:
                    made = sum(seconds[key] for key in seconds if key not in failures)
                    tables.finish(name, files, writer.finish(), failures, made)
        print(
            f"{label}: {len(order) - kept - len(failures)} recording(s) encoded, {progress.rate:.1f} s of audio/s"
            + (f"; {kept} were there already" if kept else "")
            + (f"; {len(failures)} cannot be encoded" if failures else "")
        )
        return failures

    def _batches(self, order: Sequence[Item], seconds: Mapping[str, float]) -> Iterator[list[Item]]:
        """Yield runs of ``order``, which begins with the longest, within the limits of a batch."""
        batch: list[Item] = []
        for item in order:
            full = len(batch) == self.options.batch_size
            if batch and (full or (len(batch) + 1) * seconds[batch[0].key] > self.options.batch_seconds):
                yield batch
                batch = []
            batch.append(item)
        if batch:
            yield batch

    def _encode(
        self,
        writer: PartWriter,
        batches: Sequence[Sequence[Item]],
        digests: Mapping[str, str],
        seconds: Mapping[str, float],
        progress: AudioProgress,
        workers: ThreadPoolExecutor,
    ) -> int:
        """Encode and append ``batches``; return how many recordings were copied from other arks instead."""

        def begin(batch: Sequence[Item]) -> list[tuple[bytes, ...] | Future[Tensor]]:
            # What another ark holds is taken from there; the rest is read while the batch before is computed.
            return [writer.reuse(digests[item.key]) or workers.submit(self._samples, item) for item in batch]

        copied = 0
        ahead = begin(batches[0]) if batches else []
        for number, batch in enumerate(batches):
            begun, ahead = ahead, begin(batches[number + 1]) if number + 1 < len(batches) else []
            made: dict[str, Made] = {}
            waveforms: dict[str, Tensor] = {}
            for item, start in zip(batch, begun, strict=True):
                if isinstance(start, tuple):
                    made[item.key] = Made(item.key, digests[item.key], start)
                    copied += 1
                    continue
                try:
                    waveforms[item.key] = start.result()
                except UserError as error:
                    made[item.key] = Made(item.key, digests[item.key], failure=str(error))
            for key, arrays in self._arrays(waveforms).items():
                made[key] = Made(key, digests[key], arrays)
            writer.append([made[item.key] for item in batch])
            for new in (False, True):
                done = [seconds[item.key] for item in batch if (item.key in waveforms) == new]
                if done:
                    progress.update(sum(done), len(done), kept=not new)
        return copied

    def _samples(self, item: Item) -> Tensor:
        """Return a recording as the codec gets it, float32 ``[L]``."""
        recording = load_recording(item.path, self.codec.sample_rate, item.level_path, key=item.key)
        return torch.from_numpy(recording.samples)

    def _arrays(self, waveforms: Mapping[str, Tensor]) -> dict[str, tuple[bytes, ...]]:
        """Return what the arks get of each waveform: codes ``[T, K]`` and, if wanted, latents float16 ``[T, D]``."""
        try:
            with torch.inference_mode():
                rows = self.codec.encode_rows(list(waveforms.values()))
        except torch.OutOfMemoryError:
            longest = max(map(len, waveforms.values())) / self.codec.sample_rate
            raise UserError(
                f"--batch_seconds: {len(waveforms)} recordings of up to {longest:.1f} s do not fit the memory of "
                f"{self.codec.device}; give a smaller number"
            ) from None
        arrays: dict[str, tuple[bytes, ...]] = {}
        for key, (codes, latents) in zip(waveforms, rows, strict=True):
            made = [kaldi_bytes(codes.T.cpu().numpy().astype(integer_type(self.codec)))]
            if len(self.tables.kinds) > 1:
                half = latents.T.cpu().numpy().astype(np.float16)
                if not np.isfinite(half).all():
                    raise UserError(
                        f"--latents: those of key '{key}' exceed float16; codec '{self.codec.name}' cannot store them"
                    )
                made.append(kaldi_bytes(half))
            arrays[key] = tuple(made)
        return arrays


def _duration(path: str) -> float:
    """Return the seconds that a file's header says, 0 if it cannot be read (loading it then says why)."""
    import soundfile

    try:
        return float(soundfile.info(path).duration)
    except (soundfile.SoundFileError, OSError, RuntimeError):
        return 0.0
