import sys
from pathlib import Path

# Helpers that the tests of all doors share lie one directory up.
sys.path.insert(0, str(Path(__file__).parents[1]))
