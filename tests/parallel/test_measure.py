import time

import jax.numpy as jnp
import pytest

from jaxdl.parallel.measure import matmul_flops, memory_bandwidth, seconds_of


@pytest.mark.parametrize("wait", [0.03, 0.002])
def test_a_call_takes_as_long_as_it_waits(wait):
    """Calls that are short are timed several at a time."""
    calls = []

    def call():
        calls.append(0)
        time.sleep(wait)
        return jnp.zeros(())

    assert wait <= seconds_of(call, 0.2) < 2 * wait + 0.002
    assert len(calls) * wait < 0.5


def test_one_round_is_timed_where_the_budget_is_spent():
    calls = []
    assert seconds_of(lambda: calls.append(0) or time.sleep(0.01), 0.0) >= 0.01
    assert len(calls) == 2  # the first compiles


def test_rates_are_of_this_world():
    """A core does 1e8 to 1e13 operations a second, and a host's memory moves 1e8 to 1e13 bytes."""
    assert 1e8 < matmul_flops("float32", 0.05, largest=256) < 1e13
    assert 1e8 < memory_bandwidth(2**22, 0.02) < 1e13
