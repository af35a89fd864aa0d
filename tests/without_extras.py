"""Run a module as a program, as if no extra of the package were installed: python without_extras.py MODULE ARGUMENT..."""

import runpy
import sys
from collections.abc import Sequence

from espnet_tse_gen.utils.errors import EXTRAS


class Absent:
    """Finds the packages of all extras missing."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        package = name.partition(".")[0]
        if package in EXTRAS:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())  # type: ignore[arg-type]
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__")
