"""Fresh variables: of a whole model, or of a new head on a body that is trained."""

import math
from functools import reduce
from operator import getitem
from typing import Any

import jax
from flax.errors import FlaxError

from jaxdl.errors import InputError
from jaxdl.models.compiled import compiled
from jaxdl.models.flax_layers import COLLECTIONS
from jaxdl.models.roles import KERNELS, leaf_name
from jaxdl.models.staged import HEAD, Staged, tied_paths
from jaxdl.models.variables import Variables, walk_shapes
from jaxdl.parallel.memory import bytes_of, free_memory, in_words


def batch_of(spec: Any) -> Any:
    """Shapes of a batch of one example. `spec` is a pytree of `jax.ShapeDtypeStruct`, or the shape of a float array."""
    if isinstance(spec, tuple | list) and all(isinstance(size, int) for size in spec):
        return jax.ShapeDtypeStruct((1, *spec), "float32")
    return jax.tree.map(lambda one: jax.ShapeDtypeStruct((1, *one.shape), one.dtype), spec)


def _fresh_variables(model: Staged, start: str | None, key: jax.Array, x: Any, tied: Any = None) -> Variables:
    """Variables of the stages from `start`; compiled for a model and the shapes `x` it is fed with, see `compiled`.

    `tied` are (shapes of) what these stages read of those before, by path.
    """
    leaves, tree = jax.tree.flatten((x, tied or {}))
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    draw = compiled(_draw_variables, model, start=start, shapes=shapes, tree=tree)
    if not isinstance(key, jax.core.Tracer):  # they are made, not only described
        check_memory(model, draw.eval_shape(key))
    return draw(key)


def check_memory(model: Staged, shapes: Variables) -> None:
    """Raises InputError if variables of these shapes take more memory than this host has left."""
    needed, free = bytes_of(shapes), free_memory()
    if free is not None and needed > free:
        largest, leaf = max(walk_shapes(shapes), key=lambda one: math.prod(one[1].shape))
        raise InputError(
            f"the parameters of this {type(model).__name__} take {in_words(needed)}, of which {largest} alone has the "
            f"shape {list(leaf.shape)}; {in_words(free)} of memory are free. Make it smaller, by its arguments "
            "(--model-arguments)"
        )


def _draw_variables(
    key: jax.Array, *, model: Staged, start: str | None, shapes: tuple[jax.ShapeDtypeStruct, ...], tree: Any
) -> Variables:
    x, tied = jax.tree.unflatten(tree, shapes)
    return model.lazy_init({"params": key}, x, start=start, tied=tied)


def init_variables(model: Staged, key: jax.Array, spec: Any) -> Variables:
    """Fresh variables of the whole model.

    Args:
      model: whose they are.
      key: to draw them from.
      spec: of an example, without the batch axis, as the model is fed with it: see `batch_of`.

    Raises:
      InputError: if the model cannot take such an input.
    """
    x = batch_of(spec)
    shapes = ", ".join(str(leaf.shape[1:]) for leaf in jax.tree.leaves(x))
    if any(min(leaf.shape) < 1 for leaf in jax.tree.leaves(x)) or getattr(x, "shape", None) == (1,):
        raise InputError(f"{type(model).__name__} cannot take inputs of shape {shapes}: nothing is in them")
    try:
        variables = _fresh_variables(model, None, key, x)
    except InputError:
        raise
    # an array for a dict, too
    except (ValueError, TypeError, ZeroDivisionError, AttributeError, LookupError, FlaxError) as error:
        raise InputError(f"{type(model).__name__} cannot take inputs of shape {shapes}: {error}") from error
    if extra := sorted(variables.keys() - set(COLLECTIONS)):
        raise InputError(
            f"{type(model).__name__} makes variables in the collections {', '.join(extra)}; expected those of "
            f"{' and '.join(COLLECTIONS)} alone, which are trained and stored. Keep what the model counts or stores "
            "in one of them, or compute it again in each call"
        )
    return {"params": variables.get("params", {}), "batch_stats": variables.get("batch_stats", {})}


def variable_shapes(model: Staged, spec: Any) -> Variables:
    """Shapes of what `init_variables` makes, without making it; arguments and errors as there."""
    return jax.eval_shape(lambda key: init_variables(model, key, spec), jax.random.key(0))


def stage_shapes(model: Staged, spec: Any) -> dict[str, Any]:
    """Shapes of what flows out of each stage before the head, for a batch of one example; those of its `outlets`."""
    names = model.outlets[:-1]

    def run(x: Any) -> Any:
        return model.init_with_output(jax.random.key(0), x, stop=HEAD, taps=names)[0][1]

    return jax.eval_shape(run, batch_of(spec))


def init_head(model: Staged, key: jax.Array, body: Variables, x: Any, start: str | None = None) -> Variables:
    """Fresh variables of the head alone, for a body that is trained.

    Its kernels are those of a fresh network times the model's `HEAD_SCALE`. Nearly zero, as in Goyal et al. 2017
    (arXiv:1706.02677, 5.1), a head that knows nothing does not pull the body away: fine-tuned for one epoch on 800
    images of CIFAR-10, a ResNet-20 gets 78 to 79 % right with 0.1, 71 to 74 % with 1, 76 to 78 % with PyTorch's head. A
    BERT is trained with so low a rate that a small head stays small, and all answers stay alike: see `Bert`.

    Args:
      model: whose head it is.
      key: to draw them from.
      body: (shapes of) the variables of the stages from `start` to the head.
      x: (shapes of) what flows into `start`, such as examples ``[batch, *input_shape]``.
      start: a stage; the first by default.
    """
    features = jax.eval_shape(lambda v, a: model.apply(v, a, start=start, stop=HEAD), body, x)
    wanted = tied_paths(model, (HEAD,))
    fresh = _fresh_variables(
        model, HEAD, key, features, {"/".join(p): reduce(getitem, p, body["params"]) for p in wanted}
    )

    def scaled(path: Any, leaf: jax.Array) -> jax.Array:
        return model.HEAD_SCALE * leaf if leaf_name(path) in KERNELS else leaf

    params = jax.tree_util.tree_map_with_path(scaled, fresh.get("params", {}))
    return {"params": params, "batch_stats": fresh.get("batch_stats", {})}
