"""The probe: it gains on tokens that magnitudes tell, nothing on others, and is not fooled by a collapsed codebook."""

import dataclasses
from pathlib import Path

import pytest
import torch
from codec_study.probe import ProbeResult, _Task, run_probe
from codec_study.segments import SIR_DB, Segment, collect_segments, mix
from refused import refused
from tiny_codecs import RATE, ConstantCodec, LoudnessCodec, NoiseCodec, PcmCodec, write_speech

from espnet_tse_gen.audio.recordings import Recordings
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.utils.files import read_scp


@pytest.fixture(autouse=True)
def _few_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step costs a quarter of what it does in earnest."""
    monkeypatch.setattr("codec_study.probe.BATCH", 2)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("probe")
    return write_speech(root / "train", range(6), each=2), write_speech(root / "test", range(6, 8))


def segments(codec: AbsCodec, table: Path, seconds: float | None = None) -> list[Segment]:
    return collect_segments(codec, Recordings(table), read_scp(table.parent / "utt2spk"), seconds)


def probe(codec: AbsCodec, tables: tuple[Path, Path], condition: str = "clean", steps: int = 20) -> ProbeResult:
    return run_probe(codec, *(segments(codec, table) for table in tables), condition, steps)


@pytest.mark.slow
def test_tokens_that_magnitudes_tell_are_predicted_and_worse_in_a_mixture(tables: tuple[Path, Path]) -> None:
    clean, mixture = (probe(LoudnessCodec(), tables, condition, 40).codebooks[0] for condition in ("clean", "mixture"))
    assert clean.gain > 1.0 and clean.accuracy > clean.guess_accuracy + 0.1
    assert clean.ce < mixture.ce < mixture.guess_ce
    assert 0 < clean.entropy <= 3 and 1 < clean.perplexity <= 8


@pytest.mark.slow
def test_random_tokens_give_no_gain_and_neither_does_a_collapsed_codebook(tables: tuple[Path, Path]) -> None:
    random = probe(NoiseCodec(), tables)
    assert random.codebooks[0].gain < 0.1
    assert random.codebooks[0].entropy == pytest.approx(3.0, abs=0.05)
    collapsed = probe(ConstantCodec(), tables).codebooks[0]
    assert collapsed.accuracy == collapsed.guess_accuracy == 1.0
    assert (collapsed.entropy, collapsed.perplexity) == (0.0, 1.0)
    assert abs(collapsed.gain) < 0.1


def test_result_does_not_depend_on_what_ran_before_and_covers_every_recording(tables: tuple[Path, Path]) -> None:
    first = probe(LoudnessCodec(), tables, steps=2)
    torch.rand(7)
    assert dataclasses.asdict(probe(LoudnessCodec(), tables, steps=2)) == dataclasses.asdict(first)
    assert {item.key for item in first.items} == set(read_scp(tables[1]))
    assert first.parameters["heads"] == 8 * (192 + 1)


def test_all_codecs_meet_the_same_audio(tables: tuple[Path, Path]) -> None:
    fine, coarse = PcmCodec(), LoudnessCodec()
    coarse.hop = 1280
    batches = []
    for codec in (fine, coarse):
        taken = segments(codec, tables[0], seconds=10.0)
        batches.append(_Task(codec, taken, "mixture", "cpu").batch())
        assert len({segment.speaker for segment in taken}) == 4
    (first, _, many), (second, positions, few) = batches
    assert torch.equal(first, second)
    assert many.shape[2] == 2 * RATE and few.shape[2] == positions.shape[1] == 25
    # The centres of frames of 80 ms lie eight frames of features apart.
    assert torch.allclose(positions.diff(dim=1), torch.tensor(8.0), atol=1e-3)


def test_codes_belong_to_the_audio_of_their_crop(tables: tuple[Path, Path]) -> None:
    codec = LoudnessCodec()
    task = _Task(codec, segments(codec, tables[0]), "clean", "cpu")
    features, positions, codes = task.batch()
    energy = (features * task.scale + task.mean).mul(2).exp().sum(dim=2).log()
    heard = energy.gather(1, positions.round().long().clamp(0, 199))
    for row in range(len(codes)):
        together = torch.stack([heard[row], codes[row, 0].float()])
        assert torch.corrcoef(together)[0, 1] > 0.8


def test_the_interferer_is_below_the_target_and_mistakes_end_in_one_line(
    tables: tuple[Path, Path], tmp_path: Path
) -> None:
    assert torch.allclose(mix(torch.ones(4), torch.ones(4)), torch.tensor(1 + 10 ** (-SIR_DB / 20)))
    codec = LoudnessCodec()
    train, test = (segments(codec, table) for table in tables)
    refused("the test recordings have one speaker", run_probe, codec, train, test[:1], "mixture", 1)
    refused("no recording has 2 s", segments, codec, write_speech(tmp_path, range(1), seconds=1.0))
