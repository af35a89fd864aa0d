"""Writing RESULTS.md from a score table."""

from collections.abc import Sequence
from pathlib import Path

from espnet_tse_gen.data.enrolment.protocol import read_protocol
from espnet_tse_gen.report.environment import describe_environment
from espnet_tse_gen.report.published import published_tables
from espnet_tse_gen.scoring.metrics import BY_NAME, MAIN_COLUMNS, legend
from espnet_tse_gen.scoring.results import Bootstrap, convention, ordered, render_markdown, set_tables
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
    """Write the file that a command line names; return its path."""
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
    known, bootstrap = ordered("set", rows, sets), Bootstrap(resamples, seed)
    systems = ordered("system", rows, systems)
    protocols = {name: found.describe() for name, path in directories.items() if (found := read_protocol(path))}
    head = "\n".join(f"- {name}: {text}" for name, text in describe_environment(command).items())
    parts = [f"# Results: {exp_dir.resolve().name}\n", f"{head}\n"]
    mentioned: dict[str, None] = {}
    for name in dict.fromkeys(sets) or known:
        part = [row for row in rows if row.set == name]
        tables, columns = set_tables(part, systems, bootstrap, measures or MAIN_COLUMNS)
        parts.append(f"## Set {name}: {len({row.key for row in part})} mixtures\n")
        parts.append(f"{convention(part)} {protocols.get(name, '')}".rstrip() + "\n")
        parts += map(render_markdown, tables)
        mentioned |= dict.fromkeys(columns)
    if published is not None and checks:
        compared = published_tables(rows, checks, published, bootstrap)
        parts += ["## Against published figures\n", *map(render_markdown, compared)] if compared else []
    parts.append("## How to read the tables\n")
    parts.append(
        f"Each figure is the mean over items (one item: one target in one mixture) with its 95 % bootstrap interval, "
        f"drawn over mixtures ({resamples} resamples, seed {seed}). Outputs are never permuted "
        "between speakers. A measure has no value where it is not defined (a silent output, a silent reference, an "
        "output of another length, no speech that PESQ finds); `n=` says over how many items a mean goes where it is "
        "not all. Word error rates are errors over words of all items together. Where there is no aligned SI-SDR, no delay "
        "had to be undone.\n"
    )
    parts.append("\n".join(f"- {line}" for line in legend(list(mentioned))) + "\n")
    output = output or exp_dir / "RESULTS.md"
    with atomic_write(output) as stream:
        stream.write("\n".join(parts))
    return output
