"""Flax's own layers inside a user's model, made to do what our training needs of them."""

import contextlib
import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.errors import InputError
from jaxdl.models.variables import Path

COLLECTIONS = ("params", "batch_stats")
# what modules call the argument, or field, that tells training from use, and what it is in training
SWITCHES = {"train": True, "training": True, "is_training": True, "deterministic": False, "use_running_average": False}

DIFFERENT = (nn.Dropout, nn.BatchNorm, nn.MultiHeadDotProductAttention)  # in training


def switched(module: nn.Module, train: bool) -> tuple[nn.Module, dict[str, bool]]:
    """A module told whether it is trained, by a field of one of the names in `SWITCHES`; else arguments of its call."""
    values = {name: train == in_training for name, in_training in SWITCHES.items()}
    called = {
        name: value for name, value in values.items() if name in inspect.signature(type(module).__call__).parameters
    }
    have = {field.name for field in dataclasses.fields(module)}
    # Flax modules that have both take one of them
    fields = {name: None if name in called else value for name, value in values.items() if name in have}
    return module.clone(parent=None, **fields) if fields else module, called


def batch_statistics(
    x: jax.Array, mask: jax.Array | None, axis_name: str | None, *, features: int = 1, where: Any = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean, biased variance, and the number of values that each is made of, over the real examples of the whole batch.

    Args:
      x: ``[batch, …, *features]``.
      mask: bool[batch], False for examples that only pad the batch; None if all are real.
      axis_name: the mapped axis over which the batch is divided; None if it is whole.
      features: how many of the last axes have statistics of their own.
      where: bool, broadcastable to `x`: values that count; None for all of the real examples.

    Returns:
      Arrays ``[*features]``; the count is a scalar without `where`.
    """
    axes = tuple(range(x.ndim - features))
    add_up = partial(jax.lax.psum, axis_name=axis_name) if axis_name else lambda v: v
    weight = jnp.ones((x.shape[0],), jnp.float32) if mask is None else mask.astype(jnp.float32)
    if where is None:
        count = add_up(weight.sum() * math.prod(x.shape[1 : x.ndim - features]))
        weight = weight.reshape(-1, *(1,) * (x.ndim - 1))
    else:
        weight = weight.reshape(-1, *(1,) * (x.ndim - 1)) * jnp.broadcast_to(where, x.shape)
        count = add_up(weight.sum(axes))
    divisor = jnp.maximum(count, 1.0)
    mean = add_up((x * weight).sum(axes)) / divisor
    # the second pass costs a read and keeps float32 exact where the mean is large
    var = add_up((jnp.square(x - mean) * weight).sum(axes)) / divisor
    return mean, var, count


def check_several(rows: int, places: int, axis_name: str | None, path: Path) -> None:
    """Raises InputError where training would normalise single values: they all become 0, and nothing before it learns.

    Args:
      rows: of the batch, on this device.
      places: of each example, such as pixels.
      axis_name: the mapped axis over which the batch is divided; None if it is whole.
      path: of the normalisation.
    """
    if rows * places * (jax.lax.axis_size(axis_name) if axis_name else 1) == 1:
        raise InputError(
            f"the batch normalisation {'/'.join(path)} would be trained on one value at a time (1 example, 1 place), "
            "which it makes 0 whatever it is, so that nothing before it learns. Use a batch_size of at least 4 (each "
            "part of accumulate), larger images, or a model without batch normalisation"
        )


def is_own_call(context: nn.module.InterceptorContext, *kinds: type[nn.Module]) -> bool:
    """Whether what is called is Flax's own `__call__` of one of `kinds`.

    Not that of a subclass, or of one that Flax makes for `nn.remat` or `nn.scan`: they call it inside.
    """
    called = getattr(context.orig_method, "func", None)
    return any(isinstance(context.module, kind) and called is inspect.unwrap(kind.__call__) for kind in kinds)


def arguments_of(context: nn.module.InterceptorContext, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a call is given, by name and in the order of its signature, however it was written."""
    return dict(inspect.signature(context.orig_method).bind(*args, **kwargs).arguments)


def as_told(mode_of: Callable[[str], Any], locate: Callable[[Path], Path]) -> Callable[..., Any]:
    """For `flax.linen.intercept_methods`: runs Flax's layers that differ in training as the stage is run they are in.

    In a stage that is evaluated dropout is off, that of `nn.MultiHeadDotProductAttention` too, and batch normalisation
    takes its running statistics, whatever the module asks for. In training, the rate of `nn.Dropout` may be a value of
    the program; batch normalisation counts real examples alone, adds up over devices before it
    divides (Flax's own averages their means, which is wrong where they hold unequal numbers of examples), and keeps the
    running statistics of what is in `Mode.still`. All else is Flax's: momentum, biased running variance, dtype.

    Args:
      mode_of: the `Mode` of a stage by name.
      locate: from a module's path to its place in the variables, which begins with the stage.
    """

    def intercept(call: Any, args: tuple, kwargs: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if context.method_name != "__call__" or not isinstance(module, DIFFERENT) or module.is_initializing():
            return call(*args, **kwargs)
        if isinstance(module, nn.BatchNorm):
            if not is_own_call(context, nn.BatchNorm):
                return call(*args, **kwargs)
            given = arguments_of(context, args, kwargs)
            if nn.merge_param("use_running_average", module.use_running_average, given.get("use_running_average")):
                return call(*args, **kwargs)
            path = locate(module.path)
            return _normalise(module, given["x"], given.get("mask"), mode_of(path[0]), path)
        train = mode_of(locate(module.path)[0]).train
        if isinstance(module, nn.MultiHeadDotProductAttention):
            with contextlib.nullcontext() if train else _without_dropout(module):
                return call(*args, **kwargs)
        if not train:
            return next(iter(arguments_of(context, args, kwargs).values()))
        if isinstance(module.rate, jax.Array) and is_own_call(context, nn.Dropout):
            return _drop(module, **arguments_of(context, args, kwargs))
        return call(*args, **kwargs)

    return intercept


@contextlib.contextmanager
def _without_dropout(module: nn.MultiHeadDotProductAttention) -> Iterator[None]:
    """By its field: Flax refuses to be told ``deterministic`` twice, and a subclass may be called in its own way."""
    rate = module.dropout_rate
    object.__setattr__(module, "dropout_rate", 0.0)
    try:
        yield
    finally:
        object.__setattr__(module, "dropout_rate", rate)


def _drop(module: nn.Dropout, inputs: jax.Array, deterministic: bool | None = None, rng: Any = None) -> jax.Array:
    """Dropout whose rate is a value of the program: Flax asks in Python whether it is 0 or 1. It draws the same."""
    if nn.merge_param("deterministic", module.deterministic, deterministic):
        return inputs
    keep = 1.0 - module.rate
    rng = module.make_rng(module.rng_collection) if rng is None else rng
    same = {axis % inputs.ndim for axis in module.broadcast_dims}
    shape = [1 if axis in same else size for axis, size in enumerate(inputs.shape)]
    mask = jnp.broadcast_to(jax.random.bernoulli(rng, p=keep, shape=shape), inputs.shape)
    return jnp.where(mask, inputs / keep.astype(inputs.dtype), jnp.zeros_like(inputs))


def _normalise(module: nn.BatchNorm, x: jax.Array, where: Any, mode: Any, path: Path) -> jax.Array:
    """What `module` makes of `x` in this mode; keeps the running statistics."""
    mean, var = (module.get_variable("batch_stats", name) for name in ("mean", "var"))
    if mode.train and path not in mode.still:
        _check_rows(x, mode, path)
        axes = [axis % x.ndim for axis in np.atleast_1d(module.axis)]
        places = math.prod(size for axis, size in enumerate(x.shape) if axis and axis not in axes)
        check_several(len(x), places, mode.axis_name, path)
        last = tuple(range(-len(axes), 0))
        if where is not None:
            where = jnp.moveaxis(jnp.broadcast_to(where, x.shape), axes, last)
        values = jnp.moveaxis(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axes, last)
        old = mean, var
        mean, var, count = batch_statistics(values, mode.mask, mode.axis_name, features=len(axes), where=where)
        keep = jnp.where(count > 0, module.momentum, 1.0)  # nothing is learned of a batch without a single example
        for name, had, new in zip(("mean", "var"), old, (mean, var), strict=True):
            module.put_variable("batch_stats", name, (keep * had + (1 - keep) * new).astype(had.dtype))
    # the module itself, given these statistics as its running ones
    same = module.clone(parent=None, name=None, use_running_average=True)
    variables = {"params": module.variables.get("params", {}), "batch_stats": {"mean": mean, "var": var}}
    return same.apply(variables, x, method=nn.BatchNorm.__call__)


def _check_rows(x: jax.Array, mode: Any, path: Path) -> None:
    if mode.mask is not None and x.shape[:1] != mode.mask.shape:
        raise InputError(
            f"the batch normalisation {'/'.join(path)} gets an array {x.shape} for {len(mode.mask)} examples, so that "
            "it cannot tell which rows only pad the batch; expected the examples as first axis. Leave them there (with "
            "axis=… for the features), or take another normalisation"
        )
