"""Make the data directories of Libri2Mix, or of any corpus in its form.

With ``--metadata DIR`` (LibriMix's CSV files) the mixtures are generated into ``--libri2mix`` first; files that are there are
kept. With ``--make_metadata`` it writes such a file, drawn from the speakers of a list, and nothing else.
"""

from typing import Any

import click

from espnet_tse_gen.utils.arguments import boolean, program


@program
@click.option("--libri2mix", type=click.Path(), help="the Libri2Mix tree (wav8k, wav16k): read, and generated into")
@click.option("--librispeech", type=click.Path(), help="the folder that holds train-clean-100 etc. and SPEAKERS.TXT")
@click.option("--metadata", type=click.Path(), help="LibriMix's CSV files; with them, mixtures are generated first")
@click.option("--wham", type=click.Path(), help="the folder 'wham_noise' (tr, cv, tt), for mix_both and mix_single")
@click.option("--sets", default="train-100 dev test", help="sets; those alike up to the first '-' are joined")
@click.option("--sample_rate", default="16k", help="8k or 16k")
@click.option("--min_or_max", default="min", help="min: cut to the shortest source; max: padded to the longest")
@click.option("--mix_type", default="mix_clean", help="mix_clean, mix_both or mix_single")
@click.option("--data_dir", default="data", help="the data directories are made in it: train, dev, test")
@click.option("--seed", type=int, default=0, help="for the choice of enrolments, or of mixtures")
@click.option("--nj", type=int, default=1, help="number of processes")
@boolean("--allow_missing", "leave out mixtures of missing recordings, and draw for an enrolment that is missing")
@boolean("--replace", "make a set anew whose metadata changed")
@click.option("--enroll_list", default="random", help="enrolments of the sets that are evaluated (training draws its own): but: "
              "the published list of BUT Speech@FIT; full: its utterances whole, from --librispeech; random: a seeded draw; "
              "tselm: one for speaker 1 only; or a file, in which {set} stands for the set")  # fmt: skip
@boolean("--enroll_list_raw", "keep enrolments that are the target utterance itself")
@click.option("--num_enrollments", type=int, default=1, help="recordings joined into one enrolment")
@click.option("--targets", default="", help="all speakers, or the first only; empty: as usual for the list")
@click.option("--enroll_dir", default="downloads", help="where published lists are kept")
@click.option("--enroll_url", help="address of the list 'but', with {set} for dev and test")
@boolean("--download", "fetch a published list that is not there", True)
@click.option("--make_metadata", is_flag=True, help="write METADATA/libri2mix_SET_NAME.csv and stop; by the following")
@click.option("--speakers_json", type=click.Path(), help="json: {split: {LibriSpeech subset: [speaker, ...]}}")
@click.option("--split", default="train", help="the split of it to use")
@click.option("--subsets", default="", help="take these subsets of it only; or, without the file, all of them")
@click.option("--set_name", help="name of the set; 'SPLIT-own' by default")
@click.option("--rows_of", type=click.Path(), help="instead of drawing: rows of this file without the split's speakers")
@click.option("--num_mixtures", type=click.IntRange(min=1), default=1000, help="number of mixtures")
@click.option("--min_seconds", type=float, default=2.0, help="use no shorter recordings")
@click.option("--segment_seconds", type=float, default=0.0, help="cut recordings into pieces of this length first")
@click.option("--segment_dir", type=click.Path(), help="where the pieces go; then the --librispeech for the mixtures")
def main(make_metadata: bool, **options: Any) -> None:
    """Make the data directories (and, if asked, the mixtures or the metadata) of Libri2Mix."""
    from espnet_tse_gen.data.librimix.commands import prepare_metadata, prepare_sets

    (prepare_metadata if make_metadata else prepare_sets)(**options)
