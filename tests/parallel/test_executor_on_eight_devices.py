"""Several axes over 8 virtual devices. In a file of its own, so that it runs beside the others."""

import pytest


@pytest.mark.slow
def test_executor(run_on_eight):
    run_on_eight("test_axes.py")
