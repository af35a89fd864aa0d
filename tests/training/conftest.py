"""The data set, its statistics and one whole training, made once."""

from pathlib import Path

import pytest
from training_runs import Result, make_corpus, run, training


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, tables, codec, configuration and statistics."""
    root = make_corpus(tmp_path_factory.mktemp("corpus"))
    command = [word for word in training(root, root / "stats") if "shape" not in word]
    result = run([*command, "--collect_stats", "true"], root / "stats.log")
    assert result.status == 0, result.log
    return root


@pytest.fixture(scope="session")
def trained(corpus: Path) -> tuple[Path, Result]:
    """Three epochs in one go, without images."""
    output = corpus / "exp" / "straight"
    output.parent.mkdir()
    result = run(training(corpus, output, "--use_tensorboard", "true"), corpus / "straight.log")
    assert result.status == 0, result.log
    return output, result
