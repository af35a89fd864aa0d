"""``python -m espnet_tse_gen`` is the command ``tse-gen``."""

from espnet_tse_gen.cli import entry

if __name__ == "__main__":
    entry()
