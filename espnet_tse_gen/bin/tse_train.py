"""Train a discriminative extractor, or collect its statistics: ESPnet's training command with the ``tse`` task.

    python -m espnet_tse_gen.bin.tse_train --config conf/train/spex_plus_8k.yaml ...

Every option of ESPnet's trainer and of its TSE task works; ``--print_config`` shows all of them with their defaults.
"""

from collections.abc import Sequence

from espnet_tse_gen.utils.errors import run_main


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the training; see :class:`espnet_tse_gen.training.tse_task.TSETask`."""
    from espnet_tse_gen.training.tse_task import TSETask

    TSETask.main(cmd=cmd)


if __name__ == "__main__":
    run_main(main)
