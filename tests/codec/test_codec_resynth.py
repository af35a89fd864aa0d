"""Resynthesis of one file by a configuration alone, with fewer levels, and the mistakes that it answers in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codec_corpus import SIZES, write_corpus
from codec_families import make_encodec, make_mel

from espnet_tse_gen.bin import codec_resynth
from espnet_tse_gen.codec.registry import load_codec, save_codec
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_scp


@pytest.fixture(scope="module")
def codec_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exp") / "codec_small"
    save_codec(make_mel(num_mels=40, num_levels=4, codebook_size=16), directory)
    return directory


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a configuration of EnCodec that names a file of weights in the released format."""
    folder = tmp_path_factory.mktemp("conf")
    torch.save(make_encodec().model.state_dict(), folder / "weights.th")
    (folder / "encodec.yaml").write_text(
        f"codec: encodec\ncodec_conf: {{bandwidth: 1.5}}\nweights: {folder}/weights.th\n"
    )
    return folder / "encodec.yaml"


def resynthesize(*arguments: str | Path) -> None:
    codec_resynth.main([str(argument) for argument in arguments])


def write(path: Path, rate: int, channels: int = 1) -> np.ndarray:
    wav = 0.1 * np.random.default_rng(0).standard_normal((rate // 2 + 7, channels))
    soundfile.write(path, wav, rate, subtype="PCM_16")
    return wav


@pytest.mark.slow
def test_one_file_by_a_configuration_alone(released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rate = 44100
    write(tmp_path / "a.wav", rate)
    resynthesize("--codec_config", released, "--input", tmp_path / "a.wav", "--output", tmp_path / "b.flac")
    made, found = soundfile.read(tmp_path / "b.flac")
    assert found == rate and made.shape == (rate // 2 + 7,)
    assert capsys.readouterr().out == ""


def test_level_is_the_inputs(codec_dir: Path, tmp_path: Path) -> None:
    loud = write(tmp_path / "a.wav", 16000)
    soundfile.write(tmp_path / "quiet.wav", loud / 64, 16000, subtype="FLOAT")
    made = []
    for name in ("a", "quiet"):
        output = tmp_path / f"{name}_out.wav"
        resynthesize("--codec_dir", codec_dir, "--input", tmp_path / f"{name}.wav", "--output", output)
        made.append(np.std(soundfile.read(output)[0]))
    assert made[0] / made[1] == pytest.approx(64, rel=0.05)


def test_fewer_levels(codec_dir: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 16000)
    out = {}
    for levels in (None, 4, 1):
        more = [] if levels is None else ["--num_levels", levels]
        resynthesize("--codec_dir", codec_dir, "--input", tmp_path / "a.wav", "--output", tmp_path / "b.wav", *more)
        out[levels] = soundfile.read(tmp_path / "b.wav")[0]
    np.testing.assert_array_equal(out[None], out[4])
    assert np.abs(out[1] - out[4]).max() > 0.01
    with pytest.raises(UserError, match=r"--num_levels: expected 1\.\.4"):
        resynthesize("--codec_dir", codec_dir, "--input", "a.wav", "--output", "b.wav", "--num_levels", 5)


def test_tables_with_fewer_levels_are_made_again(codec_dir: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    command = ["--codec_dir", codec_dir, "--wav_scp", corpus / "spk1.scp", "--output_dir", tmp_path / "out"]
    resynthesize(*command, "--name", "spk1")
    path = Path(read_scp(tmp_path / "out/spk1.scp")["d"])
    before = path.read_bytes()
    resynthesize(*command, "--name", "spk1", "--num_levels", 2)
    assert sorted(read_scp(tmp_path / "out/spk1.scp")) == sorted(SIZES) and path.read_bytes() != before


def test_mistakes_are_one_line(codec_dir: Path, released: Path, tmp_path: Path) -> None:
    write(tmp_path / "stereo.wav", 16000, channels=2)
    write(tmp_path / "a.wav", 16000)
    mel = tmp_path / "mel.yaml"
    mel.write_text("codec: mel\n")
    one = ["--input", tmp_path / "a.wav", "--output", tmp_path / "b.wav"]
    wrong = [
        (one, "--codec_dir: give it, or --codec_config instead"),
        (["--codec_dir", codec_dir, "--codec_config", mel, *one], "one of the two"),
        (["--codec_dir", codec_dir, "--weights", "w", *one], "--weights: only with --codec_config"),
        (["--codec_config", mel, *one], "codec 'mel' is fitted to recordings .* --codec_dir DIR"),
        (["--codec_config", tmp_path / "none.yaml", *one], "none.yaml: no such file"),
        (["--codec_config", released, "--weights", tmp_path / "none.th", *one], "none.th: no such file"),
        (
            ["--codec_dir", codec_dir, *one[:3], tmp_path / "b.mp3"],
            "--output .*b.mp3: expected a name that ends in .wav",
        ),
        (["--codec_dir", codec_dir, *one[:3], tmp_path / "a.wav"], "is the file of --input"),
        (["--codec_dir", codec_dir, "--input", tmp_path / "no.wav", *one[2:]], "no.wav: no such file"),
        (["--codec_dir", codec_dir, "--input", tmp_path / "stereo.wav", *one[2:]], "has 2 channels, expected 1"),
        (["--codec_dir", codec_dir, *one, "--device", "cuda:99"], "--device cuda:99: cannot be used"),
    ]
    for arguments, message in wrong:
        with pytest.raises(UserError, match=message) as caught:
            resynthesize(*arguments)
        assert "\n" not in str(caught.value) and not (tmp_path / "b.wav").exists()
    assert load_codec(codec_dir)
