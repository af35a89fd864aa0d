"""A new codec and a new extractor as the documents show them: one file, one line and one yaml, in a copy of the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
from documented import blocks
from programs import ROOT
from tiny_model import mixture, voice

from espnet_tse_gen.utils.files import read_scp, write_scp

RATE = 8000
pytestmark = pytest.mark.slow

TRAIN = """
import sys
import torch
from espnet_tse_gen import TargetSpeakerExtractor
from espnet_tse_gen.training.tse_task import TSETask
from espnet_tse_gen.utils.files import read_yaml, write_yaml
from tiny_model import mixture, voice

config, exp = sys.argv[1:]
args = TSETask.get_parser().parse_args(["--config", config, "--output_dir", exp])
torch.manual_seed(0)
model = TSETask.build_model(args)
both, one, two = (torch.from_numpy(wav) for wav in (mixture(1.0), voice(1.0, 110.0), voice(1.0, 197.0, 100)))
batch = {"speech_mix": both[None], "speech_ref1": one[None], "speech_ref2": two[None],
         "enroll_ref1": torch.from_numpy(voice(0.8, 110.0, 7))[None], "enroll_ref2": torch.from_numpy(voice(0.8, 197.0, 8))[None]}
optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.01), []
for _ in range(30):
    loss, stats, weight = model(**batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(type(model.extractor).__name__, losses[0], losses[-1])
assert losses[-1] < losses[0] - 1
write_yaml(f"{exp}/config.yaml", read_yaml(config))
torch.save(model.state_dict(), f"{exp}/valid.loss.best.pth")
"""


@pytest.fixture
def copy(tmp_path: Path, repository: Path) -> Path:
    """A folder with a copy of the package and of conf/."""
    ignored = shutil.ignore_patterns("__pycache__", "pretrained", "conf")
    shutil.copytree(repository / "espnet_tse_gen", tmp_path / "espnet_tse_gen", ignore=ignored)
    shutil.copytree(repository / "conf", tmp_path / "conf")
    (tmp_path / "espnet_tse_gen/conf").symlink_to("../conf")
    (tmp_path / "espnet_tse_gen/pretrained").symlink_to(repository / "espnet_tse_gen/pretrained")
    return tmp_path


def add(copy: Path, page: str, module: str, registry: str, after: str, conf: str) -> Path:
    """Write the file and the yaml that a page shows, and put its line into the registry; return the yaml."""
    shown = [block.text for block in blocks(ROOT / "docs" / page) if block.language in ("python", "yaml")]
    text, line, yaml = shown
    (copy / "espnet_tse_gen" / module).write_text(text)
    path = copy / "espnet_tse_gen" / registry
    before = path.read_text()
    assert before.count(after) == 1 and len(line.splitlines()) == 1
    path.write_text(before.replace(after, f"{after}\n    {line}"))
    (copy / "conf" / conf).write_text(yaml)
    return copy / "conf" / conf


def run(copy: Path, *command: object) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{copy}:{Path(__file__).parent / 'support'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False, cwd=copy, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_codec(copy: Path) -> None:
    registry = "codec/registry.py", "CODECS: dict[str, str] = {"
    conf = add(copy, "add_a_codec.md", "codec/mu_law.py", *registry, "codec/mu_law_8k.yaml")
    wav = voice(0.5, 120.0)
    soundfile.write(copy / "a.wav", wav, RATE, subtype="FLOAT")
    write_scp(copy / "wav.scp", {"a": str(copy / "a.wav")})
    cli = ("-m", "espnet_tse_gen.cli")
    run(copy, *cli, "codec", "--codec_config", conf, "--output_dir", copy / "exp")
    run(copy, *cli, "resynth", "--codec_dir", copy / "exp", "--input", copy / "a.wav", "--output", copy / "b.wav")
    made = soundfile.read(copy / "b.wav", dtype="float32")[0]
    # Of 8 bits by the mu-law, 38 dB are known.
    assert 10 * np.log10(np.mean(wav**2) / np.mean((made - wav) ** 2)) > 33
    run(copy, *cli, "tokenize", "--codec_dir", copy / "exp", "--wav_scp", copy / "wav.scp", "--name", "codes",
        "--output_dir", copy / "codes")  # fmt: skip
    codes = kaldiio.load_mat(read_scp(copy / "codes/codes.scp")["a"])
    assert codes.shape == (len(wav), 1) and 0 <= codes.min() < 64 and 192 < codes.max() < 256


def test_a_new_extractor(copy: Path) -> None:
    registry = "discriminative/registry.py", "WAVEFORM_EXTRACTORS: dict[str, str] = {"
    conf = add(copy, "add_an_extractor.md", "discriminative/mean_spectrum.py", *registry, "train/mean_spectrum_8k.yaml")
    assert run(copy, "-m", "espnet_tse_gen.bin.task_of", conf) == "tse\n"
    (copy / "train.py").write_text(TRAIN)
    (copy / "exp").mkdir()
    assert "MeanSpectrumExtractor" in run(copy, "train.py", conf, copy / "exp")
    soundfile.write(copy / "m.wav", mixture(1.0), RATE, subtype="FLOAT")
    soundfile.write(copy / "e.wav", voice(0.8, 110.0, 7), RATE, subtype="FLOAT")
    run(copy, "-m", "espnet_tse_gen.cli", "extract", copy / "m.wav", "--enroll", copy / "e.wav", "-o", copy / "o.wav",
        "--model", copy / "exp")  # fmt: skip
    made, target = soundfile.read(copy / "o.wav", dtype="float32")[0], voice(1.0, 110.0)
    assert np.corrcoef(made, target)[0, 1] > np.corrcoef(mixture(1.0), target)[0, 1] + 0.1
