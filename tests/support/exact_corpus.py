"""A data set on which nothing of a training is drawn at random, so that two trainings can be compared to the last digits.

The training recordings are one frame long, of a codec with one codebook: the only token of each is always the hidden one. In
validation the mask follows from a batch's content.
"""

from pathlib import Path

from tiny_model import HOP, fitted_codec, voice
from training_runs import CONFIG, write_wav

from espnet_tse_gen.codec.registry import save_codec
from espnet_tse_gen.utils.files import write_scp, write_yaml

COUNTS = {"train": 12, "valid": 4, "odd": 3}


def make_exact_corpus(root: Path) -> Path:
    """Mixtures of one target: one frame each in training, and of several lengths in validation."""
    save_codec(fitted_codec(num_codebooks=1), root / "codec")
    for name, count in COUNTS.items():
        (root / name).mkdir()
        tables: dict[str, dict[str, str]] = {"wav": {}, "spk1": {}, "enroll_spk1": {}, "shape": {}}
        for n in range(count):
            key, seconds = f"{name}{n:02d}", 0.3 + 0.1 * n
            target, other = voice(seconds, 90.0 + 15 * n, seed=n), voice(seconds, 250.0 - 9 * n, seed=50 + n)
            # From its middle, where the voices have begun.
            cut = slice(len(target) // 2, len(target) // 2 + HOP) if name == "train" else slice(None)
            tables["wav"][key] = write_wav(root / name / f"{key}.wav", (target + other)[cut])
            tables["spk1"][key] = write_wav(root / name / f"{key}_target.wav", target[cut])
            enroll = voice(0.5, 90.0 + 15 * n, seed=99 + n)
            tables["enroll_spk1"][key] = write_wav(root / name / f"{key}_enroll.wav", enroll)
            tables["shape"][key] = str(len(target[cut]))
        for kind, table in tables.items():
            write_scp(root / name / f"{kind}.scp", table)
    extractor = {**CONFIG["extractor_conf"], "dropout": 0.0}
    model = {"masking": "codebook", "drop_enroll": 0.0, "drop_both": 0.0}
    changes = {"extractor_conf": extractor, "model_conf": model, "optim": "sgd", "optim_conf": {"lr": 0.05}}
    changes |= {"preprocessor_conf": {"crop_seconds": 0.0, "enroll_seconds": [0.5, 0.5]}, "max_epoch": 2, "ref_num": 1}
    changes |= {"batch_size": 4, "valid_batch_size": 2, "scheduler": None, "scheduler_conf": {}, "keep_nbest_models": 1}
    write_yaml(root / "train.yaml", {**CONFIG, **changes})
    return root
