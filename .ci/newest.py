"""Run the quick checks with the newest of everything and say which package breaks them; run by `make test-newest`.

Installs what setup.py names, without its upper bounds, into an environment of its own. Where a check fails, what differs from
the versions that are tested together is put back, one package after the other, until what failed passes.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINTERS = (("ruff", "ruff", "check", "."), ("ruff", "ruff", "format", "--check", "."), ("mypy", "mypy"))
TESTS = ("pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "not slow")
UPPER_BOUND = re.compile(r"(?:<=?|==|~=)\s*[^,;\s]+,?|,(?=\s*$)")


def newest_requirement(line: str) -> str:
    """Return a requirement of the package's metadata without its upper bounds and its marker."""
    return UPPER_BOUND.sub("", line.partition(";")[0]).strip().rstrip(",")


def normal(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


class Environment:
    """The environment with the newest versions."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        if not (self.bin / "python").exists():
            venv.create(folder, with_pip=True)

    def run(self, *command: str, show: bool = True) -> bool:
        """Run a program of the environment and return whether it succeeded."""
        print(f"$ {' '.join(command).splitlines()[0][:160]}", flush=True)
        output = None if show else subprocess.DEVNULL
        return not subprocess.run(
            [self.bin / command[0], *command[1:]], cwd=ROOT, stdout=output, check=False
        ).returncode

    def pip(self, *arguments: str) -> bool:
        """Run pip."""
        return self.run("python", "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)

    def ask(self, *command: str) -> str:
        """Return what a program of the environment prints."""
        return subprocess.run(
            [self.bin / command[0], *command[1:]], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    def versions(self) -> dict[str, str]:
        """Return what is installed."""
        listed = json.loads(self.ask("python", "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"))
        return {normal(package["name"]): package["version"] for package in listed}

    def requirements(self) -> list[str]:
        """Return what the package requires, with all extras, without upper bounds."""
        code = "import importlib.metadata as m, json; print(json.dumps(m.requires('espnet_tse_gen')))"
        return sorted({newest_requirement(line) for line in json.loads(self.ask("python", "-c", code))})

    def install(self, pip_version: str) -> None:
        """Install the newest of everything."""
        self.pip("install", "--upgrade", "pip")
        if not self.pip("install", "--dry-run", "--no-deps", "--ignore-installed", "ci_sdr"):
            print(f"pip: the newest refuses ci_sdr; going on with {pip_version}", flush=True)
            self.pip("install", f"pip=={pip_version}")
        self.pip("install", "--no-deps", "-e", ".")
        if not self.pip("install", "--upgrade", "--upgrade-strategy", "eager", *self.requirements()):
            sys.exit("newest: error: the newest versions cannot be installed together; see above")
        self.pip("install", "--no-deps", "-r", "constraints/dac.txt")

    def imports(self, name: str) -> bool:
        """Return whether the modules of a package can be imported."""
        code = (
            "import importlib, importlib.metadata as m, re, sys; normal = lambda n: re.sub(r'[-_.]+', '-', n).lower()\n"
            "for module, owners in m.packages_distributions().items():\n"
            "    if sys.argv[1] in map(normal, owners) and module.isidentifier(): importlib.import_module(module)"
        )
        return self.run("python", "-W", "ignore", "-c", code, name, show=False)

    def culprits(self, tested: dict[str, str], newest: dict[str, str]) -> list[str]:
        """Put tested versions back until the tests that failed pass, and return whose version decided."""
        named = {normal(re.split(r"[^\w.-]", line)[0]) for line in self.requirements()}
        changed = [name for name in tested if newest.get(name, tested[name]) != tested[name]]
        found = []
        for name in sorted(changed, key=lambda name: (name not in named, name)):
            before = self.failures()
            self.pip("install", "--no-deps", f"{name}=={tested[name]}")
            self.run(*TESTS, "--last-failed", "--last-failed-no-failures", "none", "--tb", "no", show=False)
            after = self.failures()
            if len(after) < len(before):
                found.append(name)
            else:
                self.pip("install", "--no-deps", f"{name}=={newest[name]}")
            if not after:
                break
        return found

    def failures(self) -> set[str]:
        """Return the tests that failed last."""
        file = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"
        return set(json.loads(file.read_text())) if file.exists() else set()


def main() -> None:
    """Install, check, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-newest", help="the environment")
    parser.add_argument("--pip", required=True, metavar="VERSION", help="pip where the newest cannot be used")
    args = parser.parse_args()
    constraints = ROOT / "constraints" / f"py{sys.version_info[0]}{sys.version_info[1]}.txt"
    tested = dict(line.split("==") for line in constraints.read_text().splitlines() if "==" in line)
    environment = Environment(args.venv)
    environment.install(args.pip)
    newest = environment.versions()
    broken = [package for package, *command in LINTERS if not environment.run(*command)]
    for name in [name for name in tested if newest.get(name, tested[name]) != tested[name]]:
        if not environment.imports(name):
            broken.append(name)
            environment.pip("install", "--no-deps", f"{name}=={tested[name]}")
    if not environment.run(*TESTS, "--cache-clear", "--tb", "short"):
        found = environment.culprits(tested, environment.versions())
        broken += found or ["(the tests: no single package decides)"]
    for name, version in sorted(newest.items()):
        if tested.get(name, version) != version:
            print(f"{name:28} tested {tested[name]:16} newest {version:16}{' BREAKS' if name in broken else ''}")
    print("newest: everything passes" if not broken else f"newest: breaks: {', '.join(dict.fromkeys(broken))}")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
