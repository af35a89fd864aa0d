"""The mel filters are those that the tokens of older codec directories were made with."""

import warnings

import pytest
import torch

from espnet_tse_gen.audio.filterbank import mel_filters

LAYOUTS = [(16000, 800, 80), (8000, 400, 64), (16000, 1024, 80), (44100, 2048, 128)]


@pytest.mark.parametrize(("sample_rate", "n_fft", "num_mels"), LAYOUTS)
def test_in_single_precision_they_are_torchaudios(sample_rate: int, n_fft: int, num_mels: int) -> None:
    functional = pytest.importorskip("torchaudio.functional")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = functional.melscale_fbanks(n_fft // 2 + 1, 0.0, sample_rate / 2, num_mels, sample_rate, None, "slaney")
    assert torch.equal(mel_filters(sample_rate, n_fft, num_mels, torch.float32), theirs)


@pytest.mark.slow
@pytest.mark.parametrize(("sample_rate", "n_fft", "num_mels"), LAYOUTS)
def test_in_double_precision_they_are_librosas(sample_rate: int, n_fft: int, num_mels: int) -> None:
    filters = pytest.importorskip("librosa").filters
    theirs = torch.from_numpy(filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=num_mels, norm=None))
    assert torch.equal(mel_filters(sample_rate, n_fft, num_mels).T.float(), theirs)
    theirs = torch.from_numpy(filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=num_mels))
    ours = mel_filters(sample_rate, n_fft, num_mels, unit_area=True).T.float()
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-5)
