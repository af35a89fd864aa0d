"""Networks that ESPnet trained, for scoring: an ASR model that transcribes, a speaker model that embeds.

Both are taken from an exp directory as ESPnet's recipes leave it (``config.yaml``, ``valid.acc.ave.pth``), or from a
folder that a packed model was unpacked into (``meta.yaml`` names the files). ESPnet's own loader accepts weights that do
not fit and runs code that a checkpoint may hold; here the network is built without weights, and they are loaded
strictly, as weights only.
"""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from espnet_tse_gen.audio.recordings import resample
from espnet_tse_gen.utils.checkpoints import load_checkpoint
from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.files import read_yaml, write_yaml
from espnet_tse_gen.utils.quiet import import_quietly

CONFIG = "config.yaml"
CHECKPOINTS = ("valid.acc.ave.pth", "valid.acc.ave_*best.pth", "valid.*.ave.pth", "valid.*.best.pth", "*epoch.pth")
"""Which checkpoint is taken, the first pattern that is there."""
PATH_KEYS = ("bpemodel", "token_list", "non_linguistic_symbols", "normalize_conf.stats_file")
"""Entries of a training's configuration that name files which the network needs."""
DECODING = {"beam_size": int, "ctc_weight": float, "penalty": float, "maxlenratio": float, "minlenratio": float,
            "normalize_length": bool}  # fmt: skip
"""Options of recognition that may be given."""


class ExpDir:
    """The files of a network that ESPnet trained.

    ``folder`` is an exp directory, or holds ``meta.yaml``; ``model_file`` names the checkpoint in it, by default the first of
    :data:`CHECKPOINTS`. A file that is missing is a :class:`UserError`.
    """

    def __init__(self, folder: str | Path, model_file: str | None = None) -> None:
        self.folder = Path(folder)
        self.config, checkpoint = self.folder / CONFIG, None
        packing = self.folder / "meta.yaml"
        if packing.is_file():
            meta = read_yaml(packing)
            # An ASR pack may hold a language model too, whose files are named lm_*.
            names = [str(name) for kind in ("yaml_files", "files") for name in (meta.get(kind) or {}).values()]
            names = [name for name in names if "/lm_" not in name]
            packed = [next((one for one in names if one.endswith(end)), None) for end in (CONFIG, ".pth")]
            if None in packed:
                raise UserError(f"{packing}: names no config.yaml and checkpoint; unpack it again")
            self.config, checkpoint = (self.folder / str(name) for name in packed)
        if not self.config.is_file():
            raise UserError(f"{self.config}: no such file; give the exp directory of a training of ESPnet")
        beside = self.config.parent
        if model_file is not None:
            checkpoint = beside / model_file
        found = (path for pattern in CHECKPOINTS for path in sorted(beside.glob(pattern), reverse=True))
        self.checkpoint: Path = checkpoint or next(found, beside / CHECKPOINTS[0])
        if not self.checkpoint.is_file():
            there = ", ".join(path.name for path in sorted(beside.glob("*.pth"))) or "none"
            raise UserError(f"{self.checkpoint}: no such checkpoint; there are: {there}")

    def resolved_config(self) -> dict[str, Any]:
        """Return the configuration with the paths that matter as they are on this machine.

        A path is taken as it is, else relative to the folder or one above it, else as a file of that name beside
        ``config.yaml``; if it is nowhere, that is a :class:`UserError`.
        """
        config = read_yaml(self.config)
        above = [self.folder, *list(self.folder.absolute().parents)[:4]]
        for key in PATH_KEYS:
            holder, _, last = key.rpartition(".")
            table = config.get(holder) if holder else config
            if isinstance(table, dict) and isinstance(table.get(last), str):
                name = table[last]
                places = (Path(name), *(place / name for place in above), self.config.parent / Path(name).name)
                path = next((path for path in places if path.is_file()), None)
                if path is None:
                    raise UserError(f"{self.config}: {key} is {name}, which is not there; put the file beside {CONFIG}")
                table[last] = str(path.absolute())
        return config

    def build(self, kind: str, entry: str, build: Callable[[Path], Any], model: str = "") -> Any:
        """Return what ``build`` makes of a configuration's path, with the checkpoint's weights.

        Args:
            kind: What it is to be, for messages ("ASR").
            entry: Entry that the configuration of such a training has.
            model: The attribute that is the ``torch.nn.Module``; "" where what is built is one itself.

        Raises:
            UserError: If it is another training's, cannot be built, or the weights are damaged or do not fit.
        """
        config = self.resolved_config()
        if entry not in config:
            raise UserError(f"{self.config}: is not the configuration of an {kind} training (no '{entry}' in it)")
        with tempfile.TemporaryDirectory() as folder, quiet():
            write_yaml(Path(folder) / CONFIG, config)
            try:
                built = build(Path(folder) / CONFIG)
            except Exception as error:  # It raises many types, ImportError for a package that it lacks.
                reason = " ".join(str(error).split())[:200]
                raise UserError(f"{self.config}: no {kind} model can be built from it ({reason})") from None
        network = getattr(built, model) if model else built
        load_checkpoint(network, self.checkpoint, self.config)
        network.eval()
        return built


def read_decoding(path: str | Path | None) -> dict[str, Any]:
    """Read options of recognition from a yaml, such as ESPnet's ``conf/decode_asr.yaml``; without one, the defaults."""
    options: dict[str, Any] = {"beam_size": 10, "ctc_weight": 0.3}
    for name, value in (read_yaml(path) if path is not None else {}).items():
        if name not in DECODING:
            raise unknown_name(f"option in {path}", str(name), DECODING)
        wanted = DECODING[name]
        if isinstance(value, bool) != (wanted is bool) or not isinstance(value, (int, float)):
            raise UserError(f"{path}: {name} is '{value}', expected {wanted.__name__}")
        options[name] = wanted(value)
    return options


def espnet_speaker(folder: str | Path, device: str) -> Callable[[np.ndarray, int], Any]:
    """Load a model of ESPnet's speaker task: what gives the embedding ``[D]`` of a recording, float ``[L]``, at a rate."""
    import_quietly()
    import torch
    from espnet2.tasks.spk import SpeakerTask

    exp = ExpDir(folder)
    build = SpeakerTask.build_model_from_file
    model = exp.build("speaker", "projector", lambda config: build(config, None, device)[0])
    rate = int(read_yaml(exp.config).get("sample_rate") or 16000)

    def voice(samples: np.ndarray, sample_rate: int) -> Any:
        wave = torch.from_numpy(resample(samples, sample_rate, rate))[None].to(device)
        return model(speech=wave, extract_embd=True)[0]

    return voice


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what ESPnet logs of every network and of every beam search."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
