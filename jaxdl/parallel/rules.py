"""How parameters are divided over the axis ``model`` of a mesh: a visible table.

A rule is a pattern and one entry for each axis of the array: ``"model"`` where it is divided, None where it is not.
The pattern is compared with the end of the parameter's path (``*`` stands for anything). A rule also holds for what an
optimizer or a running mean keeps of the parameter: see `path_of`. An example::

    RULES = (
        ("mlp/hidden/kernel", (None, "model")),
        ("mlp/out/kernel", ("model", None)),
    )

The first rule that fits counts. A rule fits arrays that have as many axes as it has entries: what an optimizer keeps in
another shape is copied, as is everything that no rule names.

`RULES` divides attention by heads and the hidden layer of perceptrons by columns, so that between the first product and
the second nothing is exchanged; the second is divided by rows, and its parts are added up (Shoeybi et al.,
"Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism", arXiv:1909.08053).
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from jax.sharding import PartitionSpec
from jax.tree_util import DictKey

from jaxdl.errors import InputError

MODEL = "model"  # the axis over which the arrays of one model are divided

Rule = tuple[str, tuple[str | None, ...]]
Rules = tuple[Rule, ...]

COLUMNS, ROWS = (None, MODEL), (MODEL, None)
RULES: Rules = (
    # attention: our own, and Flax's, whose kernels have an axis of heads
    ("*[aA]ttention*/query/kernel", COLUMNS),
    ("*[aA]ttention*/key/kernel", COLUMNS),
    ("*[aA]ttention*/value/kernel", COLUMNS),
    ("*[aA]ttention*/out/kernel", ROWS),
    ("*[aA]ttention*/query/kernel", (None, MODEL, None)),
    ("*[aA]ttention*/key/kernel", (None, MODEL, None)),
    ("*[aA]ttention*/value/kernel", (None, MODEL, None)),
    ("*[aA]ttention*/out/kernel", (MODEL, None, None)),
    ("*[aA]ttention*/query/bias", (MODEL,)),
    ("*[aA]ttention*/key/bias", (MODEL,)),
    ("*[aA]ttention*/value/bias", (MODEL,)),
    ("*[aA]ttention*/query/bias", (MODEL, None)),
    ("*[aA]ttention*/key/bias", (MODEL, None)),
    ("*[aA]ttention*/value/bias", (MODEL, None)),
    # the perceptrons of transformers and of ConvNeXt
    ("mlp1/kernel", COLUMNS),
    ("mlp1/bias", (MODEL,)),
    ("mlp2/kernel", ROWS),
    # the layers of an mlp, in pairs
    ("layer*[13579]/dense/kernel", COLUMNS),
    ("layer*[13579]/dense/bias", (MODEL,)),
    ("layer*[02468]/dense/kernel", ROWS),
)


def path_of(keys: Sequence[Any]) -> str:
    """The path that rules are compared with: the names in dicts alone.

    Parameters are dicts of dicts; a state, and what an optimizer keeps of a parameter, wrap these in tuples and fields,
    at any depth (``opt_state[1]["head"][0].mu["dense"]["kernel"]`` is ``head/dense/kernel``).
    """
    return "/".join(str(key.key) for key in keys if isinstance(key, DictKey))


def spec_of(path: str, shape: tuple[int, ...], rules: Rules, size: int) -> PartitionSpec:
    """How the array at `path` is divided.

    Args:
      path: such as ``head/dense/kernel``, see `path_of`.
      shape: of the array, without an axis of runs.
      rules: see above.
      size: number of devices along the axis.

    Raises:
      InputError: if a rule divides an axis that `size` does not divide. (To copy such an array silently would need more
        memory than was planned for.)
    """
    for pattern, entries in rules:
        if len(entries) != len(shape) or not fnmatchcase(f"/{path}", f"*/{pattern}"):
            continue
        for place, entry in enumerate(entries):
            if entry and shape[place] % size:
                raise InputError(
                    f"the rule '{pattern}' divides axis {place} of '{path}' {shape}, but {shape[place]} is no multiple "
                    f"of the {size} devices of the axis '{MODEL}': change the rule, or the size of the axis"
                )
        return PartitionSpec(*entries)
    return PartitionSpec()


def check_rules(rules: Rules) -> None:
    """Raises InputError for an entry that names another axis than ``model``, or names it twice."""
    for pattern, entries in rules:
        named = [entry for entry in entries if entry is not None]
        if named not in ([], [MODEL]):
            raise InputError(
                f"the rule '{pattern}' is {entries}; expected None for each axis of the array, and '{MODEL}' for one"
            )
