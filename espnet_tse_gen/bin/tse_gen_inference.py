"""Extract one speaker of every mixture of a set: the decoding stage of the recipe.

Writes ``wavs/NAME/KEY.wav`` (at the mixture's rate, length, level and, if that is lossless, sample format), ``NAME.N.scp`` for
job N, ``NAME.N.rtf.json`` (how long it took, codec included) and, given the target's tokens, ``NAME.N.token_accuracy.csv``; the
job that completes the last part writes ``NAME.scp``. What was made from the same recordings, model and options is kept.
"""

from typing import Any

import click

from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.inference.options import SegmentOptions
from espnet_tse_gen.utils.arguments import AT_LEAST_0, boolean, decoding_options, program


@program
@click.option("--model", "--model_dir", "model", required=True, help="exp directory, packed zip file, or shipped model")
@click.option("--model_file", help="checkpoint in it; default: the best average that is there")
@click.option("--mixture_scp", type=click.Path(), required=True, help="table of the mixtures")
@click.option("--enroll_scp", type=click.Path(), required=True, help="table of the enrolments: same keys, paths")
@click.option("--output_dir", type=click.Path(), required=True, help="where the recordings and their table go")
@click.option("--name", default="spk1", help="name of the table, e.g. spk1")
@click.option("--target_scp", type=click.Path(), help="table of the targets, none of which may be its own enrolment")
@click.option("--codes_scp", type=click.Path(), help="table of the targets' tokens, to measure token accuracy")
@click.option("--key_file", type=click.Path(), help="table whose first column are the keys to extract; default: all")
@click.option("--job", type=int, default=1, help="number of this job, from 1")
@click.option("--num_jobs", type=int, default=1, help="number of all jobs")
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N")
@click.option("--dtype", default="float32", help="float32; float64: no batch size changes a token; bfloat16: faster")
@click.option("--num_threads", type=AT_LEAST_0, default=0, help="CPU threads; 0 leaves it to torch")
@boolean("--overwrite", "make again what is there")
@click.option("--decode", "--decode_config", "decode", help="a file of conf/decode or a preset's name; default: the model's own. "
              "Each of the following replaces one key of it")  # fmt: skip
@decoding_options(DecodingOptions, SegmentOptions)
def main(**options: Any) -> None:
    """Extract one speaker of every mixture of a set."""
    from espnet_tse_gen.inference.job import extract_set

    print(extract_set(**options))
