"""Measuring codecs one after the other for the table, and finding again what an earlier run measured.

The rows of a codec go into the score table as soon as they are there, and everything into ``parts/TAG.json``. Fidelity, speed
and probe are found again apart from each other, so that a longer probe does not cost the fidelity once more.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codec_study.probe import CONDITIONS, CodebookFigures, ItemFigures, ProbeResult, run_probe
from codec_study.quality import ORIGINAL, Speed, bit_rate, choose_codebooks, evaluate_codec, measure_speed
from codec_study.segments import collect_segments
from codec_study.tables import CodecEntry
from espnet_tse_gen.audio.recordings import Recordings
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.scoring.items import read_if_there
from espnet_tse_gen.scoring.table import Row, replace_rows
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import atomic_write
from espnet_tse_gen.utils.state import state_of


@dataclass(frozen=True)
class MeasuringOptions:
    """What is measured of every codec alike."""

    recordings: Recordings  # clean speech of speakers that no codec was made of
    set_name: str  # name of the set
    output_dir: Path  # where the score table and `parts` are
    codebooks: Sequence[str]  # numbers of codebooks, or `all`
    measures: Sequence[str]  # see :data:`codec_study.quality.MEASURES`
    num_jobs: int  # processes that compute the measures
    speed_threads: int  # threads that the codec is timed with
    probe_train: Recordings | None  # clean speech to train the probe on; `None` for no probe
    probe_seconds: float  # audio to train it on at most
    probe_steps: int  # training steps of it
    device: str  # where codec and probe compute
    force: bool  # measure again what is there


def read_speakers(recordings: Recordings) -> dict[str, str]:
    """Return ``utt2spk`` beside the table of ``recordings``; empty where there is none."""
    return read_if_there(Path(recordings.wav_scp).parent / "utt2spk")


def check_probe(options: MeasuringOptions) -> None:
    """Require a speaker for each recording, and others in training, before the fidelity is measured."""
    if options.probe_train is None:
        return
    found: list[set[str]] = []
    for recordings in (options.probe_train, options.recordings):
        speakers = read_speakers(recordings)
        missing, scp = sorted(recordings.keys() - speakers.keys()), Path(recordings.wav_scp)
        if missing:
            raise UserError(
                f"{scp.parent / 'utt2spk'}: no speaker for recording '{missing[0]}' of {scp}; the probe needs it"
            )
        found.append({speakers[key] for key in recordings})
    if common := found[0] & found[1]:
        raise UserError(
            f"--probe_train_scp {options.probe_train.wav_scp}: speaker '{min(common)}' is in --wav_scp too; the probe is "
            "judged on speakers that it has not heard"
        )


def measure_codec(
    tag: str, codec: AbsCodec, options: MeasuringOptions, others: Sequence[CodecEntry] = ()
) -> CodecEntry:
    """Measure one codec, or find what was measured of it on the same files with the same options.

    What ``others``, measured before in this run, say of the recordings themselves is not measured again.
    """
    part, recordings = options.output_dir / "parts" / f"{tag}.json", options.recordings
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        known = {} if options.force else dict(json.loads(part.read_text(encoding="utf-8")))
    facts = {
        "family": codec.name,
        "fingerprint": codec.fingerprint(),
        "sample_rate": codec.sample_rate,
        "frame_rate": codec.frame_rate,
        "num_codebooks": codec.num_codebooks,
        "codebook_sizes": list(codec.codebook_sizes),
        "delay": codec.delay,
    }
    codec = codec.to(options.device)
    codebooks = choose_codebooks(codec, options.codebooks)

    def kept(name: str, make: Callable[[], Any], of: Sequence[Recordings], **conf: Any) -> Any:
        """What ``make`` returned for the same codec, files and options before, or returns now, as plain values."""
        files = [recordings[key] for recordings in of for key in sorted(recordings)]
        source = state_of(facts["fingerprint"], conf, [sorted(one) for one in of], files=files)
        if known.get(name, {}).get("source") == source:
            logging.info("%s: %s is there; kept", tag, name)
        else:
            known[name] = {"source": source, "values": make()}
            with atomic_write(part) as stream:
                json.dump(known, stream, indent=1)
        return known[name]["values"]

    def fidelity() -> list[dict[str, Any]]:
        originals = {row.key: row.metrics["OVRL"] for entry in others[:1] for row in entry.of(None)}
        rows = evaluate_codec(
            codec, recordings, codebooks, options.measures, tag=tag, set_name=options.set_name,
            speakers=read_speakers(recordings), num_jobs=options.num_jobs, originals=originals,
        )  # fmt: skip
        return [asdict(row) for row in rows]

    def probes(train: Recordings) -> list[dict[str, Any]]:
        seen = collect_segments(codec, train, read_speakers(train), options.probe_seconds)
        unseen = collect_segments(codec, recordings, read_speakers(recordings), min_seconds=0.5)
        steps, device = options.probe_steps, options.device
        return [asdict(run_probe(codec, seen, unseen, kind, steps, device=device)) for kind in CONDITIONS]

    found = kept(
        "fidelity", fidelity, [recordings], codebooks=codebooks, measures=options.measures, set=options.set_name,
        speakers=read_speakers(recordings),
    )  # fmt: skip
    rows = [Row(**values) for values in found]
    replace_rows(options.output_dir / "scores.csv", rows)
    timing = {"threads": options.speed_threads, "device": options.device}
    speed = kept(
        "speed", lambda: asdict(measure_speed(codec, recordings, options.speed_threads)), [recordings], **timing
    )
    results, train = [], options.probe_train
    if train is not None:
        speakers = [read_speakers(one) for one in (train, recordings)]
        training = {"seconds": options.probe_seconds, "steps": options.probe_steps, "speakers": speakers}
        results = kept("probe", lambda: probes(train), [train, recordings], **training)
    kbit = {count: bit_rate(codec, count) for count in codebooks}
    return CodecEntry(tag, facts, kbit, rows, Speed(**speed), list(map(_result, results)))


def _result(values: Mapping[str, Any]) -> ProbeResult:
    codebooks = [CodebookFigures(**codebook) for codebook in values["codebooks"]]
    return ProbeResult(**{**values, "codebooks": codebooks, "items": [ItemFigures(**item) for item in values["items"]]})


def subset(recordings: Recordings, count: int | None) -> Recordings:
    """Cut ``recordings`` down to ``count`` of them, evenly spread over the sorted keys, and return them."""
    keys = sorted(recordings)
    if count is None or count >= len(keys):
        return recordings
    for key in {*keys}.difference(keys[n * len(keys) // count] for n in range(count)):
        del recordings[key]
    return recordings


def tags_of(directories: Sequence[Path]) -> list[str]:
    """Return a name for each codec directory: its own without ``codec_`` in front; all must differ."""
    tags = [directory.resolve().name.removeprefix("codec_") or directory.resolve().name for directory in directories]
    for index, tag in enumerate(tags):
        if tag in tags[:index] or tag == ORIGINAL:
            other = directories[tags.index(tag)]
            raise UserError(
                f"--codec_dir {directories[index]}: its name in the table would be '{tag}', as that of {other}; rename it"
            )
    return tags
