"""The process that holds the model. It does one job at a time; where it has been killed, the next job gets another one."""

import multiprocessing
import threading
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from espnet_tse_gen.audio.files import MEAN, UNKNOWN_LENGTH, Audio, open_audio, read_with_format
from espnet_tse_gen.inference.files import part
from espnet_tse_gen.report.pictures import RANGE_DB, magnitudes
from espnet_tse_gen.utils.errors import UserError, hear_warnings, one_line
from espnet_tse_gen.utils.parallel import set_up_worker

if TYPE_CHECKING:
    from espnet_tse_gen.inference.base import Progress, TargetSpeakerExtractor

GONE = "The extraction was broken off: its process has ended (killed, or out of memory?); press Extract again"
HIGHEST_RATE = 192000
"""Hz; a higher rate costs memory and holds no more of a voice."""
_BLOCK = 2**20
_COLUMNS = 2000  # of a spectrogram, at most


class Job(NamedTuple):
    """What is to be extracted; one of the two enrolments may be None, or both are used."""

    mixture: Path
    enroll: Path | None  # a recording of the target alone
    times: tuple[float, float] | None  # seconds of the mixture in which the target speaks alone


class Outcome(NamedTuple):
    """What was extracted."""

    rate: int  # Hz, the mixture's
    extraction: np.ndarray  # int16 [L]
    residual: np.ndarray  # int16 [L]: the mixture without it
    picture: np.ndarray  # uint8 [H, W, 3]: spectrograms of mixture, extraction and residual
    confidence: float | None  # None of a model that does not say
    warnings: list[str]


class Worker:
    """A process with a model, which is started by :meth:`start` or by the first job.

    ``minutes`` is what a recording may last; what is in ``extractor``, ``inference.base.open_extractor`` takes.
    """

    def __init__(self, minutes: float, **extractor: Any) -> None:
        self._given = (minutes, extractor)
        self._lock = threading.RLock()
        self._process: SpawnProcess | None = None

    @property
    def pid(self) -> int | None:
        """The process, if there is one."""
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    def start(self) -> None:
        """Start the process where there is none, and wait until it has opened the model.

        Raises:
            UserError: If the model cannot be opened.
        """
        with self._lock:
            if self.pid is None:
                # "spawn", as threads of this process may hold locks.
                context = multiprocessing.get_context("spawn")
                self._connection, its_own = context.Pipe()
                self._process = context.Process(target=_work, args=(its_own, *self._given), daemon=True)
                self._process.start()
                its_own.close()
                self._ask()

    def run(self, job: Job, progress: "Progress") -> Outcome:
        """Extract; other threads wait until it is their turn. ``progress`` is called with the share that is done, 0..1.

        Raises:
            UserError: If a recording cannot be used, or the process was killed.
        """
        with self._lock:
            self.start()
            return self._ask(job, progress)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()

    def _ask(self, job: Job | None = None, progress: "Progress" = float) -> Any:
        try:
            if job is not None:
                self._connection.send(job)
            while isinstance(answer := self._connection.recv(), float):
                progress(answer)
        except BaseException as error:
            # Half an answer that stays in the connection would be taken for that of the next job.
            self.stop()
            if isinstance(error, EOFError | OSError):
                raise UserError(GONE) from None
            raise
        if isinstance(answer, UserError):
            raise answer
        return answer


def _work(connection: Connection, minutes: float, extractor: dict[str, Any]) -> None:
    """Do the jobs that come in until the other end is closed; an answer is floats of progress, and an outcome or error."""
    set_up_worker()
    from espnet_tse_gen.inference.base import open_extractor

    try:
        opened = open_extractor(**extractor)
    except UserError as error:
        connection.send(error)
        return
    connection.send(None)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            connection.send(_extract(opened, job, minutes, lambda share: connection.send(float(share))))
        except UserError as error:
            connection.send(UserError(_without_folders(str(error), job)))


def _extract(opened: "TargetSpeakerExtractor", job: Job, minutes: float, progress: "Progress") -> Outcome:
    with hear_warnings(shown=False) as heard:
        mixed = read_limited(job.mixture, minutes)
        voices = [] if job.enroll is None else [read_limited(job.enroll, minutes)[:2]]
        if job.times is not None:
            voices.append((part(mixed.samples, mixed.rate, *job.times, str(job.mixture), "enrolment"), mixed.rate))
    enrolls, rates = zip(*voices, strict=True)
    request = opened.request(
        mixed.samples, enrolls, mixed.rate, enroll_sample_rate=rates, mixture_name=str(job.mixture)
    )
    extraction = opened.extract([request], progress=progress)[0]
    made = {"extraction": extraction.samples, "residual": mixed.samples - extraction.samples}
    picture = draw({"mixture": mixed.samples, **made}, mixed.rate)
    voice, rest = (np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16) for samples in made.values())
    return Outcome(
        mixed.rate, voice, rest, picture, extraction.confidence, [_without_folders(line, job) for line in heard]
    )


def read_limited(path: Path, minutes: float) -> Audio:
    """Read a recording of at most ``minutes``, of several channels their mean.

    No more than that is decoded before it is refused: a small file may hold days of silence, whatever its header says.

    Raises:
        UserError: If it is longer or its header says so, has a rate above :data:`HIGHEST_RATE`, or cannot be read.
    """
    with open_audio(path) as (file, _):
        if file.samplerate > HIGHEST_RATE:
            raise UserError(
                f"{path}: sampling rate is {file.samplerate} Hz, expected at most {HIGHEST_RATE}; resample it"
            )
        most, length = minutes * 60 * file.samplerate, 0
        claimed = file.frames if file.frames < UNKNOWN_LENGTH else 0
        while max(claimed, length) <= most and (read := len(file.read(max(1, _BLOCK // file.channels)))):
            length += read
        if max(claimed, length) > most:
            raise UserError(
                f"{path}: is longer than {minutes:g} minutes, or its header says so; take a part of it, or start the page "
                "with a larger --max-minutes"
            )
    return read_with_format(path, channel=MEAN)


def _without_folders(text: str, job: Job) -> str:
    """Return what is said about uploads, which people know by their names."""
    for path in (job.mixture, job.enroll):
        text = text.replace(str(path), path.name) if path is not None else text
    return one_line(text)


def draw(signals: dict[str, np.ndarray], sample_rate: int) -> np.ndarray:
    """Return the spectrograms of ``signals`` (float ``[L]`` each) side by side, at one level, as uint8 ``[H, W, 3]``."""
    figure = Figure(figsize=(11, 3.6), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    length = len(next(iter(signals.values())))
    spectra = [magnitudes(samples, sample_rate, length // _COLUMNS) for samples in signals.values()]
    full_scale = max(float(spectrum.max()) for spectrum in spectra)
    panels = np.atleast_1d(figure.subplots(1, len(spectra), sharey=True))
    for axes, name, spectrum in zip(panels, signals, spectra, strict=True):
        level = 20.0 * np.log10(np.maximum(spectrum, 1e-12) / max(full_scale, 1e-12))
        extent = (0, length / sample_rate, 0, sample_rate / 2000)
        axes.imshow(level, cmap="magma", vmin=-RANGE_DB, vmax=0.0, origin="lower", aspect="auto", extent=extent)
        axes.set(title=name, xlabel="time (s)")
    panels[0].set(ylabel="frequency (kHz)")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
