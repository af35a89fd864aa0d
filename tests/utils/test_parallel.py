"""Jobs on several processes: results in order, and one line where a process is killed or a job fails."""

import os
from pathlib import Path

import pytest
from refused import refused

from espnet_tse_gen.utils.files import read_scp
from espnet_tse_gen.utils.parallel import map_jobs


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_results_come_in_order_and_errors_unchanged(num_jobs: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(map_jobs(abs, range(-600, 0), num_jobs, "counting")) == list(range(600, 0, -1))
    assert "counting: 600/600" in capsys.readouterr().err
    paths = [Path("nowhere")] * 40
    refused("nowhere: no such file", list, map_jobs(read_scp, paths, num_jobs))
    refused("--nj is 0", list, map_jobs(abs, [1], 0))


def test_a_killed_process_is_told() -> None:
    refused(r"counting: a worker process was killed .*smaller --nj", list, map_jobs(os._exit, [1] * 40, 2, "counting"))
