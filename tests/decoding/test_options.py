"""What a user may write, and what the error says."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from refused import refused

from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.utils.options import presets

CONF = Path(__file__).parents[2] / "conf" / "decode"
PRESETS = {
    "one_step": {"joint": True, "steps": 1},
    "one_step_per_codebook": {"steps": 1},
    "greedy_16": {"steps": (8, 2)},
    "joint_16": {"joint": True, "steps": 16},
    "soft": {"joint": True, "steps": 1, "soft": True, "reconstruction": "estimate"},
    "stochastic": {"steps": (8, 2), "temperature": 1.0, "choice_temperature": 1.0, "top_k": 0.1},
    "ancestral": {"joint": True, "steps": 1_000_000, "temperature": 1.0, "anneal": False, "order": "random"},
}


def test_presets_are_the_files_of_conf_decode():
    # Two are for discriminative models; see tests/inference/test_segment_options.py.
    assert {*PRESETS, "segments", "augmented"} == {path.stem for path in CONF.glob("*.yaml")} == set(presets())
    for name, values in PRESETS.items():
        assert (
            DecodingOptions.preset(name) == DecodingOptions.resolve(CONF / f"{name}.yaml") == DecodingOptions(**values)
        )

        assert all("#" in line for line in (CONF / f"{name}.yaml").read_text(encoding="utf-8").splitlines())


def test_one_number_of_steps_is_for_every_codebook_and_a_list_for_the_first_ones():
    for steps, expected in ((3, (3, 3, 3)), ([4, 2], (4, 2, 1)), ([3], (3, 1, 1))):
        assert DecodingOptions(steps=steps).codebook_steps(3) == expected
    assert DecodingOptions(joint=True, steps=[16]).codebook_steps(3) == (16,)
    refused(r"'steps' lists 3 codebooks, the codec has 2", DecodingOptions(steps=(3, 2, 1)).codebook_steps, 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temprature": 1.0}, r"unknown decoding option 'temprature': did you mean 'temperature'\?"),
        ({"order": "haltn"}, r"unknown value of decoding option 'order' 'haltn': did you mean 'halton'\?"),
        ({"remask": 1}, r"'remask': expected one of none, rescore"),
        ({"steps": [8, "2"]}, r"'steps': expected a number of steps from 1"),
        ({"steps": [8, 2], "joint": True}, r"'steps': expected one number where joint is true"),
        ({"temperature": -1}, r"'temperature': expected 0 or more, found -1"),
        ({"temperature": float("nan")}, r"'temperature': expected a number"),
        ({"joint": "yes please"}, r"'joint': expected true or false"),
        ({"top_p": 1.5}, r"'top_p': expected a probability"),
        ({"batch_size": 0}, r"'batch_size': expected 1 or more"),
        ({"top_k": 2.5}, r"'top_k': expected 0, a share below 1, or a whole number"),
        ({"seed": 0.5}, r"'seed': expected a whole number"),
        ({"chunk_overlap_seconds": 10}, r"'chunk_overlap_seconds': expected less than chunk_seconds \(10\)"),
    ],
)
def test_bad_values_end_in_one_line_that_names_file_and_option(tmp_path, values, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert str(path) in refused(message, DecodingOptions.resolve, path)


def test_values_are_normalised():
    options = DecodingOptions.from_dict({"temperature": 1, "joint": True, "steps": [4]})
    assert options.temperature == 1.0 and isinstance(options.temperature, float)
    assert options.steps == 4
    assert DecodingOptions.from_dict(dataclasses.asdict(options)) == options


def test_resolve_takes_what_a_user_gives(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("steps: 2\n", encoding="utf-8")
    assert DecodingOptions.resolve(None) == DecodingOptions()
    assert DecodingOptions.resolve(path) == DecodingOptions.resolve(str(path)) == DecodingOptions(steps=2)
    assert DecodingOptions.resolve({"steps": 2}) == DecodingOptions(steps=2)
    assert DecodingOptions.resolve("one_step") == DecodingOptions(steps=1, joint=True)
    options = DecodingOptions(seed=4)
    assert DecodingOptions.resolve(options) is options
    refused(r"models 'greedy16': did you mean 'greedy_16'\?", DecodingOptions.resolve, "greedy16")
    refused("no such file", DecodingOptions.resolve, "nowhere/mine.yaml")


def test_shares_and_seconds_become_counts():
    for top_k, count in ((0, 0), (0.1, 102), (0.0001, 1), (5, 5), (5000, 1024)):
        assert DecodingOptions(top_k=top_k).top_k_count(1024) == count
    for seconds, rate, frames in ((10.0, 75.0, (750, 150)), (10.0, 0.1, (1, 0)), (0.0, 50.0, (0, 0))):
        assert DecodingOptions(chunk_seconds=seconds).chunk_frames(rate) == frames


def test_an_option_is_read_by_its_former_name_with_a_warning(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("carry_seconds: 3\n", encoding="utf-8")
    with pytest.warns(FutureWarning, match=r"mine\.yaml: .*'carry_seconds' is called 'chunk_overlap_seconds' now"):
        assert DecodingOptions.resolve(path) == DecodingOptions(chunk_overlap_seconds=3.0)
