"""The espeak-ng synthesizer through ctypes: text in, samples out.

The package ``espeakng-loader`` ships the shared library and its data; nothing is downloaded or installed system-wide.
The library keeps global state (a phrase sounds slightly different after another one), so for a repeatable result one
process should speak for one voice, always in the same order.

    engine = EspeakEngine()
    engine.set_voice("gmw/en-US+f3", words_per_minute=160, pitch=45, pitch_range=50)
    samples = engine.speak("Good morning.")       # float32 [L] at engine.sample_rate
"""

import contextlib
import ctypes
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from espnet_tse_gen.utils.errors import UserError, naming_extra

_OUTPUT_SYNCHRONOUS = 2
_PARAMETER_RATE, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 3, 4
_POSITION_CHARACTER, _CHARACTERS_UTF8 = 1, 1
# The library copies its data path into a fixed buffer of 160 characters.
_LONGEST_DATA_PATH = 120


def _loader() -> Any:
    with naming_extra("the synthesizer"):
        import espeakng_loader
    return espeakng_loader


def variant_sexes() -> dict[str, str]:
    """Return the voice variants that state a gender: variant name -> ``m`` or ``f``, sorted by name."""
    folder = Path(_loader().get_data_path()) / "voices" / "!v"
    sexes = {}
    for path in sorted(folder.iterdir()):
        found = re.search(r"^gender\s+(male|female)\b", path.read_text(errors="replace"), re.MULTILINE | re.IGNORECASE)
        if found:
            sexes[path.name] = found.group(1)[0].lower()
    return sexes


class EspeakEngine:
    """The library, loaded and initialized in this process."""

    sample_rate: int

    def __init__(self) -> None:
        loader = _loader()
        self._library = ctypes.CDLL(loader.get_library_path())
        self._chunks: list[np.ndarray] = []
        callback_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = callback_type(self._collect)  # kept: the library holds only a pointer to it
        with contextlib.ExitStack() as stack:
            data_path = Path(loader.get_data_path())
            if len(str(data_path)) > _LONGEST_DATA_PATH:
                link = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="espeak"))) / "espeak-ng-data"
                link.symlink_to(data_path)
                # The path is used again whenever a voice is loaded, so the link must live as long as the engine.
                self._cleanup = stack.pop_all()
                data_path = link
            rate = self._library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, str(data_path).encode(), 0)
        if rate <= 0:
            raise UserError(f"{data_path}: espeak-ng cannot use its data; reinstall the package 'espeakng-loader'")
        self.sample_rate = int(rate)
        # Breath noise comes from a generator that the initialization seeds with the time of day.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: Any, count: int, _events: int) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    def set_voice(self, name: str, words_per_minute: float, pitch: float, pitch_range: float) -> None:
        """Choose the voice ``language+variant``, e.g. ``gmw/en-US+f3``.

        It says 80 to 450 words per minute; pitch and its range are 0 to 99, of which 50 is the variant's own.
        """
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise UserError(f"espeak-ng has no voice '{name}'")
        for parameter, value in (
            (_PARAMETER_RATE, words_per_minute),
            (_PARAMETER_PITCH, pitch),
            (_PARAMETER_RANGE, pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, round(value), 0)

    def speak(self, text: str) -> np.ndarray:
        """Return ``text`` spoken, as float32 ``[L]`` in -1..1 at ``sample_rate``."""
        self._chunks.clear()
        encoded = text.encode() + b"\0"
        status = self._library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded)), 0, _POSITION_CHARACTER, 0, _CHARACTERS_UTF8, None, None
        )
        self._library.espeak_Synchronize()
        if status != 0 or not self._chunks:
            raise UserError(f"espeak-ng made no sound of '{text}' (status {status})")
        return np.concatenate(self._chunks).astype(np.float32) / 32768.0
