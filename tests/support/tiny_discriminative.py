"""Tiny exp directories of discriminative models with random weights, for the tests of the doors."""

import functools
import tempfile
from pathlib import Path

import torch

from espnet_tse_gen.discriminative.build import build_network
from espnet_tse_gen.dual_path.network import DualPathExtractor
from espnet_tse_gen.utils.files import write_yaml

RATE = 8000
MULTI_SCALE = {"channel": 8, "kernel_sizes": [20, 80, 160], "stride": 10}
CONV = {"channel": 16, "kernel_size": 16, "stride": 8}
SMALL = {"num_train_spk": 3, "bottleneck_channel": 12, "hidden_channel": 16, "stacks": 2, "blocks": 2, "embedding_dim": 8,
         "speaker_channel": 12, "speaker_wide_channel": 16}  # fmt: skip
DUAL_PATH = {"window": 160, "hop": 80, "band_widths": [4, 7, 10, 20, 40], "width": 16, "head_width": 8, "encoder_blocks": 2,
             "extractor_blocks": 2, "kernel": 3, "embedding_dropout": 0.0}  # fmt: skip
SPEX = {
    "encoder": "ms_conv", "encoder_conf": MULTI_SCALE, "decoder": "ms_conv", "decoder_conf": MULTI_SCALE,
    "extractor_conf": SMALL,
}  # fmt: skip
CONFIGS = {
    "td_speakerbeam": {
        "encoder": "conv", "encoder_conf": CONV, "decoder": "conv", "decoder_conf": CONV,
        "extractor_conf": {"layer": 2, "stack": 2, "bottleneck_dim": 12, "hidden_dim": 16, "skip_dim": 12,
                           "i_adapt_layer": 1, "adapt_enroll_dim": 12},
    },
    "spex_plus": SPEX,
    "mc_spex": SPEX,
    # Embeddings of the voice are made at 16 kHz only.
    "dual_path": {"extractor_conf": {**DUAL_PATH, "speaker_embedding": False}},
}  # fmt: skip


def tiny_dual_path(**conf: object) -> DualPathExtractor:
    """A dual-path extractor at 16 kHz with random weights, all of which act on the output."""
    torch.manual_seed(1)
    network = DualPathExtractor(**{**DUAL_PATH, **conf})  # type: ignore[arg-type]
    for parameter in (network.masks.weight, *(network.modulation.parameters() if network.modulation else ())):
        torch.nn.init.normal_(parameter, std=0.2)
    return network


@functools.cache
def discriminative_exp_dir(extractor: str) -> Path:
    """The exp directory of one of them, made once per test run. Tests that change it copy it first."""
    keeper = tempfile.TemporaryDirectory(prefix=f"tiny_{extractor}_")
    keepers.append(keeper)
    directory = Path(keeper.name) / "exp" / extractor
    config = {
        **CONFIGS[extractor],
        "extractor": extractor,
        "sample_rate": RATE,
        "model_conf": {} if extractor == "dual_path" else {"num_spk": 1},
        "criterions": [{"name": "si_snr", "conf": {}, "wrapper": "fixed_order", "wrapper_conf": {}}],
        "output_dir": f"/somewhere/exp/{extractor}",
        "train_data_path_and_name_and_type": [["/somewhere/dump/wav.scp", "speech_mix", "sound"]],
        "version": "202511",
    }
    write_yaml(directory / "config.yaml", config)
    torch.manual_seed(1)
    model = build_network(config)
    torch.save(model.state_dict(), directory / "valid.loss.ave.pth")
    return directory


keepers: list[tempfile.TemporaryDirectory] = []
