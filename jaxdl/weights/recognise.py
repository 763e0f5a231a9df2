"""Which of the models here weights are of, by their names and shapes."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxdl.errors import InputError
from jaxdl.models import MODELS, create
from jaxdl.weights.families import KEYS
from jaxdl.weights.keys import Table, body_mismatches, rename
from jaxdl.weights.networks import before_stem, find_network, without_head

NAMED = 0.5  # share of the tensors whose names a family must know to be looked at
SIZE = math.log(2)  # by how much numbers of parameters may differ: of a file without a head it is missing
TRIED = 4  # models whose shapes are compared, those of the most alike numbers of parameters
BIAS, KERNEL = "params/head/dense/bias", "params/head/dense/kernel"
STATISTICS = ("running_mean", "running_var", "moving_mean", "moving_variance")


def looks_like(tensors: Mapping[str, np.ndarray], which: str | None = None) -> str | None:
    """Name of the model that weights are of, the head aside; None if it is none here.

    Args:
      tensors: of a file, by name.
      which: see `networks.find_network`.
    """
    possible = []
    for family, keys in KEYS.items():
        names = [name for name, entry in MODELS.items() if entry.family is family and not entry.own]
        for layout in dict.fromkeys(keys.layouts.values()):
            size = _parameters(tensors, layout(create(names[0], 1)), keys.stem, which)
            if size is not None:
                possible += [(abs(math.log(size(name) / MODELS[name].parameters)), name, layout) for name in names]
    alike = sorted((one for one in possible if one[0] < SIZE), key=lambda one: one[:2])
    for _, name, layout in alike[:TRIED]:
        if _fits(tensors, name, layout, which):
            return name
    return None


def _parameters(
    tensors: Mapping[str, np.ndarray], table: Table, stem: str, which: str | None
) -> Callable[[str], float] | None:
    """How many parameters the network had with as many outputs as a model is listed with; None if it is no such."""
    if not any(before_stem(tuple(tensors), table, stem)):
        return None
    try:
        found = find_network(tensors, {"": table}, stem, which)
    except InputError:
        return None
    if found.place.known < NAMED * len(found.tensors):
        return None
    shapes = {name: np.shape(found.tensors[name]) for name in found.tensors if not name.endswith(STATISTICS)}
    total = sum(map(math.prod, shapes.values()))
    head = next((shapes[name] for name in shapes for row in table if BIAS in (row.leaves_of(name) or ())), None)
    kernel = next((shapes[name] for name in shapes for row in table if KERNEL in (row.leaves_of(name) or ())), None)
    if head is None or kernel is None:
        return lambda name: total
    inside, outputs = math.prod(kernel) // head[0], head[0]
    return lambda name: total + (inside + 1) * (MODELS[name].outputs - outputs)


def _fits(tensors: Mapping[str, np.ndarray], name: str, layout: Callable[[Any], Table], which: str | None) -> bool:
    """Whether every array of the model but the head is there, in its shape."""
    entry = MODELS[name]
    keys, network = KEYS[entry.family], create(name, 1)
    table = without_head(layout(network))
    found = find_network(tensors, {"": table}, keys.stem, which)
    renamed = rename(found.tensors, table)
    stem = renamed.leaves.get(keys.stem)
    if stem is None:
        return False
    try:
        spec = entry.example()
        if not entry.length:
            side = keys.image_size(network, renamed.leaves) if keys.image_size else entry.image_size
            spec = (side, side, stem.shape[2])
        return not body_mismatches(renamed, network, spec)
    except InputError:
        return False
