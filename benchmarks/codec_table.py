"""Compare codecs: what each keeps of speech, how fast it is, and how well its tokens can be predicted.

    python benchmarks/codec_table.py --codec_dir exp/codec_mel_16k --codec_dir exp/codec_mini_16k \\
        --wav_scp data/test/wav.scp --probe_train_scp data/train/wav.scp --output_dir exp/codec_table

writes ``codec_table.md`` for people, ``codec_table.json`` with the same figures, and ``scores.csv`` with a row per
recording. Without ``--probe_train_scp`` the tokens are not probed. A codec that was measured before on the same files
with the same options is not measured again.
"""

import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
from common import processor

from espnet_tse_gen.utils.arguments import AT_LEAST_1, PATH, boolean, command
from espnet_tse_gen.utils.errors import run_main


@command
@click.option("--codec_dir", type=PATH, multiple=True, required=True, help="codec directory; repeatable")
@click.option("--wav_scp", type=PATH, required=True, help="clean speech of speakers that no codec was made of")
@click.option("--output_dir", type=PATH, required=True, help="where codec_table.md, .json and scores.csv go")
@click.option("--set", help="name of the set; default: name of the directory of --wav_scp")
@click.option("--codebooks", default="1,2,4,8,all", help="codebooks to decode from; those a codec lacks are skipped")
@click.option("--measures", default="pesq,stoi,si_sdr,dnsmos,similarity", help="measures to compute")
@click.option("--max_recordings", type=AT_LEAST_1, help="use so many recordings only, spread over the table")
@click.option("--nj", type=AT_LEAST_1, default=1, help="processes that compute the measures")
@click.option("--speed_threads", type=AT_LEAST_1, default=2, help="threads that the codec is timed with")
@click.option("--device", default="cpu", help="cpu or cuda, for the codecs and the probe")
@click.option("--probe_train_scp", type=PATH, help="clean speech to train the probe on (other speakers)")
@click.option(
    "--probe_seconds", type=click.FloatRange(min=0, min_open=True), default=1800.0, help="audio to train it on"
)
@click.option("--probe_steps", type=AT_LEAST_1, default=500, help="training steps of the probe, for every codec")
@click.option("--resamples", type=AT_LEAST_1, default=1000, help="bootstrap resamples")
@click.option("--command", help="command to print in the head; default: this one")
@boolean("--force", "measure again what is there")
def main(**options: Any) -> None:
    """Compare codecs: fidelity at several numbers of codebooks, speed, and predictability of tokens."""
    args = SimpleNamespace(**options)
    output: Path = args.output_dir
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s: %(message)s")

    import torch
    from codec_study.measuring import MeasuringOptions, check_probe, measure_codec, subset, tags_of
    from codec_study.quality import check_measures, choose_codebooks
    from codec_study.tables import CodecEntry, render_codec_table, table_values

    from espnet_tse_gen.audio.recordings import Recordings
    from espnet_tse_gen.codec.registry import load_codec
    from espnet_tse_gen.report.environment import describe_environment
    from espnet_tse_gen.scoring.results import Bootstrap
    from espnet_tse_gen.utils.files import atomic_write

    tags = tags_of(args.codec_dir)
    codebooks, measures = (
        args.codebooks.replace(",", " ").split(),
        check_measures(args.measures.replace(",", " ").split()),
    )
    name = args.set or args.wav_scp.resolve().parent.name
    recordings = subset(Recordings(args.wav_scp), args.max_recordings)
    train = Recordings(args.probe_train_scp) if args.probe_train_scp else None
    measuring = MeasuringOptions(
        recordings, name, output, codebooks, measures, args.nj, args.speed_threads, train, args.probe_seconds,
        args.probe_steps, args.device, args.force,
    )  # fmt: skip
    check_probe(measuring)
    # Every codec is loaded once before the first is measured: a wrong one is told now and not in an hour.
    for directory in args.codec_dir:
        choose_codebooks(load_codec(directory), codebooks)
    entries: list[CodecEntry] = []
    for tag, directory in zip(tags, args.codec_dir, strict=True):
        entries.append(measure_codec(tag, load_codec(directory), measuring, entries))
    bootstrap = Bootstrap(args.resamples)
    gpu = f", {torch.cuda.get_device_name(args.device)}" if args.device.startswith("cuda") else ""
    environment = {
        **describe_environment(args.command),
        "machine": f"{processor()['model name']}, {len(os.sched_getaffinity(0))} logical cores{gpu}",
        "codecs": ", ".join(f"{entry.tag} {entry.facts['fingerprint'][:12]}" for entry in entries),
    }
    with atomic_write(output / "codec_table.json") as stream:
        json.dump(table_values(entries, name, environment, bootstrap), stream, indent=1)
    text = render_codec_table(entries, name, environment, bootstrap)
    with atomic_write(output / "codec_table.md") as stream:
        stream.write(text)
    print(f"{text}\ntable -> {output / 'codec_table.md'}")


if __name__ == "__main__":
    run_main(main)
