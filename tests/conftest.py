"""What all tests share."""

import os
from pathlib import Path

import pytest

# Before jax is imported; what the caller chose stays.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The time of these tests is compilation: without most optimisations, and shared between the tests and their processes,
# it is a quarter. What they claim does not depend on it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data and published weights that the environment names."""
    if not os.environ.get("JAXDL_REAL_DATA"):
        pytest.skip("set JAXDL_REAL_DATA to the folder of real data to run this")
    folder = Path(os.environ["JAXDL_REAL_DATA"])
    assert folder.is_dir(), f"JAXDL_REAL_DATA names '{folder}', which is no folder"
    return folder
