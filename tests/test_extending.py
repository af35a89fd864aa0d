"""A new codec and a new extractor: one file, one line and one yaml, in a copy of the package with nothing else touched."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
from tiny_model import mixture, voice

from espnet_tse_gen.utils.files import read_scp, write_scp

RATE = 8000
pytestmark = pytest.mark.slow

CODEC = '''
"""Samples by the mu-law, 8 bits each."""

import torch

from espnet_tse_gen.codec.base import AbsCodec


class MuLawCodec(AbsCodec):
    """One code for each sample."""

    name = "mu_law"

    def __init__(self, sample_rate=8000):
        super().__init__()
        self.sample_rate, self.hop, self.num_codebooks, self.latent_dim, self.codebook_sizes = sample_rate, 1, 1, 1, (256,)
        value = (torch.arange(256) - 127.5) / 127.5
        self.register_buffer("values", value.sign() * (256.0 ** value.abs() - 1.0) / 255.0)
        self.freeze()

    def codebook(self, level):
        return self.values[:, None]

    def _encode_row(self, wav):
        folded = wav.sign() * torch.log1p(255.0 * wav.abs().clamp(max=1.0)) / torch.log(torch.tensor(256.0))
        return ((folded + 1.0) * 127.5).round().long().clamp(0, 255)[None], wav[None]

    def _decode_row(self, latents, mixture, quantized):
        return latents[0]
'''

EXTRACTOR = '''
"""Weights of the spectrum's bins that follow from the enrolment's mean spectrum."""

import torch

from espnet_tse_gen.discriminative.abs_waveform_extractor import AbsWaveformExtractor, Voices
from espnet_tse_gen.dual_path.bands import Spectrum


class MeanSpectrumExtractor(AbsWaveformExtractor):
    """A linear layer between the enrolment's mean spectrum and a mask."""

    def __init__(self, sample_rate, window=128):
        super().__init__()
        self.sample_rate, self.window, self.hop, self.shortest = sample_rate, window, window // 2, (1, 1)
        self.spectrum = Spectrum(self.window, self.hop)
        self.mask = torch.nn.Linear(self.spectrum.bins, self.spectrum.bins)
        self.activity = torch.nn.Linear(self.spectrum.bins, 1)

    def forward(self, mixture, enrolls):
        kept = self.enroll([[recording] for recordings in enrolls for recording in recordings])
        made = self.extract_rows(mixture.repeat(len(enrolls), 1), kept)
        return made.waveforms, made.activity

    def enroll(self, targets):
        kept = []
        for recordings in targets:
            means = [self.spectrum(recording.unsqueeze(0)).abs().mean(dim=(0, 1)) for recording in recordings]
            kept.append(torch.nn.functional.normalize(torch.stack(means).mean(dim=0), dim=0))
        return kept

    def extract_rows(self, mixture, enrolments):
        spectrum = self.spectrum(mixture)
        masked = spectrum * self.mask(torch.stack(list(enrolments))).sigmoid().unsqueeze(1)
        return Voices(self.spectrum.inverse(masked, mixture.shape[1]), self.activity(masked.abs()).squeeze(-1))
'''

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


def add(copy: Path, module: str, text: str, registry: str, after: str, line: str, conf: str, yaml: str) -> Path:
    """Write the file and the yaml, and put the line into the registry; return the yaml."""
    (copy / "espnet_tse_gen" / module).write_text(text.lstrip())
    path = copy / "espnet_tse_gen" / registry
    before = path.read_text()
    assert before.count(after) == 1
    path.write_text(before.replace(after, f"{after}\n    {line}"))
    assert len(path.read_text().splitlines()) == len(before.splitlines()) + 1
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
    conf = add(
        copy,
        "codec/mu_law.py",
        CODEC,
        "codec/registry.py",
        "CODECS: dict[str, str] = {",
        '"mu_law": "espnet_tse_gen.codec.mu_law:MuLawCodec",',
        "codec/mu_law_8k.yaml",
        "codec: mu_law\ncodec_conf: {sample_rate: 8000}\n",
    )
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
    conf = add(
        copy,
        "discriminative/mean_spectrum.py",
        EXTRACTOR,
        "discriminative/registry.py",
        "WAVEFORM_EXTRACTORS: dict[str, str] = {",
        '"mean_spectrum": "espnet_tse_gen.discriminative.mean_spectrum:MeanSpectrumExtractor",',
        "train/mean_spectrum_8k.yaml",
        "extractor: mean_spectrum\nextractor_conf: {window: 256}\nmodel_conf: {precision: float32}\nsample_rate: 8000\n",
    )
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
