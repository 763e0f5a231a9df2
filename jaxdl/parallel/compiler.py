"""Options of the compiler."""

from functools import cache

import jax

# YNNPACK, a library that XLA hands its work on the CPU to, is slower than XLA's own convolutions (by up to a half
# forward, several times in the gradient of a kernel), and many times faster at sums over examples and positions, such
# as batch normalisation's. So it gets the latter alone.
ON_CPU = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


@cache
def compiler_options(platform: str | None = None) -> dict[str, str]:
    """For ``jax.jit(…, compiler_options=…)``: on the CPU those that are measured to be faster, elsewhere none.

    The option is an experimental one: a release of JAX that does not know it gets none.

    Args:
      platform: that is compiled for, by default the one at hand.
    """
    if (platform or jax.default_backend()) != "cpu":
        return {}
    try:
        jax.jit(lambda x: x + 1, compiler_options=ON_CPU)(0.0)
    except jax.errors.JaxRuntimeError:
        return {}
    return ON_CPU
