"""Options of the compiler."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.parallel import compiler


def test_the_options_change_the_program_and_not_its_answer():
    options = compiler.compiler_options()
    assert options == compiler.ON_CPU  # the tests run on the CPU
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 16)).astype(np.float32))
    plain, told = (jax.jit(lambda x: jnp.tanh(x) @ x[0, 0].T, compiler_options=o) for o in ({}, options))
    np.testing.assert_allclose(plain(x), told(x), rtol=1e-5, atol=1e-5)


def test_an_option_that_this_release_does_not_know_is_not_given(monkeypatch):
    monkeypatch.setattr(compiler, "ON_CPU", {"xla_cpu_there_is_no_such_option": "1"})
    compiler.compiler_options.cache_clear()
    try:
        assert compiler.compiler_options() == {}
    finally:
        compiler.compiler_options.cache_clear()
