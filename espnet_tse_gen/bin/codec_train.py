"""Train a codec against discriminators: ESPnet's training command with the ``codec`` task.

    python -m espnet_tse_gen.bin.codec_train --config conf/train_codec/soundstream_16k_small.yaml \\
        --train_data_path_and_name_and_type data/train/wav.scp,audio,sound \\
        --valid_data_path_and_name_and_type data/dev/wav.scp,audio,sound --output_dir exp/codec_train_soundstream

Every option of ESPnet's trainer works; ``--print_config`` shows all of them with their defaults. Started again with
``--resume true``, it goes on from the last whole epoch.
"""

from collections.abc import Sequence

from espnet_tse_gen.utils.errors import run_main


def main(cmd: Sequence[str] | None = None) -> None:
    """Run the training; see :class:`espnet_tse_gen.training.codec_task.CodecTask`."""
    from espnet_tse_gen.training.codec_task import CodecTask

    CodecTask.main(cmd=cmd)


if __name__ == "__main__":
    run_main(main)
