"""The worker process: what it gives is what extraction gives, it is one process, and it may be killed."""

import os
import signal
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from broken_audio import encoded, with_long_data
from programs import running
from refused import refused
from tiny_discriminative import discriminative_exp_dir
from tiny_model import RATE, mixture, voice

from espnet_tse_gen import TargetSpeakerExtractor
from espnet_tse_gen.serve.worker import GONE, Job, Worker, draw

MODEL = "dual_path"


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """A worker that takes half a minute."""
    worker = Worker(0.5, model=discriminative_exp_dir(MODEL), num_threads=1)
    yield worker
    worker.stop()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A mixture of two segments, and an enrolment at another rate."""
    soundfile.write(tmp_path / "m.wav", mixture(12.0), RATE)
    soundfile.write(tmp_path / "e.wav", voice(1.0, 110.0, seed=5, rate=16000), 16000)
    return Job(tmp_path / "m.wav", tmp_path / "e.wav", None)


def direct(job: Job) -> np.ndarray:
    """What extraction gives, int16."""
    mixed = soundfile.read(job.mixture, dtype="float32")[0]
    enroll, rate = (
        (mixed[RATE : RATE * 5 // 2], RATE) if job.enroll is None else soundfile.read(job.enroll, dtype="float32")
    )
    extractor = TargetSpeakerExtractor.from_pretrained(discriminative_exp_dir(MODEL))
    made = extractor.extract([extractor.request(mixed, enroll, RATE, enroll_sample_rate=rate)])[0].samples
    return np.clip(np.rint(32768 * made), -32768, 32767).astype(np.int16)


@pytest.mark.slow
@pytest.mark.parametrize("ranged", [False, True])
def test_it_gives_what_extraction_gives(worker: Worker, job: Job, ranged: bool) -> None:
    job = job._replace(enroll=None, times=(1.0, 2.5)) if ranged else job
    shares: list[float] = []
    outcome = worker.run(job, shares.append)
    wanted = direct(job)
    assert np.ptp(wanted) > 300 and np.abs(outcome.extraction.astype(int) - wanted).max() <= 1
    mixed = soundfile.read(job.mixture, dtype="int16")[0].astype(int)
    whole = outcome.extraction.astype(int) + outcome.residual
    assert np.abs(whole - mixed).max() <= 1
    assert outcome.rate == RATE and outcome.confidence is None and outcome.warnings == []
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) == 2
    assert outcome.picture.dtype == np.uint8 and outcome.picture.shape[2] == 3 and np.ptp(outcome.picture) > 200


def test_an_enrolment_and_a_part_of_the_mixture_are_both_used(worker: Worker, job: Job) -> None:
    alone = worker.run(job, float).extraction
    both = worker.run(job._replace(times=(1.0, 2.5)), float).extraction
    assert (alone != both).any()


def test_mistakes_name_the_upload_without_its_folder_and_the_next_job_is_done(worker: Worker, job: Job) -> None:
    before = worker.pid
    text, huge, long = (job.mixture.with_name(f"{name}.wav") for name in ("text", "huge", "long"))
    text.write_text("not audio")
    huge.write_bytes(with_long_data(encoded(np.zeros(RATE), RATE, "RF64"), 10 * 2**30))
    soundfile.write(long, np.zeros(31 * RATE), RATE)
    for message, changes in {
        "text.wav: is not a readable audio file": {"mixture": text},
        "enrolment 11-20: m.wav ends at 12.00 s": {"times": (11.0, 20.0)},
        "huge.wav: is damaged: it has ": {"mixture": huge},
        "long.wav: is longer": {"enroll": long},
        "gone.wav: no such file$": {"mixture": Path("gone.wav")},
    }.items():
        refused(f"^{message}", worker.run, job._replace(**changes), float)
    assert len(worker.run(job, float).extraction) == 12 * RATE and worker.pid == before


def test_what_is_said_about_a_recording_is_passed_on(worker: Worker, job: Job) -> None:
    content = job.mixture.read_bytes()
    job.mixture.write_bytes(content[: len(content) // 2])
    assert [line.partition(":")[0] for line in worker.run(job, float).warnings] == ["m.wav"]


@pytest.mark.slow
def test_a_killed_worker_is_told_in_one_line_and_the_next_job_gets_another(worker: Worker, job: Job) -> None:
    before = worker.pid
    assert before is not None

    def kill(share: float) -> None:
        os.kill(before, signal.SIGKILL)

    assert refused(".", worker.run, job, kill) == GONE
    assert len(worker.run(job, float).extraction) == 12 * RATE
    assert worker.pid != before
    # One that has ended between two jobs is not noticed at all.
    ended = worker.pid
    os.kill(ended, signal.SIGKILL)
    while running(ended):
        time.sleep(0.01)
    assert len(worker.run(job, float).extraction) == 12 * RATE


@pytest.mark.slow
def test_what_breaks_off_the_progress_leaves_nothing_for_the_next_job(worker: Worker, job: Job) -> None:
    def leave(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.run(job, leave)
    short = job.mixture.with_name("short.wav")
    soundfile.write(short, mixture(1.0), RATE)
    assert len(worker.run(job._replace(mixture=short), float).extraction) == RATE


@pytest.mark.slow
def test_jobs_of_many_threads_are_not_mixed_up(worker: Worker, job: Job, tmp_path: Path) -> None:
    lengths = range(RATE, RATE + 12)
    for length in lengths:
        soundfile.write(tmp_path / f"{length}.wav", mixture(2.0, seed=length)[:length], RATE)

    def ask(length: int) -> int:
        return len(worker.run(job._replace(mixture=tmp_path / f"{length}.wav"), float).extraction)

    with ThreadPoolExecutor(len(lengths)) as threads:
        assert list(threads.map(ask, lengths)) == list(lengths)


@pytest.mark.slow
def test_a_model_that_is_none_is_refused_before_a_page_is_there() -> None:
    refused("no_such_model", Worker(1.0, model="no_such_model").start)


@pytest.mark.slow
def test_the_picture_of_an_hour_needs_no_memory_of_an_hour() -> None:
    hour = np.zeros(3600 * RATE, np.float32)
    tracemalloc.start()
    picture = draw({"mixture": hour, "extraction": hour}, RATE)
    assert tracemalloc.get_traced_memory()[1] < 700e6
    tracemalloc.stop()
    assert picture.ndim == 3
