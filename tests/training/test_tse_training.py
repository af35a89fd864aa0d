"""The task ``tse``: configurations parse, trainings run on mixtures and on speech, labels are numbered, mistakes are one line."""

from pathlib import Path

import numpy as np
import pytest
from refused import refused
from tiny_model import RATE
from training_runs import data_options, drawn_from, refuse, results, succeed

from espnet_tse_gen.bin import prepare_sources
from espnet_tse_gen.data.preprocessor import SpeakerTable, TSEGenPreprocessor
from espnet_tse_gen.discriminative.build import load_model
from espnet_tse_gen.discriminative.registry import DECODERS, ENCODERS, EXTRACTORS
from espnet_tse_gen.utils.files import read_yaml
from espnet_tse_gen.utils.registry import chosen

ROOT = Path(__file__).parents[2]
CONF, FIXTURES = ROOT / "conf" / "train", ROOT / "tests" / "conf"
FILES = {"spex_plus_8k": "num_spk", "mc_spex_16k": "num_spk", "dual_path_16k": "activity_weight", "masked": "masking"}
SHORT = ["--preprocessor_conf", "crop_seconds=0.4", "--preprocessor_conf", "enroll_seconds=[0.4,0.8]"]


def command(corpus: Path, output: Path, kind: str, *options: str) -> list[str]:
    """The whole command line of a training on the corpus' mixtures."""
    words = ["--config", str(FIXTURES / f"{kind}_test.yaml"), "--output_dir", str(output), "--sample_rate", str(RATE)]
    words += ["--num_spk", "2", *data_options(corpus), *SHORT]
    for name in ("train", "valid"):
        words += [f"--{name}_shape_file", f"{corpus}/stats/{name}/speech_mix_shape"]
    return [*words, *options]


@pytest.mark.parametrize("name", FILES)
def test_t01_every_configuration_parses_and_prints(name: str, tmp_path: Path) -> None:
    program = "tse_gen_train" if name == "masked" else "tse_train"
    log = succeed(["--config", str(CONF / f"{name}.yaml"), "--print_config"], tmp_path / "log", program)
    printed = tmp_path / "printed.yaml"
    printed.write_text(log[log.index("config:") :])
    config, given = read_yaml(printed), read_yaml(CONF / f"{name}.yaml")
    assert config["extractor"] == given["extractor"]
    # Printed with the defaults of what is not given.
    assert given["extractor_conf"].items() <= config["extractor_conf"].items()
    assert {"precision", FILES[name]} <= config["model_conf"].keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["spex_plus", "mc_spex", "td_speakerbeam", "dual_path"])
def test_t02_a_training_on_mixtures(corpus: Path, tmp_path: Path, kind: str) -> None:
    figures = results(succeed(command(corpus, tmp_path / "exp", kind), tmp_path / "log", "tse_train"))[1]
    measure = "si_sdr" if kind == "dual_path" else "si_snr_loss_s0"
    assert np.isfinite(float(figures["train/loss"])) and np.isfinite(float(figures[f"valid/{measure}"]))
    if kind in ("spex_plus", "mc_spex"):
        # Enrolments of validation name no speaker.
        assert float(figures["valid/spk_ce"]) == 0.0 and float(figures["train/spk_ce"]) > 0.1
        assert read_yaml(tmp_path / "exp" / "config.yaml")["extractor_conf"]["num_train_spk"] == 4
        assert (tmp_path / "exp" / "speakers.txt").read_text().split() == ["ann", "bob", "cleo", "dan"]
    load_model(tmp_path / "exp" / "config.yaml", tmp_path / "exp" / f"valid.{measure}.ave.pth")


@pytest.mark.slow
def test_a_training_on_drawn_mixtures_with_silent_targets(corpus: Path, tmp_path: Path) -> None:
    prepare_sources.main(["--spk2enroll", f"{corpus}/spk2enroll.json", "--output_dir", f"{tmp_path}/sources"])
    words = drawn_from(command(corpus, tmp_path / "exp", "mc_spex"), tmp_path / "sources")
    for pair in ("min_seconds=0.5", "absent_share=0.5", "speeds=[0.9,1.0]"):
        words += ["--dynamic_mixing_conf", pair]
    figures = results(succeed(words, tmp_path / "log", "tse_train"))[1]
    assert np.isfinite(float(figures["train/loss"])) and float(figures["train/spk_ce"]) > 0.1
    # Everybody at both speeds, each with a label.
    names = ["ann", "bob", "cleo", "dan", "sp0.9-ann", "sp0.9-bob", "sp0.9-cleo", "sp0.9-dan"]
    assert (tmp_path / "exp" / "speakers.txt").read_text().split() == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--extractor_conf", "num_train_spk=7"], "num_train_spk is 7, but the training data have 4 speakers"),
        (["--preprocessor", "tse"], "the training data name no speakers; give --train_spk2enroll"),
        (["--extractor_conf", "fusoin=tac"], "did you mean 'fusion'"),
        (["--iterator_type", "chunk", "--chunk_length", "1000"], "chunk iterator fails with NumPy 2"),
        (["--sample_rate", "16000"], "sampling rate is 8000 Hz, expected 16000 Hz"),
        (["--extracter", "mc_spex"], "did you mean '--extractor'"),
    ],
)
def test_what_cannot_be_used_is_one_line(corpus: Path, tmp_path: Path, options: list[str], message: str) -> None:
    refuse(message, command(corpus, tmp_path / "exp", "mc_spex", *options), tmp_path / "log", "tse_train")


def test_every_part_of_espnet_is_there_and_is_what_espnet_takes() -> None:
    from espnet2.tasks import enh, enh_tse

    import espnet_tse_gen.training.tse_model  # noqa: F401  where ESPnet is told of this package's parts

    theirs_all = enh.encoder_choices, enh_tse.extractor_choices, enh.decoder_choices
    for ours, theirs in zip((ENCODERS, EXTRACTORS, DECODERS), theirs_all, strict=True):
        for name, cls in theirs.classes.items():
            assert chosen("part", name, ours) is cls
        assert all(issubclass(chosen("part", name, ours), theirs.base_type) for name in ours)


def test_the_preprocessor_labels_the_drawn_speaker(corpus: Path) -> None:
    refused("name no speaker", SpeakerTable, [])
    table = SpeakerTable(["bob", "ann", "bob"])
    assert table.names == ["ann", "bob"] and len(table) == 2
    assert [int(table.label(name)[0]) for name in ("ann", "bob", "zoe")] == [0, 1, -1]
    options = {"train_spk2enroll": str(corpus / "spk2enroll.json"), "crop_seconds": 0.2, "enroll_seconds": (0.3, 0.5)}
    preprocessor = TSEGenPreprocessor(True, RATE, hop=1, speakers=table, **options)
    rng = np.random.default_rng(0)
    signals = [rng.standard_normal(RATE).astype(np.float32) for _ in range(2)]
    data = {"speech_mix": signals[0] + signals[1], "speech_ref1": signals[0], "speech_ref2": signals[1]}
    data |= {"enroll_ref1": "*ann0 ann", "enroll_ref2": "*bob0 bob"}
    np.random.seed(0)
    drawn = set()
    for _ in range(20):
        item = preprocessor("mixture", dict(data))
        position = int(np.argmax([np.correlate(item["speech_ref1"], s[: len(s)], "valid").max() for s in signals]))
        assert item["spk_label_ref1"].tolist() == [position]
        drawn.add(position)
    assert drawn == {0, 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "si_snrr"}, "unknown name in --criterions 'si_snrr': did you mean 'si_snr'"),
        ({"wrapper": "multiscale"}, "unknown wrapper in --criterions 'multiscale': did you mean 'multi_scale'"),
        ({"wrapper_conf": {"wieght": 1.0}}, "wrapper_conf 'wieght': did you mean 'weight'"),
        ({"conf": {"clamp": 30}}, "conf 'clamp': did you mean 'clamp_db'"),
        ({"wraper": "multi_scale"}, "unknown key of --criterions 'wraper': did you mean 'wrapper'"),
    ],
)
def test_a_mistake_in_the_losses_is_one_line(change: dict[str, object], message: str) -> None:
    from espnet_tse_gen.training.tse_task import TSETask

    args = TSETask.get_parser().parse_args(["--config", str(FIXTURES / "mc_spex_test.yaml"), "--output_dir", "exp"])
    args.criterions[0].update(change)
    refused(message, TSETask.build_model, args)
