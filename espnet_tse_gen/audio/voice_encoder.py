"""The speaker encoder of Resemblyzer (GE2E, Wan et al. 2018, arXiv 1710.10467) in plain PyTorch, batched, on any device.

It has heard thousands of voices, which the speech at hand has not. Its weights are in Resemblyzer's wheel (Apache 2.0) and are
read from there once, when a training begins; a trained model holds them and needs that package no more. Unlike there, silence
is not cut out of recordings.
"""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from espnet_tse_gen.audio.filterbank import mel_filters
from espnet_tse_gen.utils.errors import UserError

EMBEDDING_WIDTH = 256
SAMPLE_RATE = 16000
_WINDOW, _HOP, _BANDS = 400, 160, 40
_PARTIAL_FRAMES = 160
# Frames between the starts of partial recordings: 1.3 of them a second.
_STEP_FRAMES = 77
# A last partial that is covered less than this is left out.
_COVERAGE = 0.75
_LEVEL = 10.0 ** (-30.0 / 20.0)


class VoiceEncoder(nn.Module):
    """Embeds recordings at 16 kHz; frozen, but gradients pass. The weights are to be loaded, see :meth:`load_pretrained`."""

    filters: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_BANDS, EMBEDDING_WIDTH, 3, batch_first=True)
        self.linear = nn.Linear(EMBEDDING_WIDTH, EMBEDDING_WIDTH)
        filters = mel_filters(SAMPLE_RATE, _WINDOW, _BANDS, unit_area=True).float()
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(_WINDOW), persistent=False)
        self.requires_grad_(False)

    def load_pretrained(self, option: str = "extractor_conf speaker_embedding") -> None:
        """Load the weights from the installed Resemblyzer, without importing it.

        Raises:
            UserError: it is not installed; names the ``option`` that needs it.
        """
        found = importlib.util.find_spec("resemblyzer")
        if found is None or found.origin is None:
            raise UserError(f"{option}: needs the weights in resemblyzer; run: pip install resemblyzer")
        state = torch.load(Path(found.origin).with_name("pretrained.pt"), map_location="cpu", weights_only=True)
        weights = state["model_state"]
        self.load_state_dict({name: weights[name] for name in self.state_dict()})

    def forward(self, recordings: list[Tensor]) -> Tensor:
        """Return unit vectors ``[B, 256]`` of recordings ``[L]`` at 16 kHz, of any lengths and levels, none silent."""
        with torch.autocast(recordings[0].device.type, enabled=False):
            parts = [self._partials(recording.float()) for recording in recordings]
            _, (hidden, _) = self.lstm(torch.cat(parts))
            embedded = nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)
            means = torch.stack([own.mean(dim=0) for own in embedded.split(list(map(len, parts)))])
            return nn.functional.normalize(means, dim=1)

    def _partials(self, recording: Tensor) -> Tensor:
        """Return mel spectra ``[n, 160, 40]`` of the overlapping parts of a recording ``[L]``."""
        samples = len(recording)
        recording = recording - recording.mean()
        recording = recording * (_LEVEL / recording.square().mean().clamp(min=1e-16).sqrt())
        frames = -(-(samples + 1) // _HOP)
        starts = list(range(0, max(1, frames - _PARTIAL_FRAMES + _STEP_FRAMES + 1), _STEP_FRAMES))
        covered = (samples - starts[-1] * _HOP) / (_PARTIAL_FRAMES * _HOP)
        if covered < _COVERAGE and len(starts) > 1:
            starts = starts[:-1]
        wanted = (starts[-1] + _PARTIAL_FRAMES) * _HOP
        padded = nn.functional.pad(recording, (0, max(0, wanted - samples)))
        spectrum = torch.stft(
            padded, _WINDOW, _HOP, window=self.window, center=True, pad_mode="constant", return_complex=True
        )
        mel = spectrum.abs().square().T @ self.filters
        return torch.stack([mel[start : start + _PARTIAL_FRAMES] for start in starts])
