"""Layouts of 8 virtual devices in whole calls. In a file of its own, so that it runs beside the others."""


def test_layouts(run_on_eight):
    run_on_eight("test_layouts.py")
