"""Entry points that the recipe's stages call, each ``python -m espnet_tse_gen.bin.<name>``."""
