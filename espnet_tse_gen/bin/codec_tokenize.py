"""``tse-gen tokenize``: encode recordings into codes on disk, int16 ``[T, K]`` per key in a Kaldi ark with its scp.

What was made of the same recordings with the same codec is kept, see :mod:`espnet_tse_gen.tokens.job`; a job that was killed
goes on behind its last batch. Paths in the scp are as ``--output_dir`` was given.
"""

from typing import Any

import click

from espnet_tse_gen.utils.arguments import AT_LEAST_0, AT_LEAST_1, boolean, program


@program
@click.option("--codec_dir", required=True, type=click.Path(), help="codec directory, made by 'tse-gen codec'")
@click.option("--wav_scp", required=True, multiple=True, type=click.Path(), help="recordings to encode; may be repeated, "
              "with a --name for each")  # fmt: skip
@click.option("--level_scp", multiple=True, help="mixtures (same keys) that set the level of each --wav_scp, in its order; "
              "default, and where 'own' is given: each recording its own")  # fmt: skip
@click.option("--output_dir", required=True, type=click.Path(), help="where ark and scp go")
@click.option("--name", required=True, multiple=True, help="name of each table, e.g. codes_spk1")
@boolean("--latents", "also write the encoder's output, float16 [T, D], NAME_latents")
@click.option("--batch_size", type=AT_LEAST_1, default=16, help="recordings in a batch at most, of similar length")
@click.option("--batch_seconds", type=click.FloatRange(min=0, min_open=True), help="audio in a batch at most, each recording "
              "counted as long as the longest  [default: 60, and 300 on a GPU]")  # fmt: skip
@boolean("--batched", "compute a batch's recordings together: pays on a GPU; codes are those of each alone but for "
         "rounding, which can decide between all but equally near entries")  # fmt: skip
@click.option("--job", type=int, default=1, help="number of this job, from 1")
@click.option("--num_jobs", type=int, default=1, help="number of all jobs")
@click.option("--key_file", type=click.Path(), help="table whose first column are the keys to encode; default: all")
@click.option("--max_errors", type=AT_LEAST_0, default=0, help="recordings that may be unreadable and are left out")
@click.option("--device", default="cpu", help="cpu or cuda")
@click.option("--num_workers", type=AT_LEAST_1, default=2, help="threads that read recordings ahead")
@click.option("--num_threads", type=AT_LEAST_0, default=0, help="CPU threads that compute; 0 leaves it to torch")
@click.option("--log_interval", type=float, default=30.0, help="seconds between lines of progress in a log")
def main(**options: Any) -> None:
    """Encode recordings into codes in a Kaldi ark."""
    from espnet_tse_gen.tokens.job import tokenize

    tokenize(**options)
