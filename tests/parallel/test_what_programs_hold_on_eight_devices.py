"""Programs for 8 virtual devices. In a file of its own, so that it runs beside the others."""

import pytest


@pytest.mark.slow
def test_what_programs_hold(run_on_eight):
    run_on_eight("test_what_programs_hold.py")
