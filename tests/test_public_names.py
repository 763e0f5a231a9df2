"""What `import jaxdl` gives, and what it does not load."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import jaxdl

PROJECT = Path(__file__).parents[1]


def test_every_public_name_is_there():
    for name in jaxdl.__all__:
        assert getattr(jaxdl, name) is not None
    assert set(dir(jaxdl)) == set(jaxdl.__all__)


def test_importing_loads_nothing_heavy():
    """Not even all public names together need scikit-learn, SciPy, matplotlib, Orbax, or any data library."""
    code = (
        "import sys, jaxdl; early = set(sys.modules);"
        "[getattr(jaxdl, n) for n in jaxdl.__all__]; late = set(sys.modules);"
        "heavy = {'sklearn', 'scipy', 'matplotlib', 'orbax.checkpoint', 'grain', 'torch'};"
        "heavy |= {'tensorflow', 'tensorflow_datasets'};"
        "print(sorted(early & ({'jax', 'flax'} | heavy)), sorted(late & (heavy - {'orbax.checkpoint'})))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[] []"


def test_every_name_that_is_imported_from_jaxdl_exists():
    """Also by functions that run seldom: slow tests, experiments. The linter looks into no other module."""
    missing = []
    for file in (file for folder in ("jaxdl", "tests", "experiments") for file in (PROJECT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxdl":
                module = importlib.import_module(node.module)
                missing += [(file.name, node.module, one.name) for one in node.names if not hasattr(module, one.name)]
    assert [one for one in missing if importlib.util.find_spec(".".join(one[1:])) is None] == []
