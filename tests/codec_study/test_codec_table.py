"""The table of codecs, made by its command: rows, figures, what is kept of an earlier run, and mistakes."""

import json
from pathlib import Path

import codec_table
import numpy as np
import pytest
from codec_study import measuring
from refused import refused
from tiny_codecs import ConstantCodec, LoudnessCodec, PcmCodec, write_speech

from espnet_tse_gen.codec.registry import CODECS, save_codec
from espnet_tse_gen.scoring.table import read_scores
from espnet_tse_gen.utils.files import write_scp


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Codec directories ``codec_pcm`` and ``codec_loudness``, and the sets ``train`` and ``test``."""
    root = tmp_path_factory.mktemp("table")
    write_speech(root / "train", range(3))
    write_speech(root / "test", range(3, 5))
    for codec in (PcmCodec(), LoudnessCodec(), ConstantCodec()):
        save_codec(codec, root / f"codec_{codec.name}")
    return root


@pytest.fixture(autouse=True)
def _families(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cls in (("pcm", "PcmCodec"), ("loudness", "LoudnessCodec"), ("constant", "ConstantCodec")):
        monkeypatch.setitem(CODECS, name, f"tiny_codecs:{cls}")
    monkeypatch.setattr("codec_study.probe.BATCH", 2)


def make(world: Path, output: Path, *codecs: str, **options: str) -> dict:
    given = {"wav_scp": str(world / "test" / "wav.scp"), "output_dir": str(output), "measures": "si_sdr", **options}
    command = [f"--codec_dir={world / f'codec_{name}'}" for name in codecs]
    codec_table.main([*command, *(f"--{name}={value}" for name, value in given.items())])
    return json.loads((output / "codec_table.json").read_text())


def test_fidelity_of_two_codecs(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = make(world, tmp_path, "pcm", "loudness", command="make table")
    rows = read_scores(tmp_path / "scores.csv")
    assert {row.system for row in rows} == {"pcm/1", "pcm/2", "loudness/1"}
    assert {(row.key, row.target, row.set) for row in rows} == {("s03-0", "s03", "test"), ("s04-0", "s04", "test")}
    found = values["codecs"]["pcm"]["codebooks"]["2"]
    mean = np.mean([row.metrics["SI_SDR"] for row in rows if row.system == "pcm/2"])
    assert found["measures"]["SI_SDR"]["mean"] == pytest.approx(mean, rel=1e-5) and found["kbit_per_s"] == 256
    assert values["codecs"]["pcm"]["fingerprint"] == PcmCodec().fingerprint()
    assert values["codecs"]["pcm"]["speed"]["both"] > 0 and values["environment"]["command"] == "make table"
    text = (tmp_path / "codec_table.md").read_text()
    assert f"| pcm | 2 | 256.00 | {mean:.2f}" in text and "| loudness | 1 |" in text
    assert text in capsys.readouterr().out

    monkeypatch.setattr(measuring, "evaluate_codec", None)
    assert make(world, tmp_path, "pcm", "loudness")["codecs"] == values["codecs"]
    # Another codec under the same name is not taken for the one that was measured.
    save_codec(ConstantCodec(), tmp_path / "codec_pcm")
    with pytest.raises(TypeError):
        make(tmp_path, tmp_path, "pcm", wav_scp=str(world / "test" / "wav.scp"))


@pytest.mark.slow
def test_probe_is_in_the_same_table_and_found_again(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"probe_train_scp": str(world / "train" / "wav.scp"), "probe_steps": "2"}
    values = make(world, tmp_path, "constant", "loudness", **options)
    probes = values["codecs"]["constant"]["probe"]
    assert probes.keys() == {"clean", "mixture"}
    assert (
        probes["clean"]["codebooks"][0]["accuracy"] == 1.0 and probes["clean"]["codebook_1"]["accuracy"]["count"] == 2
    )
    assert probes["clean"]["codebooks"][0]["perplexity"] == 1.0
    text = (tmp_path / "codec_table.md").read_text()
    assert "| CE clean (bits) ↓ | gain clean (bits) ↑ | accuracy clean (%) ↑ | CE mixture" in text
    assert "| constant | clean | 1 of 8 |" in text and "n/a" in text

    monkeypatch.setattr(measuring, "evaluate_codec", None)
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "run_probe", None)
        assert make(world, tmp_path, "constant", "loudness", **options)["codecs"] == values["codecs"]
    longer = make(world, tmp_path, "loudness", **{**options, "probe_steps": "3"})["codecs"]["loudness"]
    assert longer["probe"]["clean"]["steps"] == 3
    assert longer["codebooks"] == values["codecs"]["loudness"]["codebooks"]


def test_fewer_recordings_are_spread_over_the_table(world: Path, tmp_path: Path) -> None:
    make(world, tmp_path, "loudness", wav_scp=str(world / "train" / "wav.scp"), max_recordings="2")
    assert {row.key for row in read_scores(tmp_path / "scores.csv")} == {"s00-0", "s01-0"}


@pytest.mark.parametrize(
    ("codecs", "options", "message"),
    [
        (["pcm"], {"measures": "si_sdr,pesk"}, "did you mean 'pesq'"),
        (["pcm"], {"codebooks": "1,two"}, "found 'two'"),
        (["loudness"], {"codebooks": "2"}, "has 1 codebook"),
        (["pcm", "pcm"], {}, "its name in the table would be 'pcm'"),
        (["pcm", "none"], {}, "is not a codec directory"),
        (["pcm"], {"nj": "0"}, "--nj: 0 is not in the range x>=1"),
        (["pcm"], {"probe_seconds": "0"}, "--probe_seconds: 0.0 is not in the range x>0"),
        (["pcm"], {"wav_scp": "none.scp"}, "none.scp: no such file"),
        (["pcm"], {"probe_train_scp": "SAME"}, "speaker 's03' is in --wav_scp too"),
        (["pcm"], {"probe_train_scp": "BARE"}, "no speaker for recording 's00-0'"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_measured(
    world: Path, tmp_path: Path, codecs: list[str], options: dict[str, str], message: str
) -> None:
    write_scp(tmp_path / "wav.scp", {"s00-0": str(world / "train" / "wavs" / "s00-0.wav")})
    files = {"SAME": str(world / "test" / "wav.scp"), "BARE": str(tmp_path / "wav.scp")}
    given = {name: files.get(value, value) for name, value in options.items()}
    refused(message, make, world, tmp_path / "out", *codecs, **given)
    assert not (tmp_path / "out").exists()
