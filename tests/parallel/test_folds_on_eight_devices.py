"""Folds laid over 8 virtual devices. In a file of its own, so that it runs beside the other one."""

import pytest


@pytest.mark.slow
def test_folds_on_devices(run_on_eight):
    run_on_eight("test_folds_on_devices.py")
