"""Whether a module can be taken apart before its head: found out by running it on a few random numbers."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.errors import InputError, nearest
from jaxdl.models.flax_layers import COLLECTIONS, as_told, switched
from jaxdl.models.initialise import batch_of
from jaxdl.models.staged import Mode
from jaxdl.models.variables import Path, Variables, walk_shapes

EXAMPLES = 3
LARGE = 1e3  # of what stands in for outputs: a clipping that leaves small ones alone is found


def check_wrapped(model: Any, spec: Any) -> None:
    """See `wrapped.Wrapped.check`; `model` is one."""
    name = type(model.own_module()).__name__
    x = jax.tree.map(_random, batch_of(spec))
    try:
        seen, own = _run(model, x, {}, train=False)
        trained, _ = _run(model, x, own, train=True)
    except InputError:
        raise
    except Exception as error:  # whatever a user's code raises
        shapes = ", ".join(str(leaf.shape[1:]) for leaf in jax.tree.leaves(x))
        said = str(error).strip().split("\n")[0]
        raise InputError(
            f"{name} cannot be run on an input of shape {shapes} as its one argument, with the collections "
            f"{' and '.join(COLLECTIONS)} and random numbers called dropout: {type(error).__name__}: {said}"
        ) from error
    _check_groups(model, seen.paths, own)
    for one, how in ((seen, ""), (trained, " in training")):
        _check_calls(model, one, name, how)
    _check_width(model, seen.calls[0])


class _Seen:
    """What was seen in a run."""

    def __init__(self) -> None:
        self.paths: dict[Path, Any] = {}
        self.made: dict[Path, Any] = {}
        self.calls: list[tuple[Any, tuple, dict[str, Any]]] = []
        self.stand_in: Any = None
        self.output: Any = None


def _run(model: Any, x: Any, own: Variables, *, train: bool) -> tuple[_Seen, Variables]:
    """Runs the module whole, with something else in place of its head's output; initialises it without variables."""
    seen, mode = _Seen(), Mode(train=train, mask=jnp.ones(EXAMPLES, bool))

    def watch(call: Any, args: tuple, kwargs: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        seen.paths[module.path] = getattr(module, "features", None)
        y = seen.made[module.path] = call(*args, **kwargs)
        if module.path != model.head_path:
            return y
        seen.calls.append((module.unbind()[0], args, kwargs))
        if not isinstance(y, jax.Array) or isinstance(y, jax.core.Tracer):
            return y
        seen.stand_in = LARGE * jax.random.normal(jax.random.key(len(seen.calls)), y.shape).astype(y.dtype)
        return seen.stand_in

    module, told = switched(model.own_module(), train)
    rngs = {"dropout": jax.random.key(1)}
    if not own:
        own = jax.jit(partial(module.init, mutable=list(COLLECTIONS), **told))({"params": jax.random.key(0), **rngs}, x)
        own = nn.meta.unbox(own)
    # the first of them is asked first
    with nn.intercept_methods(watch), nn.intercept_methods(as_told(lambda _: mode, model.locate)):
        seen.output, _ = module.apply(own, x, rngs=rngs if train else {}, mutable=["batch_stats"], **told)
    return seen, own


def _random(one: jax.ShapeDtypeStruct) -> jax.Array:
    shape = (EXAMPLES, *one.shape[1:])
    floats = jnp.issubdtype(one.dtype, jnp.floating)
    return jax.random.normal(jax.random.key(0), shape, one.dtype) if floats else jnp.ones(shape, one.dtype)


def _check_groups(model: Any, called: Any, own: Variables) -> None:
    known = {"/".join(path) for path in called if path} | {"/".join(n.split("/")[1:]) for n, _ in walk_shapes(own)}
    known |= {"/".join(name.split("/")[:depth]) for name in known for depth in range(1, name.count("/") + 1)}
    for group, members in model.groups:
        for member in members:
            if member not in known:
                raise InputError(
                    f"the group '{group}' names '{member}', which {type(model.own_module()).__name__} does not have; "
                    f"it has {', '.join(sorted(n for n in known if '/' not in n))}.{nearest(member, known)}"
                )


def _check_calls(model: Any, seen: _Seen, name: str, how: str) -> None:
    """Raises InputError unless the head is called once, as it can be called alone, and is the last that is computed."""
    head = f"the head '{model.head}' of {name}"
    if not seen.calls:
        could = ["/".join(path) for path, features in seen.paths.items() if path and isinstance(features, int)]
        raise InputError(
            f"{head} is never called{how}; expected the submodule that makes the outputs. Those with a field features "
            f"are {', '.join(could) or 'none'}.{nearest(model.head, could)}"
        )
    module, args, kwargs = seen.calls[0]
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs))):
        raise InputError(
            f"{head} is called inside a scan, vmap, remat or jit{how}, out of which its input cannot be taken; call it "
            "outside of that"
        )
    if len(seen.calls) > 1:
        raise InputError(
            f"{head} is called {len(seen.calls)} times{how}; expected once. Let the last of them be a submodule of its "
            "own, or write the model as a jaxdl.Staged"
        )
    if type(getattr(module, "features", None)) is not int:
        raise InputError(
            f"{head}, a {type(module).__name__}, has no field features with a whole number, so that it cannot be made "
            "as wide as a task asks; name an nn.Dense, or give it that field"
        )
    if len(args) != 1 or kwargs.keys() - switched(module, False)[1].keys():
        raise InputError(
            f"{head} is called with {len(args)} arguments{', '.join(['', *kwargs])}{how}; expected one, what flows "
            "into it (and train or deterministic by that name)"
        )
    given, made = seen.output, seen.stand_in
    if not isinstance(given, jax.Array):
        kind = type(given).__name__
        raise InputError(f"{name} gives a {kind}{how}; expected what its head gives, and nothing beside it")
    if given.shape != made.shape or not np.array_equal(given, made):
        last = ["/".join(path) for path, y in seen.made.items() if path and y is given]
        advice = "leave out the softmax, or what else follows, since a task's loss takes the outputs of the head"
        if last:
            advice = f"the outputs are those of '{last[0]}' (Flax counts layers in the order in which they are made)"
        raise InputError(
            f"{name} computes something after its head '{model.head}'{how}: what it gives is not what the head gives. "
            f"Expected the head as the last step: {advice}"
        )


def _check_width(model: Any, call: tuple[Any, tuple, dict[str, Any]]) -> None:
    """Raises InputError unless `features` of the head is the number of its outputs."""
    module, (x,), _ = call
    model.module.heads.setdefault((model.head, model.dtype), module)
    wide = module.features + 1
    head, told = switched(module.clone(features=wide, parent=None), False)
    rngs = {"params": jax.random.key(0)}
    made = jax.eval_shape(lambda v: head.init_with_output(rngs, v, **told)[0], x)
    if made.shape[-1] != wide:
        raise InputError(
            f"the head '{model.head}', a {type(module).__name__}, gives {made.shape[-1]} outputs with features={wide}; "
            "expected as many as its field features says"
        )
