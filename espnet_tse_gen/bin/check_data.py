"""``tse-gen check``: check data directories, and that no enrolment is the target utterance."""

import sys
from pathlib import Path

import click

from espnet_tse_gen.utils.arguments import PATH, program


@program
@click.option("--ref_num", type=int, default=2, help="number of speakers in a mixture")
@click.option("--fs", type=int, help="the sampling rate in Hz that all recordings must have")
@click.option(
    "--train_dir", type=PATH, help="training data, whose speakers should not be in any of the others: a warning"
)
@click.argument("data_dirs", metavar="DATA_DIR...", nargs=-1, required=True, type=PATH)
def main(ref_num: int, fs: int | None, train_dir: Path | None, data_dirs: tuple[Path, ...]) -> None:
    """Check data directories: keys, recordings, lengths, enrolments."""
    from espnet_tse_gen.data.datadir import check_directory, speakers_of

    heard = speakers_of(train_dir) if train_dir else set()
    for folder in data_dirs:
        mixtures, speakers, hours, rate = check_directory(folder, ref_num, fs)
        of = f"{len(speakers)} speakers, " if speakers else ""
        print(f"{folder}: no fault found ({mixtures} mixtures, {of}{hours:.2f} h at {rate} Hz)")
        if both := speakers & heard:
            print(
                f"{folder}: warning: {len(both)} of its {len(speakers)} speakers, such as '{min(both)}', are also in "
                f"the training data {train_dir}; figures on this set do not tell how a model does with new voices",
                file=sys.stderr,
            )
