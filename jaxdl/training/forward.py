"""The network's outputs in a training step, with its activations kept for the backward pass or computed again."""

from collections.abc import Callable
from typing import Any

import jax

from jaxdl.models.staged import Staged, tied_paths
from jaxdl.models.variables import Variables, split_variables

Whole = Callable[[Callable[[Variables], Any], Variables], Any]  # see `Executor.whole`


def as_they_are(function: Callable[[Variables], Any], variables: Variables) -> Any:
    """What a function makes of variables of which all is here."""
    return function(variables)


def forward(
    model: Staged, variables: Variables, x: Any, start: str | None, whole: Whole, **options: Any
) -> tuple[Any, Variables]:
    """Outputs, and the batch statistics that changed.

    Args:
      model: with its head.
      variables: of all stages from `start` on, and what these read of others.
      x: what flows into `start`.
      start: first stage; None for the first of all.
      whole: runs a function of variables on all of them, see `Executor.whole`.
      **options: of the model's call.
    """

    def run(variables: Variables) -> tuple[Any, Variables]:
        return model.apply(variables, x, start=start, mutable=["batch_stats"], **options)

    return whole(run, variables)


def forward_again(
    model: Staged, variables: Variables, x: Any, start: str | None, whole: Whole, **options: Any
) -> tuple[Any, Variables]:
    """As `forward`; of each stage only what flows into it is kept, and the rest computed again in the backward pass.

    Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv:1604.06174). The numbers are the same: random
    draws come from the same keys. Under FSDP the weights are collected again, too.
    """
    statistics: Variables = {}
    for names, stop in model.pieces(start):
        owners = {path[0] for path in tied_paths(model, names)}
        own, _ = split_variables(variables, (*names, *owners))

        def run(own: Variables, x: Any, first: str = names[0], stop: str | None = stop) -> Any:
            def inside(own: Variables) -> Any:
                return model.apply(own, x, start=first, stop=stop, mutable=["batch_stats"], **options)

            return whole(inside, own)

        x, changed = jax.checkpoint(run)(own, x)
        statistics |= {stage: tree for stage, tree in changed.get("batch_stats", {}).items() if stage in names}
    return x, {"batch_stats": statistics}
