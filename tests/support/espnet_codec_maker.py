"""Small trainings of ESPnet's codec task: exp directories with random weights, as ESPnet's trainer writes them."""

import copy
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.espnet import DESIGNS
from espnet_tse_gen.codec.registry import build_codec
from espnet_tse_gen.utils.files import write_yaml
from espnet_tse_gen.utils.registry import imported

RATE = 16000
MEL = {"range_start": 8, "range_end": 9, "n_mels": 10, "window": "hann", "log_base": None}
QUANTIZER = {"quantizer_n_q": 3, "quantizer_bins": 16, "quantizer_target_bandwidth": [0.2, 0.4]}
SEANET = {
    "hidden_dim": 8, "encdec_n_filters": 2, "encdec_residual_kernel_size": 3, "encdec_last_kernel_size": 3, "encdec_lstm": 1,
    **QUANTIZER,
}  # fmt: skip
SCALES = {
    "scales": 1,
    "scale_discriminator_params": {
        "channels": 4, "max_downsample_channels": 8, "max_groups": 2, "downsample_scales": [4], "kernel_sizes": [5, 5, 5, 3],
    },
}  # fmt: skip
STFT = {
    "complexstft_discriminator_params": {
        "channels": 2, "strides": [[1, 2]], "chan_mults": [1], "n_fft": 64, "hop_length": 16, "win_length": 64,
    }
}  # fmt: skip
PERIOD = {"channels": 2, "max_downsample_channels": 4, "downsample_scales": [3, 1]}
MSSTFT = {"msstft_discriminator_params": {"filters": 2, "n_ffts": [64], "hop_lengths": [16], "win_lengths": [64]}}

CONFS: dict[str, dict[str, Any]] = {
    "soundstream": {
        "generator_params": {**SEANET, "encdec_ratios": [8, 5, 4, 2]},
        "discriminator_params": {**SCALES, **STFT},
    },
    "encodec": {
        "generator_params": {**SEANET, "encdec_ratios": [10, 8, 4], "encdec_causal": True},
        "discriminator_params": MSSTFT,
    },
    "dac": {
        "generator_params": {**SEANET, "encdec_ratios": [10, 8, 4], "codebook_dim": 4, "encdec_activation_params": {}},
        "discriminator_params": {
            "msmpmb_discriminator_params": {
                "fft_sizes": [64], "periods": [2], "period_discriminator_params": PERIOD,
                "band_discriminator_params": {
                    "hop_factor": 0.25, "sample_rate": 16000, "channel": 2, "bands": [[0.0, 1.0]],
                },
            }
        },
    },
    "funcodec": {
        "generator_params": {
            **SEANET, "encdec_channels": 2, "encdec_ratios": [[4, 1], [4, 1], [4, 2], [4, 1]], "codebook_dim": 4,
            "quantizer_target_bandwidth": [0.1, 0.3], "codec_domain": ["mag_angle", "mag_angle"],
        },
        "discriminator_params": {
            **SCALES, **STFT, "periods": [2], "period_discriminator_params": PERIOD,
        },
    },
    "hificodec": {
        "generator_params": {
            **QUANTIZER, "hidden_dim": 256, "resblock_num": "2", "resblock_kernel_sizes": [3],
            "resblock_dilation_sizes": [[1, 3]], "upsample_rates": [8, 5, 4, 2], "upsample_kernel_sizes": [8, 5, 4, 2],
            "upsample_initial_channel": 32,
        },
        "discriminator_params": {
            **SCALES, **MSSTFT, "periods": [2], "periods_discriminator_params": PERIOD,
        },
    },
}  # fmt: skip
"""Design to ``codec_conf``; what is left out is common to all, or has ESPnet's default."""


def conf_of(design: str) -> dict[str, Any]:
    """Return a design's ``codec_conf`` for 16 kHz."""
    return copy.deepcopy({"sampling_rate": RATE, "mel_loss_params": MEL, **CONFS[design]})


def espnet_model(design: str, seed: int = 0) -> Any:
    """Return ESPnet's whole model with random weights, built as its task builds it, in evaluation mode."""
    from espnet2.gan_codec.espnet_model import ESPnetGANCodecModel

    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        codec = imported(DESIGNS[design][0])(**conf_of(design))
    model = ESPnetGANCodecModel(codec=codec)
    _fill_codebooks(model.codec.generator, design)
    return model.eval()


@torch.no_grad()
def _fill_codebooks(generator: Any, design: str) -> None:
    """Fill the codebooks as the first training step does: by k-means of what the encoder makes of a batch."""
    wav = 0.05 * torch.randn(2, 1, RATE // 2)
    latents = generator.encoder(generator.time_to_freq_transfer(wav)[0] if design == "funcodec" else wav)
    quantizer = generator.quantizer
    parts = [quantizer.quantizer0, quantizer.quantizer1] if design == "hificodec" else [quantizer]
    for part, group in zip(parts, latents.chunk(len(parts), dim=1), strict=True):
        part.vq(group)


def write_exp(directory: Path, design: str, seed: int = 0) -> Any:
    """Write the exp directory of a training of two epochs, of which the first was the better one; return its model."""
    directory.mkdir(parents=True, exist_ok=True)
    model = espnet_model(design, seed)
    torch.save(model.state_dict(), directory / "1epoch.pth")
    torch.save(espnet_model(design, seed + 1).state_dict(), directory / "2epoch.pth")
    (directory / "latest.pth").symlink_to("2epoch.pth")
    (directory / "valid.mel_loss.best.pth").symlink_to("1epoch.pth")
    write_yaml(
        directory / "config.yaml",
        {
            "codec": design, "codec_conf": conf_of(design), "model_conf": {},
            "best_model_criterion": [["valid", "mel_loss", "min"], ["train", "total_count", "max"]],
        },
    )  # fmt: skip
    return model


def make_espnet(design: str) -> AbsCodec:
    """Return a codec loaded from an exp directory."""
    with tempfile.TemporaryDirectory() as folder:
        write_exp(Path(folder), design)
        codec = build_codec("espnet", {"exp_dir": folder})
        codec.load_pretrained(codec.pretrained_cache())
    return codec
