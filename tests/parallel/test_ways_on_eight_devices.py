"""Every way of using 8 virtual devices. In a file of its own, so that it runs beside the others."""


def test_ways(run_on_eight):
    run_on_eight("test_ways.py")
