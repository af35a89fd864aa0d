"""Building and loading whole models, and what the ESPnet model adds: labels, several scales, silence beyond the end."""

from pathlib import Path
from typing import Any

import pytest
import torch
from espnet2.enh.espnet_model_tse import ESPnetExtractionModel
from espnet2.enh.loss.criterions.time_domain import SISNRLoss
from refused import refused

from espnet_tse_gen.discriminative.build import ExtractionNetwork, load_model
from espnet_tse_gen.training.losses import MultiScaleSolver, SpeakerCrossEntropy, SpeakerSolver
from espnet_tse_gen.training.tse_model import build_model, load_training_model
from espnet_tse_gen.utils.files import read_yaml, write_yaml

CONF = Path(__file__).parents[1] / "conf"
KINDS = ("td_speakerbeam", "spex_plus", "mc_spex")


def config_of(kind: str) -> dict[str, Any]:
    config = read_yaml(CONF / f"{kind}_test.yaml")
    if "num_train_spk" in config["extractor_conf"]:
        config["extractor_conf"]["num_train_spk"] = 3
    return config


def batch(rows: int = 2, size: int = 4000) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "speech_mix": torch.randn(rows, size, generator=generator),
        "speech_mix_lengths": torch.full((rows,), size),
        "speech_ref1": torch.randn(rows, size, generator=generator),
        "enroll_ref1": torch.randn(rows, size, generator=generator),
        "spk_label_ref1": torch.arange(rows)[:, None],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_t07_saved_and_loaded_strictly(kind: str, tmp_path: Path) -> None:
    config = config_of(kind)
    torch.manual_seed(0)
    model = build_model(config).eval()
    write_yaml(tmp_path / "config.yaml", config)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    files = tmp_path / "config.yaml", tmp_path / "model.pth"
    wanted = model.state_dict()
    for loaded, kept in ((load_model(*files), ExtractionNetwork), (load_training_model(*files), ESPnetExtractionModel)):
        assert isinstance(loaded, kept) and not loaded.training and loaded.sample_rate == 16000
        found = loaded.state_dict()
        assert wanted.keys() == found.keys() and all(torch.equal(wanted[key], found[key]) for key in wanted)
    name = next(iter(wanted))
    torch.save({**wanted, "extra": wanted[name]}, tmp_path / "more.pth")
    torch.save({key: value for key, value in wanted.items() if key != name}, tmp_path / "less.pth")
    for damaged in ("more.pth", "less.pth"):
        refused("does not fit the configuration", load_model, tmp_path / "config.yaml", tmp_path / damaged)
    torch.save(model.half().state_dict(), tmp_path / "half.pth")
    halved = load_model(tmp_path / "config.yaml", tmp_path / "half.pth")
    assert all(parameter.dtype == torch.float32 for parameter in halved.parameters())


def test_what_cannot_be_built_is_one_line() -> None:
    for change, message in (
        ({"extractor_conf": {"stack": 2}}, r"extractor 'mc_spex' \(extractor_conf\) 'stack': did you mean 'stacks'"),
        ({"model_conf": {"precision": "float8"}}, "unknown precision 'float8'"),
    ):
        refused(message, build_model, {**config_of("mc_spex"), **change})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_step_reaches_every_weight(kind: str, precision: str) -> None:
    config = config_of(kind)
    config["model_conf"]["precision"] = precision
    torch.manual_seed(0)
    losses = [MultiScaleSolver(SISNRLoss()), SpeakerSolver(SpeakerCrossEntropy())]
    model = build_model(config, losses[: 1 if kind == "td_speakerbeam" else 2])
    loss, stats, _ = model(**batch())
    loss.backward()
    assert torch.isfinite(loss) and "si_snr_loss_s0" in stats
    weights = model.named_parameters()
    unreached = [name for name, weight in weights if weight.grad is None or not weight.grad.isfinite().all()]
    if kind == "td_speakerbeam":
        # ESPnet's network ends in skip connections, so that the last block of each stack has a branch that leads nowhere.
        unreached = [name for name in unreached if not name.endswith(".net.3.net.3.weight")]
    assert not unreached


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_count_in_the_loss(kind: str) -> None:
    torch.manual_seed(0)
    model = build_model(config_of(kind), [MultiScaleSolver(SISNRLoss(zero_mean=False))]).eval()
    data, whole, lengths = batch(), torch.tensor([4000, 4000]), torch.tensor([4000, 3000])
    with torch.no_grad():
        estimates, *_ = model.forward_enhance(data["speech_mix"], lengths, [data["enroll_ref1"]], [whole], {})
    first = estimates[0] if isinstance(estimates[0], torch.Tensor) else estimates[0][0]
    assert first[0, 3000:].any() and first[1, :3000].any() and not first[1, 3000:].any()
