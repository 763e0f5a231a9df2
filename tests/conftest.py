"""What all tests share."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before jax is imported; a platform chosen by the caller stays


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data and published weights that the environment names."""
    if not os.environ.get("JAXDL_REAL_DATA"):
        pytest.skip("set JAXDL_REAL_DATA to the folder of real data to run this")
    folder = Path(os.environ["JAXDL_REAL_DATA"])
    assert folder.is_dir(), f"JAXDL_REAL_DATA names '{folder}', which is no folder"
    return folder
