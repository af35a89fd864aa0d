"""Measuring codecs one after the other for the table, and finding again what an earlier run measured.

The rows of a codec go into the score table as soon as they are there, everything else into ``parts/TAG.json``. Fidelity
and probe are found again apart from each other, so that a longer probe does not cost the fidelity once more.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codec_study.probe import CONDITIONS, ItemFigures, LevelFigures, ProbeResult, run_probe
from codec_study.quality import ORIGINAL, Speed, bit_rate, choose_levels, evaluate_codec, measure_speed, system_name
from codec_study.segments import collect_segments
from codec_study.tables import CodecEntry
from espnet_tse_gen.audio.recordings import Recordings
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.scoring.table import Row, read_scores, replace_rows
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write, read_scp
from espnet_tse_gen.utils.state import state_of


@dataclass(frozen=True)
class ProbeOptions:
    """How the probe is trained; see :mod:`codec_study.probe`."""

    train: Recordings  # clean speech to train on
    seconds: float = 1800.0  # audio to train on at most
    steps: int = 500  # training steps
    seed: int = 0  # of weights and batches


@dataclass(frozen=True)
class MeasuringOptions:
    """What is measured of every codec alike."""

    recordings: Recordings  # clean speech of speakers that no codec was made of
    set_name: str  # name of the set
    output_dir: Path  # where the score table and `parts` are
    levels: Sequence[str]  # numbers of levels, or `all`
    measures: Sequence[str]  # see :data:`codec_study.quality.MEASURES`
    num_jobs: int = 1  # processes that compute the measures
    speed_threads: int = 2  # threads that the codec is timed with
    probe: ProbeOptions | None = None  # `None` for no probe
    device: str = "cpu"  # where codec and probe compute
    force: bool = False  # measure again what is there

    @property
    def scores(self) -> Path:
        """The score table."""
        return self.output_dir / "scores.csv"


def read_speakers(wav_scp: str | Path) -> dict[str, str]:
    """Return ``utt2spk`` beside ``wav_scp``; empty where there is none.

    Raises:
        UserError: If it cannot be read.
    """
    path = Path(wav_scp).parent / "utt2spk"
    return read_scp(path) if path.exists() else {}


def check_probe(options: MeasuringOptions) -> None:
    """Check what the probe needs of the tables, which it would otherwise find out after the fidelity was measured.

    Raises:
        UserError: If a recording has no speaker, or a speaker is in both tables.
    """
    if options.probe is None:
        return
    found: list[set[str]] = []
    for recordings in (options.probe.train, options.recordings):
        speakers = read_speakers(recordings.wav_scp)
        missing = sorted(set(recordings) - speakers.keys())
        if missing:
            table = Path(recordings.wav_scp).parent / "utt2spk"
            raise UserError(
                f"{table}: no speaker for recording '{missing[0]}' of {recordings.wav_scp}; the probe needs it"
            )
        found.append({speakers[key] for key in recordings})
    common = found[0] & found[1]
    if common:
        raise UserError(
            f"--probe_train_scp {options.probe.train.wav_scp}: speaker '{min(common)}' is in --wav_scp too; the probe is "
            "judged on speakers that it has not heard"
        )


def measure_codec(
    tag: str, codec: AbsCodec, options: MeasuringOptions, others: Sequence[CodecEntry] = ()
) -> CodecEntry:
    """Measure one codec, or find what was measured of it on the same files with the same options.

    Args:
        tag: Name of the codec.
        codec: A codec with weights.
        options: What to measure.
        others: Codecs measured before in this run; what they say of the recordings themselves is not measured again.

    Raises:
        UserError: For recordings that cannot be used.
    """
    part = options.output_dir / "parts" / f"{tag}.json"
    known = {} if options.force else _read_part(part)
    facts = {
        "family": codec.name,
        "fingerprint": codec.fingerprint(),
        "sample_rate": codec.sample_rate,
        "frame_rate": codec.frame_rate,
        "num_levels": codec.num_levels,
        "codebook_sizes": list(codec.codebook_sizes),
        "delay": codec.delay,
    }
    codec = codec.to(options.device)
    levels = choose_levels(codec, options.levels)
    source = _source(options.recordings, facts, levels=levels, measures=list(options.measures), set=options.set_name)
    rows = _known_rows(options, tag, levels) if known.get("fidelity", {}).get("source") == source else []
    if rows:
        logging.info("%s: fidelity is there; kept", tag)
    else:
        speakers = read_speakers(options.recordings.wav_scp)
        rows = evaluate_codec(
            codec, options.recordings, levels, options.measures,
            tag=tag, set_name=options.set_name, speakers=speakers, num_jobs=options.num_jobs,
            originals={row.key: row.metrics["OVRL"] for entry in others[:1] for row in entry.of(None)},
        )  # fmt: skip
        replace_rows(options.scores, rows)
        # The same digits now as when they are found again.
        rows = _known_rows(options, tag, levels)
        known["fidelity"] = {"source": source}
        _write_part(part, known)
    speed = _speed(codec, facts, options, known, part)
    kbit = {count: bit_rate(codec, count) for count in levels}
    return CodecEntry(tag, facts, kbit, rows, speed, _probe(tag, codec, facts, options, known, part))


def _speed(
    codec: AbsCodec, facts: dict[str, Any], options: MeasuringOptions, known: dict[str, Any], part: Path
) -> Speed:
    source = _source(options.recordings, facts, threads=options.speed_threads, device=options.device)
    if known.get("speed", {}).get("source") != source:
        values = asdict(measure_speed(codec, options.recordings, options.speed_threads))
        known["speed"] = {"source": source, "values": values}
        _write_part(part, known)
    return Speed(**known["speed"]["values"])


def _probe(
    tag: str, codec: AbsCodec, facts: dict[str, Any], options: MeasuringOptions, known: dict[str, Any], part: Path
) -> list[ProbeResult]:
    probe = options.probe
    if probe is None:
        return []
    train = _source(probe.train, facts, seconds=probe.seconds, steps=probe.steps, seed=probe.seed)
    source = {"train": train, "test": _source(options.recordings, facts)}
    if known.get("probe", {}).get("source") == source:
        logging.info("%s: probe is there; kept", tag)
        return [_result(values) for values in known["probe"]["results"]]
    speakers = read_speakers(probe.train.wav_scp)
    segments = collect_segments(codec, probe.train, speakers, probe.seconds, probe.seed)
    unseen = collect_segments(
        codec, options.recordings, read_speakers(options.recordings.wav_scp), None, probe.seed, 0.5
    )
    results = [
        run_probe(codec, segments, unseen, condition, probe.steps, probe.seed, options.device)
        for condition in CONDITIONS
    ]
    known["probe"] = {"source": source, "results": [asdict(result) for result in results]}
    _write_part(part, known)
    return results


def _result(values: Mapping[str, Any]) -> ProbeResult:
    levels = [LevelFigures(**level) for level in values["levels"]]
    return ProbeResult(**{**values, "levels": levels, "items": [ItemFigures(**item) for item in values["items"]]})


def _source(recordings: Recordings, facts: Mapping[str, Any], **options: Any) -> str:
    """The state of all that a part's figures follow from."""
    keys = sorted(recordings)
    return state_of(facts["fingerprint"], options, keys, files=[recordings[key] for key in keys])


def _known_rows(options: MeasuringOptions, tag: str, levels: Sequence[int]) -> list[Row]:
    """The rows that an equal earlier run left in the score table, or nothing if they are not all there."""
    if not options.scores.exists():
        return []
    names = [system_name(tag, count) for count in levels]
    names = [ORIGINAL, *names] if "dnsmos" in options.measures else names
    rows = [row for row in read_scores(options.scores) if row.set == options.set_name and row.system in names]
    keys = set(options.recordings)
    complete = all({row.key for row in rows if row.system == name} == keys for name in names)
    return rows if complete else []


def _read_part(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_part(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path) as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")


def subset(recordings: Recordings, count: int | None) -> Recordings:
    """Return ``recordings`` cut down to ``count`` of them, evenly spread over the sorted keys."""
    keys = sorted(recordings)
    if count is None or count >= len(keys):
        return recordings
    chosen = [keys[index * len(keys) // count] for index in range(count)]
    smaller = Recordings(recordings.wav_scp, recordings.level_scp)
    smaller.paths = {key: recordings.paths[key] for key in chosen}
    return smaller


def tags_of(directories: Sequence[Path]) -> list[str]:
    """Return a name for each codec directory: its own without ``codec_`` in front.

    Raises:
        UserError: If two have the same name, or a name cannot stand in a file name.
    """
    tags = [directory.resolve().name.removeprefix("codec_") or directory.resolve().name for directory in directories]
    for index, tag in enumerate(tags):
        if tag in tags[:index] or tag == ORIGINAL:
            other = directories[tags.index(tag)]
            raise UserError(
                f"--codec_dir {directories[index]}: its name in the table would be '{tag}', as that of {other}; rename it"
            )
    return tags
