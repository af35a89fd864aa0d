"""Print the codec configuration that ``auto`` stands for, and on stderr why."""

import shlex
import sys

import click

from espnet_tse_gen.utils.arguments import program
from espnet_tse_gen.utils.errors import UserError


@program
@click.option("--conf_dir", default="conf/codec", help="folder of codec configurations")
@click.option("--fs", type=int, required=True, help="sampling rate of the recordings, Hz")
@click.option("--expdir", help="folder of codec directories; one that is there stays chosen")
@click.option("--codec_args", default="", help="options that codec_prepare will get, as one word")
def main(conf_dir: str, fs: int, expdir: str | None, codec_args: str) -> None:
    """Print the codec configuration that a recipe's 'auto' stands for."""
    from espnet_tse_gen.codec.registry import choose_codec

    params: list[click.Parameter] = [
        click.Option(["--weights"]),
        click.Option(["--download"], type=bool, default=False),
    ]
    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    options = click.Command(None, params=params, context_settings=settings)
    try:
        words = shlex.split(codec_args)
    except ValueError as error:
        raise UserError(
            f"--codec_args {codec_args}: cannot be split into words ({error}); correct its quotes"
        ) from None
    given = options.make_context(None, words).params
    path, reason = choose_codec(conf_dir, fs, expdir, **given)
    print(f"codec_config auto: {path} ({reason})", file=sys.stderr)
    print(path)
