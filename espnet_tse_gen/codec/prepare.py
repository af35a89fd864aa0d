"""Making a codec that can be used: fitted to recordings or loaded from released weights, its delay measured, as a directory.

A delay of half a millisecond costs a waveform metric 19 dB and no listener notices it. It is a property of the codec's
architecture and weights; where it is not known from the construction it is measured here and kept in ``codec.yaml``.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espnet_tse_gen.audio.recordings import Recordings
from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.codec.registry import (
    CODEC_YAML,
    CodecConfig,
    build_codec,
    codec_class,
    read_codec_config,
    save_codec,
)
from espnet_tse_gen.utils.errors import UserError, check_options
from espnet_tse_gen.utils.fetch import file_sha256
from espnet_tse_gen.utils.files import read_yaml
from espnet_tse_gen.utils.state import state_of


@dataclass(frozen=True)
class Preparation:
    """What a codec is made of.

    Raises:
        UserError: From the methods, if the configuration, weights or recordings cannot be used.
    """

    config_file: str | Path  # of conf/codec
    tables: Sequence[Recordings] = ()  # recordings to fit to, or to measure the delay with
    weights: str | None = None  # file of released weights; None: `weights` in the configuration, then the cache
    download: bool = False  # whether released weights that are not there are fetched
    seed: int = 0  # of fitting
    max_seconds: float | None = None  # audio that is used for fitting at most

    def build(self) -> tuple[AbsCodec, CodecConfig]:
        """Return the codec, with weights that are not yet made, and its configuration."""
        config = read_codec_config(self.config_file)
        config = replace(config, weights=self.weights or config.weights)
        option = codec_class(config.codec).weights_option
        given = {option: config.weights} if option and config.weights else {}
        codec = build_codec(config.codec, config.codec_conf | given)
        check_options(f"fit_conf option of codec '{config.codec}'", config.fit_conf, codec.fit, ("waveforms", "seed"))
        return codec, config

    def fill(self, codec: AbsCodec, config: CodecConfig) -> Path | None:
        """Make the weights and measure the delay; return the file of weights, if they come from one."""
        found = None
        if codec.trainable:
            if not self.tables:
                raise UserError(f"--wav_scp: codec '{codec.name}' is fitted to recordings; give one table or more")
            codec.fit(self._waveforms(codec.sample_rate), seed=self.seed, **config.fit_conf)
        elif codec.pretrained_file is not None:
            found = self._find_weights(codec, config.weights)
            codec.load_pretrained(found)
        if "delay" in codec.conf():
            signals = None
            if self.tables:
                keys, rate = sorted(self.tables[0])[:3], codec.sample_rate
                signals = [torch.from_numpy(self.tables[0].load(key, rate).samples[: 3 * rate].copy()) for key in keys]
            codec.delay += measure_delay(codec, signals)
        return found

    def save(self, output: Path, half: bool = False, overwrite: bool = False) -> str:
        """Make a codec directory, its weights rounded to half precision if ``half``; return what was done.

        One that is there with the same settings is kept; one with others is an error unless ``overwrite`` is set.
        """
        codec, config = self.build()
        origin: dict[str, Any] = {"codec": config.codec, "codec_conf": codec.conf()} | ({"half": True} if half else {})
        if codec.trainable:
            origin |= {"fit_conf": config.fit_conf, "seed": self.seed, "max_seconds": self.max_seconds}
            origin["wav_scp"] = [str(table.wav_scp) for table in self.tables]
            origin["level_scp"] = [str(table.level_scp) for table in self.tables if table.level_scp is not None]
            # Not of the code: a codec stays until its settings or its recordings change.
            used = ((table[key], table.level_path(key)) for table in self.tables for key in sorted(table))
            origin["recordings"] = state_of(files=itertools.chain.from_iterable(used), version="")
        elif codec.weights_option:
            # A training that went on has other weights of the same settings.
            checkpoint = codec.pretrained_cache()
            origin["weights"] = _origin_of(checkpoint) if checkpoint else None
        if (output / CODEC_YAML).is_file():
            # One of an earlier version does not say from which files.
            made = {"recordings": origin.get("recordings"), **(read_yaml(output / CODEC_YAML).get("origin") or {})}
            different = sorted(key for key in origin if made.get(key) != origin[key])
            if not different:
                return f"{output}: is there already with the same settings; kept"
            # Fitted anew to recordings that changed; its fingerprint says whether that made another codec of it.
            if not overwrite and different != ["recordings"]:
                raise UserError(
                    f"{output}: was made with other settings ({', '.join(different)}); choose another --output_dir, or "
                    "--overwrite true and make its tokens and models again"
                )
        found = self.fill(codec, config)
        if found is not None:
            origin.setdefault("weights", _origin_of(found))
        save_codec(codec, output, origin, half)
        return (
            f"{output}: made ({codec.num_codebooks} codebooks x {codec.codebook_size}, {codec.frame_rate:g} frames/s, "
            f"delay: {codec.delay} samples)"
        )

    def _waveforms(self, sample_rate: int) -> Iterator[Tensor]:
        """Yield the recordings of all tables in a random order, up to ``max_seconds``."""
        items = [(table, key) for table in self.tables for key in sorted(table)]
        random.Random(self.seed).shuffle(items)
        seconds = 0.0
        for table, key in items:
            samples = table.load(key, sample_rate).samples
            seconds += samples.shape[0] / sample_rate
            yield torch.from_numpy(samples)
            if self.max_seconds is not None and seconds >= self.max_seconds:
                return

    def _find_weights(self, codec: AbsCodec, chosen: str | None) -> Path:
        """Return the file of released weights, fetched if it is wanted and missing."""
        place = Path(chosen) if chosen else codec.pretrained_cache()
        if place is not None and place.exists():
            return place
        # Weights that are named, and those that ship with the package, are not fetched.
        fetched = not self.weights and codec.can_fetch()
        if self.download and fetched:
            return codec.download_pretrained()
        missing = f"{place}: no such file or directory" if place else "nothing is in the local cache"
        command = f"tse-gen codec --codec_config {self.config_file} --download true"
        advice = f"On a machine with a network run '{command}', or put" if fetched else "Put"
        raise UserError(
            f"{missing}; codec '{codec.name}' needs its released weights ({codec.pretrained_source()}). {advice} them "
            "there, or name them with --weights"
        )


def _origin_of(weights: Path) -> dict[str, str] | list[dict[str, str]]:
    """Return names and hashes of the released files, for the reader of ``codec.yaml``."""
    files = [weights] if weights.is_file() else sorted(weights.glob("*.safetensors"))
    found = [{"file": file.name, "sha256": file_sha256(file)} for file in files] or [{"directory": weights.name}]
    return found[0] if len(found) == 1 else found


def lag(reference: np.ndarray, delayed: np.ndarray, max_lag: int) -> tuple[int, float]:
    """Return by how many samples ``delayed`` lags ``reference`` (both float ``[L]``), and their correlation there, -1..1.

    It is the shift of up to ``max_lag`` in either direction at which the correlation is furthest from 0.
    """
    from scipy.signal import correlate

    a, b = reference.astype(np.float64), delayed[: reference.shape[0]].astype(np.float64)
    found = correlate(np.pad(b, max_lag), a, mode="valid", method="fft")
    best = int(np.argmax(np.abs(found)))
    return best - max_lag, float(found[best]) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12)


def measure_delay(codec: AbsCodec, signals: Sequence[Tensor] | None = None, max_lag: int | None = None) -> int:
    """Return the delay in samples that is left in a round trip, to be added to ``codec.delay``.

    Each signal's lag, of up to ``max_lag`` (two frames), is weighted by how well the round trip correlates with it; the result
    is the lag with the largest total weight, and 0 if nothing correlates (a codec that keeps no phase has no delay that this
    can see). ``signals`` are waveforms ``[L]`` at the codec's rate, best of speech; ``None``: noise shaped like it.
    """
    weights: dict[int, float] = {}
    for signal in signals if signals is not None else probe_signals(codec.sample_rate):
        made = codec.decode(codec.encode(signal.unsqueeze(0)).codes)[0, : signal.shape[0]]
        shift, correlation = lag(signal.cpu().numpy(), made.cpu().numpy(), max_lag or 2 * codec.hop)
        if abs(correlation) >= 0.2:
            weights[shift] = weights.get(shift, 0.0) + abs(correlation)
    return max(weights, key=lambda shift: weights[shift]) if weights else 0


def probe_signals(sample_rate: int) -> list[Tensor]:
    """Return three fixed signals of 1.5 s, ``[L]``, with pulses and pauses: low-passed noise in bursts like syllables."""
    signals = []
    size = int(1.5 * sample_rate)
    time = np.arange(size) / sample_rate
    for seed in range(3):
        noise = np.random.default_rng(seed).standard_normal(size + 32)
        smooth = np.convolve(noise, np.hanning(34)[1:-1] / 16, mode="valid")[:size]
        bursts = np.maximum(0.0, np.sin(2 * np.pi * (3 + seed) * time)) ** 2
        wav = smooth * bursts
        signals.append(torch.from_numpy((0.05 * wav / np.sqrt(np.mean(wav**2))).astype(np.float32)))
    return signals
