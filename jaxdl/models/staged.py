"""A model is an ordered list of named stages.

Everything transfer learning does to a model is a slice of that list: features are the list without its
head, freezing is a boundary in it, a new task replaces its last entry.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from jaxdl.errors import InputError, check_choice

Variables = dict[str, Any]

# By which the kernels of a fresh head on a pretrained body are smaller than in a fresh network. Nearly zero, as in
# Goyal et al. 2017 (arXiv:1706.02677, 5.1), so that a head which knows nothing does not pull the body away: fine-tuned
# for one epoch on 800 images of CIFAR-10, a ResNet-20 gets 78 to 79 % right with a head that small, 71 to 74 % with one
# of full size, 76 to 78 % with PyTorch's.
HEAD_SCALE = 0.1


class Taps:
    """Collects the activations that a call of `Staged` was asked to hand back.

    A name is a stage (``"stage2"``: what flows out of it) or something inside one
    (``"block1/attention"``). It lives for one call only, so the call stays pure.
    """

    def __init__(self, wanted: Sequence[str]):
        self.wanted = tuple(wanted)
        self.found: dict[str, Any] = {}
        self.offered: list[str] = []

    def wants(self, name: str) -> bool:
        return name in self.wanted

    def offer(self, name: str, value: Any) -> None:
        """Keeps `value` if `name` was asked for. A value costly to make is offered as a function of nothing."""
        self.offered.append(name)
        if self.wants(name):
            self.found[name] = value() if callable(value) else value


@dataclasses.dataclass(frozen=True)
class Mode:
    """How a stage is run; the second argument of every stage.

    Attributes:
      train: batch statistics and dropout as in training; else as in use.
      mask: bool[batch], False for examples that only pad the batch; None if all are real.
      axis_name: the mapped axis over which the batch is divided (`pmap`, `shard_map`); None if it is whole.
      taps: where inner activations are offered.
      stage: the name of the stage being run.
    """

    train: bool = False
    mask: jax.Array | None = None
    axis_name: str | None = None
    taps: Taps = dataclasses.field(default_factory=lambda: Taps(()))
    stage: str = ""

    def wants(self, name: str) -> bool:
        """Whether ``taps=("<stage>/<name>",)`` was asked for."""
        return self.taps.wants(f"{self.stage}/{name}")

    def offer(self, name: str, value: Any) -> None:
        """Offers `value` under ``"<stage>/<name>"``; see `Taps.offer`."""
        self.taps.offer(f"{self.stage}/{name}", value)


Stage = tuple[str, Callable[..., nn.Module]]


class Staged(nn.Module):
    """Base of all models. A family says only `stages()`.

    Rules for a family:
      * the last stage is called ``head`` and turns features into ``num_outputs`` logits;
      * a stage is a module called as ``stage(x, mode)``; `x` may be any pytree whose arrays all have the
        examples as their first axis;
      * a stage without variables draws nothing at random (so a frozen prefix may be extended over it).

    Attributes:
      num_outputs: size of the logits.
      dtype: of the computation, ``"float32"`` or ``"bfloat16"``.
      param_dtype: of the parameters.
    """

    IN_WORDS = "a model from jaxdl.create"

    num_outputs: int
    dtype: str = "float32"
    param_dtype: str = "float32"

    def stages(self) -> tuple[Stage, ...]:
        """``((name, make), …)`` from input to output; ``make(name=name)`` gives the stage's module."""
        raise NotImplementedError

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stages' names in order. (The order of keys in the variables means nothing: pytrees sort them.)"""
        return tuple(name for name, _ in self.stages())

    def stage_index(self, name: str) -> int:
        """Position of stage `name`. Raises InputError with the nearest name if there is none."""
        check_choice(f"stage of {type(self).__name__}", name, self.stage_names)
        return self.stage_names.index(name)

    @nn.compact
    def __call__(
        self,
        x: Any,
        *,
        start: str | None = None,
        stop: str | None = None,
        frozen: int = 0,
        taps: Sequence[str] = (),
        train: bool = False,
        mask: jax.Array | None = None,
        axis_name: str | None = None,
    ) -> Any:
        """Runs the stages from `start` up to, and without, `stop`.

        Args:
          x: what flows into `start`: for the first stage normalised floats ``[batch, height, width, channels]``
            (or ``[batch, features]``).
          start: first stage to run; the first of all by default.
          stop: stage before which to stop, ``"head"`` for features; none by default.
          frozen: this many stages, counted from the input of the whole model, run in eval mode even in training.
          taps: activations to hand back: names of stages, or names inside them such as ``"block1/attention"``.
          train: see `Mode`, as `mask` and `axis_name`. In training pass ``mutable=["batch_stats"]`` and
            ``rngs={"dropout": key}`` to `apply`.

        Returns:
          What flows out of the last stage run, logits ``[batch, num_outputs]`` for the head; with `taps` a pair of
          it and a dict of the activations.

        Raises:
          InputError: for a stage or tap that does not exist.
        """
        first = 0 if start is None else self.stage_index(start)
        last = len(self.stages()) if stop is None else self.stage_index(stop)
        if first > last:
            raise InputError(f"start='{start}' comes after stop='{stop}' in {self.stage_names}")
        collected = Taps(taps)
        for index, (name, make) in enumerate(self.stages()):
            if first <= index < last:
                x = make(name=name)(x, Mode(train and index >= frozen, mask, axis_name, collected, name))
                collected.offer(name, x)
        if not taps:
            return x
        for name in taps:
            if name not in collected.found:
                check_choice("tap", name, collected.offered)
        return x, collected.found


def split_variables(variables: Variables, names: Sequence[str]) -> tuple[Variables, Variables]:
    """Divides ``{collection: {stage: …}}`` into the part of the stages `names` and the rest.

    Both parts keep every collection, so that either can be passed to `apply`.
    """
    inside = {c: {s: v for s, v in tree.items() if s in names} for c, tree in variables.items()}
    outside = {c: {s: v for s, v in tree.items() if s not in names} for c, tree in variables.items()}
    return inside, outside


def join_variables(*parts: Variables) -> Variables:
    """The union of parts with disjoint stages; undoes `split_variables`."""
    joined: Variables = {}
    for part in parts:
        for collection, tree in part.items():
            target = joined.setdefault(collection, {})
            if shared := target.keys() & tree.keys():
                raise ValueError(f"stages {sorted(shared)} stand in more than one part of '{collection}'")
            target.update(tree)
    return joined


def walk_shapes(tree: Any) -> Iterator[tuple[str, Any]]:
    """``("params/stem/conv/kernel", leaf)`` for every leaf of a tree of variables, or of any other pytree."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def batch_of(spec: Any) -> Any:
    """Shapes of a batch of one example. `spec` is a pytree of `jax.ShapeDtypeStruct`, or the shape of a float array."""
    if isinstance(spec, tuple | list) and all(isinstance(size, int) for size in spec):
        return jax.ShapeDtypeStruct((1, *spec), "float32")
    return jax.tree.map(lambda one: jax.ShapeDtypeStruct((1, *one.shape), one.dtype), spec)


def _fresh_variables(model: Staged, start: str | None, key: jax.Array, x: Any) -> Variables:
    """Variables of the stages from `start`; compiled once in a process for a model and the shapes `x` it is fed with.

    For a model that cannot be compared, such as a user's own with a list among its fields, compiled at every call.
    """
    leaves, tree = jax.tree.flatten(x)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    try:
        hash(model)
    except TypeError:
        return jax.jit(partial(_draw_variables, model, start, shapes, tree))(key)
    return _draw_once_compiled(model, start, shapes, tree, key)


def _draw_variables(
    model: Staged, start: str | None, shapes: tuple[jax.ShapeDtypeStruct, ...], tree: Any, key: jax.Array
) -> Variables:
    return model.lazy_init({"params": key}, jax.tree.unflatten(tree, shapes), start=start)


_draw_once_compiled = jax.jit(_draw_variables, static_argnums=(0, 1, 2, 3))


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
    except (ValueError, TypeError, ZeroDivisionError, AttributeError, LookupError) as error:  # an array for a dict, too
        raise InputError(f"{type(model).__name__} cannot take inputs of shape {shapes}: {error}") from error
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def init_head(model: Staged, key: jax.Array, body: Variables, x: Any, start: str | None = None) -> Variables:
    """Fresh variables of the head alone, for a body that is trained; its kernels are small, see `HEAD_SCALE`.

    Args:
      model: whose head it is.
      key: to draw them from.
      body: (shapes of) the variables of the stages from `start` to the head.
      x: (shapes of) what flows into `start`, such as examples ``[batch, *input_shape]``.
      start: a stage; the first by default.
    """
    features = jax.eval_shape(lambda v, a: model.apply(v, a, start=start, stop="head"), body, x)
    fresh = _fresh_variables(model, "head", key, features)
    small = jax.tree.map(lambda leaf: HEAD_SCALE * leaf if leaf.ndim > 1 else leaf, fresh["params"])
    return {"params": small, "batch_stats": fresh.get("batch_stats", {})}
