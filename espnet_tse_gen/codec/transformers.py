"""Codecs of the ``transformers`` library: EnCodec, DAC, Mimi, and others that share their interface.

The interface is ``model.encode(waveform).audio_codes``, ``model.decode(codes).audio_values`` and, between the two,
``model.quantizer``, whose codes stand for a sum of vectors over codebooks. Latents are read where the model hands them to
its quantizer and are put in where the quantizer hands them on, so that no model's inner layout is relied on; it differs
between releases of the library.

    Defossez et al., "High Fidelity Neural Audio Compression", 2022 (EnCodec); Kumar et al., "High-Fidelity Audio
    Compression with Improved RVQGAN", 2023 (DAC); Defossez et al., "Moshi", 2024, section 3.3 (Mimi).
"""

import contextlib
import functools
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from espnet_tse_gen.codec.base import AbsCodec
from espnet_tse_gen.utils.errors import UserError, naming_extra
from espnet_tse_gen.utils.fetch import verify
from espnet_tse_gen.utils.hub import snapshot

FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")
"""The files of a model that are needed."""


class TransformersCodec(AbsCodec):
    """A mono codec of the ``transformers`` library.

    The waveform is padded with zeros to a multiple of the hop. The latents are what the model's quantizer is given; the
    vectors of a codebook are what that codebook adds to the quantizer's output.
    """

    name: ClassVar[str] = "transformers"
    pretrained_file: ClassVar[str | None] = "model.safetensors"

    def __init__(
        self,
        # directory with `config.json` and safetensors, as `save_pretrained` writes it, or the name of a model of the
        # Hugging Face hub, which is then looked up in the local cache
        model: str | None = None,
        revision: str | None = None,  # branch, tag or commit of a model of the hub
        num_codebooks: int | None = None,  # codebooks used, the first so many of the model's; `None` means all
        # the model's `config.json`. Loading the weights brings their own; before that, `model_type` alone stands for the
        # library's default of that type, and `None` for an architecture that is not yet known
        config: dict[str, Any] | None = None,
        delay: int = 0,  # samples by which the decoder's output lags; measured by `codec_prepare`
    ) -> None:
        super().__init__()
        if model is None and config is None:
            raise self.fault("codec_conf must name a model: a directory, or a name such as kyutai/mimi")
        _library()
        self.model, self.revision = model, revision
        self.config = None if config is None else dict(config)
        self.delay, self._wanted_codebooks = int(delay), num_codebooks
        self.sample_rate, self.hop, self.latent_dim = 0, 1, 0
        self.num_codebooks, self.codebook_sizes = num_codebooks or 0, (0,)
        self._vectors: dict[int, Tensor] = {}
        self.network: Any = None
        if self.config is not None:
            self._adopt(_library().AutoModel.from_config(_read_config(self.config)))
        self.freeze()

    def _adopt(self, network: Any) -> None:
        """Take a model as it is, and find out its rate, hop, codebooks and latents."""
        config, kind = network.config, type(network).__name__
        quantizer = getattr(network, "quantizer", None)
        if not all(hasattr(network, name) for name in ("encode", "decode")) or quantizer is None:
            raise self.fault(f"{kind} has not the interface of a codec (encode, decode, quantizer)")
        if getattr(config, "audio_channels", 1) != 1 or getattr(config, "normalize", False):
            raise self.fault(f"this {kind} is for several channels or normalized input; choose a mono one")
        self.network = network.float()
        self._vectors = {}
        self.sample_rate = int(config.sampling_rate)
        self.hop = int(getattr(config, "hop_length", None) or round(self.sample_rate / config.frame_rate))
        counts = (getattr(config, name, None) for name in ("num_quantizers", "n_codebooks", "num_codebooks"))
        self.num_codebooks = self._codebooks(self._wanted_codebooks, next(filter(None, counts), 0))
        self.codebook_sizes = (int(config.codebook_size),) * self.num_codebooks
        self.freeze()
        with self._computing():
            codes, latents = self._encode_row(torch.zeros(self.hop, device=self.device))
        self.latent_dim = latents.shape[0]
        if codes.shape != (self.num_codebooks, 1) or latents.shape[1] != 1:
            raise self.fault(
                f"{kind} makes codes {tuple(codes.shape)} and latents {tuple(latents.shape)} of "
                f"one frame of {self.hop} samples, expected ({self.num_codebooks}, 1) and (D, 1)"
            )

    def codebook(self, number: int) -> Tensor:
        """Return what a codebook adds to the quantizer's output, float ``[C, D]``."""
        self._check_network()
        if number not in self._vectors:
            with self._computing():
                codes = torch.zeros(1, number + 1, self.codebook_sizes[number], dtype=torch.int64, device=self.device)
                below = self._dequantized(codes[:, :number, :1]) if number else 0.0
                codes[0, number] = torch.arange(codes.shape[2])
                self._vectors[number] = (self._dequantized(codes) - below)[0].T.contiguous()
        return self._vectors[number]

    def _check_network(self) -> None:
        if self.network is None:
            raise self.fault(f"{self.model} is not loaded; make a codec directory with 'tse-gen codec'")

    def _encode_row(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        self._check_network()
        quantizer = self.network.quantizer
        given: list[Tensor] = []

        def watched(original: Callable[..., Any], latents: Tensor, *args: Any, **kwargs: Any) -> Any:
            given.append(latents)
            return original(latents, *args, **kwargs)

        with _replaced(quantizer, "encode" if hasattr(quantizer, "encode") else "forward", watched):
            codes = self.network.encode(wav.view(1, 1, -1), **self._encode_options()).audio_codes
        return codes.reshape(-1, codes.shape[-1])[: self.num_codebooks], given[0][0]

    def _decode_row(self, latents: Tensor, mixture: Tensor | None, quantized: bool) -> Tensor:
        self._check_network()
        codes = torch.zeros(1, self.num_codebooks, latents.shape[1], dtype=torch.int64, device=self.device)
        made = latents.unsqueeze(0)
        output = (made,) if self._dequantizer == "from_codes" else made
        with _replaced(self.network.quantizer, self._dequantizer, lambda *_, **__: output):
            return self._decoded(codes).audio_values.reshape(-1)

    def _encode_options(self) -> dict[str, Any]:
        """Return the arguments by which ``network.encode`` makes at least the codebooks that are used."""
        parameters = inspect.signature(self.network.encode).parameters
        for name in ("num_quantizers", "n_quantizers"):
            if name in parameters:
                return {name: self.num_codebooks}
        if "bandwidth" not in parameters:
            return {}
        bandwidths = sorted(self.network.config.target_bandwidths)
        count = getattr(self.network.quantizer, "get_num_quantizers_for_bandwidth", lambda _: self.num_codebooks)
        return {"bandwidth": next((one for one in bandwidths[:-1] if count(one) >= self.num_codebooks), bandwidths[-1])}

    def _decoded(self, codes: Tensor) -> Any:
        """Call ``network.decode`` on codes ``[1, k, T]`` in the form that it takes."""
        if "audio_scales" in inspect.signature(self.network.decode).parameters:
            # EnCodec: a further axis of chunks, each with the scale of its samples.
            return self.network.decode(audio_codes=codes.unsqueeze(0), audio_scales=[None])
        return self.network.decode(audio_codes=codes)

    def _dequantized(self, codes: Tensor) -> Tensor:
        """Return the quantizer's output ``[1, D, T]`` for codes ``[1, k, T]`` of the first k codebooks."""

        def caught(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            raise _Caught(result[0] if isinstance(result, tuple) else result)

        try:
            with _replaced(self.network.quantizer, self._dequantizer, caught):
                self._decoded(codes)
        except _Caught as result:
            return result.args[0]
        raise self.fault(f"{type(self.network).__name__} decodes without its quantizer")

    @property
    def _dequantizer(self) -> str:
        """The quantizer's method that makes latents of codes."""
        return "decode" if hasattr(self.network.quantizer, "decode") else "from_codes"

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        """Move or convert the weights, and forget what was computed from them where they were before."""
        made = super()._apply(fn, *args, **kwargs)
        self._forget()
        return made

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load the weights of a codec directory."""
        made = super().load_state_dict(state_dict, *args, **kwargs)
        self._forget()
        return made

    def _forget(self) -> None:
        self._vectors = {}
        for module in self.modules():
            if vars(module).get("_embed") is not None:
                vars(module)["_embed"] = None  # Mimi's codebooks, kept by the library after their first use.

    def load_pretrained(self, path: str | Path) -> None:
        """Load a directory with ``config.json`` and safetensors.

        A file in the cache of the hub must have the SHA-256 that is its name there, any other that of ``<file>.sha256``.
        """
        path = Path(path)
        if not _is_whole(path):
            raise UserError(f"{path}: expected a directory with config.json and model.safetensors, all of its parts")
        for file in sorted(path.glob("*.safetensors")):
            named = re.fullmatch(r"[0-9a-f]{64}", file.resolve().name)
            verify(file, named[0] if named else None)
        try:
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
            options: dict[str, Any] = {"config": _read_config(config), "output_loading_info": True}
            options |= {"local_files_only": True, "use_safetensors": True}
            network, report = _library().AutoModel.from_pretrained(str(path), **options)
        except UserError:
            raise
        except Exception as error:  # The libraries that read the file have errors of their own.
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"{path}: cannot be loaded with the transformers library ({reason})") from None
        for what in ("missing", "unexpected", "mismatched"):
            if keys := sorted(map(str, report.get(f"{what}_keys") or ())):
                message = f"{len(keys)} {what} weights, first {keys[0]}; it is not a whole model of its type"
                raise UserError(f"{path}: {message}")
        # Where the model came from says nothing about its codes; the configuration does.
        self.model = self.revision = None
        self.config = {key: config[key] for key in config if key not in ("_name_or_path", "transformers_version")}
        self._adopt(network)

    def pretrained_cache(self) -> Path | None:
        """Return the directory of the model: a local one, or its snapshot in the hub's cache if there is one."""
        if not self.can_fetch():
            return None if self.model is None else Path(self.model).expanduser()
        with contextlib.suppress(UserError):  # not there, or not the name of a model
            if _is_whole(found := self._snapshot(fetch=False)):
                return found
        return None

    def pretrained_source(self) -> str:
        """Return the model's name and address."""
        if not self.can_fetch():
            return "a directory with config.json and model.safetensors"
        page = f"https://huggingface.co/{self.model}/tree/{self.revision or 'main'}"
        return f"config.json and model.safetensors of {page}, which shows their SHA-256"

    def can_fetch(self) -> bool:
        """Return whether the model is one of the hub."""
        return self.model is not None and self.model[:1] not in ("/", ".", "~") and not Path(self.model).is_dir()

    def download_pretrained(self) -> Path:
        """Fetch the model from the Hugging Face hub into its local cache."""
        if not self.can_fetch():
            raise self.fault(f"{self.model} is not the name of a model of the Hugging Face hub")
        try:
            return self._snapshot(fetch=True)
        except UserError as error:
            raise UserError(
                f"{self.model}: cannot be fetched from the Hugging Face hub: {error}; or put {self.pretrained_source()}, into "
                "a directory and name it with --weights DIR"
            ) from None

    def _snapshot(self, fetch: bool) -> Path:
        """Return the directory of the model in the hub's cache."""
        return snapshot(str(self.model), self.revision or "", FILES, fetch)


class _Caught(Exception):
    """Carries the quantizer's output out of ``decode``, whose decoder is then not run."""


@contextlib.contextmanager
def _replaced(module: torch.nn.Module, method: str, function: Callable[..., Any]) -> Iterator[None]:
    """Put ``function``, which is given the original first, in the place of a module's method for a while."""
    setattr(module, method, functools.partial(function, getattr(module, method)))
    try:
        yield
    finally:
        delattr(module, method)


def _is_whole(directory: Path) -> bool:
    """Return whether a model's files are all there; fetching may have been interrupted between them."""
    index, names = directory / "model.safetensors.index.json", {path.name for path in directory.glob("*.safetensors")}
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    # A link to what is gone is no file.
    return bool(names) and all((directory / name).is_file() for name in ("config.json", *names))


def _read_config(config: Mapping[str, Any]) -> Any:
    """Return the library's configuration object for the content of a ``config.json``."""
    kind = config.get("model_type")
    known = _library().CONFIG_MAPPING
    if kind not in known:
        raise UserError(f"codec 'transformers': the installed transformers has no model_type {kind!r}")
    return known[kind].from_dict(dict(config))


def _library() -> Any:
    """Return the ``transformers`` module, or say how to install it."""
    with naming_extra("codec 'transformers'"):
        import transformers
    return transformers
