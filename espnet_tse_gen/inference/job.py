"""One job of decoding a set: which recordings are left to do, checking them before anything is written, and the books.

Every recording that is written is entered in ``NAME.N.progress.json`` with what it was made from, so that a killed job
goes on where it was, under any number of jobs, and a changed model, option or recording is noticed.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from espnet_tse_gen.audio.files import output_subtype, read_audio, read_header, read_with_format, write_audio
from espnet_tse_gen.inference.base import Extraction, Request, TargetSpeakerExtractor, open_extractor
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, check_same_keys, read_scp
from espnet_tse_gen.utils.jobs import Part, read_key_file, split_keys
from espnet_tse_gen.utils.state import file_state, state_of

if TYPE_CHECKING:
    from espnet_tse_gen.codec.base import AbsCodec

Books = dict[str, dict[str, Any]]


class InferenceJob:
    """Extracts the recordings of one job.

    Raises:
        UserError: If tokens are given to a model without a codec.
    """

    def __init__(
        self,
        extractor: TargetSpeakerExtractor,  # model of any kind, with its options
        # `mixture` and `enroll`: key to path; optionally `target` (paths) and `codes` (its tokens, entries of a Kaldi
        # scp with `[T, K]` arrays)
        tables: Mapping[str, Mapping[str, str]],
        output_dir: str | Path,  # where recordings and tables go
        name: str,
        *,
        job: int = 1,
        num_jobs: int = 1,
    ) -> None:
        self.extractor, self.tables, self.name = extractor, tables, name
        self.output_dir, self.job, self.num_jobs = Path(output_dir), job, num_jobs
        self.codec: AbsCodec | None = getattr(extractor, "codec", None)
        if "codes" in tables and self.codec is None:
            raise UserError("--codes_scp: token accuracy is that of a codec, which this model has not; leave it out")
        options = dataclasses.asdict(extractor.options)
        # How many are decoded together changes no token.
        del options["batch_size"]
        self.settings = {
            "decode": json.loads(json.dumps(options)),
            "model": _weights_digest(extractor),
            "dtype": extractor.dtype,
        }

    def run(self, keys: Sequence[str], overwrite: bool = False) -> str:
        """Extract what is not there yet, and return a summary of one line.

        Args:
            overwrite: Make again what is there.

        Raises:
            UserError: If a recording cannot be used; then nothing has been changed.
        """
        files = [self.tables[kind][key] for kind in ("mixture", "enroll") for key in keys]
        part = Part(self.output_dir, self.name, self.job, self.num_jobs, self.settings, keys, files)
        books = {} if overwrite else self._read_books(keys)
        todo = [key for key in keys if key not in books]
        seconds = self._check(todo)
        if todo or not part.is_complete():
            part.begin()
            self._extract(sorted(todo, key=lambda key: (seconds[key], key)), seconds, books)
            part.finish({key: str(self._wav(key)) for key in keys})
        self._write_accuracy(keys, books)
        self._remove_surplus_parts()
        whole = part.merge()
        kept = f", {len(keys) - len(todo)} were there already" if len(todo) < len(keys) else ""
        missing = "" if whole else " (other jobs have not finished)"
        return f"{part.scp}: {len(todo)} recordings extracted{kept}{missing}"

    def _wav(self, key: str) -> Path:
        return self.output_dir / "wavs" / self.name / f"{key}.wav"

    def _source(self, key: str) -> str:
        return state_of(key, files=[self.tables["mixture"][key], self.tables["enroll"][key]])

    def _request(self, key: str) -> tuple[Request, str]:
        """Return what is to be extracted, and the mixture's sample format."""
        paths = self.tables["mixture"][key], self.tables["enroll"][key]
        (mixture, rate, _, subtype), (enroll, enroll_rate, *_) = (read_with_format(path, key=key) for path in paths)
        names = [f"{path} (key '{key}')" for path in paths]
        request = self.extractor.request(
            mixture,
            enroll,
            rate,
            enroll_sample_rate=enroll_rate,
            row_id=f"{self.name}/{key}",
            mixture_name=names[0],
            enroll_name=names[1],
        )
        return request, subtype

    def _check(self, keys: Sequence[str]) -> dict[str, float]:
        """Return the mixtures' durations in seconds, after reading everything that will be decoded."""
        seconds: dict[str, float] = {}
        failures: list[str] = []
        for key in keys:
            try:
                if "/" in key:
                    raise UserError(f"key '{key}': holds a slash and cannot name a file; rename it")
                request, _ = self._request(key)
                seconds[key] = request.size / request.sample_rate
                if self.codec is not None and "codes" in self.tables:
                    self._target_codes(key, self.codec, self.codec.num_frames(len(request.mixture)))
                if "target" in self.tables and _same_recording(self.tables["enroll"][key], self.tables["target"][key]):
                    raise UserError(
                        f"{self.tables['enroll'][key]} (key '{key}'): the enrolment is the target utterance itself; "
                        "choose another utterance of the speaker"
                    )
            except UserError as error:
                failures.append(str(error))
        if failures:
            more = f" ({len(failures)} of {len(keys)} recordings cannot be used)" if len(failures) > 1 else ""
            raise UserError(failures[0] + more)
        return seconds

    def _extract(self, order: Sequence[str], seconds: Mapping[str, float], books: Books) -> None:
        """Decode ``order`` and enter every recording in the books."""
        from tqdm import tqdm

        size = self.extractor.options.batch_size
        spent = 0.0
        progress = tqdm(total=round(sum(seconds.values())), unit=" s of audio", unit_scale=True, disable=None)
        for first in range(0, len(order), size):
            keys = order[first : first + size]
            sources = {key: self._source(key) for key in keys}
            requests, subtypes = zip(*(self._request(key) for key in keys), strict=True)
            start = time.perf_counter()
            extractions = self.extractor.extract(requests)
            spent += time.perf_counter() - start
            for key, request, subtype, extraction in zip(keys, requests, subtypes, extractions, strict=True):
                wav = self._wav(key)
                write_audio(wav, extraction.samples, request.sample_rate, output_subtype(wav, subtype))
                books[key] = {"source": sources[key], "wav": file_state(wav)}
                if self.codec is not None and "codes" in self.tables:
                    books[key]["accuracy"] = self._accuracy(key, self.codec, extraction)
                progress.update(round(seconds[key]))
            with atomic_write(self._book(self.job)) as stream:
                json.dump({"settings": self.settings, "recordings": books}, stream)
        progress.close()
        if order:
            self._write_timing(len(order), sum(seconds.values()), spent)

    def _book(self, job: int | str) -> Path:
        return self.output_dir / f"{self.name}.{job}.progress.json"

    def _read_books(self, keys: Sequence[str]) -> Books:
        """Return the entries of ``keys`` that still hold: same settings, same inputs, the file as it was written."""
        wanted = set(keys)
        books: Books = {}
        for path in sorted(self.output_dir.glob(f"{self.name}.*.progress.json")):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                entries = content["recordings"] if content["settings"] == self.settings else {}
                for key in wanted & entries.keys():
                    entry, wav = entries[key], file_state(self._wav(key))
                    if wav is None or ("codes" in self.tables and "accuracy" not in entry):
                        continue
                    if entry["wav"] == wav and entry["source"] == self._source(key):
                        books[key] = entry
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # a damaged book only means that its recordings are made again
        return books

    def _target_codes(self, key: str, codec: AbsCodec, frames: int) -> np.ndarray:
        """Return the target's tokens ``[K, T]``."""
        import kaldiio

        entry, levels = self.tables["codes"][key], codec.num_levels
        try:
            target = np.asarray(kaldiio.load_mat(entry)).T
        except Exception as error:  # kaldiio raises many types for a damaged file
            raise UserError(f"{entry} (key '{key}'): cannot be read as tokens ({error}); extract them again") from None
        if target.shape != (levels, frames):
            raise UserError(
                f"{entry} (key '{key}'): holds {target.shape} tokens (levels, frames), expected {(levels, frames)}; "
                "extract them again with the codec of this model"
            )
        return target

    def _accuracy(self, key: str, codec: AbsCodec, extraction: Extraction) -> list[float] | None:
        """Return the share of right tokens per level, or None for a silent mixture."""
        if extraction.codes is None:
            return None
        right = self._target_codes(key, codec, extraction.codes.shape[1]) == extraction.codes
        return [round(float(share), 6) for share in right.mean(axis=1)]

    def _write_accuracy(self, keys: Sequence[str], books: Books) -> None:
        if self.codec is None or "codes" not in self.tables:
            return
        with atomic_write(self.output_dir / f"{self.name}.{self.job}.token_accuracy.csv", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["key", *(f"level{n + 1}" for n in range(self.codec.num_levels))])
            writer.writerows([key, *books[key]["accuracy"]] for key in keys if books[key].get("accuracy") is not None)

    def _remove_surplus_parts(self) -> None:
        """Remove the tables of jobs beyond ``num_jobs``, which an earlier run with more jobs left."""
        for kind in ("scp", "json", "rtf.json", "token_accuracy.csv"):
            for path in self.output_dir.glob(f"{self.name}.*.{kind}"):
                number = path.name[len(self.name) + 1 : -len(kind) - 1]
                if number.isdigit() and int(number) > self.num_jobs:
                    path.unlink(missing_ok=True)

    def _write_timing(self, recordings: int, audio_seconds: float, wall_seconds: float) -> None:
        content = {
            "recordings": recordings,
            "audio_seconds": round(audio_seconds, 3),
            "wall_seconds": round(wall_seconds, 3),
            "passes": self.extractor.passes,
            "batch_size": self.extractor.options.batch_size,
            "device": _device_name(self.extractor.device),
            "threads": torch.get_num_threads(),
            "dtype": self.extractor.dtype,
        }
        with atomic_write(self.output_dir / f"{self.name}.{self.job}.rtf.json") as stream:
            json.dump(content, stream, indent=1)


def extract_set(
    model: str,
    mixture_scp: str,
    enroll_scp: str,
    output_dir: str,
    name: str,
    target_scp: str | None = None,
    codes_scp: str | None = None,
    key_file: str | None = None,
    job: int = 1,
    num_jobs: int = 1,
    overwrite: bool = False,
    **extractor: Any,
) -> str:
    """Do one job of extracting a set; return a summary of one line.

    Arguments are the options of ``bin.tse_gen_inference``; what is in ``extractor``, :func:`open_extractor` takes.

    Raises:
        UserError: If tables, model, options or recordings cannot be used; then nothing has been changed.
    """
    mixtures, enrolls = check_same_keys(mixture_scp, enroll_scp)
    chosen = read_key_file(key_file, mixtures) if key_file else list(mixtures)
    keys = split_keys(chosen, job, num_jobs)
    tables = {"mixture": mixtures, "enroll": enrolls}
    tables |= {
        kind: _covering(path, chosen, mixture_scp)
        for kind, path in (("target", target_scp), ("codes", codes_scp))
        if path
    }
    opened = open_extractor(model, **extractor)
    return InferenceJob(opened, tables, output_dir, name, job=job, num_jobs=num_jobs).run(keys, overwrite)


def _covering(path: str, keys: Sequence[str], mixture_scp: str) -> dict[str, str]:
    """Read a table that must have all ``keys`` (and may have more)."""
    table = read_scp(path)
    missing = sorted(set(keys) - table.keys())
    if missing:
        raise UserError(f"{path}: {len(missing)} key(s) of {mixture_scp} are missing, first '{missing[0]}'; add them")
    return table


def _weights_digest(extractor: TargetSpeakerExtractor) -> str:
    """Return the SHA-256 of all weights, a codec's fingerprint among them."""
    digest = hashlib.sha256()
    for name, value in sorted(extractor.model.state_dict().items()):
        array = value.detach().cpu().float().contiguous().numpy()
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _same_recording(enroll: str, target: str) -> bool:
    if Path(enroll).resolve() == Path(target).resolve():
        return True
    try:
        if read_header(enroll)[0] != read_header(target)[0]:
            return False
    except UserError:
        return False
    return bool(np.array_equal(read_audio(enroll)[0], read_audio(target)[0]))
