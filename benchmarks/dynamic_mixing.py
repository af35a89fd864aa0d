#!/usr/bin/env python3
"""How fast training items are made: drawn by dynamic mixing, beside mixtures read from disk, through the same data loader.

    python -m espnet_tse_gen.bin.prepare_sources --speech_dir data/train_speech --output_dir sources
    python benchmarks/dynamic_mixing.py --sources sources --workers 0 1 2

From the utterances that are listed, a few hundred are copied as 16-bit wav at the rate of the codec, and as many mixtures of
two are written with their sources, as a corpus of mixtures holds them; both in a temporary folder. Then batches are made from
each, and items per second and processor time per item are printed. Files are in the page cache after the first round, which
is not timed.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import common

from espnet_tse_gen.utils.errors import run_main

RATE, HOP = common.SAMPLE_RATE, 320


def get_parser() -> argparse.ArgumentParser:
    parser = common.get_parser(str(__doc__), threads=1, repeats=2)
    parser.add_argument("--sources", type=Path, required=True, help="folder with wav.scp, utt2spk and utt2dur")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the data loader; a column each")
    parser.add_argument("--items", type=int, default=1024, help="items per measurement")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--utterances", type=int, default=200, help="that are used, and mixtures that are written")
    parser.add_argument("--crop_seconds", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def write_corpus(sources: Sequence[Any], folder: Path, seed: int) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Write the sources as wav, and as many mixtures of two; return ``(key, speaker, path)`` of those, and keys of these."""
    import numpy as np

    from espnet_tse_gen.audio.files import read_audio
    from espnet_tse_gen.audio.writing import write_audio
    from espnet_tse_gen.data.sources import as_wav, group_by_speaker
    from espnet_tse_gen.utils.files import write_scp

    rng = np.random.default_rng(seed)
    rows, _ = as_wav([(one.name, one.speaker, one.path) for one in sources], folder / "utterances", RATE)
    paths = {key: path for key, _, path in rows}
    speakers = group_by_speaker(sources)
    tables: dict[str, dict[str, str]] = defaultdict(dict)
    for number, first in enumerate(sources):
        other = str(rng.choice([name for name in speakers if name != first.speaker]))
        second = speakers[other][int(rng.integers(len(speakers[other])))]
        signals = [read_audio(paths[one.name])[0] for one in (first, second)]
        length = min(map(len, signals))
        signals = [signal[:length] * 0.5 for signal in signals]
        key = f"mixture{number:04d}"
        for kind, samples in (("wav", signals[0] + signals[1]), ("spk1", signals[0]), ("spk2", signals[1])):
            made = folder / kind / f"{key}.wav"
            write_audio(made, samples, RATE)
            tables[kind][key] = str(made)
        for k, one in enumerate((first, second), 1):
            tables[f"enroll_spk{k}"][key] = f"*{one.name} {one.speaker}"
    for kind, table in tables.items():
        write_scp(folder / f"{kind}.scp", table)
    pool: dict[str, list[list[str]]] = defaultdict(list)
    for key, speaker, path in rows:
        pool[speaker].append([key, path])
    (folder / "spk2enroll.json").write_text(json.dumps(pool))
    return rows, list(tables["wav"])


def measure(batches: Callable[[int], Iterable[Any]], items: int, repeats: int) -> tuple[float, float]:
    """Make batches of ``items`` items once untimed and ``repeats`` times timed.

    Items per second, and milliseconds of processor time for an item, are the best of the rounds.
    """
    speeds, used = [], []
    for epoch in range(1, repeats + 2):
        start, before = time.perf_counter(), _processor_seconds()
        for _ in batches(epoch):
            pass
        if epoch > 1:
            speeds.append(items / (time.perf_counter() - start))
            used.append(1000.0 * (_processor_seconds() - before) / items)
    return max(speeds), min(used)


def _processor_seconds() -> float:
    """Return the processor time of this process and of the workers that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, kinds))


def main(cmd: Sequence[str] | None = None) -> None:
    args = common.parse(get_parser(), cmd, "items", "batch_size", "utterances")
    common.set_threads(args.threads)
    from espnet_tse_gen.utils.quiet import import_quietly

    import_quietly()
    logging.disable(logging.WARNING)
    from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
    from espnet2.train.collate_fn import CommonCollateFn

    from espnet_tse_gen.data.dynamic_mixing import DynamicMixer
    from espnet_tse_gen.data.mixing_options import MixingOptions
    from espnet_tse_gen.data.preprocessor import TSEGenPreprocessor
    from espnet_tse_gen.data.sources import read_sources, write_sources
    from espnet_tse_gen.training.dataset import DynamicMixingDataset, EpochBatches, TSEGenDataset, drawn_batches

    count = max(1, args.items // args.batch_size)
    listed = read_sources(args.sources / "wav.scp", args.sources / "utt2spk")[: args.utterances]
    with tempfile.TemporaryDirectory(prefix="dynamic_mixing_") as name:
        folder = Path(name)
        written, keys = write_corpus(listed, folder, args.seed)
        write_sources(folder / "sources", written)
        wavs = read_sources(folder / "sources" / "wav.scp", folder / "sources" / "utt2spk")

        def dynamic(sources: Sequence[Any], **options: Any) -> Any:
            mixer = DynamicMixer(
                sources, MixingOptions(**options), RATE, round(args.crop_seconds * RATE / HOP) * HOP, seed=args.seed
            )
            batches = EpochBatches(lambda number: drawn_batches(count, args.batch_size, number - args.seed))
            return DynamicMixingDataset(mixer), batches

        preprocess = TSEGenPreprocessor(
            True, RATE, HOP, train_spk2enroll=str(folder / "spk2enroll.json"), crop_seconds=args.crop_seconds
        )
        data = [(str(folder / "wav.scp"), "speech_mix", "sound")]
        for k in (1, 2):
            data += [(str(folder / f"spk{k}.scp"), f"speech_ref{k}", "sound")]
            data += [(str(folder / f"enroll_spk{k}.scp"), f"enroll_ref{k}", "text")]
        chosen = [keys[number % len(keys)] for number in range(count * args.batch_size)]
        static = [chosen[first : first + args.batch_size] for first in range(0, len(chosen), args.batch_size)]
        kinds = {
            "mixtures read from disk, wav": (TSEGenDataset(data, preprocess=preprocess), static),
            "dynamic mixing from wav": dynamic(wavs),
            f"dynamic mixing from {Path(listed[0].path).suffix[1:]}, as listed": dynamic(listed),
            "dynamic mixing from wav, overlap 30 to 100 %, in synthetic rooms": dynamic(
                wavs, overlap=(0.3, 1.0), reverb="synthetic"
            ),
        }
        collate = CommonCollateFn(float_pad_value=0.0, int_pad_value=0)
        text = f"Items of {args.crop_seconds:g} s at {RATE} Hz, {count} batches of {args.batch_size}, {len(listed)} utterances."
        report = common.head("Making training items", text, args.threads)
        rows = []
        for kind, (dataset, batches) in kinds.items():
            found = []
            for workers in args.workers:
                factory = SequenceIterFactory(dataset, batches, seed=args.seed, num_workers=workers, collate_fn=collate)
                found.append(measure(factory.build_iter, count * args.batch_size, args.repeats))
            rows.append([kind, *(f"{speed:.0f}" for speed, _ in found), f"{min(used for _, used in found):.2f}"])
    headings = ["items", *(f"items/s, {n} workers" for n in args.workers), "processor ms per item"]
    common.write_report([*report, *common.markdown(headings, rows)], args.output)


if __name__ == "__main__":
    run_main(main)
