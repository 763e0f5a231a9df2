"""Operations of a function as it is written down, before a compiler sees it: exact, and the same for every machine."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr

REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "argmax", "argmin", "cumsum", "sort")


@dataclasses.dataclass(frozen=True)
class Operations:
    """What a function does once.

    Attributes:
      flops: of its matrix products and convolutions; a multiplication and an addition are two. Positions of padding,
        and zeros between the values of a strided convolution's gradient, are not counted.
      moved: bytes that go in and out of these products, and into sums: what has to be read or written at least, if all
        else is done on the way.
      loops: of unknown length, counted once.
    """

    flops: float = 0.0
    moved: float = 0.0
    loops: int = 0

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(self.flops + other.flops, self.moved + other.moved, self.loops + other.loops)

    def times(self, count: float) -> "Operations":
        return Operations(count * self.flops, count * self.moved, self.loops)


def operations_of(function: Any, *shapes: Any) -> Operations:
    """Of a function of arguments of these shapes (arrays or `jax.ShapeDtypeStruct`), without what nothing needs."""
    program = jax.make_jaxpr(function)(*shapes).jaxpr
    return count(dce_jaxpr(program, [True] * len(program.outvars))[0])


def count(program: Any) -> Operations:
    """Of a program (a jaxpr), with what its equations run: the body of a scan as often as it is long."""
    total = Operations()
    for equation in program.eqns:
        name = equation.primitive.name
        within = [count(inner) for inner in jaxprs_in_params(equation.params)]
        if name == "scan":
            total += within[0].times(equation.params["length"])
        elif name == "while":
            total += dataclasses.replace(sum(within, Operations()), loops=1 + sum(one.loops for one in within))
        elif name == "cond":
            total += max(within, key=lambda one: one.flops)
        elif name == "dot_general":
            total += Operations(_product_flops(equation), _moved(equation))
        elif name == "conv_general_dilated":
            total += Operations(_convolution_flops(equation), _moved(equation))
        elif name in REDUCTIONS:
            total += Operations(0.0, _bytes(equation.invars))
        else:
            total += sum(within, Operations())
    return total


def _bytes(values: Any) -> float:
    shaped = [value.aval for value in values if hasattr(value.aval, "shape")]
    plain = [aval for aval in shaped if not jax.dtypes.issubdtype(aval.dtype, jax.dtypes.extended)]  # keys are small
    return float(sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in plain))


def _moved(equation: Any) -> float:
    return _bytes(equation.invars) + _bytes(equation.outvars)


def _product_flops(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _convolution_flops(equation: Any) -> float:
    """Each output sums over the kernel's input features and over those of its positions that meet a value."""
    held = equation.params
    numbers = held["dimension_numbers"]
    left, right, out = (value.aval.shape for value in (*equation.invars[:2], equation.outvars[0]))
    batch, features = (out[axis] for axis in numbers.out_spec[:2])
    met = 1.0
    for place, (into, kernel, from_) in enumerate(
        zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
    ):
        met *= _positions(
            (left[into], right[kernel], out[from_]),
            held["window_strides"][place],
            held["padding"][place][0],
            (held["lhs_dilation"][place], held["rhs_dilation"][place]),
        )
    return 2.0 * batch * features * right[numbers.rhs_spec[1]] * met


def _positions(sizes: tuple[int, int, int], stride: int, before: int, dilation: tuple[int, int]) -> int:
    """Pairs of an output and a kernel position, along one axis, that meet a value of the input."""
    size, kernel, out = sizes
    places = np.arange(out)[:, None] * stride + np.arange(kernel) * dilation[1] - before
    return int(((places >= 0) & (places <= (size - 1) * dilation[0]) & (places % dilation[0] == 0)).sum())
