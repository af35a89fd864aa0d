"""The command ``tse-gen``: extract a voice from a recording without a recipe, and what else people type.

    tse-gen extract meeting.wav --enroll alice.wav -o alice_only.wav
    tse-gen info exp/tse_x

Nothing heavy is imported before the command line has been read.
"""

import platform
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from espnet_tse_gen import __version__
from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.inference.loading import DEFAULT_MODEL, describe_model, list_models, shipped_models
from espnet_tse_gen.utils.arguments import (
    AT_LEAST_0,
    AT_LEAST_1,
    PATH,
    Group,
    command,
    debug_option,
    decoding_options,
    seconds_range,
)
from espnet_tse_gen.utils.errors import UserError, describe_features, run_main
from espnet_tse_gen.utils.options import presets

COMMANDS = {
    "score": "score",
    "report": "report",
    "results": "make_results",
    "resynth": "codec_resynth",
    "tokenize": "codec_tokenize",
    "codec": "codec_prepare",
    "pack": "pack",
    "check": "check_data",
    "compare": "compare_trainings",
    "serve": "serve",
}
"""Programs of ``espnet_tse_gen.bin`` that are commands of people, too."""


class _NameOrPath(click.Path):
    """A file or directory, or one of the names that ``names()`` gives, which the shell completes first."""

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        super().__init__()
        self.names = names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete names, and files where no name begins so."""
        found = [CompletionItem(name) for name in self.names() if name.startswith(incomplete)]
        return found or super().shell_complete(ctx, param, incomplete)


model_option = click.option(
    "--model",
    type=_NameOrPath(shipped_models),
    default=DEFAULT_MODEL,
    metavar="DIR|ZIP|NAME|ORG/NAME",
    help="exp directory, zip file made by pack, ORG/NAME or ORG/NAME@REVISION of the Hugging Face hub, or a shipped model: "
    "dual_path_16k, the older mc_spex_16k, or tse_gen_16k, which is generative",
)
file_option = click.option("--model_file", metavar="PTH", help="checkpoint in it; default: the best average")


@click.group(
    cls=Group,
    lazy={name: f"espnet_tse_gen.bin.{module}" for name, module in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="tse-gen", message="%(prog)s %(version)s")
@debug_option
def main() -> None:
    """Extract a target speaker's voice.

    Completion in the shell: eval "$(_TSE_GEN_COMPLETE=bash_source tse-gen)"; for zsh and fish likewise.
    """


def entry() -> None:
    """Run the command as installed: a user's mistake is one line and exit status 2."""
    run_main(lambda: main(prog_name="tse-gen"), "tse-gen")


@command
@click.argument("mixtures", metavar="MIXTURE...", nargs=-1, type=PATH)
@click.option("--mixture", "named", multiple=True, type=PATH, metavar="WAV", help="a MIXTURE, named")
@click.option(
    "--enroll",
    multiple=True,
    type=PATH,
    metavar="WAV",
    help="the target speaker alone, a few seconds; may be given several times",
)
@click.option(
    "--enroll-range",
    multiple=True,
    metavar="START-END",
    help="where the target speaks alone in the mixture, in seconds, as 12.5-18.0; beside --enroll or instead",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=PATH,
    metavar="WAV|DIR",
    help="file to write, .wav or .flac; of several mixtures a folder",
)
@click.option("--residual", type=PATH, metavar="WAV|DIR", help="what is left: the mixture without the voice")
@click.option("--channel", type=AT_LEAST_1, metavar="N", help="of the mixture  [default: the mean of all]")
@model_option
@file_option
@click.option(
    "--decode",
    type=_NameOrPath(presets),
    metavar="NAME|YAML",
    help="a preset (greedy_16, stochastic, ...; of discriminative models: segments) or a file of decoding options; default: the "
    "model's own",
)
@decoding_options(DecodingOptions, only=("steps", "seed"))
@click.option("--overwrite", is_flag=True, help="replace outputs that are there")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of lines")
@click.option("--quiet", is_flag=True, help="say nothing on stderr but errors")
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N")
@click.option("--dtype", default="float32", help="float32, float64 or bfloat16")
@click.option("--num_threads", type=AT_LEAST_0, default=0, help="CPU threads; 0 leaves it to torch")
def extract(mixtures: tuple[Path, ...], named: tuple[Path, ...], **options: Any) -> int:
    """Extract the enrolled speaker's voice.

    MIXTURE is a recording of several speakers. There may be several, folders of them, and Kaldi tables (wav.scp); the output is
    a folder then.
    """
    from espnet_tse_gen.inference.files import extract_files

    if options["quiet"]:
        warnings.simplefilter("ignore")
    ranges = [seconds_range("--enroll-range", text) for text in options.pop("enroll_range")]
    return extract_files(mixtures + named, enroll_range=ranges, **options)


@command
@click.argument("name", required=False, metavar="[MODEL]", type=_NameOrPath(shipped_models))
@model_option
@file_option
def info(name: str | None, model: str, **options: Any) -> None:
    """Say what a model is.

    MODEL is what --model takes.
    """
    if name and model != DEFAULT_MODEL:
        raise UserError(f"MODEL {name} and --model {model}: name one model")
    print(describe_model(name or model, **options), end="")


@command
def models() -> None:
    """List the models that ship, and models and codecs in the cache."""
    print(list_models(), end="")


@command
def doctor() -> None:
    """Say what can be used, and which command installs the rest."""
    print(f"espnet_tse_gen {__version__}, Python {platform.python_version()}")
    print(describe_features(), end="")


for own in (extract, info, models, doctor):
    main.add_command(own)

if __name__ == "__main__":
    entry()
