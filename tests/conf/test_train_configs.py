"""Every configuration of conf/train builds its model, optimizer and scheduler, and has the size that it claims."""

from pathlib import Path

import pytest
from tiny_discriminative import discriminative_exp_dir

from espnet_tse_gen.data.mixing_options import MixingOptions

CONF = Path(__file__).resolve().parents[2] / "conf"
CONFIGS = sorted((CONF / "train").glob("*.yaml"))


def _build(path):
    from espnet2.tasks.abs_task import scheduler_classes

    from espnet_tse_gen.tasks.tse_gen import TSEGenTask

    options = ["--config", str(path), "--output_dir", "unused"]
    if "front_end" in path.stem:
        # Which one is for the user to say.
        options += ["--front_end", str(discriminative_exp_dir("spex_plus"))]
    args = TSEGenTask.get_parser().parse_args(options)
    model = TSEGenTask.build_model(args)
    (optimizer,) = TSEGenTask.build_optimizers(args, model)
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
    assert args.dynamic_mixing == path.stem.endswith("_dynamic")
    if path.stem.endswith(("_base", "_dynamic")):
        body = sum(p.numel() for p in model.extractor.backbone.parameters())
        assert body == pytest.approx(37.4e6, rel=0.02)
        decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                assert id(parameter) not in decayed, name


def test_first_line_of_every_configuration_says_what_it_is_for():
    for path in CONF.rglob("*.yaml"):
        assert path.read_text().startswith("#"), path
