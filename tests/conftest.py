"""What all tests share: one thread per process, fixed seeds, and markers that skip where something is not there."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

# Before torch is imported: several test processes share the machine, and results must not depend on the number of cores.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

# No test asks a hub in the web; some have one of their own.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

pytest_plugins = ["scored_world", "tiny_model"]
IMPORT_TASKS = ("tests/training/", "tests/conf/")
# The first example also imports and allocates, and how long that takes on a busy machine says nothing.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = Path(os.environ.get("TSE_GEN_REAL_DATA", ROOT.parent / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the recipe first, which is the longest, and then what imports ESPnet's tasks; another process does the rest."""
    items.sort(key=lambda item: ("recipe" not in item.path.parts, not item.nodeid.startswith(IMPORT_TASKS)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal out whole files, but those that import ESPnet's tasks to one process: that takes six seconds in each."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "training" if nodeid.startswith(IMPORT_TASKS) else super()._split_scope(nodeid)

    return Scheduling(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, with the reason."""
    if item.get_closest_marker("realdata") and not REAL_DATA.is_dir():
        pytest.skip(f"needs the real recordings in {REAL_DATA} (or where TSE_GEN_REAL_DATA says)")
    if item.get_closest_marker("slurm") and shutil.which("sbatch") is None:
        pytest.skip("needs a Slurm cluster (no sbatch)")
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Give every test the same random numbers, whichever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings; use with the marker ``realdata``."""
    return REAL_DATA
