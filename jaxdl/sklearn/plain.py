"""A checkpoint as plain values and arrays: what a pickle of an estimator holds of it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxdl.models import create, describe, is_own
from jaxdl.models.staged import Staged
from jaxdl.weights.card import lists_of, parse_card, plain_card
from jaxdl.weights.checkpoint import Checkpoint

MARK = "jaxdl checkpoint"


def to_plain(value: Any) -> Any:
    """A `Checkpoint` or a model as a dict of plain values and numpy arrays; anything else as it is.

    A model of a user's own stays as it is, too: another process may not know it by name.
    """
    if isinstance(value, Staged):
        name, arguments = describe(value)
        held = {MARK: 1, "model": name, "arguments": arguments, "num_outputs": value.num_outputs}
        return held | ({"own": value} if is_own(value) else {})
    if not isinstance(value, Checkpoint):
        return value
    model = to_plain(value.model)
    card = {**plain_card(value.card), **{key: model[key] for key in ("model", "arguments", "num_outputs")}}
    for key in ("columns", "target"):
        card[key] = None if card[key] is None else list(card[key])
    return model | {
        "variables": value.variables,
        "card": card,
        "lists": lists_of(value.card),
        "history": [dict(row) for row in value.history],
        "path": value.path,
    }


def from_plain(held: Any) -> Any:
    """What `to_plain` was given."""
    if not isinstance(held, Mapping) or MARK not in held:
        return held
    model = held.get("own") or create(held["model"], held["num_outputs"], **held["arguments"])
    if "card" not in held:
        return model
    card = dataclasses.replace(parse_card(held["card"]), **held["lists"])
    return Checkpoint(model, held["variables"], card, tuple(held["history"]), held["path"])
