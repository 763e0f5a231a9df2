"""Batches divided over 8 virtual devices. In a file of its own, so that it runs beside the other one."""


def test_data_parallel(run_on_eight):
    run_on_eight("test_data_parallel.py")
