"""A model is an ordered list of named stages.

Everything transfer learning does to a model is a slice of that list: features are the list without its
head, freezing is a boundary in it, a new task replaces its last entry.
"""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

import flax.linen as nn
import jax

from jaxdl.errors import InputError, check_choice
from jaxdl.models import adapters
from jaxdl.models.flax_layers import as_told
from jaxdl.models.variables import Path, Variables

HEAD = "head"  # what the last stage is called


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
      still: paths of batch normalisations that keep their running statistics in training, too: those of which neither
        scale nor bias is trained.
      tied: what the stage reads of another stage's parameters, by the names in `Staged.ties`.
      taps: where inner activations are offered.
      stage: the name of the stage being run.
    """

    train: bool = False
    mask: jax.Array | None = None
    axis_name: str | None = None
    still: Collection[Path] = ()
    tied: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
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
      * a stage without variables runs as those before it do: in eval mode, and computed once, behind frozen ones;
      * a table that two stages share is a parameter of the first of them; `ties` names it, and the other reads it from
        ``mode.tied``. (A module used in both would silently make two tables.)

    Attributes:
      num_outputs: size of the logits.
      dtype: of the computation, ``"float32"`` or ``"bfloat16"``.
      param_dtype: of the parameters.
    """

    IN_WORDS = "a model from jaxdl.create or jaxdl.wrap"
    PARTS = ()  # names of fields that hold another model, or None
    ANSWERS = "classification"  # the task for which its outputs are taken where nothing is said
    SEQUENCES = False  # whether it reads sequences with a ``mask``, and nothing behind the last real place has a say
    HEAD_SCALE = 0.1  # of a fresh head on a pretrained body, see `initialise.init_head`
    HIGHEST_RATE = math.inf  # learning rate of AdamW, above which what pretrained stages know is soon lost

    num_outputs: int
    dtype: str = "float32"
    param_dtype: str = "float32"

    def stages(self) -> tuple[Stage, ...]:
        """``((name, make), …)`` from input to output; ``make(name=name)`` gives the stage's module."""
        raise NotImplementedError

    def ties(self) -> Mapping[str, Mapping[str, str]]:
        """Parameters that a stage reads of one before it: ``{stage: {name in mode.tied: path of the parameter}}``.

        Such as ``{"head": {"table": "embed/tokens/embedding"}}``. The parameter is stored once, by the stage whose it
        is, is frozen or trained with it, and gets the gradients of both.
        """
        return {}

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stages' names in order. (The order of keys in the variables means nothing: pytrees sort them.)"""
        return tuple(name for name, _ in self.stages())

    @property
    def cuts(self) -> tuple[str, ...]:
        """Stages that a run may start at, or stop before: all, unless several stages run as one."""
        return self.stage_names

    @property
    def outlets(self) -> tuple[str, ...]:
        """Stages of which it is known what flows out of them: those before a cut, and the last."""
        names = self.stage_names
        return tuple(name for name, after in itertools.pairwise(names) if after in self.cuts) + names[-1:]

    @nn.nowrap
    def pieces(self, start: str | None = None) -> tuple[tuple[tuple[str, ...], str | None], ...]:
        """From `start` on, stages that run together, and the stage before which they stop (None at the end)."""
        names = self.stage_names
        begins = [self.stage_index(name) for name in self.cuts]
        stops = (*begins[1:], len(names))
        found = [(names[a:b], names[b] if b < len(names) else None) for a, b in zip(begins, stops, strict=True)]
        first = 0 if start is None else self.stage_index(start)
        return tuple((piece, stop) for (piece, stop), begin in zip(found, begins, strict=True) if begin >= first)

    @nn.nowrap
    def last_cut(self, name: str) -> str:
        """The last of `cuts` at or before stage `name`."""
        names = self.stage_names
        return next(one for one in names[names.index(name) :: -1] if one in self.cuts)

    @nn.nowrap
    def locate(self, path: Path) -> Path:
        """Where the variables of the module that Flax calls `path` are: a path that begins with a stage."""
        return path

    @nn.nowrap
    def to_stages(self, own: Mapping[str, Any]) -> Variables:
        """Variables as a user has them, laid out by stage: as they are, except of a wrapped module."""
        return dict(own)

    @nn.nowrap
    def for_each_token(self) -> "Staged | None":
        """The same network with an answer for each token; None where it cannot give them."""
        return None

    @nn.nowrap
    def check(self, spec: Any) -> Self:
        """Refuses a model that does not keep the rules.

        Args:
          spec: of an example, see `batch_of`.

        Returns:
          The model, with all that is known of it.

        Raises:
          InputError: naming the rule that is broken.
        """
        check_stages(self)
        return self

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
        evaluated: Collection[str] = (),
        still: Collection[Path] = (),
        taps: Sequence[str] = (),
        train: bool = False,
        mask: jax.Array | None = None,
        axis_name: str | None = None,
        tied: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs the stages from `start` up to, and without, `stop`.

        Args:
          x: what flows into `start`: for the first stage normalised floats ``[batch, height, width, channels]``
            (or ``[batch, features]``).
          start: first stage to run; the first of all by default.
          stop: stage before which to stop, ``"head"`` for features; none by default.
          evaluated: stages that run in eval mode even in training: those of which nothing is trained.
          still: see `Mode`.
          taps: activations to hand back: names of stages, or names inside them such as ``"block1/attention"``.
          train: see `Mode`, as `mask` and `axis_name`. In training pass ``mutable=["batch_stats"]`` and
            ``rngs={"dropout": key}`` to `apply`.
          tied: parameters by path that stands in for those of stages that have none yet, to initialise a head alone.

        Returns:
          What flows out of the last stage run, logits ``[batch, num_outputs]`` for the head; with `taps` a pair of
          it and a dict of the activations.

        Raises:
          InputError: for a stage or tap that does not exist.
        """
        names = self.stage_names
        first = 0 if start is None else self._cut_index(start)
        last = len(names) if stop is None else self._cut_index(stop)
        if first > last:
            raise InputError(f"start='{start}' comes after stop='{stop}' in {names}")
        collected = Taps(taps)
        every = Mode(mask=mask, axis_name=axis_name, still=still, taps=collected)
        modes = {
            name: dataclasses.replace(every, train=train and name not in evaluated, stage=name)
            for name in names[first:last]
        }
        with self._adapted():
            x = self._run(modes, x, tied or {}) if modes else x
        if not taps:
            return x
        for name in taps:
            if name not in collected.found:
                check_choice("tap", name, collected.offered)
        return x, collected.found

    def _run(self, modes: Mapping[str, Mode], x: Any, tied: Mapping[str, Any]) -> Any:
        """Runs neighbouring stages, each in its mode, and offers what flows out of them."""
        with nn.intercept_methods(as_told(modes.__getitem__, self.locate)):
            for name, make in self.stages():
                if name in modes:
                    mode = dataclasses.replace(modes[name], tied=self._tied(name, tied))
                    x = make(name=name)(x, mode)
                    mode.taps.offer(name, x)
        return x

    def _cut_index(self, name: str) -> int:
        place = self.stage_index(name)
        if name not in self.cuts:
            raise InputError(
                f"{type(self).__name__} cannot be cut before '{name}', a part of a module that runs as a whole; it can "
                f"be cut before: {', '.join(self.cuts)}"
            )
        return place

    def _adapted(self) -> contextlib.AbstractContextManager[Any]:
        """Lets layers with an adapter use it; see `adapters`."""
        if adapters.ranks_of(self.variables.get("params", {})):
            return nn.intercept_methods(adapters.add_low_rank)
        return contextlib.nullcontext()

    def _tied(self, stage: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """What `stage` reads of other stages' parameters."""
        found = {}
        for name, path in self.ties().get(stage, {}).items():
            value = given.get(path)
            for part in path.split("/") if value is None else ():
                value = (self.variables["params"] if value is None else value)[part]
            found[name] = value
        return found


def check_stages(model: Staged) -> None:
    """Raises InputError unless the stages of a model are as they must be."""
    kind = type(model).__name__
    try:
        names = model.stage_names
    except NotImplementedError:
        names = ()
    if len(names) < 2 or len(set(names)) < len(names) or names[-1] != HEAD:
        said = f"has the stages {', '.join(map(str, names))}" if names else "has no stages"
        raise InputError(
            f"{kind} {said}; expected stages() to give ((name, make), …) of at least two stages with different names, "
            f"of which the last is called '{HEAD}' and turns features into num_outputs outputs: it is what a new task "
            "replaces"
        )


def tied_paths(model: Staged, stages: Collection[str]) -> set[Path]:
    """Paths of the parameters that `stages` read of stages that are none of them."""
    paths = [tuple(path.split("/")) for stage in stages for path in model.ties().get(stage, {}).values()]
    return {path for path in paths if path[0] not in stages}
