"""The synthetic corpus: repeatable, in LibriSpeech's layout, of distinct voices, with disjoint splits."""

import re
from pathlib import Path

import numpy as np
import pytest
from refused import refused, refused_command

from espnet_tse_gen.audio.files import read_audio
from espnet_tse_gen.bin.prepare_mini_librimix import main
from espnet_tse_gen.data.corpus import list_utterances, read_speaker_sexes
from espnet_tse_gen.data.espeak import variant_sexes
from espnet_tse_gen.data.grammar import PATTERNS, WORDS, draw_sentences
from espnet_tse_gen.data.librimix.drawing import active_level
from espnet_tse_gen.data.librimix.layout import read_metadata
from espnet_tse_gen.data.synthetic import build_corpus, draw_voices, split_voices, synthesize


def median_pitch(samples: np.ndarray, rate: int = 16000) -> float:
    """The median over voiced frames of the autocorrelation's highest peak between 60 and 400 Hz."""
    found = []
    for start in range(0, len(samples) - 1024, 512):
        frame = samples[start : start + 1024].astype(np.float64)
        frame -= frame.mean()
        spectrum = np.abs(np.fft.rfft(frame, 2048)) ** 2
        correlation = np.fft.irfft(spectrum)[:1024]
        lag = rate // 400 + int(np.argmax(correlation[rate // 400 : rate // 60]))
        if correlation[lag] > 0.5 * correlation[0] and np.sqrt(np.mean(frame**2)) > 0.02:
            found.append(rate / lag)
    return float(np.median(found))


def test_the_grammar_does_not_repeat_itself() -> None:
    sentences = draw_sentences(3000, seed=1)
    assert len(set(sentences)) == 3000
    assert sentences[:100] == draw_sentences(100, seed=1)
    assert sentences[:100] != draw_sentences(100, seed=2)
    assert all(re.fullmatch(r"[A-Z][a-zA-Z', ]+\.", sentence) for sentence in sentences)
    assert all(6 <= len(sentence.split()) <= 24 for sentence in sentences)
    assert {slot for pattern in PATTERNS for slot in re.findall(r"{(\w+)}", pattern)} <= WORDS.keys()


@pytest.mark.parametrize("count", [8, 56, 300])
def test_voices_are_distinct_and_splits_disjoint(count: int) -> None:
    voices = draw_voices(count, seed=3)
    assert voices == draw_voices(count, seed=3) != draw_voices(count, seed=4)
    for sex in "mf":
        own = [voice for voice in voices if voice.sex == sex]
        assert len(own) == count // 2
        for name in ("pitch", "tract", "rate", "tilt", "pitch_range"):
            assert len({getattr(voice, name) for voice in own}) == len(own)
    assert all(variant_sexes()[voice.variant] == voice.sex for voice in voices)
    splits = split_voices(voices)
    speakers = [voice.speaker for split in splits.values() for voice in split]
    assert sorted(speakers) == sorted({voice.speaker for voice in voices})
    assert all({voice.sex for voice in split} == {"m", "f"} for split in splits.values())
    assert len(splits["train-mini"]) >= count / 2
    if count == 56:
        assert [len(split) for split in splits.values()] == [42, 6, 8]


def test_synthesis_is_repeatable_and_the_voices_differ(tmp_path: Path) -> None:
    voices = draw_voices(4, seed=5)
    texts = [draw_sentences(8, seed=1)[2 * index : 2 * index + 2] for index in range(4)]
    synthesize(tmp_path / "one", "train-mini", voices, texts, seed=5, num_jobs=1)
    synthesize(tmp_path / "two", "train-mini", voices, texts, seed=5, num_jobs=2)
    files = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert len(files) == 4 * (2 + 1)
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)
    pitches = []
    for utterance in list_utterances(tmp_path / "one", "train-mini"):
        samples, _ = read_audio(utterance.path, 16000)
        assert 1.0 < len(samples) / 16000 < 10.0
        assert -35 < active_level(samples) < -15
        assert np.abs(samples).max() < 0.95
        pitches.append(median_pitch(samples))
    female, male = pitches[0:2] + pitches[4:6], pitches[2:4] + pitches[6:8]
    assert min(female) > max(male)
    transcripts = sorted((tmp_path / "one").rglob("*.trans.txt"))
    lines = [line.split(maxsplit=1) for line in transcripts[0].read_text().splitlines()]
    assert [name for name, _ in lines] == ["1001-101001-0000", "1001-101001-0001"]
    assert all(re.fullmatch(r"[A-Z' ]+", text) for _, text in lines)


def test_the_command_makes_a_corpus_and_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--output_dir", str(tmp_path), "--num_voices", "8", "--utterances_per_voice", "2", "--nj", "2"]
    options += ["--train_mixtures", "6", "--dev_mixtures", "2", "--test_mixtures", "2"]
    main(options)
    root = tmp_path / "mini_librispeech"
    speakers = {split: {one.speaker for one in list_utterances(root, split)} for split in ("train-mini", "dev-mini")}
    assert not speakers["train-mini"] & speakers["dev-mini"]
    assert read_speaker_sexes(root).keys() >= speakers["train-mini"] | speakers["dev-mini"]
    texts = [line.split(maxsplit=1)[1] for path in root.rglob("*.trans.txt") for line in path.read_text().splitlines()]
    assert len(set(texts)) == len(texts) == 16
    for split, count in (("train", 6), ("dev", 2), ("test", 2)):
        rows = read_metadata(tmp_path / "mini_librimix_metadata" / f"libri2mix_{split}-mini.csv")
        assert len(rows) == count
        assert all((root / path).is_file() for row in rows for path in row.sources)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    main(options)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert capsys.readouterr().out.count("kept") == 4


def test_a_foreign_folder_is_never_overwritten_and_mistakes_make_nothing(tmp_path: Path) -> None:
    (tmp_path / "mini_librispeech").mkdir()
    (tmp_path / "mini_librispeech" / "precious").write_text("mine")
    command = ["--output_dir", tmp_path]
    refused_command("is no corpus made by this command", main, *command)
    refused_command("--train_mixtures is 0", main, *command, "--train_mixtures", "0")
    refused("--utterances_per_voice is 1", build_corpus, tmp_path / "new", utterances_per_voice=1)
    refused("--num_voices is 6; expected at least 8", build_corpus, tmp_path / "new", num_voices=6)
    assert [path.name for path in tmp_path.rglob("*")] == ["mini_librispeech", "precious"]
