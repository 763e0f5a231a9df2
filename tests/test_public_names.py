"""What `import jaxdl` gives, and what it does not load."""

import subprocess
import sys

import jaxdl


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
