"""The command ``tse-gen``: extract a voice from a recording without a recipe, and what else people type.

    tse-gen extract meeting.wav --enroll alice.wav -o alice_only.wav
    tse-gen info --model exp/tse_x

Nothing heavy is imported before the command line has been read.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from espnet_tse_gen import __version__
from espnet_tse_gen.decoding.options import DecodingOptions
from espnet_tse_gen.inference.loading import DEFAULT_MODEL, describe_model, shipped_models
from espnet_tse_gen.utils.arguments import AT_LEAST_0, PATH, Group, command, decoding_options
from espnet_tse_gen.utils.errors import UserError, run_main
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
    metavar="DIR|ZIP|NAME",
    help="exp directory, zip file made by pack, or a shipped model: dual_path_16k and the older mc_spex_16k are for people, "
    "mini_librimix is generative and knows synthetic voices only",
)
file_option = click.option("--model_file", metavar="PTH", help="checkpoint in it; default: the best average")


@click.group(
    cls=Group,
    lazy={name: f"espnet_tse_gen.bin.{module}" for name, module in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="tse-gen", message="%(prog)s %(version)s")
def main() -> None:
    """Extract a target speaker's voice.

    Completion in the shell: eval "$(_TSE_GEN_COMPLETE=bash_source tse-gen)"; for zsh and fish likewise.
    """


def entry() -> None:
    """Run the command as installed: a user's mistake is one line and exit status 2."""
    run_main(lambda: main(prog_name="tse-gen"))


@command
@click.argument("mixtures", metavar="MIXTURE", nargs=-1, type=PATH)
@click.option("--mixture", "named", multiple=True, type=PATH, metavar="WAV", help="the MIXTURE, named")
@click.option(
    "--enroll",
    required=True,
    multiple=True,
    type=PATH,
    metavar="WAV",
    help="the target speaker alone, a few seconds (mono); may be given several times",
)
@click.option("-o", "--output", required=True, type=PATH, metavar="WAV", help="file to write, .wav or .flac")
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
@click.option("--overwrite", is_flag=True, help="replace the output if it is there")
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N")
@click.option("--dtype", default="float32", help="float32, float64 or bfloat16")
@click.option("--num_threads", type=AT_LEAST_0, default=0, help="CPU threads; 0 leaves it to torch")
def extract(mixtures: tuple[Path, ...], named: tuple[Path, ...], **options: Any) -> None:
    """Extract the enrolled speaker's voice.

    MIXTURE is a recording of several speakers (mono).
    """
    if len(mixtures + named) != 1:
        raise UserError(
            f"MIXTURE: expected one recording, got {len(mixtures + named)}; each enrolment has an --enroll of its own, and "
            "each mixture a command of its own"
        )
    from espnet_tse_gen.inference.files import extract_file

    extract_file((mixtures + named)[0], **options)


@command
@model_option
@file_option
def info(**options: Any) -> None:
    """Say what a model is."""
    print(describe_model(**options), end="")


main.add_command(extract, "extract")
main.add_command(info, "info")

if __name__ == "__main__":
    entry()
