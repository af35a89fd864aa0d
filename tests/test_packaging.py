"""What is installed from a wheel, and from the source distribution, is whole."""

import shutil
import sys
import tarfile
from pathlib import Path

import pytest
from programs import output_of, start

TREES = ("espnet_tse_gen", "conf", "docs", "constraints")
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "Makefile")


@pytest.fixture
def tree(repository: Path, tmp_path: Path) -> Path:
    """A copy of the sources, in which building leaves its traces."""
    for name in TREES:
        shutil.copytree(repository / name, tmp_path / "src" / name, symlinks=True)
    for name in FILES:
        shutil.copy(repository / name, tmp_path / "src")
    return tmp_path / "src"


def run(where: Path, *command: str | Path, **environment: str) -> str:
    return output_of(start(sys.executable, *command, folder=where, **environment))


@pytest.mark.slow
@pytest.mark.parametrize("through_sdist", [False, True])
def test_an_installed_wheel_finds_presets_and_models(tree: Path, tmp_path: Path, through_sdist: bool) -> None:
    if through_sdist:
        run(tree, "setup.py", "-q", "sdist", "--dist-dir", tmp_path)
        with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
            # Python 3.11.2, which Debian 12 has, knows no filters.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(tmp_path / "sdist")
        tree = next((tmp_path / "sdist").iterdir())
    target, options = tmp_path / "installed", ("--no-deps", "--no-build-isolation", "--quiet")
    run(tree, "-m", "pip", "wheel", *options, "--wheel-dir", tmp_path, ".")
    run(tmp_path, "-m", "pip", "install", *options, "--target", target, next(tmp_path.glob("*.whl")))
    code = (
        "import espnet_tse_gen as p; from espnet_tse_gen.utils.options import CONF, presets;"
        "from espnet_tse_gen.inference.loading import shipped_models;"
        "from espnet_tse_gen.decoding.options import DecodingOptions;"
        "print(p.__file__, *presets(), *shipped_models(), DecodingOptions.preset('joint_16').steps);"
        "from espnet_tse_gen.data.corpus import SPEECH, list_utterances, read_speaker_sexes;"
        "subsets = 'train-clean-5', 'dev-clean', 'test-other';"
        "print(len(read_speaker_sexes(SPEECH)), *(len(list_utterances(SPEECH, one)) for one in subsets));"
        "print(*CONF.glob('codec/mel_16k.yaml'))"
    )
    told = run(tmp_path, "-c", code, PYTHONPATH=str(target)).split()
    assert told[0].startswith(str(target)) and {"greedy_16", "segments", "dual_path_16k", "16"} < set(told)
    assert told[-5] == "20" and told[-4:-1] == ["72", "24", "24"], "recordings"
    assert told[-1] == str(target / "espnet_tse_gen/conf/codec/mel_16k.yaml")
