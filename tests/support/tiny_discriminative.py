"""Tiny exp directories of discriminative models with random weights, for the tests of the doors."""

import functools
import tempfile
from pathlib import Path

import torch

from espnet_tse_gen.discriminative.build import build_model
from espnet_tse_gen.utils.fileio import write_yaml

RATE = 8000
MULTI_SCALE = {"channel": 8, "kernel_sizes": [20, 80, 160], "stride": 10}
CONV = {"channel": 16, "kernel_size": 16, "stride": 8}
SMALL = {"num_train_spk": 3, "bottleneck_channel": 12, "hidden_channel": 16, "stacks": 2, "blocks": 2, "embedding_dim": 8,
         "speaker_channel": 12, "speaker_wide_channel": 16}  # fmt: skip
CONFIGS = {
    "td_speakerbeam": {
        "encoder": "conv", "encoder_conf": CONV, "decoder": "conv", "decoder_conf": CONV,
        "extractor_conf": {"layer": 2, "stack": 2, "bottleneck_dim": 12, "hidden_dim": 16, "skip_dim": 12,
                           "i_adapt_layer": 1, "adapt_enroll_dim": 12},
    },
    "spex_plus": {
        "encoder": "ms_conv", "encoder_conf": MULTI_SCALE, "decoder": "ms_conv", "decoder_conf": MULTI_SCALE,
        "extractor_conf": SMALL,
    },
    "mc_spex": {
        "encoder": "ms_conv", "encoder_conf": MULTI_SCALE, "decoder": "ms_conv", "decoder_conf": MULTI_SCALE,
        "extractor_conf": SMALL,
    },
}  # fmt: skip


@functools.cache
def discriminative_exp_dir(extractor: str) -> Path:
    """The exp directory of one of the three, made once per test run. Tests that change it copy it first."""
    keeper = tempfile.TemporaryDirectory(prefix=f"tiny_{extractor}_")
    keepers.append(keeper)
    directory = Path(keeper.name) / "exp" / extractor
    config = {
        **CONFIGS[extractor],
        "extractor": extractor,
        "sample_rate": RATE,
        "model_conf": {"num_spk": 1},
        "criterions": [{"name": "si_snr", "conf": {}, "wrapper": "fixed_order", "wrapper_conf": {}}],
        "output_dir": f"/somewhere/exp/{extractor}",
        "train_data_path_and_name_and_type": [["/somewhere/dump/wav.scp", "speech_mix", "sound"]],
        "version": "202511",
    }
    write_yaml(directory / "config.yaml", config)
    torch.manual_seed(1)
    model = build_model(config)
    torch.save(model.state_dict(), directory / "valid.loss.ave.pth")
    return directory


keepers: list[tempfile.TemporaryDirectory] = []
