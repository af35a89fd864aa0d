"""The codec that ships: it is there, it is what its card says, and it codes speech."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from espnet_tse_gen.bin import codec_prepare, codec_resynth
from espnet_tse_gen.codec.mini import SHIPPED
from espnet_tse_gen.codec.registry import load_codec

CONFIG = Path(__file__).resolve().parents[2] / "conf" / "codec" / "mini_16k.yaml"
RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "data" / "LibriSpeech" / "test-other"


def test_it_is_what_its_card_says() -> None:
    weights = SHIPPED / "weights.pth"
    card = (SHIPPED / "README.md").read_text()
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in card
    assert f"{weights.stat().st_size:,} bytes" in card
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 10_000_000


def test_the_configuration_alone_makes_its_directory(tmp_path: Path) -> None:
    codec_prepare.main(["--codec_config", str(CONFIG), "--output_dir", str(tmp_path / "codec")])
    made, shipped = load_codec(tmp_path / "codec"), load_codec(SHIPPED)
    assert made.fingerprint() == shipped.fingerprint()
    assert (made.sample_rate, made.frame_rate, made.num_levels) == (16000, 50.0, 8)
    assert set(made.codebook_sizes) == {1024}


@pytest.mark.realdata
@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="shared/data/LibriSpeech is not beside the repository")
def test_it_codes_speakers_it_never_met(tmp_path: Path) -> None:
    from pystoi import stoi

    values = []
    for path in sorted(RECORDINGS.rglob("*.flac"))[::14]:
        output = tmp_path / "out.wav"
        codec_resynth.main(
            ["--codec_config", str(CONFIG), "--input", str(path), "--output", str(output), "--overwrite"]
        )
        (wanted, rate), (made, made_rate) = soundfile.read(path), soundfile.read(output)
        assert made_rate == rate and made.shape == wanted.shape
        values.append(stoi(wanted, made, rate, extended=True))
    assert len(values) >= 2 and float(np.mean(values)) > 0.6


def test_more_levels_are_nearer_to_speech() -> None:
    codec = load_codec(SHIPPED)
    time = torch.arange(16000) / 16000.0
    pitch = 2.0 * torch.pi * torch.cumsum((120.0 + 20.0 * torch.sin(5.0 * time)) / 16000.0, dim=0)
    wav = (0.06 * sum(torch.sin(k * pitch) / k for k in range(1, 20)) * (0.6 + 0.4 * torch.sin(20.0 * time))).unsqueeze(
        0
    )
    codes = codec.encode(wav).codes
    errors = [float((codec.decode(codes, num_levels=n)[:, :16000] - wav).square().mean()) for n in (2, 4, 8)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.5 * float(wav.square().mean())
