"""Tell the recipe which task a training configuration is for: ``tse`` (discriminative) or ``tse_gen`` (masked generative).

python -m espnet_tse_gen.bin.task_of conf/train/spex_plus_16k.yaml --sample_rate 16000
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from espnet_tse_gen.utils.arguments import OneLineParser
from espnet_tse_gen.utils.errors import UserError, run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(description="Tell which task a training configuration is for: tse or tse_gen.")
    parser.add_argument("config", help="a file of conf/train, or the config.yaml of a training")
    parser.add_argument(
        "--sample_rate", type=int, help="Hz of the recordings; refused where the configuration names another"
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_tse_gen.discriminative.registry import EXTRACTORS, is_discriminative
    from espnet_tse_gen.utils.errors import unknown_name
    from espnet_tse_gen.utils.files import read_yaml

    config = read_yaml(args.config)
    discriminative = is_discriminative(config)
    if not discriminative and config.get("extractor", "masked") != "masked":
        error = unknown_name("extractor", str(config["extractor"]), (*EXTRACTORS, "masked"))
        raise UserError(f"{args.config}: {error}")
    rate = config.get("sample_rate")
    if discriminative and rate and args.sample_rate and rate != args.sample_rate:
        raise UserError(
            f"{args.config}: is for recordings at {rate} Hz (sample_rate), but these have {args.sample_rate} Hz; take the"
            " configuration for that rate, or correct --fs"
        )
    print("tse" if discriminative else "tse_gen")


if __name__ == "__main__":
    run_main(main)
