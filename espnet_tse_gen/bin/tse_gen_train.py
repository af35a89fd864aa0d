"""Train a masked generative extractor, or collect its statistics: ESPnet's training command with the ``tse_gen`` task.

    python -m espnet_tse_gen.bin.tse_gen_train --config conf/train/masked_small.yaml --codec_dir exp/codec_mel_16k ...

Every option of ESPnet's trainer works; ``--print_config`` shows all of them with their defaults.
"""

from collections.abc import Sequence

from espnet_tse_gen.utils.errors import run_main


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the training; see :class:`espnet_tse_gen.training.tse_gen_task.TSEGenTask`."""
    from espnet_tse_gen.training.tse_gen_task import TSEGenTask

    TSEGenTask.main(cmd=cmd)


if __name__ == "__main__":
    run_main(main)
