"""Say in one line what this machine lacks for the installation; run by make with the system's Python."""

import importlib.util
import os
import shutil
import sys
import sysconfig

packages = []
if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
    packages.append("python3-venv")
if shutil.which("gcc") is None or shutil.which("g++") is None:
    packages.append("build-essential")
if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    packages.append("python3-dev")

if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    version = sys.version.split()[0]
    sys.exit(
        f"make: error: {sys.executable} is Python {version}, expected 3.10 to 3.13; name one: make PYTHON=python3.11"
    )
if packages:
    sys.exit(f"make: error: missing on this machine; install: apt-get install {' '.join(packages)}")
