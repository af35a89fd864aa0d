"""Every configuration of conf/train builds its model, optimizer and scheduler, and has the size that it claims."""

from pathlib import Path

import pytest
from tiny_discriminative import discriminative_exp_dir

from espnet_tse_gen.data.mixing_options import MixingOptions
from espnet_tse_gen.discriminative.registry import is_discriminative
from espnet_tse_gen.utils.files import read_yaml

CONF = Path(__file__).resolve().parents[2] / "conf"
FIXTURES = Path(__file__).parent
FILES = [
    *sorted((CONF / "train").glob("*.yaml")),
    *sorted(set(FIXTURES.glob("*.yaml")) - {FIXTURES / "soundstream_test.yaml"}),
]
CONFIGS = [path for path in FILES if not is_discriminative(read_yaml(path))]
DISCRIMINATIVE = [path for path in FILES if path not in CONFIGS]
FRONT_ENDS = {"masked_front_end": "spex_plus", "tse_gen_16k": "dual_path"}
# With 251 training speakers; that of mc_spex is of the reconstruction.
PARAMETERS = {"spex_plus_8k": 11_177_284, "mc_spex_8k": 11_507_786}


def _build(path):
    from espnet2.tasks.abs_task import scheduler_classes

    from espnet_tse_gen.training.tse_gen_task import TSEGenTask
    from espnet_tse_gen.training.tse_task import TSETask

    task = TSETask if path in DISCRIMINATIVE else TSEGenTask
    options = ["--config", str(path), "--output_dir", "unused"]
    if path.stem in FRONT_ENDS:
        # Which one is for the user to say.
        options += ["--front_end", str(discriminative_exp_dir(FRONT_ENDS[path.stem]))]
    args = task.get_parser().parse_args(options)
    if "num_train_spk" in args.extractor_conf:
        args.extractor_conf["num_train_spk"] = 251
    model = task.build_model(args)
    (optimizer,) = task.build_optimizers(args, model)
    if args.scheduler is not None:
        scheduler_classes[args.scheduler](optimizer, **args.scheduler_conf)
    return args, model, optimizer


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configuration_builds(path):
    args, model, optimizer = _build(path)
    optimized = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert optimized == sum(p.numel() for p in model.parameters())
    given = set(args.preprocessor_conf)
    assert given <= {"crop_seconds", "enroll_seconds", "level_dbfs"}
    MixingOptions(**args.dynamic_mixing_conf)
    assert args.dynamic_mixing == (path.stem in ("masked_dynamic", *FRONT_ENDS))
    if path.stem.split("_")[-1] not in ("small", "long", "test") and path.stem != "tse_gen_16k":
        body = sum(p.numel() for p in model.extractor.backbone.parameters())
        assert body == pytest.approx(37.4e6, rel=0.02)
        decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                assert id(parameter) not in decayed, name


@pytest.mark.parametrize("path", DISCRIMINATIVE, ids=lambda path: path.stem)
def test_discriminative_configuration_builds(path):
    args, model, _ = _build(path)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == PARAMETERS.get(path.stem, parameters)
    if path.stem == "td_speakerbeam_16k_small":
        # The peer that the others are compared with is about as large.
        peer = _build(path.with_name(path.name.replace("td_speakerbeam", "spex_plus")))[1]
        assert parameters == pytest.approx(sum(p.numel() for p in peer.parameters()), rel=0.1)
    if path.stem.startswith("dual_path"):
        assert args.best_model_criterion == [["valid", "si_sdr", "max"]]
        MixingOptions(**args.dynamic_mixing_conf)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert trained == {"dual_path_16k": 1_543_921, "dual_path_16k_large": 16_905_385}.get(path.stem, trained)
        return
    rate = 16000 if "16k" in path.stem or path.stem.endswith("_test") else 8000
    assert args.sample_rate == rate == model.sample_rate
    kernels = args.encoder_conf.get("kernel_sizes") or [args.encoder_conf["kernel_size"]]
    assert args.encoder_conf == args.decoder_conf and args.encoder_conf["stride"] == kernels[0] // 2
    if path.stem.endswith(("_8k", "_16k")):
        # Published windows: 2.5, 10 and 20 ms.
        assert [1000 * kernel / rate for kernel in kernels] == [2.5, 10.0, 20.0][: len(kernels)]
    assert set(args.preprocessor_conf) <= {"crop_seconds", "enroll_seconds", "level_dbfs"}
    MixingOptions(**args.dynamic_mixing_conf)
    assert args.best_model_criterion == [["valid", "si_snr_loss_s0", "min"]]
    weights = [given["wrapper_conf"].get("scale_weights") for given in args.criterions]
    assert ([0.8, 0.1, 0.1] in weights) == (not path.stem.startswith("td_"))


def test_first_line_of_every_configuration_says_what_it_is_for():
    for path in (*CONF.rglob("*.yaml"), *FIXTURES.glob("*.yaml")):
        assert path.read_text().startswith("#"), path
