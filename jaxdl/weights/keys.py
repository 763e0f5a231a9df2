"""Key tables: which tensor of another library is which leaf of a model here, and back."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import jax
import numpy as np

from jaxdl.errors import InputError
from jaxdl.models.initialise import variable_shapes
from jaxdl.models.staged import HEAD, Staged
from jaxdl.models.variables import Variables, walk_shapes

Arrays = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Change:
    """What happens to a tensor on its way.

    Attributes:
      to_ours: the tensor to the leaves of its row, in their order. May raise ValueError for a tensor of another kind.
      to_theirs: these leaves back to the tensor.
    """

    to_ours: Callable[[np.ndarray], Arrays]
    to_theirs: Callable[..., np.ndarray]


def permuted(*axes: int) -> Change:
    """A transposition; `axes` as in ``numpy.transpose``."""
    back = tuple(int(i) for i in np.argsort(axes))
    return Change(lambda tensor: (tensor.transpose(axes),), lambda leaf: leaf.transpose(back))


AS_IS = Change(lambda tensor: (tensor,), lambda leaf: leaf)
CONV = permuted(2, 3, 1, 0)  # PyTorch's [out, in, height, width] to Flax's [height, width, in, out]
LINEAR = permuted(1, 0)  # PyTorch's [out, in] to Flax's [in, out]
# a linear map that PyTorch keeps as a 1×1 convolution
POINTWISE = Change(lambda tensor: (tensor.reshape(*_pointwise(tensor.shape)).T,), lambda leaf: leaf.T[..., None, None])


def _pointwise(shape: tuple[int, ...]) -> tuple[int, int]:
    out, inside, height, width = shape
    if (height, width) != (1, 1):
        raise ValueError(f"a kernel of {height}×{width} is no linear map")
    return out, inside


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a key table.

    Names are templates: ``{i}`` stands for a whole number, the same on both sides, and ``{i+1}`` for the next one: the
    other libraries count from 0, stages and blocks here from 1. So ``"layer{s}.{b}.conv{c}.weight"`` and
    ``"params/stage{s}/block{b+1}/conv{c}/kernel"`` are each other's. ``{i:02}`` is written with two digits.

    Attributes:
      theirs: name of the tensor. Of a row that drops it may be a pattern with ``*``.
      ours: name of the leaf, names of several that are one tensor there, or None for a tensor that is dropped.
      change: see `Change`.
      why: of a row that drops, the reason.
    """

    theirs: str
    ours: str | tuple[str, ...] | None
    change: Change = AS_IS
    why: str = ""

    @property
    def leaves(self) -> tuple[str, ...]:
        return () if self.ours is None else (self.ours,) if isinstance(self.ours, str) else self.ours

    def leaves_of(self, tensor: str) -> tuple[str, ...] | None:
        """Names of the leaves that `tensor` becomes; empty if it is dropped, None if this is not its row."""
        if self.ours is None:
            return () if fnmatchcase(tensor, self.theirs) else None
        numbers = _match(self.theirs, tensor)
        return None if numbers is None else tuple(_fill(leaf, numbers) for leaf in self.leaves)

    def tensor_of(self, leaf: str) -> tuple[str, tuple[str, ...]] | None:
        """Name of the tensor that `leaf` is the first leaf of, and all its leaves; None if this is not its row."""
        numbers = _match(self.leaves[0], leaf) if self.leaves else None
        if numbers is None or min(numbers.values(), default=0) < 0:
            return None
        return _fill(self.theirs, numbers), tuple(_fill(name, numbers) for name in self.leaves)


_FIELD = re.compile(r"\{(\w+)([+-]\d+)?(?::0(\d))?\}")  # name, what is added, digits


@cache
def _pattern(template: str) -> tuple[re.Pattern[str], dict[str, int]]:
    """What `template` matches, and what is added to each of its numbers."""
    pattern, seen, at = "", {}, 0
    for field in _FIELD.finditer(template):
        pattern += re.escape(template[at : field.start()])
        pattern += rf"(?P={field[1]})" if field[1] in seen else rf"(?P<{field[1]}>\d{{{field[3] or 1},}})"
        seen[field[1]] = int(field[2] or 0)
        at = field.end()
    return re.compile(pattern + re.escape(template[at:])), seen


def _match(template: str, name: str) -> dict[str, int] | None:
    """The numbers for which `template` reads `name`."""
    pattern, added = _pattern(template)
    found = pattern.fullmatch(name)
    return None if found is None else {field: int(found[field]) - more for field, more in added.items()}


def _fill(template: str, numbers: Mapping[str, int]) -> str:
    return _FIELD.sub(lambda field: str(numbers[field[1]] + int(field[2] or 0)).zfill(int(field[3] or 1)), template)


COUNTER = "PyTorch's count of batches seen, which nothing here needs"


def batch_norm(theirs: str, ours: str) -> tuple[Row, ...]:
    """The rows of a PyTorch batch normalisation: `theirs` and `ours` are templates of its own name."""
    return (
        *scale_and_bias(theirs, ours),
        Row(f"{theirs}.running_mean", f"batch_stats/{ours}/mean"),
        Row(f"{theirs}.running_var", f"batch_stats/{ours}/var"),
        Row(_FIELD.sub("*", f"{theirs}.num_batches_tracked"), None, why=COUNTER),
    )


def scale_and_bias(theirs: str, ours: str) -> tuple[Row, ...]:
    """The rows of a PyTorch layer or group normalisation."""
    return Row(f"{theirs}.weight", f"params/{ours}/scale"), Row(f"{theirs}.bias", f"params/{ours}/bias")


def with_bias(theirs: str, ours: str, change: Change) -> tuple[Row, ...]:
    """The rows of a PyTorch layer of kernel and bias; `change` is the kernel's, such as `CONV` or `LINEAR`."""
    return Row(f"{theirs}.weight", f"params/{ours}/kernel", change), Row(f"{theirs}.bias", f"params/{ours}/bias")


Table = tuple[Row, ...]


@dataclasses.dataclass(frozen=True)
class Keys:
    """How a family's weights are named elsewhere.

    Attributes:
      layouts: key tables by the name of who names them so (``"torchvision"``, ``"timm"``, …); each is a function of the
        model, because some names depend on its size.
      stem: the leaf that sees the example: the kernel ``[height, width, channels, features]`` of an image, the table of
        tokens.
      image_size: the side of the images from the leaves, for a family whose leaves depend on it; else None.
      arguments: by layout those of the model that weights with its names always take.
    """

    layouts: Mapping[str, Callable[[Any], Table]]
    stem: str = "params/stem/conv/kernel"
    image_size: Callable[[Any, Mapping[str, np.ndarray]], int] | None = None
    arguments: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Renamed:
    """What a table made of a file's tensors, before it is compared with a model.

    Attributes:
      leaves: by name.
      origin: of each leaf, the name of its tensor.
      dropped: names of the tensors left out, with the reasons.
      problems: what could not be done, in words.
    """

    leaves: Mapping[str, np.ndarray]
    origin: Mapping[str, str]
    dropped: Mapping[str, str]
    problems: tuple[str, ...]


def rename(tensors: Mapping[str, np.ndarray], table: Table) -> Renamed:
    """The tensors under the names of leaves, float32; every tensor needs a row."""
    leaves: dict[str, np.ndarray] = {}
    origin: dict[str, str] = {}
    dropped: dict[str, str] = {}
    problems: list[str] = []
    for name in tensors:
        row, names = _row_of(name, table)
        if row is None:
            problems.append(f"{name} {tensors[name].shape}: no row of the table takes it")
        elif not names:
            dropped[name] = row.why
        else:
            tensor = tensors[name]
            if tensor.dtype.kind not in "fiu" and tensor.dtype.name != "bfloat16":
                problems.append(f"{name} {tensor.shape}: of type {tensor.dtype}; expected numbers")
                continue
            try:
                changed = row.change.to_ours(tensor)
            except ValueError:  # it has not the axes that are to be moved
                problems.append(f"{name} {tensor.shape}: cannot become {', '.join(names)}")
                continue
            for leaf, value in zip(names, changed, strict=True):
                if leaf in leaves:
                    problems.append(f"{name}: {leaf} is filled already, by {origin[leaf]}")
                else:
                    with np.errstate(over="ignore"):  # whoever uses the leaves checks that they are finite
                        leaves[leaf] = np.ascontiguousarray(value, dtype=np.float32)
                    origin[leaf] = name
    return Renamed(leaves, origin, dropped, tuple(problems))


def _row_of(tensor: str, table: Table) -> tuple[Row | None, tuple[str, ...]]:
    for row in table:
        if (names := row.leaves_of(tensor)) is not None:
            return row, names
    return None, ()


SHOWN = 20  # mismatches in a message


def fill(renamed: Renamed, model: Staged, spec: Any) -> Variables:
    """The variables of `model`, every leaf filled once.

    Raises:
      InputError: listing what does not match, on either side.
    """
    like = variable_shapes(model, spec)
    if problems := mismatches(renamed, like):
        raise InputError(f"the weights do not fit the model ({len(problems)} mismatches):{listed(problems)}")
    return jax.tree.unflatten(jax.tree.structure(like), [renamed.leaves[name] for name, _ in walk_shapes(like)])


def mismatches(renamed: Renamed, like: Variables) -> list[str]:
    """All that keeps the leaves from being variables of the shapes `like`, in words."""
    want = {name: leaf.shape for name, leaf in walk_shapes(like)}
    have, origin = renamed.leaves, renamed.origin
    problems = list(renamed.problems)
    for leaf, value in have.items():
        if leaf not in want:
            problems.append(f"{origin[leaf]} {value.shape}: would become {leaf}, which the model has not")
        elif value.shape != want[leaf]:
            problems.append(f"{origin[leaf]}: becomes {leaf} of shape {value.shape}, the model's has {want[leaf]}")
    return problems + [f"{leaf} {want[leaf]}: no tensor fills it" for leaf in sorted(want.keys() - have.keys())]


def body_mismatches(renamed: Renamed, model: Staged, spec: Any) -> list[str]:
    """As `mismatches`, of all stages of `model` but the head."""
    like = variable_shapes(model, spec)
    return mismatches(renamed, {kind: {k: v for k, v in held.items() if k != HEAD} for kind, held in like.items()})


def listed(problems: Sequence[str]) -> str:
    """The first of many, a line each."""
    more = [f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return "".join(f"\n  {problem}" for problem in [*problems[:SHOWN], *more])


def to_tensors(variables: Variables, table: Table) -> Iterator[tuple[str, np.ndarray]]:
    """The names and tensors of another library, from all leaves of `variables`; undoes `rename`.

    Raises:
      InputError: naming every leaf that no row of the table takes.
    """
    leaves = {name: np.asarray(leaf) for name, leaf in walk_shapes(variables)}
    taken: set[str] = set()
    found: dict[str, tuple[Row, tuple[str, ...]]] = {}
    for leaf in leaves:
        for row in table:
            there = row.tensor_of(leaf)
            if there is not None and all(name in leaves for name in there[1]):
                found[there[0]] = row, there[1]
                taken.update(there[1])
                break
    if missing := sorted(leaves.keys() - taken):
        raise InputError(f"no row of the table takes these arrays of the model: {', '.join(missing)}")
    for tensor, (row, names) in found.items():
        yield tensor, np.ascontiguousarray(row.change.to_theirs(*(leaves[name] for name in names)))
