"""The mini corpus's run.sh as a user starts it: all stages at a tiny size, then again, and with mistakes."""

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import soundfile
import yaml
from programs import ROOT, output_of, refused_in, start
from training_runs import make_corpus

from espnet_tse_gen.data.corpus import SPEECH
from espnet_tse_gen.utils.files import read_scp, write_scp

RECIPE = ROOT / "egs2" / "mini_librimix" / "tse_gen1"
TAG = "masked_test_mel_16k"
SIZE = "--train_mixtures 24 --dev_mixtures 6 --test_mixtures 6"
SHIPPED = ROOT / "espnet_tse_gen" / "pretrained"

pytestmark = pytest.mark.slow


def run(place: Path, *arguments: str, data_options: str = SIZE) -> subprocess.CompletedProcess[str]:
    """Start run.sh with everything that it makes below ``place``."""
    command = [str(RECIPE / "run.sh"), "--datadir", f"{place}/data", "--dumpdir", f"{place}/dump"]
    command += ["--expdir", f"{place}/exp", "--tse_config", f"{ROOT}/tests/conf/masked_test.yaml"]
    command += ["--inference_config", "conf/decode/one_step.yaml", "--pretrained_exp", "", "--nj", "2"]
    command += ["--codec_config", "conf/codec/mel_16k.yaml", "--codec_dir", ""]
    command += ["--tse_tag", TAG, "--tse_args", "", "--inference_args", ""]
    command += ["--inference_nj", "2", "--local_data_opts", f"{data_options} --downloads {place}/downloads", *arguments]
    return start(*command)


def snapshot(place: Path) -> dict[str, str]:
    """Digest of every file below ``place``, and of what takes time to make also its time: it must not be made again."""
    state = {}
    for path in place.rglob("*"):
        name = str(path.relative_to(place))
        if path.is_file():
            kept = name.startswith(("dump", "exp")) or path.suffix in (".wav", ".flac")
            time_ns = path.stat().st_mtime_ns if kept else 0
            state[name] = f"{hashlib.sha256(path.read_bytes()).hexdigest()} {time_ns}"
    return state


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all stages have run."""
    folder = tmp_path_factory.mktemp("mini")
    before = sorted(RECIPE.rglob("*"))
    told = output_of(run(folder))
    assert all(f"Stage {number}: " in told for number in range(1, 12))
    assert sorted(RECIPE.rglob("*")) == before, "the recipe wrote into its own folder"
    return folder


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    """Only what is light: for runs that must not change the module's folder."""
    shutil.copytree(place / "data", tmp_path / "data")
    return tmp_path


def test_every_stage_left_what_the_next_needs(place: Path) -> None:
    for name in ("train", "dev", "test"):
        for folder in (place / "data" / name, place / "dump" / "raw" / name):
            for table in ("wav.scp", "spk1.scp", "spk2.scp", "enroll_spk1.scp", "enroll_spk2.scp"):
                assert len((folder / table).read_text().splitlines()) == (24 if name == "train" else 6)
        assert (place / "dump" / "codec" / "mel_16k" / name / "codes_spk2.scp").exists()
    exp = place / "exp" / TAG
    made = "config.yaml 2epoch.pth valid.loss.best.pth codec/codec.yaml RESULTS.md report/index.html"
    assert [name for name in made.split() if not (exp / name).exists()] == []
    with zipfile.ZipFile(exp / f"{TAG}.zip") as packed:
        assert any(name.endswith("config.yaml") for name in packed.namelist())


def test_every_set_is_of_its_own_speakers(place: Path) -> None:
    for name, subset in (("train", "train-clean-5"), ("dev", "dev-clean"), ("test", "test-other")):
        speakers = {who for n in (1, 2) for who in read_scp(place / "data" / name / f"target_spk{n}").values()}
        assert len(speakers) >= 4 and speakers <= {folder.name for folder in (SPEECH / subset).iterdir()}


def test_the_recipe_as_it_stands_names_what_is_there() -> None:
    assert "Done." in output_of(start(RECIPE / "run.sh", "--stage", "12"))


def test_a_codec_that_is_there_serves(place: Path) -> None:
    codec = SHIPPED / "tse_gen_16k" / "codec"
    told = output_of(run(place, "--codec_dir", str(codec), "--codec_tag", "given", "--stage", "4", "--stop_stage", "5"))
    assert f"codec preparation: {codec}" in told and not (place / "exp" / "codec_given").exists()
    made = json.loads((place / "dump" / "codec" / "given" / "test" / "codes_spk1.json").read_text())
    assert made["fingerprint"] == yaml.safe_load((codec / "codec.yaml").read_text())["fingerprint"]


def test_outputs_have_the_mixtures_keys_and_lengths(place: Path) -> None:
    mixtures = read_scp(place / "dump/raw/test/wav.scp")
    for speaker in ("spk1", "spk2"):
        outputs = read_scp(place / "exp" / TAG / "decode_one_step" / "test" / f"{speaker}.scp")
        assert outputs.keys() == mixtures.keys()
        for key, path in outputs.items():
            heard, given = soundfile.info(path), soundfile.info(mixtures[key])
            assert (heard.frames, heard.samplerate) == (given.frames, given.samplerate)


def test_scores_of_mixture_ceiling_and_model(place: Path) -> None:
    with open(place / "exp" / TAG / "scores.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    systems = {row["system"] for row in rows}
    assert systems == {"mixture", f"codec of {TAG}", f"{TAG} one_step"}
    assert len(rows) == 3 * 12

    def mean(system: str, measure: str) -> float:
        values = [float(row[measure]) for row in rows if row["system"] == system]
        return sum(values) / len(values)

    # Both speakers are targets, so their input ratios cancel; the codec keeps much more than the mixture has.
    assert abs(mean("mixture", "SI_SDR")) < 0.5
    assert mean(f"codec of {TAG}", "ESTOI") > mean("mixture", "ESTOI") + 10
    results = (place / "exp" / TAG / "RESULTS.md").read_text()
    assert all(system in results for system in systems)
    assert all(0 < float(row["RTF"]) < 10 for row in rows if row["system"] == f"{TAG} one_step")


def test_running_again_is_quick_and_changes_nothing(place: Path) -> None:
    before = snapshot(place)
    told = output_of(run(place))
    for number in range(2, 12):
        _, _, own = told.partition(f"Stage {number}: ")
        assert "up to date" in own.partition("Stage ")[0], number
    after = snapshot(place)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert not changed


@pytest.mark.parametrize("stage", range(1, 12))
def test_each_stage_runs_alone(place: Path, stage: int) -> None:
    before = snapshot(place)
    assert output_of(run(place, "--stage", str(stage), "--stop_stage", str(stage))).count("Stage ") == 1
    assert snapshot(place) == before


@pytest.mark.parametrize(
    "stage, lost",
    [
        (3, "dump/raw/dev/wav.scp"),
        (9, f"exp/{TAG}/RESULTS.md"),
        (10, f"exp/{TAG}/report"),
        (11, f"exp/{TAG}/{TAG}.zip"),
    ],
)
def test_what_was_lost_is_made_again_by_its_stage_alone(place: Path, stage: int, lost: str) -> None:
    scores = (place / "exp" / TAG / "scores.csv").read_text()
    names = snapshot(place).keys()
    if (place / lost).is_dir():
        shutil.rmtree(place / lost)
    else:
        (place / lost).unlink()
    output_of(run(place, "--stage", str(stage), "--stop_stage", str(stage)))
    made = snapshot(place)
    assert names <= made.keys()
    assert (place / "exp" / TAG / "scores.csv").read_text() == scores
    # It is what it was, so the stages after it have nothing to do; only the package holds RESULTS.md, which has a date.
    output_of(run(place, "--stage", str(stage + 1), "--stop_stage", "10"))
    assert snapshot(place) == made


def test_a_failed_job_shows_its_log(copy: Path) -> None:
    scp = copy / "data" / "train" / "spk1.scp"
    first = scp.read_text().split()[1]
    broken = copy / "broken.wav"
    broken.write_bytes(b"this is not audio")
    scp.write_text(scp.read_text().replace(first, str(broken), 1))
    result = run(copy, "--stage", "2", "--stop_stage", "3")
    assert result.returncode != 0
    assert "Log: " in result.stderr and "broken.wav" in result.stderr
    log = next(line for line in result.stderr.splitlines() if "Log: " in line).split("Log: ")[1]
    assert "broken.wav" in Path(log).read_text()
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "stage, missing, maker",
    [
        (2, "data/train/wav.scp", 1),
        (3, "dump/raw/org/train/wav.scp", 2),
        (4, "dump/raw/train/spk1.scp", 3),
        (5, "exp/codec_mel_16k/codec.yaml", 4),
        (6, "exp/codec_mel_16k/codec.yaml", 4),
        (7, "exp/codec_mel_16k/codec.yaml", 4),
        (8, f"exp/{TAG}/config.yaml", 7),
        (9, f"exp/{TAG}/config.yaml", 7),
        (11, f"exp/{TAG}/config.yaml", 7),
    ],
)
def test_a_stage_says_which_stage_it_needs(tmp_path: Path, stage: int, missing: str, maker: int) -> None:
    result = run(tmp_path, "--stage", str(stage), "--stop_stage", str(stage))
    refused_in(result, f"{missing} is missing: stage {maker} makes it")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--stage", "two"], "--stage takes a whole number of at least 0, not 'two'"),
        (["--nj", "0"], "--nj takes a whole number of at least 1"),
        (["--fs", "fast"], "--fs takes a rate"),
        (["--codec_config", "conf/codec/none.yaml"], "conf/codec/none.yaml: no such file; see conf/codec for"),
        (["--tse_config", "conf/train/none.yaml"], "conf/train/none.yaml: no such file; see conf/train"),
        (["--tse_config", "conf/train/mini.yaml"], "mini.yaml: no such file; it is called masked_small.yaml now"),
        (["--inference_config", "conf/decode/none.yaml"], "conf/decode/none.yaml: no such file"),
        (["--pretrained_exp", "dual_path_16k"], "(models that ship: espnet_tse_gen/pretrained/NAME in the repository)"),
        (["--codec_dir", "none"], "--codec_dir: none/codec.yaml: no such file"),
        (["--score_with_asr", "true"], "--score_with_asr needs --asr_exp"),
        (["--score_with_asr", "true", "--asr_exp", "nowhere"], "--asr_exp: nowhere/config.yaml: no such file"),
        (["--python", "no-such-python"], "'no-such-python' cannot import espnet_tse_gen"),
        (["more"], "takes options only, found 'more'"),
        (["--dynamic_mixing", "yes"], "--dynamic_mixing takes true or false, not 'yes'"),
        (["--speech_dir", "speech"], "--speech_dir is for dynamic mixing"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_made(tmp_path: Path, arguments: list[str], message: str) -> None:
    refused_in(run(tmp_path, *arguments), message)
    assert not os.listdir(tmp_path)


def test_dynamic_mixing_draws_from_what_the_training_set_enrols_with(place: Path) -> None:
    before = snapshot(place)
    output_of(run(place, "--dynamic_mixing", "true", "--stage", "3", "--stop_stage", "6"))
    sources = place / "dump" / "sources" / "train"
    assert len(read_scp(sources / "wav.scp")) == len(read_scp(sources / "utt2dur")) > 6
    # The converted recordings of the training set, and the tokens of the other sets, serve as they are.
    assert not (sources / "data").exists()
    made = snapshot(place).keys() - before.keys()
    stats = f"exp/tse_stats_{TAG}_train_16k_dynamic"
    assert {name.split("/log/")[0] for name in made if "/log/" in name} == {"dump/sources/train", stats}
    assert (place / stats / "valid" / "speech_mix_shape").exists()
    result = run(place, "--dynamic_mixing", "true", "--stage", "3", "--stop_stage", "6")
    assert result.stdout.count("up to date") == len(result.stdout.splitlines()) - 5


def test_a_changed_recording_is_noticed_in_a_folder_with_spaces(tmp_path: Path) -> None:
    data = make_corpus(tmp_path / "my data")
    shutil.copy(data / "spk2enroll.json", data / "train")
    for folder in (data / "train", data / "valid"):
        for table in ("utt2spk", "spk2utt"):
            write_scp(folder / table, {key: key for key in read_scp(folder / "wav.scp")})
    options = ["--datadir", str(data), "--dumpdir", f"{data}/dump", "--stage", "2", "--stop_stage", "3", "--fs", "8k"]
    options += ["--valid_set", "valid", "--test_sets", "valid", "--min_wav_duration", "0.1"]

    def kept() -> int:
        return output_of(run(tmp_path, *options)).count("up to date")

    assert [kept(), kept()] == [0, 4]
    changed = next(iter(read_scp(data / "valid" / "spk1.scp").values()))
    soundfile.write(changed, 0.5 * soundfile.read(changed)[0], 8000)
    assert [kept(), kept()] == [2, 4]


@pytest.mark.parametrize(
    "options, message",
    [
        ("--test_mixture 8", "unknown option '--test_mixture'; did you mean '--test_mixtures'?"),
        ("--dev_mixtures 0", "--dev_mixtures takes a whole number of at least 1, not '0'"),
        ("--test_mixtures 500", "has fewer than 500 different pairs; ask for fewer mixtures"),
    ],
)
def test_mistakes_in_the_options_of_the_corpus(tmp_path: Path, options: str, message: str) -> None:
    result = run(tmp_path, "--stop_stage", "1", data_options=options)
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("script", ["mini_librimix/tse_gen1/tse_gen.sh", "librispeech/codec1/codec.sh"])
def test_help_lists_every_option(script: str) -> None:
    own = (ROOT / "egs2" / script).read_text().split(". utils/parse_options.sh")[0]
    names = {line.split("=")[0] for line in own.splitlines() if line[:1].islower() and "=" in line.split()[0]}
    told = output_of(start((ROOT / "egs2" / script).with_name("run.sh"), "--help"))
    listed = {line.split()[0].lstrip("-") for line in told.splitlines() if line.startswith("    --")}
    assert listed == names | {"config", "help"}


@pytest.mark.parametrize(
    "script", sorted((ROOT / "egs2").glob("*/*/local/*.sh")), ids=lambda path: f"{path.relative_to(ROOT)}"
)
def test_every_script_of_a_corpus_says_what_it_does(script: Path) -> None:
    # From another folder than that of the recipe, which it goes to itself.
    result = start(script.relative_to(ROOT), "--help", folder=ROOT)
    assert output_of(result) and not result.stderr
    head = re.search(r"\A#!.*\n# (.*)\n", script.read_text())
    assert head and head[1] in result.stdout
    for line in result.stdout.partition("Options, with their values:\n")[2].splitlines():
        assert not re.match(r"    --\w+ +(\(|$)", line), f"{script}: an option without a text: {line}"


def test_what_recipes_and_documents_name_is_there() -> None:
    recipes = [script.parent for script in (ROOT / "egs2").glob("*/*/run.sh")]
    recipes += [RECIPE.parents[1] / "TEMPLATE" / kind for kind in ("tse_gen1", "codec1")]
    assert all((recipe / "README.md").exists() for recipe in recipes) and len(recipes) == 6
    files = [file for recipe in recipes for file in (*recipe.glob("*.*"), *recipe.glob("local/*"))]
    for file in (*files, *ROOT.glob("docs/*.md"), ROOT / "README.md"):
        text = file.read_text() if file.is_file() else ""
        for name in re.findall(r"\bconf/\w+/[a-z0-9_]+\.yaml", text):
            assert (ROOT / name).exists(), f"{file}: {name}"
        for link in re.findall(r"\]\((\.\./[^)#]+)", text):
            assert (file.parent / link).exists(), f"{file}: {link}"
