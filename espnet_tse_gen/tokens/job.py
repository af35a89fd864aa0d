"""Token extraction: which recordings a job encodes, in batches read ahead, and how tables over them are put together.

Several tables may be made at once. A recording (a file, together with the mixture that sets its level) that is named more
than once is encoded once, for the first table that names it. Job ``N`` of ``M`` encodes every ``M``-th recording of each
table; whichever job finds all recordings of all tables in the arks writes ``NAME.scp`` and the manifest ``NAME.json``.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import espnet_tse_gen
from espnet_tse_gen.audio.recordings import Recording, duration, load_recording, read_tables
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.registry import load_codec
from espnet_tse_gen.tokens.store import Places, Store, read_places, remove_unused
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write
from espnet_tse_gen.utils.jobs import read_key_file, split_keys
from espnet_tse_gen.utils.parallel import checked_device, set_threads
from espnet_tse_gen.utils.state import state_of

BATCH_SECONDS = {"cpu": 60.0, "cuda": 300.0}
"""Audio in a batch at most, where a command line names nothing else."""
LATENTS = "_latents"
"""What is appended to a table's name for the table of latents."""
TABLE_FILES = (".json", ".scp", f"{LATENTS}.scp")


class Item(NamedTuple):
    """A recording to encode."""

    path: str
    level_path: str | None  # the mixture that sets its level; `None`: it sets its own

    def digest(self) -> str:
        """Return the state of what its tokens are made from, beside the codec."""
        return state_of(files=self)


@dataclass
class Extraction:
    """One job of the extraction of some tables.

    Raises:
        UserError: If ``job`` is not within ``1..num_jobs``.
    """

    codec: AbsCodec  # on the device where it computes
    tables: Mapping[str, dict[str, Item]]  # what each key of each table stands for
    directory: Path  # where they go
    codec_tag: str  # name of the codec directory, for the manifests
    job: int
    num_jobs: int
    latents: bool  # also keep the encoder's output, float16 [T, D]
    # How the job goes about it, which does not change what it makes:
    batch_size: int  # recordings in a batch at most
    batch_seconds: float  # audio in a batch at most, each recording counted as long as the longest
    max_errors: int  # recordings, of all jobs, that may have no tokens
    num_workers: int  # threads that read recordings ahead
    log_interval: float  # seconds between lines of progress in a log

    def __post_init__(self) -> None:
        codec = self.codec
        self.label = f"job {self.job} of {self.num_jobs}"
        self.kinds = ["", LATENTS] if self.latents else [""]
        # The smallest type that ESPnet's reader of arks takes; it refuses unsigned ones.
        self.dtype = "int16" if codec.codebook_size <= 1 << 15 else "int32"
        common = {"codec": codec.name, "fingerprint": codec.fingerprint(), "dtype": self.dtype}
        self.header = {**common, "kinds": self.kinds, "version": espnet_tse_gen.__version__}
        self.manifest = {
            **common,
            "codec_tag": self.codec_tag,
            "codec_conf": codec.conf(),
            "sample_rate": codec.sample_rate,
            "frame_rate": codec.frame_rate,
            "codebooks": codec.num_codebooks,
            "codebook_sizes": list(codec.codebook_sizes),
            "latents": self.latents,
        }
        self.shares: dict[str, list[tuple[str, Item]]] = {}
        self.owned: dict[str, int] = {}
        """Recordings that are encoded for each table, by all jobs."""
        owners: set[Item] = set()
        for name, items in self.tables.items():
            mine = {item: key for key, item in reversed(items.items()) if item not in owners}
            owners |= mine.keys()
            self.owned[name] = len(mine)
            self.shares[name] = [(key, items[key]) for key in split_keys(mine.values(), self.job, self.num_jobs)]

    def run(self) -> None:
        """Encode this job's recordings, and write all tables if no other job has any left to encode.

        Raises:
            UserError: If more recordings than allowed have no tokens, the files cannot be written, or a batch does not fit
                the memory.
        """
        with ThreadPoolExecutor(self.num_workers) as workers:
            known = read_places(self.directory, self.header)
            if self._merge({digest: one for digest, one in known.items() if not isinstance(one, str)}, workers):
                print(f"{self.directory}, {self.label}: is complete and up to date; kept")
                return
            for path in (self.directory / f"{name}{tail}" for name in self.tables for tail in TABLE_FILES):
                with contextlib.suppress(OSError):  # opening the arks tells what is wrong
                    path.unlink()
            failures = {name: self._encode_share(name, workers) for name in self.tables}
            count = sum(map(len, failures.values()))
            if count > self.max_errors:
                where = " and ".join(str(self._errors(name)) for name, reasons in failures.items() if reasons)
                raise UserError(
                    f"{count} of {sum(map(len, self.shares.values()))} recordings cannot be encoded, first: "
                    f"{next(reason for reasons in failures.values() for reason in reasons)}. All are listed in {where}; "
                    "correct or remove them and run this again (what is done is kept), or allow them to be missing with "
                    f"--max_errors {count}"
                )
            self._merge(read_places(self.directory, self.header), workers, count > 0)

    def _encode_share(self, name: str, workers: ThreadPoolExecutor) -> list[str]:
        """Encode what is not in an ark yet of this job's recordings of a table; return why some have no tokens."""
        share, label = self.shares[name], f"{self.directory}/{name}, {self.label}"
        digests = dict(zip(share, workers.map(lambda entry: entry[1].digest(), share), strict=True))
        failures: list[str] = []
        with Store(self.directory, name, self.job, self.header) as store:
            known = read_places(self.directory, self.header)
            left = [entry for entry in share if isinstance(known.get(digests[entry], ""), str)]
            seconds = dict(zip(left, workers.map(lambda entry: duration(entry[1].path), left), strict=True))
            batches: list[list[tuple[str, Item]]] = []
            # The longest first: what does not fit the memory shows at once.
            for entry in sorted(left, key=lambda entry: (-seconds[entry], entry[0])):
                size = len(batches[-1]) if batches else self.batch_size
                if size == self.batch_size or (size + 1) * seconds[batches[-1][0]] > self.batch_seconds:
                    batches.append([])
                batches[-1].append(entry)
            start, total = time.monotonic(), sum(seconds.values())
            with self._progress(total, label) as bar:
                for batch, made in zip(batches, self._encoded(batches, workers), strict=True):
                    store.append([(key, digests[key, item], made[key]) for key, item in batch])
                    failures += [reason for reason in made.values() if isinstance(reason, str)]
                    bar.update(sum(seconds[entry] for entry in batch))
        self._errors(name).unlink(missing_ok=True)
        if failures:
            with atomic_write(self._errors(name)) as stream:
                stream.writelines(f"{reason}\n" for reason in failures)
        rate = total / max(time.monotonic() - start, 1e-6)
        print(
            f"{label}: {len(left) - len(failures)} recording(s) encoded, {rate:.1f} s of audio/s; "
            f"{len(share) - len(left)} were there already; {len(failures)} cannot be encoded"
        )
        return failures

    def _encoded(
        self, batches: Sequence[Sequence[tuple[str, Item]]], workers: ThreadPoolExecutor
    ) -> Iterator[dict[str, list[np.ndarray] | str]]:
        """Yield the arrays of each batch's recordings or why there are none; the next batch is read meanwhile."""
        ahead: dict[str, Future[Recording]] = {}
        rate = self.codec.sample_rate
        for batch in [*batches, []]:
            begun = ahead
            ahead = {key: workers.submit(load_recording, item[0], rate, item[1], key=key) for key, item in batch}
            made: dict[str, list[np.ndarray] | str] = {}
            waveforms: dict[str, Tensor] = {}
            for key, future in begun.items():
                try:
                    waveforms[key] = torch.from_numpy(future.result().samples)
                except UserError as error:
                    made[key] = str(error)
            if begun:
                yield {**made, **self._arrays(waveforms)}

    def _arrays(self, waveforms: Mapping[str, Tensor]) -> dict[str, list[np.ndarray]]:
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
        made: dict[str, list[np.ndarray]] = {}
        for key, (codes, latents) in zip(waveforms, rows, strict=True):
            made[key] = [codes.T.cpu().numpy().astype(self.dtype)]
            if self.latents:
                half = latents.T.cpu().numpy().astype(np.float16)
                if not np.isfinite(half).all():
                    raise UserError(
                        f"--latents: those of key '{key}' exceed float16; codec '{self.codec.name}' cannot store them"
                    )
                made[key].append(half)
        return made

    def _merge(self, places: Places, workers: ThreadPoolExecutor, own_failures: bool = False) -> bool:
        """Write every table and its manifest if ``places`` tells of all recordings; return whether it did."""
        distinct = list({item for items in self.tables.values() for item in items.values()})
        if len(places) < len(distinct):
            return False  # without a look at all the files
        digests = dict(zip(distinct, workers.map(Item.digest, distinct), strict=True))
        if not places.keys() >= set(digests.values()):
            return False
        failed = {item: str(places[digest]) for item, digest in digests.items() if isinstance(places[digest], str)}
        if len(failed) > self.max_errors:
            if not own_failures:
                return False  # the job whose recordings these are may be about to try them again
            raise UserError(
                f"{len(failed)} of {len(distinct)} recordings of all jobs cannot be encoded, first: "
                f"{next(iter(failed.values()))}. All are listed in {self.directory}/*.errors; correct or remove them and "
                f"run this again, or allow them to be missing with --max_errors {len(failed)}"
            )
        used: list[str] = []
        for name, items in self.tables.items():
            for number, kind in enumerate(self.kinds):
                table = {key: places[digests[item]][number] for key, item in items.items() if item not in failed}
                if not table:
                    raise UserError(f"{self.directory}/{name}{kind}.scp: none of its recordings could be encoded")
                used += table.values()
                lines = "".join(f"{key} {place}\n" for key, place in table.items())
                _write(self.directory / f"{name}{kind}.scp", lines)
            missing = {key: failed[item] for key, item in items.items() if item in failed}
            content = {**self.manifest, "recordings": len(items) - len(missing), "missing": missing}
            content["encoded"] = self.owned[name]
            _write(self.directory / f"{name}.json", json.dumps(content, indent=1, sort_keys=True))
        remove_unused(self.directory, list(self.tables), used)
        if failed:
            print(
                f"{self.directory}: {len(failed)} recording(s) have no tokens and are missing from the tables, as "
                f"--max_errors {self.max_errors} allows; training and decoding want the same keys everywhere: "
                "remove them there too"
            )
        return True

    def _errors(self, name: str) -> Path:
        return self.directory / f"{name}.{self.job}.errors"

    def _progress(self, total: float, label: str) -> Any:
        """Return a bar over seconds of audio; in a log it is a line now and then."""
        options: dict[str, Any] = {"total": total, "desc": label, "unit": " s of audio", "disable": not total}
        if sys.stderr.isatty():
            return tqdm(**{**options, "total": round(total)}, unit_scale=True)
        line = "{desc}: {n:.0f} of {total:.0f} s of audio, {rate_fmt}, {remaining} left\n"
        interval = self.log_interval
        return tqdm(**options, bar_format=line, mininterval=interval, maxinterval=interval + 1, delay=interval)


def _write(path: Path, text: str) -> None:
    """Write a file, unless it holds that already: what is made of it is then not out of date."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with atomic_write(path) as stream:
            stream.write(text)


def tokenize(
    codec_dir: str,
    output_dir: str,
    wav_scp: Sequence[str],
    level_scp: Sequence[str],
    name: Sequence[str],
    key_file: str | None,
    batch_seconds: float | None,
    batched: bool,
    device: str,
    num_threads: int,
    job: int,
    num_jobs: int,
    **options: Any,
) -> None:
    """Do one job of encoding tables of recordings, as a command line names them; ``options`` are :class:`Extraction`'s.

    Raises:
        UserError: If options do not go together, or codec, tables or recordings cannot be used.
    """
    if len(name) != len(wav_scp):
        raise UserError(f"--name: expected one for each --wav_scp ({len(wav_scp)}), got {len(name)}")
    tables: dict[str, dict[str, Item]] = {}
    for one, table in zip(name, read_tables(wav_scp, level_scp), strict=True):
        if one in tables:
            raise UserError(f"--name {one}: given twice; every table needs a name of its own")
        keys = read_key_file(key_file, table) if key_file else list(table)
        pairs = {key: (table[key], table.level_path(key)) for key in sorted(keys)}
        tables[one] = {key: Item(path, None if level == path else level) for key, (path, level) in pairs.items()}
    set_threads(num_threads)
    codec = load_codec(codec_dir).to(checked_device(device))
    codec.batched = batched
    seconds = batch_seconds or BATCH_SECONDS.get(codec.device.type, BATCH_SECONDS["cpu"])
    tag = Path(codec_dir).resolve().name.removeprefix("codec_")
    Extraction(codec, tables, Path(output_dir), tag, job, num_jobs, batch_seconds=seconds, **options).run()
