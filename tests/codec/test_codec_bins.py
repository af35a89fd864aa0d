"""The codec's commands, run in-process on small synthetic recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codec_corpus import RATE, SIZES, write_corpus

from espnet_tse_gen.audio.recordings import Recordings, load_recording
from espnet_tse_gen.bin import codec_prepare, codec_resynth
from espnet_tse_gen.codec.registry import build_codec, load_codec
from espnet_tse_gen.utils.errors import UserError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("conf") / "small.yaml"
    path.write_text(
        "codec: mel\ncodec_conf: {num_mels: 40, num_levels: 4, codebook_size: 16}\nfit_conf: {iterations: 3}\n"
    )
    return path


def prepare(config: Path, corpus: Path, output: Path, *more: str) -> None:
    tables = ["--wav_scp", f"{corpus}/spk1.scp", "--level_scp", f"{corpus}/wav.scp"]
    codec_prepare.main(["--codec_config", str(config), "--output_dir", str(output), *tables, *more])


@pytest.fixture(scope="module")
def codec_dir(config: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("exp") / "codec_small"
    prepare(config, corpus, output)
    return output


def test_prepare_keeps_what_is_there(config, corpus, tmp_path, capsys) -> None:
    prepare(config, corpus, tmp_path / "c")
    made = load_codec(tmp_path / "c").fingerprint()
    before = (tmp_path / "c/weights.pth").stat().st_mtime_ns
    prepare(config, corpus, tmp_path / "c")
    assert "kept" in capsys.readouterr().out
    assert (tmp_path / "c/weights.pth").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"other settings \(seed\)"):
        prepare(config, corpus, tmp_path / "c", "--seed", "1")
    prepare(config, corpus, tmp_path / "c", "--seed", "1", "--overwrite", "true")
    assert load_codec(tmp_path / "c").fingerprint() != made
    prepare(config, corpus, tmp_path / "d")
    assert load_codec(tmp_path / "d").fingerprint() == made  # the same seed makes the same codec


def test_prepare_max_seconds_reads_less(config, corpus, tmp_path) -> None:
    prepare(config, corpus, tmp_path / "c", "--max_seconds", "0.01")
    assert bool(load_codec(tmp_path / "c").fitted)


def test_prepare_errors(config, corpus, tmp_path) -> None:
    with pytest.raises(UserError, match="--wav_scp: codec 'mel' is fitted"):
        codec_prepare.main(["--codec_config", str(config), "--output_dir", str(tmp_path / "c")])
    with pytest.raises(UserError, match="--level_scp: expected none or one for each"):
        prepare(config, corpus, tmp_path / "c", "--wav_scp", f"{corpus}/wav.scp")
    bad = tmp_path / "bad.yaml"
    bad.write_text("codec: mel\nfit_conf: {iteration: 3}\n")
    with pytest.raises(UserError, match="did you mean 'iterations'"):
        prepare(bad, corpus, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_prepare_encodec_from_a_local_file(corpus, tmp_path, capsys) -> None:
    torch.manual_seed(0)
    torch.save(build_codec("encodec").model.state_dict(), tmp_path / "weights.th")
    config = tmp_path / "encodec.yaml"
    config.write_text(f"codec: encodec\ncodec_conf: {{bandwidth: 1.5}}\nweights: {tmp_path}/weights.th\n")
    prepare(config, corpus, tmp_path / "c")
    codec = load_codec(tmp_path / "c")
    assert codec.num_levels == 2 and f"delay: {codec.delay} samples" in capsys.readouterr().out
    (tmp_path / "weights.th").unlink()
    prepare(config, corpus, tmp_path / "c")  # the directory is all that is needed from now on
    assert "kept" in capsys.readouterr().out


def test_prepare_encodec_without_weights_says_what_to_put_where(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    config = tmp_path / "e.yaml"
    config.write_text("codec: encodec\n")
    with pytest.raises(UserError) as caught:
        codec_prepare.main(["--codec_config", str(config), "--output_dir", str(tmp_path / "c")])
    message = str(caught.value)
    assert f"{tmp_path}/hub/checkpoints/encodec_24khz-d7cc33bc.th: no such file" in message
    assert "--download true" in message and "\n" not in message
    with pytest.raises(UserError, match=r"elsewhere\.th: no such file"):
        codec_prepare.main(
            [
                "--codec_config",
                str(config),
                "--output_dir",
                str(tmp_path / "c"),
                "--weights",
                f"{tmp_path}/elsewhere.th",
            ]
        )


@pytest.mark.parametrize("mixture", ["true", "false", "auto"])
@pytest.mark.parametrize("rate", [16000, 8000])
def test_resynthesis_has_the_inputs_rate_length_and_level(codec_dir, tmp_path, mixture, rate) -> None:
    corpus = write_corpus(tmp_path / "corpus", rate)
    tables = ["--wav_scp", f"{corpus}/spk1.scp", "--level_scp", f"{corpus}/wav.scp"]
    where = ["--output_dir", str(tmp_path / "out"), "--name", "spk1"]
    codec_resynth.main(["--codec_dir", str(codec_dir), *tables, *where, "--mixture", mixture])
    table = Recordings(tmp_path / "out/spk1.scp")
    assert sorted(table) == sorted(SIZES)
    for key in table:
        made, found = soundfile.read(table[key])
        source, _ = soundfile.read(corpus / f"wavs/{key}_spk1.wav")
        assert found == rate and made.shape == source.shape
        if key == "d" and rate == 16000:
            assert 0.4 < np.std(made) / np.std(source) < 2.0


def test_resynthesis_of_one_file(codec_dir, corpus, tmp_path) -> None:
    source = corpus / "wavs/d_spk1.wav"
    codec_resynth.main(["--codec_dir", str(codec_dir), "--input", str(source), "--output", str(tmp_path / "o.wav")])
    made, rate = soundfile.read(tmp_path / "o.wav")
    assert rate == RATE and made.shape == (SIZES["d"],)
    with pytest.raises(UserError, match="--output is missing"):
        codec_resynth.main(["--codec_dir", str(codec_dir), "--input", str(source)])
    with pytest.raises(UserError, match="--name is missing"):
        codec_resynth.main(["--codec_dir", str(codec_dir), "--wav_scp", "x", "--output_dir", "y"])


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
