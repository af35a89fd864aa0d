"""What ``slurm_jobs.py`` asks of Slurm: the command line, the file of options, and the options of sbatch they make.

The file (``conf/slurm.yaml``) has lines ``option: value`` with the long options of sbatch, and, indented below ``gpu:``, those
that jobs with GPUs have instead. It is read here, not by a yaml library, so that a login node's own Python is enough, and a
time such as ``12:00:00`` stays what it is.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

CONFIG = "conf/slurm.yaml"
GPU_DEFAULTS = {"gres": "gpu:{gpu}", "cpus_per_gpu": "4"}
ALSO_HERE = ("partition", "account", "qos", "time", "mem")
"""Options of sbatch that the launcher takes by themselves; all others are given by --option."""
OWN = ("max_jobs_run", "cpus_per_gpu")
"""Of the file's options, those that are not sbatch's (or not handed on)."""
RESERVED = (
    "array", "chdir", "error", "export", "job_name", "nodes", "ntasks", "ntasks_per_node", "open_mode", "output", "parsable",
    "wait", "wrap",
)  # fmt: skip
LINE = re.compile(
    r"""(\s*)([A-Za-z][\w-]*):               # name
    (?:\s+(?:"([^"]*)"|'([^']*)'|([^\s#"'].*?)))?  # value
    (?:\s+\#.*)?                            # comment""",
    re.VERBOSE,
)


def read_config(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Read the file of options: those of all jobs, and those below ``gpu:``. Names have underscores.

    Raises:
        ValueError: If it cannot be read, a line is none of the above, or a name is one that the launcher sets itself.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    sections: dict[str, dict[str, str]] = {"": {}, "gpu": {}}
    section = ""
    for number, line in enumerate(lines, 1):
        line = line.rstrip()
        if not line or line.lstrip().startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if match is None or (match[1] and not section):
            raise ValueError(f"{path}, line {number}: expected 'option: value', found '{line.strip()}'")
        name = match[2].replace("-", "_")
        value = next((group for group in match.groups()[2:] if group is not None), "")
        if not match[1]:
            section = "gpu" if name == "gpu" else ""
            if section:
                if value:
                    raise ValueError(f"{path}, line {number}: 'gpu:' takes indented lines below it, not '{value}'")
                continue
        _check_name(name, f"{path}, line {number}")
        sections[section][name] = value
    return sections[""], sections["gpu"]


def _check_name(name: str, where: str) -> None:
    if name in RESERVED:
        raise ValueError(f"{where}: '{name}' is set by slurm_jobs.py itself; remove it")


def resolve(options: argparse.Namespace) -> dict[str, str]:
    """Return what was asked for, by name, the command line before the file and its ``gpu:`` before the rest of it.

    Raises:
        ValueError: If the file or an option cannot be used.
    """
    for name, least in (("gpu", 0), ("num_nodes", 1), ("num_threads", 0), ("max_jobs_run", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')}: expected at least {least}, got {value}")
    general, for_gpu = {}, {}
    if options.config or Path(CONFIG).exists():
        general, for_gpu = read_config(Path(options.config or CONFIG))
    chosen = {"cpus_per_task": "1", **general}
    if options.gpu:
        chosen.update({**GPU_DEFAULTS, **for_gpu})
    for name in (*ALSO_HERE, "max_jobs_run"):
        if getattr(options, name) is not None:
            chosen[name] = str(getattr(options, name))
    for entry in options.option:
        name, equals, value = entry.partition("=")
        name = name.lstrip("-").replace("-", "_")
        _check_name(name, f"--option {entry}")
        chosen[name] = value if equals else "true"
    for name in ("cpus_per_task", "max_jobs_run", "cpus_per_gpu"):
        if not re.fullmatch(r"\d*", chosen.get(name, "")):
            raise ValueError(f"{name}: expected a whole number, got '{chosen[name]}'")
    cpus = max(
        int(chosen["cpus_per_task"] or 1), options.num_threads, options.gpu * int(chosen.get("cpus_per_gpu") or 0)
    )
    chosen["cpus_per_task"] = str(max(cpus, 1))
    return {name: value.replace("{gpu}", str(options.gpu)) for name, value in chosen.items()}


def sbatch_options(chosen: dict[str, str], num_nodes: int) -> list[str]:
    """Return the command line of sbatch that stands for ``chosen``; an empty value leaves an option to the cluster."""
    words = []
    for name, value in chosen.items():
        if name not in OWN and value not in ("", "false", "null", "~"):
            words.append(f"--{name.replace('_', '-')}" + ("" if value == "true" else f"={value}"))
    if num_nodes > 1:
        # A job that Slurm starts again would find the rendezvous of its first start, and wait there for ever.
        words += [f"--nodes={num_nodes}", "--ntasks-per-node=1", "--no-requeue"]
    return words
