"""Which systems the recipe decodes with, and which files and options each gets: those of its kind."""

import pytest
from programs import ROOT, start

from espnet_tse_gen.inference.options import SegmentOptions
from espnet_tse_gen.utils.files import read_yaml
from espnet_tse_gen.utils.options import presets

RECIPE = ROOT / "egs2" / "mini_librimix" / "tse_gen1"
DEFAULTS = """
set -euo pipefail
. utils/recipe_functions.sh
skip_eval=true skip_train=false task=tse_gen tse_tag=main tse_exp=exp/main expdir=exp inference_model= inference_tag=
inference_args= decode_configs=(conf/decode/greedy_16.yaml) pretrained_exps=() pretrained_tasks=()
"""


def evaluate(settings: str, command: str, status: int = 0) -> str:
    """Source the stages of evaluation, which then only define what they need, and return what a command prints."""
    script = f"{DEFAULTS}\n{settings}\n. utils/evaluation_stages.sh\n{command}"
    done = start("bash", "-c", script, folder=RECIPE)
    assert done.returncode == status, done.stderr
    return (done.stderr if status else done.stdout).strip()


BOTH = "pretrained_exps=(exp/a exp/b) pretrained_tasks=(tse tse_gen)"


def test_systems_are_the_trained_model_and_those_that_are_there() -> None:
    told = evaluate(BOTH, 'echo "${names[*]} | ${dirs[*]} | ${tasks[*]}"')
    assert told == "main a b | exp/main exp/pretrained_a exp/pretrained_b | tse_gen tse tse_gen"
    assert evaluate(f"{BOTH}; skip_train=true", 'echo "${names[*]} | ${exps[*]}"') == "a b | exp/a exp/b"
    assert evaluate("", 'echo "${names[*]} ${#exps[@]}"') == "main 1"


@pytest.mark.parametrize(
    ("settings", "folder"),
    [
        ("", "exp/main"),
        ("skip_train=true", "exp/pretrained_a"),
        ("skip_train=true given_tag=main", "exp/main"),
        ("skip_train=true given_tag=", "exp/pretrained_a"),
    ],
)
def test_scores_of_given_models_go_where_they_are_said_to(settings: str, folder: str) -> None:
    assert evaluate(f"{BOTH}; {settings}", 'echo "${result_dir}"') == folder


def test_two_models_of_one_name_are_refused() -> None:
    message = evaluate("pretrained_exps=(exp/a other/a) pretrained_tasks=(tse tse)", "true", status=2)
    assert "two models are called 'a'" in message and "\n" not in message


@pytest.mark.parametrize(
    ("configs", "discriminative", "masked"),
    [
        ("conf/decode/greedy_16.yaml", "conf/decode/segments.yaml", "conf/decode/greedy_16.yaml"),
        ("conf/decode/segments.yaml", "conf/decode/segments.yaml", "conf/decode/greedy_16.yaml"),
        (
            "conf/decode/one_step.yaml conf/decode/segments.yaml conf/decode/stochastic.yaml",
            "conf/decode/segments.yaml",
            "conf/decode/one_step.yaml conf/decode/stochastic.yaml",
        ),
    ],
)
def test_each_kind_decodes_with_its_own_files(configs: str, discriminative: str, masked: str) -> None:
    told = evaluate(f"decode_configs=({configs})", "configs_of tse; configs_of tse_gen").splitlines()
    assert told == [discriminative, masked]


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_preset_is_of_the_kind_whose_options_it_has(name: str) -> None:
    kind, other = (
        ("tse", "tse_gen") if read_yaml(presets()[name]).keys() <= set(SegmentOptions.names()) else ("tse_gen", "tse")
    )
    told = evaluate(f"decode_configs=(conf/decode/{name}.yaml)", f"configs_of {kind}; configs_of {other}").splitlines()
    assert told[0] == f"conf/decode/{name}.yaml" != told[1]


def test_each_kind_gets_its_own_options_where_both_decode() -> None:
    given = "inference_args='--steps 4 --scale peak --batch_size 2 --temperature=0.5 --segment_seconds 5'"
    told = evaluate(f"{BOTH}; {given}", "arguments_of tse; arguments_of tse_gen").splitlines()
    assert told == ["--scale peak --batch_size 2 --segment_seconds 5", "--steps 4 --batch_size 2 --temperature=0.5"]
    # Of one kind alone, nothing is left out silently: what is not for it is an error of decoding.
    assert evaluate(given, "arguments_of tse_gen") == given.split("'")[1]
