"""Make the data directories of Libri2Mix, or of any corpus in its form, generating the mixtures first where that is
asked for.

From an existing tree:

    python -m espnet_tse_gen.bin.prepare_libri2mix --libri2mix Libri2Mix --librispeech LibriSpeech --sets "train-100 dev
    test" --enroll_list but

With ``--metadata DIR`` (LibriMix's CSV files) the mixtures of the sets are generated into ``--libri2mix`` first; files
that are there are kept, and what the others take is printed before. With ``--make_metadata`` it writes such a metadata
file, drawn from the speakers of a list, and nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_tse_gen.utils.arguments import OneLineParser, boolean
from espnet_tse_gen.utils.errors import UserError, run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(
        description="Make the data directories (and, if asked, the mixtures or the metadata) of Libri2Mix.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--libri2mix", help="the Libri2Mix tree (holds wav8k, wav16k): read, and generated into")
    add("--librispeech", help="the folder that holds train-clean-100 etc. and SPEAKERS.TXT")
    add("--metadata", help="folder of LibriMix's CSV files; with it, the mixtures are generated first")
    add("--wham", help="the folder 'wham_noise' (tr, cv, tt), for mix_both and mix_single")
    text = "sets, divided by spaces or commas; those alike up to the first '-' are joined"
    add("--sets", default="train-100 dev test", help=text)
    add("--sample_rate", default="16k", help="8k or 16k")
    add("--min_or_max", default="min", help="min: cut to the shortest source; max: padded to the longest")
    add("--mix_type", default="mix_clean", help="mix_clean, mix_both or mix_single")
    add("--data_dir", default="data", help="the data directories are made in it: train, dev, test")
    add("--seed", type=int, default=0, help="for the choice of enrolments, or of mixtures")
    add("--nj", type=int, default=1, help="number of processes")
    text = "leave out mixtures of missing recordings, and draw another enrolment where the list's is not there"
    add("--allow_missing", type=boolean, default=False, help=text)
    add("--replace", type=boolean, default=False, help="make a set anew whose metadata changed")
    add = parser.add_argument_group("enrolment of the sets that are evaluated (training draws its own)").add_argument
    text = "but: the published list of BUT Speech@FIT; full: its utterances whole, from --librispeech; random: a seeded draw; "
    text += "tselm: a seeded draw for speaker 1 only; or a file, in which {set} stands for the set"
    add("--enroll_list", default="random", help=text)
    text = "keep enrolments that are the target utterance itself"
    add("--enroll_list_raw", type=boolean, default=False, help=text)
    add("--num_enrollments", type=int, default=1, help="recordings joined into one enrolment")
    add("--targets", default="", help="all speakers, or the first only; empty: as usual for the list")
    add("--enroll_dir", default="downloads", help="where published lists are kept")
    add("--enroll_url", help="address of the list 'but', with {set} for dev and test")
    add("--download", type=boolean, default=True, help="fetch a published list that is not there")
    add = parser.add_argument_group("making metadata").add_argument
    add("--make_metadata", action="store_true", help="write METADATA/libri2mix_SET_NAME.csv and stop")
    add("--speakers_json", help="json: {split: {LibriSpeech subset: [speaker, ...]}}")
    add("--split", default="train", help="the split of it to use")
    add("--subsets", default="", help="take these subsets of it only; or, without the file, all of them")
    add("--set_name", help="name of the set; 'SPLIT-own' by default")
    text = "take the rows of this metadata file, but those with a speaker of the split, instead of drawing"
    add("--rows_of", help=text)
    add("--num_mixtures", type=int, default=1000, help="number of mixtures")
    add("--min_seconds", type=float, default=2.0, help="use no shorter recordings")
    add("--segment_seconds", type=float, default=0.0, help="cut recordings into pieces of this length first")
    add("--segment_dir", help="where the pieces go; then the --librispeech for the mixtures")
    return parser


def _need(args: argparse.Namespace, *names: str) -> None:
    for name in names:
        if not getattr(args, name):
            raise UserError(f"--{name} is missing; see --help")


def _make_metadata(args: argparse.Namespace) -> None:
    from espnet_tse_gen.data.corpus import wanted_speakers
    from espnet_tse_gen.data.librimix.drawing import make_metadata, rows_without, write_metadata
    from espnet_tse_gen.data.segment import segment_corpus

    _need(args, "metadata", "speakers_json" if args.rows_of else "librispeech")
    subsets = wanted_speakers(args.speakers_json, args.split, args.subsets.replace(",", " ").split() or None)
    root = args.librispeech
    if args.rows_of:
        rows = rows_without(args.rows_of, {speaker for speakers in subsets.values() for speaker in speakers or ()})
    else:
        if args.segment_seconds:
            _need(args, "segment_dir")
            count = segment_corpus(root, subsets, args.segment_dir, args.segment_seconds, args.nj)
            root = args.segment_dir
            print(f"{root}: {count} pieces")
        rows = make_metadata(
            root, subsets, args.num_mixtures, args.seed, min_seconds=args.min_seconds, num_jobs=args.nj
        )
    path = Path(args.metadata) / f"libri2mix_{args.set_name or args.split + '-own'}.csv"
    write_metadata(path, rows)
    print(f"{path}: {len(rows)} mixtures")


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    if args.make_metadata:
        _make_metadata(args)
        return
    from espnet_tse_gen.data.enrolment.lists import BUT_URL, EnrolmentOptions, list_file
    from espnet_tse_gen.data.librimix.generation import plan_generation, report_disk_use, run_plan
    from espnet_tse_gen.data.librimix.layout import MixtureTree, find_metadata
    from espnet_tse_gen.data.librimix.preparing import list_mixtures, prepare_directory

    _need(args, "libri2mix", "sets", *(["librispeech"] if args.metadata else []))
    tree = MixtureTree(args.libri2mix, args.sample_rate, args.min_or_max)
    enrolment = EnrolmentOptions(
        name=args.enroll_list,
        raw=args.enroll_list_raw,
        number=args.num_enrollments,
        targets=args.targets,
        folder=Path(args.enroll_dir),
        download=args.download,
        url=args.enroll_url or BUT_URL,
        seed=args.seed,
        allow_missing=args.allow_missing,
    )
    sets = args.sets.replace(",", " ").split()
    metadata = {subset: find_metadata(args.metadata, subset) if args.metadata else None for subset in sets}
    options = {
        "noise_root": args.wham,
        "types": (args.mix_type,),
        "allow_missing": args.allow_missing,
        "replace": args.replace,
    }
    plans = [plan_generation(tree, path, args.librispeech, **options) for path in metadata.values() if path is not None]
    # Before hours of generation: is every list at hand?
    speakers = {plan.subset: len(plan.rows[0].sources) for plan in plans}
    for subset in sets:
        if subset.split("-")[0] != "train":
            if subset not in speakers:
                speakers[subset] = len(list_mixtures(tree, subset, args.mix_type, None, args.librispeech)[0][0].talkers)
            list_file(enrolment, subset, speakers[subset])
    if plans:
        print(report_disk_use(plans), flush=True)
    for plan in plans:
        made, missing = run_plan(plan, args.nj)
        left_out = f", {missing} left out for missing recordings" if missing else ""
        print(f"{tree.folder / plan.subset}: {made} mixtures{left_out}", flush=True)
    for name in dict.fromkeys(subset.split("-")[0] for subset in sets):
        output, subsets = Path(args.data_dir) / name, [subset for subset in sets if subset.split("-")[0] == name]
        found = prepare_directory(
            output,
            tree,
            subsets,
            mix_type=args.mix_type,
            train=name == "train",
            librispeech=args.librispeech,
            metadata=[metadata[subset] for subset in subsets],
            enrolment=enrolment,
            num_jobs=args.nj,
        )
        left_out = f", {found.left_out} left out because a speaker has no second recording to enrol with"
        print(f"{output}: {found.mixtures} mixtures{left_out if found.left_out else ''}")
        for remark in found.remarks:
            print(f"{output}: {remark}")


if __name__ == "__main__":
    run_main(main)
