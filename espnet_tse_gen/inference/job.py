"""One job of decoding a set: which recordings are left to do, checking them before anything is written, and the books.

Every recording that is written is entered in ``NAME.N.progress.json`` with what it was made from, so that a killed job
goes on where it was, under any number of jobs, and a changed model, option or recording is noticed.
"""

import contextlib
import csv
import json
import re
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from espnet_tse_gen.audio.files import read_audio, read_header, read_with_format
from espnet_tse_gen.audio.writing import output_subtype, write_audio
from espnet_tse_gen.inference.base import Request, TargetSpeakerExtractor, open_extractor
from espnet_tse_gen.utils.checkpoints import state_digest
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, check_same_keys, read_scp
from espnet_tse_gen.utils.jobs import Part, read_key_file, split_keys
from espnet_tse_gen.utils.state import file_state, state_of

Books = dict[str, dict[str, Any]]


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
    tables = {"mixture": mixtures, "enroll": enrolls}
    for kind, path in (("target", target_scp), ("codes", codes_scp)):
        if path:
            tables[kind] = read_scp(path)
            if missing := set(chosen) - tables[kind].keys():
                raise UserError(
                    f"{path}: {len(missing)} key(s) of {mixture_scp} are missing, first '{min(missing)}'; add them"
                )
    keys, opened = split_keys(chosen, job, num_jobs), open_extractor(model, **extractor)
    return InferenceJob(opened, tables, Path(output_dir), name, job, num_jobs).run(keys, overwrite)


@dataclass
class InferenceJob:
    """Extracts the recordings of one job; :class:`UserError` if tokens are given to a model without a codec."""

    extractor: TargetSpeakerExtractor
    # `mixture` and `enroll`: key to path; optionally `target` (paths) and `codes` (its tokens `[T, K]`, as a Kaldi scp has them)
    tables: dict[str, dict[str, str]]
    output_dir: Path
    name: str
    job: int
    num_jobs: int

    def __post_init__(self) -> None:
        self.with_codes = "codes" in self.tables
        if self.with_codes and not hasattr(self.extractor, "codec"):
            raise UserError("--codes_scp: token accuracy is that of a codec, which this model has not; leave it out")
        # How many are decoded together changes no token.
        options = {key: value for key, value in vars(self.extractor.options).items() if key != "batch_size"}
        digest = state_digest("", self.extractor.model.state_dict())
        self.settings = {"decode": json.loads(json.dumps(options)), "model": digest, "dtype": self.extractor.dtype}

    def run(self, keys: Sequence[str], overwrite: bool = False) -> str:
        """Extract what is not there yet, or everything, and return a summary of one line; see :func:`extract_set`."""
        files = [self.tables[kind][key] for kind in ("mixture", "enroll") for key in keys]
        part = Part(self.output_dir, self.name, self.job, self.num_jobs, self.settings, keys, files)
        books = {} if overwrite else self._read_books(keys)
        todo = [key for key in keys if key not in books]
        seconds = self._check(keys, set(todo))
        if todo or not part.is_complete():
            part.begin()
            self._extract(sorted(todo, key=lambda key: (seconds[key], key)), seconds, books)
            part.finish({key: str(self._wav(key)) for key in keys})
        if self.with_codes:
            self._write_accuracy({key: books[key]["accuracy"] for key in keys})
        self._remove_surplus_parts()
        whole = part.merge()
        kept = f", {len(keys) - len(todo)} were there already" if len(todo) < len(keys) else ""
        missing = "" if whole else " (other jobs have not finished)"
        return f"{part.scp}: {len(todo)} recordings extracted{kept}{missing}"

    def _wav(self, key: str) -> Path:
        return self.output_dir / "wavs" / self.name / f"{key}.wav"

    def _source(self, key: str) -> str:
        return state_of(key, files=[self.tables["mixture"][key], self.tables["enroll"][key]])

    def _codes_state(self, key: str) -> str:
        entry = self.tables["codes"][key]
        return state_of(entry, files=[re.sub(r":\d+$", "", entry)])

    def _request(self, key: str) -> tuple[Request, str]:
        """Return what is to be extracted, and the mixture's sample format."""
        paths = self.tables["mixture"][key], self.tables["enroll"][key]
        (mixture, rate, _, subtype), (enroll, enroll_rate, *_) = (read_with_format(path, key=key) for path in paths)
        names = [f"{path} (key '{key}')" for path in paths]
        request = self.extractor.request(
            mixture, enroll, rate, enroll_sample_rate=enroll_rate, row_id=f"{self.name}/{key}", mixture_name=names[0],
            enroll_name=names[1],
        )  # fmt: skip
        return request, subtype

    def _check(self, keys: Sequence[str], todo: Container[str]) -> dict[str, float]:
        """Return the durations of the mixtures ``todo`` in seconds, after reading everything that will be decoded."""
        seconds: dict[str, float] = {}
        failures: list[str] = []
        for key in keys:
            try:
                if "/" in key:
                    raise UserError(f"key '{key}': holds a slash and cannot name a file; rename it")
                if key in todo:
                    request, _ = self._request(key)
                    seconds[key] = request.size / request.sample_rate
                    if self.with_codes:
                        self._target_codes(key, len(request.mixture))
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

    def _extract(self, order: Sequence[str], seconds: dict[str, float], books: Books) -> None:
        """Decode ``order``, enter every recording in the books, and write how long it took."""
        size, spent = self.extractor.options.batch_size, 0.0
        with tqdm(total=round(sum(seconds.values())), unit=" s of audio", unit_scale=True, disable=None) as progress:
            for first in range(0, len(order), size):
                keys = order[first : first + size]
                sources = [self._source(key) for key in keys]
                requests, subtypes = zip(*map(self._request, keys), strict=True)
                start = time.perf_counter()
                extractions = self.extractor.extract(requests, confidence=False)
                spent += time.perf_counter() - start
                for key, source, request, subtype, extraction in zip(
                    keys, sources, requests, subtypes, extractions, strict=True
                ):
                    wav = self._wav(key)
                    write_audio(wav, extraction.samples, request.sample_rate, output_subtype(wav, subtype))
                    books[key] = {"source": source, "wav": file_state(wav)}
                    if self.with_codes:
                        shares = None  # of a silent mixture
                        if extraction.codes is not None:
                            right = self._target_codes(key, len(request.mixture)) == extraction.codes
                            shares = [round(float(share), 6) for share in right.mean(axis=1)]
                        books[key] |= {"accuracy": shares, "codes": self._codes_state(key)}
                    progress.update(round(seconds[key]))
                self._write_json("progress.json", {"settings": self.settings, "recordings": books})
        if order:
            device = self.extractor.device
            timing = {
                "recordings": len(order),
                "audio_seconds": round(sum(seconds.values()), 3),
                "wall_seconds": round(spent, 3),
                "passes": self.extractor.passes,
                "batch_size": size,
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
                "threads": torch.get_num_threads(),
                "dtype": self.extractor.dtype,
            }
            self._write_json("rtf.json", timing, indent=1)

    def _write_json(self, kind: str, content: Any, **settings: Any) -> None:
        with atomic_write(self.output_dir / f"{self.name}.{self.job}.{kind}") as stream:
            json.dump(content, stream, **settings)

    def _read_books(self, keys: Sequence[str]) -> Books:
        """Return the entries of ``keys`` that still hold: same settings, same inputs, the file as it was written."""
        books: Books = {}
        for path in sorted(self.output_dir.glob(f"{self.name}.*.progress.json")):
            # A damaged book only means that its recordings are made again.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                content = json.loads(path.read_text(encoding="utf-8"))
                entries = content["recordings"] if content["settings"] == self.settings else {}
                for key in entries.keys() & set(keys):
                    entry, wav = entries[key], file_state(self._wav(key))
                    holds = wav is not None and entry["wav"] == wav and entry["source"] == self._source(key)
                    if holds and not (self.with_codes and entry.get("codes") != self._codes_state(key)):
                        books[key] = entry
        return books

    def _target_codes(self, key: str, samples: int) -> np.ndarray:
        """Return the target's tokens ``[K, T]`` for a mixture of so many samples at the codec's rate."""
        import kaldiio

        entry, codec = self.tables["codes"][key], self.extractor.model.codec
        expected = codec.num_codebooks, codec.num_frames(samples)
        try:
            target = np.asarray(kaldiio.load_mat(entry)).T
        except Exception as error:  # kaldiio raises many types for a damaged file
            raise UserError(f"{entry} (key '{key}'): cannot be read as tokens ({error}); extract them again") from None
        if target.shape != expected:
            raise UserError(
                f"{entry} (key '{key}'): holds {target.shape} tokens (codebooks, frames), expected {expected}; "
                "extract them again with the codec of this model"
            )
        return target

    def _write_accuracy(self, shares: dict[str, list[float] | None]) -> None:
        with atomic_write(self.output_dir / f"{self.name}.{self.job}.token_accuracy.csv", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["key", *(f"codebook{n + 1}" for n in range(self.extractor.model.codec.num_codebooks))])
            writer.writerows([key, *rights] for key, rights in shares.items() if rights is not None)

    def _remove_surplus_parts(self) -> None:
        """Remove the tables of jobs beyond ``num_jobs``, which an earlier run with more jobs left."""
        for path in self.output_dir.glob(f"{self.name}.*"):
            rest = path.name.removeprefix(f"{self.name}.")
            found = re.fullmatch(r"(\d+)\.(scp|json|rtf\.json|token_accuracy\.csv)", rest)
            if found and int(found[1]) > self.num_jobs:
                path.unlink(missing_ok=True)


def _same_recording(enroll: str, target: str) -> bool:
    if Path(enroll).resolve() == Path(target).resolve():
        return True
    with contextlib.suppress(UserError):
        if read_header(enroll)[0] == read_header(target)[0]:
            return bool(np.array_equal(read_audio(enroll)[0], read_audio(target)[0]))
    return False
