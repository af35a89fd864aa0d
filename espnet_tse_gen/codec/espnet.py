"""Codecs of ESPnet's own codec task: SoundStream, EnCodec, DAC, FunCodec and HiFi-Codec as ``espnet2.gan_codec`` has them.

Any checkpoint of ``espnet2.tasks.gan_codec``, or of :mod:`espnet_tse_gen.training.codec_task`, is taken by its exp directory:
``config.yaml``, one ``<N>epoch.pth`` for each epoch that was kept, and links to the best of them. Only the generator is built,
from ESPnet's own classes, so that codes are those of ESPnet's ``model.encode``; neither its tasks, which take ten seconds to
import, nor the discriminators are needed.
"""

import copy
import inspect
import math
import re
import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from espnet_tse_gen.codec.base import AbsCodec, plain
from espnet_tse_gen.utils.checkpoints import check_finite, load_weights, read_checkpoint
from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.files import read_yaml
from espnet_tse_gen.utils.registry import built, imported

CONFIG = "config.yaml"
GENERATOR = "codec.generator."
"""How the keys of the generator's weights begin in a checkpoint."""
DESIGNS: dict[str, tuple[str, str]] = {
    name: (f"espnet2.gan_codec.{trained}", f"espnet2.gan_codec.{generator}")
    for name, trained, generator in (
        ("soundstream", "soundstream.soundstream:SoundStream", "soundstream.soundstream:SoundStreamGenerator"),
        ("encodec", "encodec.encodec:Encodec", "soundstream.soundstream:SoundStreamGenerator"),
        ("dac", "dac.dac:DAC", "dac.dac:DACGenerator"),
        ("funcodec", "funcodec.funcodec:FunCodec", "funcodec.funcodec:FunCodecGenerator"),
        ("hificodec", "hificodec.hificodec:HiFiCodec", "hificodec.hificodec:HiFiCodecGenerator"),
    )
}
"""ESPnet's name of a design to the class that is trained and the class of its generator, both as ``module:Class``."""
SPECTRUM_CHANNELS = {"stft": 2, "mag_angle": 2, "mag_phase": 3}
"""FunCodec's domains from which ESPnet can make a waveform of codes, and the channels that each needs."""
MAX_LOST_FRAMES = 8
"""Frames that an encoder may lose at the end of a signal."""


class EspnetCodec(AbsCodec):
    """A generator of ESPnet's codec task.

    The waveform is padded with zeros to a multiple of the hop. The latents are the encoder's output. Where the quantizer
    works in a space of its own, between two linear layers, a codebook's vectors are those that the second one makes of its
    entries, so that latents are their sum; which entry is nearest is decided in the quantizer's own space.

    - FunCodec's encoder sees a spectrum, whose last frame is centred on the end of the signal and which therefore has
      one frame more than the signal has hops; this frame is left out in encoding and repeated in decoding.
    - HiFi-Codec quantizes the two halves of its latents apart. Its codebooks are numbered in turn: first codebook of the first
      half, first of the second, second of the first, ...; a vector is 0 in the other half.
    """

    name: ClassVar[str] = "espnet"
    pretrained_file: ClassVar[str | None] = "<N>epoch.pth"
    weights_option: ClassVar[str | None] = "exp_dir"

    model: Any  # ESPnet's generator

    def __init__(
        self,
        # exp directory of the training, or a checkpoint in one. Where it is given, what `design`, `sample_rate` and
        # `generator_params` would say is read from its `config.yaml`
        exp_dir: str | None = None,
        model_file: str | None = None,  # checkpoint in `exp_dir`; `None`: by the rule of find_checkpoint
        # kbit/s as ESPnet counts them, which choose the number of codebooks; `None` takes the last of the training's
        # `quantizer_target_bandwidth`, as ESPnet does
        bandwidth: float | None = None,
        design: str | None = None,  # A name of `DESIGNS`
        sample_rate: int | None = None,  # Hz
        generator_params: dict[str, Any] | None = None,  # arguments of the generator
        delay: int = 0,  # samples by which the decoder's output lags; measured by `codec_prepare`
    ) -> None:
        super().__init__()
        self.exp_dir, self.model_file = exp_dir, model_file
        if exp_dir is not None:
            design, sample_rate, generator_params = _read_design(exp_dir)
        if design is None or sample_rate is None or generator_params is None:
            raise self.fault(
                "expected exp_dir, the exp directory of a codec training of ESPnet; give it under "
                "'codec_conf' or with --weights"
            )
        self.design, self.sample_rate, self.delay = design, int(sample_rate), int(delay)
        self.model, self.generator_params = _build_generator(design, self.sample_rate, generator_params)
        params, quantizer = self.generator_params, self.model.quantizer
        if design == "funcodec":
            spectrum = {"n_fft": 512, "hop_length": 160, **(params["domain_conf"] or {})}
            self.hop = int(spectrum["hop_length"]) * math.prod(time for _, time in params["encdec_ratios"])
            # The spectrum mirrors half a window at the signal's ends.
            self._least_samples = spectrum["n_fft"] // 2 + 1
        else:
            self.hop = math.prod(params["upsample_rates" if design == "hificodec" else "encdec_ratios"])
            self._least_samples = 1
        self.bandwidth = float(self.model.target_bandwidths[-1] if bandwidth is None else bandwidth)
        if not self.bandwidth > 0:
            raise self.fault(f"bandwidth must be above 0 (kbit/s), got {bandwidth!r}")
        # One, or one for each half of the latents.
        halves = hasattr(quantizer, "quantizer0")
        self._parts = [quantizer.quantizer0, quantizer.quantizer1] if halves else [quantizer]
        first = self._parts[0]
        wanted = first.get_num_quantizers_for_bandwidth(self.model.frame_rate, self.bandwidth)
        self._codebooks_each = min(int(wanted), int(first.n_q))
        self.num_codebooks = self._codebooks_each * len(self._parts)
        self.codebook_sizes = (int(first.bins),) * self.num_codebooks
        self.latent_dim = int(first.dimension) * len(self._parts)
        self.freeze()

    def conf(self) -> dict[str, Any]:
        """Return the constructor's arguments, which need no exp directory."""
        return {
            "design": self.design, "sample_rate": self.sample_rate, "bandwidth": self.bandwidth, "delay": self.delay,
            "generator_params": self.generator_params,
        }  # fmt: skip

    def codebook(self, number: int) -> Tensor:
        """Return the vectors of a codebook, float ``[C, D]``, as they are added up to the latents."""
        number, part = divmod(number, len(self._parts))
        layer = self._parts[part].vq.layers[number]
        with self._computing():
            vectors = layer.project_out(layer.codebook)
        before = part * vectors.shape[1]
        return functional.pad(vectors, (before, self.latent_dim - before - vectors.shape[1]))

    def _encode_row(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        frames, least = wav.shape[0] // self.hop, max(wav.shape[0], self._least_samples)
        # Convolutions without enough padding of their own lose frames at the end.
        for samples in range(least, least + MAX_LOST_FRAMES * self.hop + 1, self.hop):
            x = functional.pad(wav, (0, samples - wav.shape[0])).view(1, 1, -1)
            if self.design == "funcodec":
                x, _ = self.model.time_to_freq_transfer(x)
            latents = self.model.encoder(x)[..., :frames]
            if latents.shape[2] == frames:
                break
        else:
            raise self.fault(
                f"the encoder of this '{self.design}' makes {latents.shape[2]} frames of {samples} "
                f"samples, expected one for every {self.hop}; its generator_params do not fit together"
            )
        groups = latents.chunk(len(self._parts), dim=1)
        codes = [
            part.vq.encode(group, n_q=self._codebooks_each)[:, 0]
            for part, group in zip(self._parts, groups, strict=True)
        ]
        return torch.stack(codes, dim=1).flatten(0, 1), latents[0]

    def _decode_row(self, latents: Tensor, mixture: Tensor | None, quantized: bool) -> Tensor:
        latents = latents.unsqueeze(0)
        if self.design == "funcodec":
            spectrum = self.model.decoder(torch.cat([latents, latents[:, :, -1:]], dim=2))
            return self.model.freq_to_time_transfer(spectrum).flatten()
        return self.model.decoder(latents).flatten()

    def load_pretrained(self, path: str | Path) -> None:
        """Load the generator's weights from a checkpoint of the exp directory, or from the one chosen in ``path``."""
        checkpoint = find_checkpoint(path, self.model_file)
        fault = f"{checkpoint}: does not fit the {CONFIG} of its training"
        load_weights(self.model, generator_weights(checkpoint), fault)

    def pretrained_cache(self) -> Path | None:
        """Return the checkpoint that is taken from ``exp_dir``, or ``None`` where none is given."""
        return find_checkpoint(self.exp_dir, self.model_file) if self.exp_dir is not None else None


def _read_design(path: str | Path) -> tuple[str, int, dict[str, Any]]:
    """Return design, rate and the generator's arguments of a training, with ESPnet's defaults where it gave none."""
    config = read_exp_config(path)
    design = config["codec"].lower()
    if design not in DESIGNS:
        raise unknown_name(f"design (key 'codec') in the {CONFIG} of {path}", design, DESIGNS)
    defaults = inspect.signature(imported(DESIGNS[design][0])).parameters
    conf = {name: defaults[name].default for name in ("sampling_rate", "generator_params")}
    conf |= config.get("codec_conf") or {}
    return design, conf["sampling_rate"], conf["generator_params"]


def _build_generator(
    design: str, sample_rate: int, generator_params: dict[str, Any]
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return ESPnet's generator with weights as initialised, and its arguments, complete and as plain values."""
    if design not in DESIGNS:
        raise unknown_name("design of codec 'espnet'", str(design), DESIGNS)
    generator = imported(DESIGNS[design][1], "codec 'espnet'")
    complete = {name: parameter.default for name, parameter in inspect.signature(generator).parameters.items()}
    complete |= generator_params
    complete.pop("sample_rate")
    arguments = copy.deepcopy(complete)
    if design == "funcodec":
        # The layouts from whose codes ESPnet's decoder makes a waveform.
        domains, channels = complete["codec_domain"], complete["encdec_channels"]
        if any(SPECTRUM_CHANNELS.get(domain) != channels for domain in domains):
            layouts = ", ".join(f"{name} ({count})" for name, count in SPECTRUM_CHANNELS.items())
            raise UserError(
                f"codec 'espnet': FunCodec with codec_domain {list(domains)} and {channels} channels cannot "
                f"be decoded from codes; possible domains (and encdec_channels) are: {layouts}"
            )
        arguments["encdec_ratios"] = [tuple(ratio) for ratio in arguments["encdec_ratios"]]
    with warnings.catch_warnings():
        # Some designs use the older form of weight normalisation, which their weights are stored in.
        warnings.simplefilter("ignore", FutureWarning)
        # ESPnet's constructors raise whatever a wrong value leads to.
        made = built(f"generator_params of '{design}'", generator, arguments, Exception, sample_rate=sample_rate)
    return made, plain(complete)


def read_exp_config(path: str | Path) -> dict[str, Any]:
    """Return the ``config.yaml`` of an exp directory, or of the one that holds the checkpoint ``path``.

    Raises:
        UserError: If it is missing, or is not that of a codec training.
    """
    given = Path(path)
    directory = given.parent if given.is_file() else given
    if not directory.is_dir():
        raise UserError(f"{given}: no such directory; give the exp directory of a codec training of ESPnet")
    config = read_yaml(directory / CONFIG)
    if not isinstance(config.get("codec"), str) or not isinstance(config.get("codec_conf", {}), dict):
        raise UserError(f"{directory / CONFIG}: is not the configuration of a codec training (no 'codec' in it)")
    return config


def find_checkpoint(path: str | Path, model_file: str | None = None) -> Path:
    """Return the checkpoint to take from an exp directory.

    ``path`` may be a checkpoint, which is then returned. Without ``model_file``, the name of one in it, it is the first that is
    there of: the best epoch by each of the training's ``best_model_criterion``; the average by each; ``latest.pth``; the highest
    ``<N>epoch.pth``; the only ``.pth`` file. Averages come later: an entry need not be at the same place in all epochs.

    Raises:
        UserError: If there is none, or none of that name.
    """
    given = Path(path)
    if given.is_file():
        return given
    there = sorted(one for one in given.glob("*.pth") if one.is_file() and not one.name.startswith("checkpoint."))
    names = ", ".join(one.name for one in there) or "none"
    if model_file is not None:
        if not (given / model_file).is_file():
            raise UserError(f"{given / model_file}: no such checkpoint; there are: {names}")
        return given / model_file
    criteria = read_exp_config(given).get("best_model_criterion") or []
    wanted = [given / f"{one[0]}.{one[1]}.{kind}.pth" for kind in ("best", "ave") for one in criteria]
    epochs = {int(match[1]): one for one in there if (match := re.match(r"(\d+)epoch\.pth", one.name))}
    last = [epochs[number] for number in sorted(epochs, reverse=True)] or (there if len(there) == 1 else [])
    for candidate in (*wanted, given / "latest.pth", *last):
        # A link whose epoch has been removed is passed over.
        if candidate.is_file():
            return candidate
    raise UserError(f"{given}: holds no checkpoint to take; name one with model_file, there are: {names}")


def generator_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the generator's weights of a checkpoint of ESPnet's codec task, by their names in the generator.

    Raises:
        UserError: If the file is missing, damaged, holds no such weights, or weights that are no numbers.
    """
    state = read_checkpoint(path)
    weights = {key.removeprefix(GENERATOR): value for key, value in state.items() if key.startswith(GENERATOR)}
    if not weights:
        raise UserError(f"{path}: holds no codec ('{GENERATOR}...'); take a checkpoint of ESPnet's codec task")
    check_finite(weights, path, GENERATOR)
    return weights
