import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from refused import refused
from tiny_discriminative import discriminative_exp_dir
from tiny_model import mixture, voice

from espnet_tse_gen import load_extractor
from espnet_tse_gen.bin.pack import main
from espnet_tse_gen.inference.masked import MaskedInference
from espnet_tse_gen.inference.options import SegmentOptions
from espnet_tse_gen.utils.checkpoints import read_checkpoint
from espnet_tse_gen.utils.files import read_yaml


def pack(exp_dir, output, *more):
    main(["--exp_dir", str(exp_dir), "--output", str(output), *more])
    return output


def extracted(where):
    return load_extractor(where)(mixture(0.8), voice(1.0, 110.0, seed=5))


def test_packed_model_decodes_like_the_exp_directory_and_is_always_the_same_file(exp_dir, tmp_path):
    archive, directory = (pack(exp_dir, tmp_path / name) for name in ("tiny.zip", "tiny"))
    again = pack(shutil.copytree(exp_dir, tmp_path / "copy"), tmp_path / "b" / "tiny.zip")
    assert archive.read_bytes() == again.read_bytes()
    shutil.make_archive(str(tmp_path / "zipped"), "zip", root_dir=tmp_path, base_dir="exp")
    for where in (archive, directory, tmp_path / "zipped.zip"):
        np.testing.assert_array_equal(extracted(where), extracted(exp_dir))


def test_half_precision_is_smaller_and_loads_as_float32(exp_dir, tmp_path):
    archive = pack(exp_dir, tmp_path / "tiny.zip", "--half", "true")
    with zipfile.ZipFile(archive) as packed:
        packed.extract("model.safetensors", tmp_path)
    stored = read_checkpoint(tmp_path / "model.safetensors")
    assert stored["extractor.heads"].dtype == torch.float16 and stored["codec_fingerprint"].dtype == torch.float32
    assert (tmp_path / "model.safetensors").stat().st_size < 0.7 * (exp_dir / "valid.loss.ave.pth").stat().st_size
    extractor = load_extractor(archive)
    assert {value.dtype for value in extractor.model.parameters()} == {torch.float32}
    heads = torch.load(exp_dir / "valid.loss.ave.pth", weights_only=True)["extractor.heads"]
    assert torch.equal(extractor.model.extractor.heads, heads.half().float())


def test_package_names_no_path_of_the_machine(exp_dir, tmp_path):
    archive = pack(exp_dir, tmp_path / "tiny.zip")
    with zipfile.ZipFile(archive) as packed:
        names = packed.namelist()
        text = b"".join(packed.read(name) for name in names if not name.endswith(".pth"))
    assert names == ["README.md", "codec/codec.yaml", "codec/weights.pth", "config.yaml", "model.safetensors"]
    assert b"/somewhere" not in text and str(tmp_path).encode() not in text


def test_decoding_defaults_travel(exp_dir, tmp_path):
    archive = pack(exp_dir, tmp_path / "tiny.zip", "--decode_config", "one_step")
    assert load_extractor(archive).options.joint
    assert not load_extractor(archive, decode="greedy_16").options.joint
    again = pack(archive, tmp_path / "again")
    assert read_yaml(again / "decode.yaml") == {"steps": 1, "joint": True}
    (tmp_path / "mine.yaml").write_text("scale: peak\nsegment_seconds: 4\n")
    plain = discriminative_exp_dir("spex_plus")
    directory = pack(plain, tmp_path / "packed", "--decode_config", str(tmp_path / "mine.yaml"))
    assert read_yaml(directory / "decode.yaml") == {"segment_seconds": 4.0, "scale": "peak"}
    assert load_extractor(directory).options == SegmentOptions(segment_seconds=4.0, scale="peak")
    assert load_extractor(directory, decode="segments").options == SegmentOptions()


def test_card_tells_what_the_model_is(exp_dir, tmp_path):
    (exp_dir / "RESULTS.md").write_text("# Results on test\n\n| system | SI-SDR |\n|---|---|\n| tiny | 1.23 |\n")
    directory = pack(exp_dir, tmp_path / "tiny", "--name", "my_model")
    card = (directory / "README.md").read_text()
    assert "\n---\n\n# my_model\n" in card and "| tiny | 1.23 |" in card and "\n## Results on test\n" in card
    assert "8000 Hz" in card and "4 codebooks x 16" in card and "valid.loss.ave.pth" in card
    assert "--model tiny\n" in card and 'from_pretrained("tiny")' in card


def test_nothing_is_replaced_but_what_was_packed_and_that_only_on_demand(exp_dir, tmp_path):
    for output in (tmp_path / "tiny.zip", tmp_path / "tiny"):
        pack(exp_dir, output)
        refused("is there already", pack, exp_dir, output)
        pack(exp_dir, output, "--overwrite", "true")
        extracted(output)
    thesis = tmp_path / "mine/thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    for output, message in ((exp_dir, "holds the model"), (tmp_path, "holds"), (thesis.parent, r"first 'thesis\.txt'")):
        refused(message, pack, exp_dir, output, "--overwrite", "true")
    assert thesis.exists() and (exp_dir / "config.yaml").exists()


def test_incomplete_exp_directory_is_refused(exp_dir, tmp_path):
    shutil.rmtree(exp_dir / "codec")
    refused("codec: no such folder", pack, exp_dir, tmp_path / "tiny.zip")
    assert not (tmp_path / "tiny.zip").exists()


def test_package_from_outside_is_checked(exp_dir, tmp_path):
    content = bytearray(pack(exp_dir, tmp_path / "tiny.zip").read_bytes())
    content[2000:2100] = b"x" * 100
    (tmp_path / "damaged.zip").write_bytes(content)
    (tmp_path / "text.zip").write_text("not a zip file")
    for name, inside in (("evil", "../config.yaml"), ("strange", "notes.txt")):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as packed:
            packed.writestr(inside, "codec: mel")
    outside = Path(tempfile.gettempdir()) / "config.yaml"
    before = outside.exists()
    for name, message in {
        "damaged": "damaged",
        "evil": "holds a file outside of it",
        "strange": "holds no config",
        "text": "neither an exp directory",
    }.items():
        refused(f"{tmp_path}/{name}.zip.*{message}", load_extractor, tmp_path / f"{name}.zip")
    assert outside.exists() == before


@pytest.mark.parametrize("model", ["td_speakerbeam", "spex_plus", "mc_spex"])
def test_packed_discriminative_model_extracts_like_the_exp_directory(model, tmp_path):
    exp_dir = discriminative_exp_dir(model)
    archive = pack(exp_dir, tmp_path / "tiny.zip")
    np.testing.assert_array_equal(extracted(archive), extracted(exp_dir))
    half = pack(exp_dir, tmp_path / "half", "--half", "true", "--decode_config", "segments")
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


@pytest.mark.slow
def test_half_precision_loads_through_the_task(exp_dir, tmp_path):
    from espnet_tse_gen.training.tse_gen_task import TSEGenTask

    directory = pack(exp_dir, tmp_path / "tiny", "--half", "true")
    model, _ = TSEGenTask.build_model_from_file(directory / "config.yaml", directory / "model.safetensors")
    mixed, enroll = mixture(0.8), voice(1.0, 110.0, seed=5)
    np.testing.assert_array_equal(MaskedInference(model)(mixed, enroll), extracted(directory))
