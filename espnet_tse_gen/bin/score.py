"""``tse-gen score``: score one system on one set and put a row per item into the score table."""

import logging
from typing import Any

import click

from espnet_tse_gen.utils.arguments import AT_LEAST_1, PATH, boolean, program, several


@program
@click.option("--data_dir", type=PATH, help="with wav.scp, spk{n}.scp, target_spk{n}, spk2gender, text_spk{n}")
@click.option("--ref_scp", type=PATH, multiple=True, help="clean speech; once per speaker  [default: of data_dir]")
@click.option("--inf_scp", type=PATH, multiple=True, required=True, help="outputs; once per target speaker")
@click.option("--mixture_scp", type=PATH, help="mixtures  [default: wav.scp of data_dir]")
@click.option("--output_dir", type=PATH, required=True, help="for ESPnet's tables, and what is kept to go on")
@click.option("--scores", type=PATH, help="score table to add to  [default: OUTPUT_DIR/scores.csv]")
@click.option("--system", required=True, help="name of the system, a row of the result table")
@click.option("--set", "test_set", help="name of the test set  [default: name of the data directory]")
@click.option("--preset", default="signal", help="signal, generative (adds DNSMOS) or full (adds CI-SDR)")
@click.option("--delay", default="0", metavar="SAMPLES", help="by which outputs lag; auto: measured on --ceiling_scp")
@click.option("--ceiling_scp", type=PATH, multiple=True, help="clean speech through the codec; once per speaker")
@click.option("--nj", type=AT_LEAST_1, default=1, help="number of processes")
@boolean("--force", "score again even if nothing changed")
@click.option("--log_level", default="INFO", type=click.Choice(("DEBUG", "INFO", "WARNING", "ERROR")))
@boolean("--score_with_asr", "compute WER and dWER by an ESPnet ASR model")
@click.option("--asr_exp", type=PATH, help="its exp directory, or an unpacked one")
@click.option("--asr_model_file", help="checkpoint in it  [default: valid.acc.ave.pth or the like]")
@click.option("--asr_decode_config", type=PATH, help="yaml of beam_size, ctc_weight, ...; see docs/scoring.md")
@click.option("--asr_text", default="basic", help="text normalisation: basic, none or whisper_en")
@click.option("--text", type=PATH, multiple=True, help="transcripts; once per speaker  [default: of data_dir]")
@click.option("--clean_dir", type=PATH, help="where recognised clean speech is kept  [default: OUTPUT_DIR]")
@several("--networks", metavar="NAME[=WHERE]", help="networks that are scored with only when they are named: distill_mos, "
         "whisper_tiny; wavlm, espnet_spk, speechbertscore, whisper, of which WHERE is a folder or a repository of the "
         "hub[@REVISION]")  # fmt: skip
@boolean("--download_networks", "fetch what is missing of --networks")
@click.option("--device", default="cpu", help="where ASR and --networks run: cpu, cuda or cuda:N")
def main(log_level: str, **options: Any) -> None:
    """Score extracted speech: SI-SDR, ESPnet's enh_scoring, speaker similarity, DNSMOS, word error rates."""
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s: %(message)s")
    from espnet_tse_gen.scoring.system import score_system

    print(score_system(**options))
