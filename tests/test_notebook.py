"""The notebook runs from top to bottom, and installs what each of Colab's runtimes needs."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient

HOME = Path(__file__).parents[1]
NOTEBOOK = HOME / "colab" / "quickstart.ipynb"


@pytest.fixture
def cells():
    return [cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells]


@pytest.mark.slow
def test_quickstart_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # or the kernel would not show its pictures
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"
    done = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in done.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    printed = "".join(output.get("text", "") for output in outputs)
    assert "frozen features" in printed
    assert "conv2" in printed
    assert re.search(r"runtime +a machine with a", printed)


@pytest.fixture
def colab(monkeypatch):
    """A machine of Colab that has no jaxdl; what is run on it, with a driver if it has a GPU."""
    run, find = [], importlib.util.find_spec

    def start(driver=None, *, tpu=False):
        monkeypatch.setenv("COLAB_TPU_1VM", "1" if tpu else "")
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jaxdl" else find(name))
        monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if driver is not None else None)
        monkeypatch.setattr(
            subprocess, "run", lambda words, **_: run.append(words) or SimpleNamespace(stdout=driver or "")
        )
        return run

    return start


@pytest.mark.parametrize(
    ("driver", "tpu", "extra"),
    [
        (None, False, ""),
        (None, True, "[tpu]"),
        ("550.54.15\n", False, "[cuda12]"),
        ("580.95.05\n", False, "[cuda13]"),
        ("NVIDIA-SMI has failed\n", False, ""),
    ],
)
def test_each_runtime_gets_its_extra(cells, colab, driver, tpu, extra):
    run = colab(driver, tpu=tpu)
    exec(cells[1].replace("YOUR_ACCOUNT", "somebody"), {})
    wanted = [sys.executable, "-m", "pip", "install", "-q", f"jaxdl{extra} @ git+https://github.com/somebody/jaxdl"]
    assert run[-1] == wanted
    assert not extra or f"\n{extra[1:-1]} =\n" in (HOME / "setup.cfg").read_text()


def test_what_has_to_be_done_first_is_said(cells, colab, monkeypatch):
    colab()
    with pytest.raises(RuntimeError, match="REPOSITORY"):
        exec(cells[1], {})
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(__version__="1.0"))
    with pytest.raises(RuntimeError, match=r"another pandas is loaded.*Restart session"):
        exec(cells[1].replace("YOUR_ACCOUNT", "somebody"), {})


def test_badges_open_the_notebook(cells):
    badge = r"https://colab\.research\.google\.com/github/(\S+?)/blob/main/(\S+?)\)"
    (repository,) = re.findall(r'REPOSITORY = "https://github\.com/(\S+)"', cells[1])
    for text in (cells[0], (HOME / "README.md").read_text()):
        assert re.findall(badge, text) == [(repository, str(NOTEBOOK.relative_to(HOME)))]
