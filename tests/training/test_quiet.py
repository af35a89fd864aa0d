"""Importing ESPnet's tasks asks the network for nothing, and takes no time for a package that nothing here uses."""

import subprocess
import sys

import pytest

PROBE = """
import sys
try:
    import nltk
except ImportError:
    sys.exit(0)
import typeguard
typechecked, asked = typeguard.typechecked, []
nltk.download = download = lambda *names, **_: asked.append(names)
import espnet_tse_gen.training
assert "g2p_en" in sys.modules, "nothing imported"
assert nltk.download is download
assert not asked, asked
import inflect
assert not [name for name in inflect.engine.plural.__code__.co_names if "check_argument" in name]
assert typeguard.typechecked is typechecked
"""


@pytest.mark.slow
def test_no_download_is_attempted() -> None:
    result = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "nltk_data" not in result.stdout + result.stderr
