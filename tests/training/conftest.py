"""The data set, its statistics and one whole training, made once."""

from pathlib import Path

import pytest
from training_runs import make_corpus, succeed, training


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, tables, codec, configuration and statistics."""
    root = make_corpus(tmp_path_factory.mktemp("corpus"))
    command = [word for word in training(root, root / "stats") if "shape" not in word]
    succeed([*command, "--collect_stats", "true"], root / "stats.log")
    return root


@pytest.fixture(scope="session")
def trained(corpus: Path) -> tuple[Path, str]:
    """Three epochs in one go, without images: the exp directory, and the log."""
    output = corpus / "exp" / "straight"
    output.parent.mkdir()
    return output, succeed(training(corpus, output, "--use_tensorboard", "true"), corpus / "straight.log")
