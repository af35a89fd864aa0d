"""Preparing sets of LibriMix as a command line names them: metadata, mixtures, data directories."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from espnet_tse_gen.data.corpus import segment_corpus, wanted_speakers
from espnet_tse_gen.data.enrolment.lists import EnrolmentOptions, list_file
from espnet_tse_gen.data.librimix.drawing import make_metadata, rows_without, write_metadata
from espnet_tse_gen.data.librimix.generation import plan_generation, report_disk_use, run_plan
from espnet_tse_gen.data.librimix.layout import MixtureTree, find_metadata
from espnet_tse_gen.data.librimix.preparing import list_mixtures, prepare_directory
from espnet_tse_gen.utils.errors import UserError


def prepare_metadata(**options: Any) -> None:
    """Write a metadata file drawn from the speakers of a list, or taken from another one; options as of ``prepare_libri2mix``."""
    _need(options, "metadata", "speakers_json" if options["rows_of"] else "librispeech")
    split, root, jobs = options["split"], options["librispeech"], options["nj"]
    subsets = wanted_speakers(options["speakers_json"], split, options["subsets"].replace(",", " ").split() or None)
    if options["rows_of"]:
        rows = rows_without(options["rows_of"], {speaker for own in subsets.values() for speaker in own or ()})
    else:
        if options["segment_seconds"]:
            _need(options, "segment_dir")
            count = segment_corpus(root, subsets, options["segment_dir"], options["segment_seconds"], jobs)
            root = options["segment_dir"]
            print(f"{root}: {count} pieces")
        number, seed, shortest = options["num_mixtures"], options["seed"], options["min_seconds"]
        rows = make_metadata(root, subsets, number, seed, min_seconds=shortest, num_jobs=jobs)
    path = Path(options["metadata"]) / f"libri2mix_{options['set_name'] or split + '-own'}.csv"
    write_metadata(path, rows)
    print(f"{path}: {len(rows)} mixtures")


def prepare_sets(**options: Any) -> None:
    """Make data directories, and the mixtures first where their metadata are given; options as of ``prepare_libri2mix``."""
    librispeech, mix_type, jobs = options["librispeech"], options["mix_type"], options["nj"]
    _need(options, "libri2mix", "sets", *(["librispeech"] if options["metadata"] else []))
    tree = MixtureTree(options["libri2mix"], options["sample_rate"], options["min_or_max"])
    enrolment = EnrolmentOptions(**{known.name: options[known.name] for known in fields(EnrolmentOptions)})
    sets = options["sets"].replace(",", " ").split()
    metadata = {name: find_metadata(options["metadata"], name) if options["metadata"] else None for name in sets}
    how = {name: options[name] for name in ("mix_type", "allow_missing", "replace")} | {"noise_root": options["wham"]}
    plans = [plan_generation(tree, path, librispeech, **how) for path in metadata.values() if path is not None]
    # Before hours of generation: is every list at hand?
    speakers = {plan.subset: len(plan.rows[0].sources) for plan in plans}
    for subset in sets:
        if subset.split("-")[0] != "train":
            if subset not in speakers:
                speakers[subset] = len(list_mixtures(tree, subset, mix_type, None, librispeech)[0][0].talkers)
            list_file(enrolment, subset, speakers[subset])
    if plans:
        print(report_disk_use(plans), flush=True)
    for plan in plans:
        made, missing = run_plan(plan, jobs)
        left_out = f", {missing} left out for missing recordings" if missing else ""
        print(f"{tree.folder / plan.subset}: {made} mixtures{left_out}", flush=True)
    for name in dict.fromkeys(subset.split("-")[0] for subset in sets):
        output = Path(options["data_dir"]) / name
        tables = {subset: path for subset, path in metadata.items() if subset.split("-")[0] == name}
        # Training draws its enrolments.
        chosen = None if name == "train" else enrolment
        for remark in prepare_directory(output, tree, tables, mix_type, librispeech, chosen, jobs):
            print(f"{output}: {remark}")


def _need(options: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if not options[name]:
            raise UserError(f"--{name} is missing; see --help")
