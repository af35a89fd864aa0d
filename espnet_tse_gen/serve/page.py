"""The page, by Gradio: it asks nobody but this machine, and a worker process extracts."""

import contextlib
import html
import os
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils

from espnet_tse_gen.inference.files import ABSENT
from espnet_tse_gen.serve.examples import example_speakers, make_example
from espnet_tse_gen.serve.sessions import Sessions
from espnet_tse_gen.serve.worker import Job, Worker
from espnet_tse_gen.utils.arguments import seconds_range
from espnet_tse_gen.utils.errors import UserError, shown

KEPT = 3600
"""Seconds after which a file is removed also while its page is open."""
_INTRODUCTION = """# Target speaker extraction
Give a mixture, and a few seconds in which the target speaks alone: a recording, or a part of the mixture. Recordings stay on this
machine, and are removed when the page is closed. Model: {model}"""
# No fonts from elsewhere, and a button that can be read.
_THEME = gr.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"]).set(
    button_primary_background_fill="*primary_700", button_primary_background_fill_dark="*primary_700"
)

# Browsers' own players, which work from the keyboard.
_RECORDING: dict[str, Any] = {
    "type": "filepath",
    "editable": False,
    "buttons": ["download"],
    "waveform_options": gr.WaveformOptions(show_recording_waveform=False),
}


def build(worker: Worker, model: str) -> gr.Blocks:
    """Return the page, whose extractions ``worker`` does, one after the other."""
    sessions = Sessions()
    with gr.Blocks(title="tse-gen", analytics_enabled=False, delete_cache=(60, KEPT)) as page:
        gr.Markdown(_INTRODUCTION.format(model=model))
        with gr.Row():
            mixture = gr.Audio(label="Mixture", **_RECORDING)
            enroll = gr.Audio(label="Enrolment: the target alone", **_RECORDING)
        times = gr.Textbox(
            label="or where in the mixture the target speaks alone, from second to second", placeholder="12.5-18.0"
        )
        button = gr.Button("Extract", variant="primary")
        with gr.Row():
            for number, speaker in enumerate(example_speakers()):
                fill = gr.Button(f"Example {number + 1}: speaker {speaker} of LibriSpeech", size="sm")
                fill.click(_filled_with(number), None, [mixture, enroll, times], queue=False, api_visibility="private")
        verdict = gr.Markdown()
        with gr.Row():
            extraction = gr.Audio(label="Extraction", interactive=False, **_RECORDING)
            residual = gr.Audio(label="Residual", interactive=False, **_RECORDING)
        picture = gr.Image(label="Spectrograms", show_label=False, interactive=False, format="png", type="filepath")

        def extract(
            mixture: str | None,
            enroll: str | None,
            times: str,
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> tuple[Any, ...]:
            try:
                if mixture is None or not (enroll or times.strip()):
                    raise UserError("Give a mixture, and an enrolment or where it is in the mixture")
                part = seconds_range("Enrolment in the mixture", times) if times.strip() else None
                job = Job(Path(mixture), Path(enroll) if enroll else None, part)
                progress(0.0, desc="Extracting")
                found = worker.run(job, lambda share: progress(share, desc="Extracting"))
            except UserError as error:
                raise gr.Error(html.escape(str(error), quote=False), duration=30, print_exception=False) from None
            lines = [_verdict(found.confidence), *map(html.escape, found.warnings)]
            played = [(found.rate, samples) for samples in (found.extraction, found.residual)]
            return "\n\n".join(filter(None, lines)), *played, found.picture

        given, made = [mixture, enroll, times], [verdict, extraction, residual, picture]
        gr.on([button.click, times.submit], extract, given, made, show_progress_on=extraction)

        def note(path: str | None, request: gr.Request) -> None:
            if path is not None:
                sessions.add(str(request.session_hash), path)

        for file in (mixture, enroll, extraction, residual, picture):
            file.change(note, file, None, queue=False, show_progress="hidden", api_visibility="private")

        def forget(request: gr.Request) -> None:
            sessions.close(str(request.session_hash))

        page.unload(forget)
    return page


def _filled_with(number: int) -> Callable[[], tuple[Any, ...]]:
    return lambda: (*make_example(number), "")


def _verdict(confidence: float | None) -> str:
    if confidence is None:
        return ""
    if confidence < ABSENT:
        return f"⚠️ **The target is probably not in the mixture** (confidence {confidence:.2f})."
    return f"Confidence that the target is in the mixture: {confidence:.2f}"


async def _fetch_nothing(url: str, cache_dir: str) -> str:
    raise gr.Error(f"{html.escape(url, quote=False)}: is an address; upload a recording instead", print_exception=False)


def serve(
    host: str, port: int, model: str, threads: int, max_upload_mb: int, max_minutes: float, open_browser: bool
) -> None:
    """Serve the page until Ctrl-C or SIGTERM, and leave nothing behind.

    Raises:
        UserError: If the model cannot be opened, or the address cannot be used.
    """
    # Who talks to the page by a program could have Gradio fetch a recording.
    processing_utils.async_ssrf_protected_download = _fetch_nothing
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    worker = Worker(max_minutes, model=model, num_threads=threads)
    with contextlib.ExitStack() as stack:
        stack.callback(worker.stop)
        os.environ["GRADIO_TEMP_DIR"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="tse-gen-serve-"))
        # Gradio asks its own server whether it answers, which is nothing for a proxy.
        os.environ["no_proxy"] = f"{os.environ.get('no_proxy', os.environ.get('NO_PROXY', ''))},{host},localhost"
        page = build(worker, shown(model))
        try:
            _, address, _ = page.queue(default_concurrency_limit=1, api_open=False).launch(
                server_name=host,
                server_port=port,
                share=False,
                inbrowser=open_browser,
                prevent_thread_lock=True,
                quiet=True,
                show_error=True,
                max_file_size=f"{max_upload_mb}mb",
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                theme=_THEME,
            )
        except OSError:
            raise UserError(f"--host {host} --port {port}: cannot be listened at; choose another port") from None
        stack.callback(page.close, verbose=False)
        worker.start()
        print(f"{address}  (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
