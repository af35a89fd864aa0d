"""Codec directories and resynthesis by their commands, run in-process on small synthetic recordings."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codec_corpus import RATE, SIZES, write_corpus
from codec_families import make
from refused import refused

from espnet_tse_gen.audio.recordings import load_recording
from espnet_tse_gen.bin import codec_prepare, codec_resynth
from espnet_tse_gen.codec.registry import load_codec
from espnet_tse_gen.utils.files import read_scp, read_yaml, write_yaml


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("conf") / "small.yaml"
    conf = {"num_mels": 40, "num_codebooks": 4, "codebook_size": 16}
    write_yaml(path, {"codec": "mel", "codec_conf": conf, "fit_conf": {"iterations": 3}})
    return path


@pytest.fixture(scope="module")
def codec_dir(config: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("exp") / "codec_small"
    prepare(config, output, *tables(corpus))
    return output


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a configuration of EnCodec that names a file of weights in the released format."""
    folder = tmp_path_factory.mktemp("conf")
    torch.save(make("encodec").model.state_dict(), folder / "weights.th")
    content = {"codec": "encodec", "codec_conf": {"bandwidth": 1.5}, "weights": str(folder / "weights.th")}
    write_yaml(folder / "encodec.yaml", content)
    return folder / "encodec.yaml"


def tables(corpus: Path) -> list[str]:
    return ["--wav_scp", f"{corpus}/spk1.scp", "--level_scp", f"{corpus}/wav.scp"]


def prepare(config: Path, output: Path, *more: str) -> None:
    codec_prepare.main(["--codec_config", str(config), "--output_dir", str(output), *more])


def resynthesize(*arguments: str | Path) -> None:
    codec_resynth.main([str(argument) for argument in arguments])


def write(path: Path, rate: int, channels: int = 1) -> np.ndarray:
    wav = 0.1 * np.random.default_rng(0).standard_normal((rate // 2 + 7, channels))
    soundfile.write(path, wav, rate, subtype="PCM_16")
    return wav


def test_prepare_keeps_what_is_there(config, corpus, tmp_path, capsys) -> None:
    prepare(config, tmp_path / "c", *tables(corpus))
    made = load_codec(tmp_path / "c").fingerprint()
    before = (tmp_path / "c/weights.pth").stat().st_mtime_ns
    prepare(config, tmp_path / "c", *tables(corpus))
    assert "kept" in capsys.readouterr().out
    assert (tmp_path / "c/weights.pth").stat().st_mtime_ns == before
    refused(r"other settings \(seed\)", prepare, config, tmp_path / "c", *tables(corpus), "--seed", "1")
    prepare(config, tmp_path / "c", *tables(corpus), "--seed", "1", "--overwrite", "true")
    assert load_codec(tmp_path / "c").fingerprint() != made
    prepare(config, tmp_path / "c", *tables(corpus), "--overwrite", "true")
    assert load_codec(tmp_path / "c").fingerprint() == made  # the same seed makes the same codec
    prepare(config, tmp_path / "e", *tables(corpus), "--max_seconds", "0.01")
    assert bool(load_codec(tmp_path / "e").fitted) and load_codec(tmp_path / "e").fingerprint() != made


def test_a_codec_is_fitted_anew_to_recordings_that_changed(config, tmp_path, capsys) -> None:
    write_corpus(tmp_path / "corpus")
    prepare(config, tmp_path / "c", *tables(tmp_path / "corpus"))
    made = load_codec(tmp_path / "c").fingerprint()
    for one in read_scp(tmp_path / "corpus" / "spk1.scp").values():
        soundfile.write(one, 0.1 * np.random.default_rng(1).standard_normal(len(soundfile.read(one)[0])), RATE)
    prepare(config, tmp_path / "c", *tables(tmp_path / "corpus"))
    assert load_codec(tmp_path / "c").fingerprint() != made
    content = read_yaml(tmp_path / "c" / "codec.yaml")
    # Of an earlier version: not known from which recordings, so it stays.
    del content["origin"]["recordings"]
    write_yaml(tmp_path / "c" / "codec.yaml", content)
    capsys.readouterr()
    prepare(config, tmp_path / "c", *tables(tmp_path / "corpus"))
    assert "kept" in capsys.readouterr().out


def test_prepare_errors(config, corpus, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    (tmp_path / "bad.yaml").write_text("codec: mel\nfit_conf: {iteration: 3}\n")
    encodec = tmp_path / "e.yaml"
    encodec.write_text("codec: encodec\n")
    missing = rf"{tmp_path}/hub/checkpoints/encodec_24khz-d7cc33bc.th: no such file .*--download true"
    for arguments, message in (
        ((config, tmp_path / "c"), "--wav_scp: codec 'mel' is fitted"),
        ((config, tmp_path / "c", *tables(corpus), "--wav_scp", "x"), "--level_scp: expected none or one for each"),
        ((tmp_path / "bad.yaml", tmp_path / "c", *tables(corpus)), "did you mean 'iterations'"),
        ((encodec, tmp_path / "c"), missing),
        ((encodec, tmp_path / "c", "--weights", f"{tmp_path}/elsewhere.th"), r"elsewhere\.th: no such file"),
    ):
        refused(message, prepare, *arguments)
        assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("mixture", ["true", "false", "auto"])
@pytest.mark.parametrize("rate", [16000, 8000])
def test_resynthesis_has_the_inputs_rate_length_and_level(codec_dir, tmp_path, mixture, rate) -> None:
    corpus = write_corpus(tmp_path / "corpus", rate)
    command = ["--codec_dir", codec_dir, *tables(corpus), "--mixture", mixture, "--output_dir", tmp_path / "out"]
    resynthesize(*command, "--name", "spk1")
    table = read_scp(tmp_path / "out/spk1.scp")
    assert sorted(table) == sorted(SIZES)
    for key in table:
        made, found = soundfile.read(table[key])
        source, _ = soundfile.read(corpus / f"wavs/{key}_spk1.wav")
        assert found == rate and made.shape == source.shape
        if key == "d" and rate == 16000:
            assert 0.4 < np.std(made) / np.std(source) < 2.0
    before = Path(table["d"]).read_bytes()
    resynthesize(*command, "--name", "spk1", "--num_codebooks", 2)
    assert Path(table["d"]).read_bytes() != before, "fewer codebooks are made again"


def test_recording_goes_there_and_back(corpus) -> None:
    for rate in (8000, 16000, 24000):
        recording = load_recording(corpus / "wavs/d_spk1.wav", rate, corpus / "wavs/d_wav.wav", with_mixture=True)
        assert abs(recording.samples.shape[0] - 8000 * rate / RATE) <= 1
        assert recording.mixture is not None and recording.mixture.shape == recording.samples.shape
        assert 20 * np.log10(np.sqrt(np.mean(recording.mixture**2))) == pytest.approx(-26, abs=4)
        back = recording.restore(recording.samples, rate)
        assert back.shape == (8000,)
        if rate >= RATE:
            source, _ = soundfile.read(corpus / "wavs/d_spk1.wav", dtype="float32")
            # White noise reaches up to where the resampler's low-pass begins; the rest comes back.
            assert np.sqrt(np.mean((back - source)[100:-100] ** 2)) < 0.3 * np.std(source)


@pytest.mark.slow
def test_one_file_by_a_configuration_alone(released: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 44100)
    resynthesize("--codec_config", released, "--input", tmp_path / "a.wav", "--output", tmp_path / "b.flac")
    made, rate = soundfile.read(tmp_path / "b.flac")
    assert rate == 44100 and made.shape == (rate // 2 + 7,)


def test_level_and_number_of_codebooks(codec_dir: Path, tmp_path: Path) -> None:
    """A quiet recording comes back as quiet, and one of floats beyond full scale unclipped, alone and from a table."""
    samples = write(tmp_path / "a.wav", 16000)
    made = {}
    for factor, more in ((1, ()), (1 / 64, ()), (32768, ()), (1, ("--num_codebooks", 4)), (1, ("--num_codebooks", 1))):
        soundfile.write(tmp_path / "in.wav", samples * factor, 16000, subtype="FLOAT")
        one = ["--codec_dir", codec_dir, "--input", tmp_path / "in.wav", "--output", tmp_path / "out.wav", *more]
        resynthesize(*one, "--overwrite")
        made[(factor, *more)] = soundfile.read(tmp_path / "out.wav")[0]
        refused("is there already; choose another name or add --overwrite", resynthesize, *one)
        np.testing.assert_array_equal(soundfile.read(tmp_path / "out.wav")[0], made[(factor, *more)])
    for factor in (1 / 64, 32768):
        assert np.std(made[factor,]) / np.std(made[1,]) == pytest.approx(factor, rel=0.05)
    np.testing.assert_array_equal(made[1,], made[1, "--num_codebooks", 4])
    assert np.abs(made[1, "--num_codebooks", 1] - made[1,]).max() > 0.01
    soundfile.write(tmp_path / "in.wav", samples * 32768, 16000, subtype="FLOAT")
    (tmp_path / "wav.scp").write_text(f"loud {tmp_path}/in.wav\n")
    table = ["--wav_scp", tmp_path / "wav.scp", "--output_dir", tmp_path / "o", "--name", "x"]
    resynthesize("--codec_dir", codec_dir, *table)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "o/wavs/x/loud.wav")[0], made[32768,])


def test_mistakes_are_one_line(codec_dir: Path, released: Path, tmp_path: Path) -> None:
    write(tmp_path / "stereo.wav", 16000, channels=2)
    write(tmp_path / "a.wav", 16000)
    mel = tmp_path / "mel.yaml"
    mel.write_text("codec: mel\n")
    one, given = ["--input", tmp_path / "a.wav", "--output", tmp_path / "b.wav"], ["--codec_dir", codec_dir]
    wrong = [
        (one, "--codec_dir: give it, or --codec_config instead"),
        ([*given, "--codec_config", mel, *one], "one of the two"),
        ([*given, "--weights", "w", *one], "--weights: only with --codec_config"),
        (["--codec_config", mel, *one], "codec 'mel' is fitted to recordings .* --codec_dir DIR"),
        (["--codec_config", released, "--weights", tmp_path / "none.th", *one], "none.th: no such file"),
        ([*given, *one[:3], tmp_path / "b.mp3"], "--output .*b.mp3: expected a name that ends in .wav"),
        ([*given, *one[:3], tmp_path / "a.wav"], "is the file of --input"),
        ([*given, "--input", tmp_path / "stereo.wav", *one[2:]], "has 2 channels, expected 1"),
        ([*given, *one, "--device", "cuda:99"], "device 'cuda:99': this machine has"),
        ([*given, *one, "--num_codebooks", 5], r"--num_codebooks: expected 1\.\.4"),
        ([*given, *one[:2]], "--output is missing"),
        ([*given, "--wav_scp", "x", "--output_dir", "y"], "--name is missing"),
    ]
    for arguments, message in wrong:
        refused(message, resynthesize, *arguments)
        assert not (tmp_path / "b.wav").exists()


def test_a_key_that_is_a_path_replaces_no_recording(codec_dir, corpus, tmp_path) -> None:
    source = tmp_path / "a.wav"
    source.write_bytes((corpus / "wavs/d_spk1.wav").read_bytes())
    (tmp_path / "wav.scp").write_text(f"{tmp_path}/a {source}\n")
    before = source.read_bytes()
    command = ["--codec_dir", codec_dir, "--wav_scp", tmp_path / "wav.scp", "--output_dir", tmp_path / "out"]
    refused("holds a slash", resynthesize, *command, "--name", "x")
    assert source.read_bytes() == before
