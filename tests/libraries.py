"""The libraries that tests compare with, where they are installed."""

import importlib
import importlib.util

import pytest


def library(name):
    """`torch`, `torchvision.models`, `timm` or `transformers`, or a skip that says what is missing."""
    pytest.importorskip("torch", reason="the PyTorch references need torch: pip install torch")
    if name != "torch" and importlib.util.find_spec("torchvision_cpu"):  # a shim for torch's CPU build
        importlib.import_module("torchvision_cpu")
    return pytest.importorskip(name, reason=f"this reference needs {name}: pip install --no-deps {name}")
