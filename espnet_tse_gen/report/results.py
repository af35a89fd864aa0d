"""Writing RESULTS.md from a score table."""

from collections.abc import Sequence
from pathlib import Path

from espnet_tse_gen.data.enrolment.protocol import read_protocol
from espnet_tse_gen.report.environment import describe_environment
from espnet_tse_gen.report.published import published_tables
from espnet_tse_gen.scoring.metrics import BY_NAME, MAIN_COLUMNS
from espnet_tse_gen.scoring.results import Bootstrap, ordered, render_results
from espnet_tse_gen.scoring.table import add_derived, read_scores
from espnet_tse_gen.utils.arguments import pairs
from espnet_tse_gen.utils.errors import UserError, unknown_name
from espnet_tse_gen.utils.files import atomic_write


def write_results(
    exp_dir: Path,
    scores: Path | None,
    output: Path | None,
    systems: Sequence[str],
    sets: Sequence[str],
    measures: Sequence[str],
    published: Path | None,
    check: Sequence[str],
    data_dirs: Sequence[str],
    command: str | None,
    resamples: int,
    seed: int,
) -> Path:
    """Write the file that a command line names; return its path.

    Raises:
        UserError: For options or files that cannot be used.
    """
    checks = pairs("--check", check, "SET=ENTRY, such as test=libri2mix_test_16k_min_clean")
    directories = pairs("--data_dirs", data_dirs, "SET=DIR, such as test=dump/raw/test")
    if checks and published is None:
        raise UserError("--check: needs --published, the yaml of published figures")
    for name in measures:
        if name not in BY_NAME:
            raise unknown_name("measure in --measures", name, BY_NAME)
    table = scores or exp_dir / "scores.csv"
    rows = read_scores(table)
    if not rows:
        raise UserError(f"{table}: has no rows; run scoring first")
    add_derived(rows)
    known = ordered("set", rows, sets)
    bootstrap = Bootstrap(resamples, seed)
    text = render_results(
        exp_dir.resolve().name,
        rows,
        sets=list(dict.fromkeys(sets)) or known,
        systems=ordered("system", rows, systems),
        environment=describe_environment(command),
        bootstrap=bootstrap,
        checks=published_tables(rows, checks, published, bootstrap) if published is not None and checks else [],
        measures=measures or MAIN_COLUMNS,
        protocols={name: found.describe() for name, path in directories.items() if (found := read_protocol(path))},
    )
    output = output or exp_dir / "RESULTS.md"
    with atomic_write(output) as stream:
        stream.write(text)
    return output
