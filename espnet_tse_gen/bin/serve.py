"""``tse-gen serve``: a local page that extracts a voice."""

from typing import Any

import click

from espnet_tse_gen.inference.loading import DEFAULT_MODEL
from espnet_tse_gen.utils.arguments import AT_LEAST_0, AT_LEAST_1, program


@program
@click.option("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0: of all who reach this machine")
@click.option("--port", type=click.IntRange(1, 65535), default=7860)
@click.option("--model", default=DEFAULT_MODEL, metavar="DIR|ZIP|NAME|ORG/NAME", help="as of extract")
@click.option("--threads", type=AT_LEAST_0, default=0, help="CPU threads; 0 leaves it to torch")
@click.option("--max-upload-mb", type=AT_LEAST_1, default=200, help="megabytes that a recording may have")
@click.option(
    "--max-minutes", type=click.FloatRange(min=0, min_open=True), default=30, help="that a recording may last"
)
@click.option("--open", "open_browser", is_flag=True, help="open the page in the browser")
def main(**options: Any) -> None:
    """Serve a local page that extracts a voice."""
    from espnet_tse_gen.serve.page import serve

    serve(**options)
