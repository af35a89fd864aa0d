"""Discriminative models through the doors of the masked generative one: the recipe's decoding, packing, the command line."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from tiny_discriminative import RATE, discriminative_exp_dir
from tiny_model import mixture, tiny_exp_dir, voice

from espnet_tse_gen import load_extractor
from espnet_tse_gen.bin import pack
from espnet_tse_gen.bin.tse_gen_inference import main
from espnet_tse_gen.cli import main as tse_gen
from espnet_tse_gen.inference import loading
from espnet_tse_gen.inference.options import SegmentOptions
from espnet_tse_gen.utils.checkpoints import read_checkpoint
from espnet_tse_gen.utils.errors import UserError
from espnet_tse_gen.utils.files import read_scp, read_yaml, write_scp
from espnet_tse_gen.utils.model_files import find_checkpoint

SECONDS = {"utt_a": 0.6, "utt_b": 1.1, "utt_c": 0.35}


@pytest.fixture
def data(tmp_path):
    """Mixtures at 16 kHz and enrolments at 8 kHz."""
    tables = {"wav": {}, "enroll_spk1": {}}
    for number, (key, seconds) in enumerate(SECONDS.items()):
        for name, samples, rate in (
            ("wav", mixture(seconds, seed=number, rate=16000), 16000),
            ("enroll_spk1", voice(1.0, 110.0, seed=number + 50), RATE),
        ):
            path = tmp_path / f"{name}_{key}.wav"
            soundfile.write(path, samples, rate, subtype="FLOAT")
            tables[name][key] = str(path)
    for name, table in tables.items():
        write_scp(tmp_path / f"{name}.scp", table)
    return tmp_path


def command(data, *more, model="spex_plus"):
    return [
        "--model_dir", str(discriminative_exp_dir(model)), "--mixture_scp", str(data / "wav.scp"),
        "--enroll_scp", str(data / "enroll_spk1.scp"), "--output_dir", str(data / "out"), "--name", "spk1", *more,
    ]  # fmt: skip


@pytest.mark.parametrize("model", ["td_speakerbeam", "mc_spex"])
def test_a_set_is_extracted(data, capsys, model):
    main(command(data, "--batch_size", "2", "--segment_seconds", "0.4", "--overlap_seconds", "0.1", model=model))
    table = read_scp(data / "out" / "spk1.scp")
    assert list(table) == sorted(SECONDS)
    extractor = load_extractor(
        discriminative_exp_dir(model), decode={"segment_seconds": 0.4, "overlap_seconds": 0.1, "batch_size": 1}
    )
    for key, path in table.items():
        mixed = soundfile.read(data / f"wav_{key}.wav", dtype="float32")[0]
        enroll = soundfile.read(data / f"enroll_spk1_{key}.wav", dtype="float32")[0]
        request = extractor.request(mixed, enroll, 16000, enroll_sample_rate=RATE)
        made, rate = soundfile.read(path, dtype="float32")
        assert rate == 16000
        np.testing.assert_allclose(made, extractor.extract([request])[0].samples, atol=1.01 / 32768)
    timing = json.loads((data / "out" / "spk1.1.rtf.json").read_text())
    assert timing["passes"] == 1 and timing["batch_size"] == 2 and timing["wall_seconds"] > 0
    times = {path: path.stat().st_mtime_ns for path in (data / "out").rglob("*.wav")}
    main(command(data, "--segment_seconds", "0.4", "--overlap_seconds", "0.1", model=model))
    assert "0 recordings extracted, 3 were there already" in capsys.readouterr().out
    main(command(data, "--segment_seconds", "0.5", "--overlap_seconds", "0.1", model=model))
    assert all(path.stat().st_mtime_ns != before for path, before in times.items())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--decode_config", "greedy_16"], "preset 'greedy_16': is for other models, and this one is discriminative"),
        (["--steps", "3"], "option 'steps' is for masked generative models"),
        (["--segment_second", "3"], "did you mean '--segment_seconds'"),
        (["--scale", "loud"], "unknown value of decoding option 'scale'"),
        (["--codes_scp", "wav.scp"], "--codes_scp: token accuracy is that of a codec"),
    ],
)
def test_bad_option_ends_in_one_line(data, monkeypatch, more, message):
    monkeypatch.chdir(data)
    with pytest.raises(UserError) as caught:
        main(command(data, *more))
    assert message in str(caught.value) and "\n" not in str(caught.value) and not (data / "out").exists()


def test_options_of_segments_are_not_for_masked_models(data):
    with pytest.raises(
        UserError, match="option 'scale' is for discriminative models, and this one is masked generative"
    ):
        main([*command(data, "--scale", "peak"), "--model_dir", str(tiny_exp_dir())])


def packed(where, output, *more):
    pack.main(["--exp_dir", str(where), "--output", str(output), *more])
    return output


def extracted(where):
    return load_extractor(where)(mixture(0.8), voice(1.0, 110.0, seed=5))


@pytest.mark.parametrize("model", ["td_speakerbeam", "spex_plus", "mc_spex"])
def test_packed_model_extracts_like_the_exp_directory(model, tmp_path):
    exp_dir = discriminative_exp_dir(model)
    archive = packed(exp_dir, tmp_path / "tiny.zip")
    np.testing.assert_array_equal(extracted(archive), extracted(exp_dir))
    half = packed(exp_dir, tmp_path / "half", "--half", "true", "--decode_config", "segments")
    assert {path.name for path in half.iterdir()} == {"README.md", "config.yaml", "decode.yaml", "model.safetensors"}
    full, small = extracted(exp_dir), extracted(half)
    assert np.abs(full - small).max() < 0.05 * np.abs(full).max()
    stored = read_checkpoint(half / "model.safetensors")
    kinds = {value.dtype for key, value in stored.items() if not key.endswith(("running_mean", "running_var"))}
    assert torch.float16 in kinds and torch.float32 not in kinds
    assert all(value.dtype == torch.float32 for key, value in stored.items() if key.endswith("running_var"))
    card = (half / "README.md").read_text()
    assert f"`{model}`" in card and "8000 Hz" in card and "codec" not in card and "from_pretrained" in card
    assert "/somewhere" not in (half / "config.yaml").read_text()


def test_decoding_defaults_travel(tmp_path):
    (tmp_path / "mine.yaml").write_text("scale: peak\nsegment_seconds: 4\n")
    directory = packed(
        discriminative_exp_dir("spex_plus"), tmp_path / "packed", "--decode_config", str(tmp_path / "mine.yaml")
    )
    assert read_yaml(directory / "decode.yaml") == {"segment_seconds": 4.0, "scale": "peak"}
    assert load_extractor(directory).options == SegmentOptions(segment_seconds=4.0, scale="peak")
    assert load_extractor(directory, decode="segments").options == SegmentOptions()
    with pytest.raises(UserError, match="is for other models, and this one is discriminative"):
        packed(discriminative_exp_dir("spex_plus"), tmp_path / "other", "--decode_config", "greedy_16")


def test_the_command_line_takes_a_shipped_one(data, monkeypatch, capsys):
    monkeypatch.setattr(loading, "SHIPPED", data / "pretrained")
    packed(discriminative_exp_dir("spex_plus"), data / "pretrained" / "spex_plus_tiny", "--half", "true")
    tse_gen(
        ["extract", "--mixture", str(data / "wav_utt_b.wav"), "--enroll", str(data / "enroll_spk1_utt_b.wav"),
         "-o", str(data / "o.wav"), "--model", "spex_plus_tiny"]
    )  # fmt: skip
    assert soundfile.info(str(data / "o.wav")).frames == 17600
    capsys.readouterr()
    tse_gen(["info", "--model", "spex_plus_tiny"])
    told = capsys.readouterr().out
    assert "SpExPlusExtractor" in told and "8000 Hz, waveform to waveform" in told and "# spex_plus_tiny" in told
    with pytest.raises(UserError, match="'seed' is for masked generative models"):
        tse_gen(
            ["extract", "--mixture", str(data / "wav_utt_b.wav"), "--enroll", str(data / "enroll_spk1_utt_b.wav"),
             "-o", str(data / "p.wav"), "--model", "spex_plus_tiny", "--seed", "1"]
        )  # fmt: skip


def test_extracting_does_not_import_espnets_tasks(data):
    code = (
        "import sys; from espnet_tse_gen.cli import main; main(sys.argv[1:]);"
        "sys.exit(any(name.startswith(('espnet2.tasks', 'nltk')) for name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "extract", "--mixture", data / "wav_utt_a.wav", "--enroll",
         data / "enroll_spk1_utt_a.wav", "-o", data / "o.wav", "--model", discriminative_exp_dir("mc_spex"),
         "--num_threads", "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and (data / "o.wav").exists()


def test_models_are_chosen_by_the_short_scale(tmp_path):
    exp_dir = shutil.copytree(discriminative_exp_dir("spex_plus"), tmp_path / "exp")
    for name in ("valid.si_snr_loss_s0.best.pth", "valid.si_snr_loss_s0.ave.pth"):
        shutil.copy(exp_dir / "valid.loss.ave.pth", exp_dir / name)
        assert find_checkpoint(exp_dir).name == name
