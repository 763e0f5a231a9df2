"""Where examples come from: the base class `Source`, examples in memory, parts of a source and sources in a row."""

import dataclasses
import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxdl.data.content import content_hash, hash_leaves
from jaxdl.errors import InputError
from jaxdl.shown import Shown, counted, listed

if TYPE_CHECKING:
    import pandas as pd

Tree = Any  # a pytree: an array, or dicts, lists and tuples of arrays
PER_EXAMPLE = ("groups", "times", "names", "texts", "weights")  # attributes of a source with a value for each example


class Source(Shown):
    """Random access to labelled examples.

    To write one, subclass it and define ``__len__`` and ``__getitem__``; all the rest has a default that is right, if
    slow. ``source[i]`` is a dict of ``x``, what a network is given, and ``y``, what it is asked; each a numpy array or
    a pytree of them. ``y`` is absent where it is not known. A source does not change once it is made: what is computed
    from it is kept.

    Attributes:
      name: says to a reader where it came from.
      class_names: names of the outputs: of class 0, 1, …, or of the labels of a multi-label task; else empty.
      groups: one hashable value per example; examples of one group never stand on both sides of a split. Or None.
      times: one sortable value per example, or None.
      names: what to call each example in a table (a file's name), or None.
      weights: how much each example counts in the training loss, numbers of 0 or more ``[n]``; see `with_weights`. None
        where all count alike.
      texts: what each example is or was computed from, such as the sentence of an embedding: copies are looked for
        among them. Or None.
      columns: names of a table's features in order, or None.
      declared: of these, the features that were named as such: nobody asks whether they are an identity or a leak.
      folds: the fold that tests each example, one hashable value each, where the data says; the splitter ``auto`` takes
        them. Or None.
      target: names of the columns of a table that the targets come from, or None.
      notes: what was decided or left out when the examples were read, in words.
      bits: of images stored with 16 bits, how many are used, see `image_file.bits_used`; None without such images.
      preprocessing: what brings its examples to a network (`data.preprocessing`); None to choose it by their shape.
    """

    name: str = "examples"
    class_names: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    names: Sequence[str] | None = None
    weights: np.ndarray | None = None
    texts: Sequence[str] | None = None
    columns: tuple[str, ...] | None = None
    declared: frozenset[str] = frozenset()
    folds: np.ndarray | None = None
    target: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    preprocessing: Any = None
    bits: int | None = None

    COLUMNS_BY_NAME = True  # whether those of another table have to be called the same

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def in_memory(self) -> bool:
        """Whether its examples lie in this process's memory: sending it to another one would copy them."""
        return False

    def stacked(self) -> Tree | None:
        """Every ``x`` as arrays ``[n, …]`` where they are in memory already; else None."""
        return None

    def targets(self) -> Tree | None:
        """Every ``y`` as arrays ``[n, …]``, without decoding an ``x`` where that can be done; None without labels."""
        return self._read_targets

    @cached_property
    def _read_targets(self) -> Tree | None:
        targets = self._hashes_and_targets[1]
        if not targets:
            return None
        if len(targets) < len(self):
            raise InputError(f"{len(self) - len(targets)} of the {len(self)} examples of {self.name} have no y")
        stacked = stack(targets, f"the labels of {self.name}")
        _ = self._hashes  # so that the list of every y, a second copy, is needed no more
        vars(self).pop("_hashes_and_targets")
        return stacked

    def spec(self) -> dict[str, Any]:
        """Shape and type of the first example, ``{"x": …, "y": …}``; where shapes vary, see `shapes`."""
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), np.asarray(leaf).dtype), self[0])

    def shapes(self) -> set[tuple[int, ...]]:
        """Every shape of an ``x`` that occurs; of a pytree those of its first array."""
        return self._read_shapes

    @cached_property
    def _read_shapes(self) -> set[tuple[int, ...]]:
        return {np.shape(jax.tree.leaves(self[i]["x"])[0]) for i in range(len(self))}

    def describe_x(self) -> str:
        """The size of the images or the number of features, in words, without decoding more than the first example."""
        return describe_sizes({one.shape for one in jax.tree.leaves(self.spec()["x"])}) if len(self) else ""

    def thumbnail(self, index: int, side: int) -> np.ndarray:
        """The picture ``x`` of an example; may be smaller than it is, but not below `side` pixels."""
        return self[index]["x"]

    def original_size(self, index: int) -> tuple[int, int] | None:
        """Height and width of the image that an example was scaled from; None where it was not scaled."""
        return None

    def hashes(self) -> np.ndarray:
        """``uint64[n]``: a hash of what each ``x`` holds; see `content.content_hash`."""
        return self._hashes

    @cached_property
    def _hashes(self) -> np.ndarray:
        return np.array(self._hashes_and_targets[0], np.uint64)

    @cached_property
    def _hashes_and_targets(self) -> tuple[list[int], list[Tree]]:
        """The hash of every ``x`` and every ``y`` there is, in one pass: reading takes far longer than hashing."""
        hashes, targets = [], []
        for i in range(len(self)):
            example = self[i]
            hashes.append(content_hash(example["x"]))
            if "y" in example:
                targets.append(example["y"])
        return hashes, targets

    def fingerprint(self) -> str:
        """sha256 of the content: of every ``x`` and ``y`` in their order, of class names, groups, times and weights.

        It does not depend on where the examples are stored, nor on how a path to them is written.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{len(self)} {list(self.class_names)}".encode(errors="surrogateescape"))
        digest.update(self.hashes().astype("<u8").tobytes())
        hash_leaves(digest, self.targets())
        for values in (self.groups, self.times):
            array = np.asarray([] if values is None else values)
            if array.dtype.kind in "OUS":  # as a list: the width of numpy's strings depends on the longest
                array = np.frombuffer(repr(array.tolist()).encode(errors="surrogateescape"), np.uint8)
            hash_leaves(digest, array)
        if self.weights is not None:
            hash_leaves(digest, np.asarray(self.weights, np.float64))
        return digest.hexdigest()

    def take(self, indices: np.ndarray) -> "Source":
        """The examples `indices`, in that order; `subset` checks the indices first."""
        return Subset(self, indices)

    def with_groups(self, groups: np.ndarray) -> "Source":
        """The same examples with other groups, one value each."""
        return Subset(self, np.arange(len(self)), groups)

    def with_weights(self, weights: np.ndarray) -> "Source":
        """The same examples with other weights; the function `with_weights` checks them first."""
        return Subset(self, np.arange(len(self)), None, weights)

    def with_bits(self, bits: int) -> "Source":
        """The same examples, of which images stored with 16 bits are read as if they used this many."""
        return self

    def with_columns(self, columns: tuple[str, ...]) -> "Source":
        """A table's features in another order; `arrange_columns` checks the names first."""
        raise InputError(
            f"{self.name} has its columns in another order than {', '.join(columns)}, and a {type(self).__name__} "
            "cannot put them into it: define with_columns"
        )

    def with_levels(self, levels: Sequence[Sequence[str]]) -> "Source":
        """A table's categories as places in other lists of levels, one for each column; empty ones mean numbers."""
        if not any(levels):
            return self
        raise InputError(
            f"{self.name} is a {type(self).__name__} of numbers, but the network was trained on a table with "
            "categories; data.csv reads one"
        )

    def join(self, other: "Source", targets: Tree) -> "Source":
        """This source followed by another one; `targets` are those of both, as this source means them."""
        return Joined(self, other, targets)

    def to_frame(self) -> "pd.DataFrame":
        """A row for each example: ``name``, ``target`` (``target:NAME`` where it has several), ``group``, …

        Also ``time``, ``weight`` and ``text``.
        Columns that the source does not have are left out. A table's features follow; pictures, and targets that are
        maps, have no column.
        """
        from jaxdl.data.as_frame import as_frame  # pandas takes its time

        return as_frame(self)

    def _facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "examples": len(self),
            "of": _shape_in_words(self[0]["x"]) if self.in_memory and len(self) else None,
            "classes": listed(self.class_names),
            "columns": listed(self.columns or ()),
            "groups": None if self.groups is None else len(set(np.asarray(self.groups).tolist())),
            "weights": f"{min(self.weights):.4g} to {max(self.weights):.4g}"
            if self.weights is not None and len(self)
            else None,
            "times": f"{min(self.times)} to {max(self.times)}" if self.times is not None and len(self) else None,
            "notes": "; ".join(self.notes) or None,
        }


def _shape_in_words(x: Tree) -> str:
    leaves = [f"{np.asarray(leaf).dtype}{list(np.shape(leaf))}" for leaf in jax.tree.leaves(x)]
    return " + ".join(leaves)


def describe_sizes(shapes: Collection[tuple[int, ...]]) -> str:
    """Shapes of examples in words: ``28 × 28 pixels, grey``, ``160 × 160 to 160 × 240 pixels, colour``, ``4 features``.

    Sizes of images are height × width, the smallest and the largest by area.
    """
    if shapes and all(len(shape) == 3 for shape in shapes):
        sizes = sorted({shape[:2] for shape in shapes}, key=lambda size: (size[0] * size[1], size))
        ends = " to ".join(f"{height} × {width}" for height, width in dict.fromkeys([sizes[0], sizes[-1]]))
        bands = [{1: "grey", 3: "colour"}.get(n, f"{n} channels") for n in sorted({shape[2] for shape in shapes})]
        return f"{ends} pixels, {' and '.join(bands)}"
    if len(shapes) == 1 and len(shape := next(iter(shapes))) == 1:
        return counted(shape[0], "feature")
    return " and ".join(f"arrays of {' × '.join(map(str, shape)) or 'one number'}" for shape in sorted(shapes))


def stack(rows: Sequence[Tree], what: str) -> Tree:
    """Pytrees of arrays as one whose arrays have the rows as first axis.

    Raises:
      InputError: naming `what`, if they differ in structure or shape.
    """
    try:
        return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *rows)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{what} differ in shape or structure ({error}); expected the same for every example"
        ) from error


def every_x(source: Source) -> Tree:
    """Every ``x`` as arrays ``[n, …]``, read where they are not in memory. Raises InputError if shapes differ."""
    held = source.stacked()
    return stack([source[i]["x"] for i in range(len(source))], f"the x of {source.name}") if held is None else held


def pick(values: Any, indices: np.ndarray) -> Any:
    """Some of one value per example, of an array or a list; None of None."""
    if values is None:
        return None
    return values[indices] if isinstance(values, np.ndarray) else [values[i] for i in indices]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Arrays(Source):
    """A source in memory; attributes as in `Source`.

    Attributes:
      x: uint8 images ``[n, height, width, channels]``, floats ``[n, …]``, or a pytree of arrays ``[n, …]``.
      labels: ``y`` of every example, ``[n, …]`` or a pytree of such; None if unknown.
    """

    x: Tree
    labels: Tree | None = None
    class_names: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    names: Sequence[str] | None = None
    name: str = "arrays"
    columns: tuple[str, ...] | None = None
    texts: Sequence[str] | None = None
    notes: tuple[str, ...] = ()
    weights: np.ndarray | None = None

    @property
    def in_memory(self) -> bool:
        return True

    def stacked(self) -> Tree:
        return self.x

    def targets(self) -> Tree | None:
        return self.labels

    def spec(self) -> dict[str, Any]:
        def one(array: np.ndarray) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(array.shape[1:], array.dtype)

        return jax.tree.map(one, self._held)

    @property
    def _held(self) -> dict[str, Tree]:
        return {"x": self.x} if self.labels is None else {"x": self.x, "y": self.labels}

    def shapes(self) -> set[tuple[int, ...]]:
        return {jax.tree.leaves(self.x)[0].shape[1:]}

    def take(self, indices: np.ndarray) -> "Arrays":
        chosen = {name: pick(getattr(self, name), indices) for name in PER_EXAMPLE}
        x, labels = (jax.tree.map(lambda a: np.asarray(a)[indices], tree) for tree in (self.x, self.labels))
        return dataclasses.replace(self, x=x, labels=labels, **chosen)

    def with_groups(self, groups: np.ndarray) -> "Arrays":
        return dataclasses.replace(self, groups=groups)

    def with_weights(self, weights: np.ndarray) -> "Arrays":
        return dataclasses.replace(self, weights=weights)

    def with_columns(self, columns: tuple[str, ...]) -> "Arrays":
        return dataclasses.replace(self, x=self.x[:, [self.columns.index(name) for name in columns]], columns=columns)

    def join(self, other: Source, targets: Tree) -> Source:
        theirs = other.stacked()
        one, two = jax.tree.flatten(self.x), jax.tree.flatten(theirs)
        alike = one[1] == two[1] and all(
            (a.shape[1:], a.dtype) == (b.shape[1:], b.dtype) for a, b in zip(one[0], two[0], strict=True)
        )
        if not alike:
            return Joined(self, other, targets)
        x = jax.tree.map(lambda a, b: np.concatenate([a, b]), self.x, theirs)
        both = Joined(self, other, targets)
        kept = {name: getattr(both, name) for name in PER_EXAMPLE}
        notes = tuple(dict.fromkeys((*self.notes, *other.notes)))
        return Arrays(x, targets, self.class_names, name=self.name, columns=self.columns, notes=notes, **kept)

    def __len__(self) -> int:
        return len(jax.tree.leaves(self.x)[0])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return jax.tree.map(lambda array: array[index], self._held)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Subset(Source):
    """The examples `indices` of another source, in that order, with other groups and weights where these are given."""

    source: Source
    indices: np.ndarray
    regrouped: np.ndarray | None = None
    reweighted: np.ndarray | None = None

    name = property(lambda self: self.source.name)
    class_names = property(lambda self: self.source.class_names)
    columns = property(lambda self: self.source.columns)
    declared = property(lambda self: self.source.declared)
    target = property(lambda self: self.source.target)
    folds = property(lambda self: pick(self.source.folds, self.indices))
    preprocessing = property(lambda self: self.source.preprocessing)
    bits = property(lambda self: self.source.bits)
    notes = property(lambda self: self.source.notes)
    in_memory = property(lambda self: self.source.in_memory)
    times = property(lambda self: pick(self.source.times, self.indices))
    names = property(lambda self: pick(self.source.names, self.indices))
    texts = property(lambda self: pick(self.source.texts, self.indices))

    @property
    def groups(self) -> np.ndarray | None:
        return pick(self.source.groups, self.indices) if self.regrouped is None else self.regrouped

    @property
    def weights(self) -> np.ndarray | None:
        return pick(self.source.weights, self.indices) if self.reweighted is None else self.reweighted

    def stacked(self) -> Tree | None:
        return jax.tree.map(lambda array: array[self.indices], self.source.stacked())

    def targets(self) -> Tree | None:
        return jax.tree.map(lambda array: array[self.indices], self.source.targets())

    def spec(self) -> dict[str, Any]:
        return super().spec() if len(self) else self.source.spec()

    def shapes(self) -> set[tuple[int, ...]]:
        """Also those of examples that are left out: to tell them apart would take decoding."""
        return self.source.shapes()

    def describe_x(self) -> str:
        return self.source.describe_x()

    def thumbnail(self, index: int, side: int) -> np.ndarray:
        return self.source.thumbnail(int(self.indices[index]), side)

    def original_size(self, index: int) -> tuple[int, int] | None:
        return self.source.original_size(int(self.indices[index]))

    def hashes(self) -> np.ndarray:
        return self.source.hashes()[self.indices]

    def take(self, indices: np.ndarray) -> "Subset":
        chosen = pick(self.regrouped, indices), pick(self.reweighted, indices)
        return Subset(self.source, self.indices[indices], *chosen)

    def with_groups(self, groups: np.ndarray) -> "Subset":
        return dataclasses.replace(self, regrouped=groups)

    def with_weights(self, weights: np.ndarray) -> "Subset":
        return dataclasses.replace(self, reweighted=weights)

    def with_columns(self, columns: tuple[str, ...]) -> "Subset":
        return dataclasses.replace(self, source=self.source.with_columns(columns))

    def with_levels(self, levels: Sequence[Sequence[str]]) -> "Subset":
        return dataclasses.replace(self, source=self.source.with_levels(levels))

    def with_bits(self, bits: int) -> "Subset":
        return dataclasses.replace(self, source=self.source.with_bits(bits))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.source[int(self.indices[index])]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Joined(Source):
    """A source followed by another one; `labels` are the targets of both, as the first one means them."""

    one: Source
    two: Source
    labels: Tree

    name = property(lambda self: self.one.name)
    class_names = property(lambda self: self.one.class_names)
    columns = property(lambda self: self.one.columns)
    declared = property(lambda self: self.one.declared)
    target = property(lambda self: self.one.target)
    preprocessing = property(lambda self: self.one.preprocessing)
    bits = property(lambda self: self.one.bits if self.one.bits is not None else self.two.bits)
    notes = property(lambda self: (*self.one.notes, *self.two.notes))
    in_memory = property(lambda self: self.one.in_memory or self.two.in_memory)
    groups = property(lambda self: self._both("groups"))
    times = property(lambda self: self._both("times"))
    texts = property(lambda self: self._both("texts"))

    @property
    def weights(self) -> np.ndarray | None:
        """Of both; 1 for the examples of a source without."""
        given = [source.weights for source in (self.one, self.two)]
        if all(one is None for one in given):
            return None
        counts = len(self.one), len(self.two)
        return np.concatenate([np.ones(n) if w is None else w for w, n in zip(given, counts, strict=True)])

    @property
    def names(self) -> Sequence[str] | None:
        """Where either has none, what its examples come from with their number there; None where that is the same."""
        parts = (self.one, self.two)
        if all(part.names is None for part in parts) and self.one.name == self.two.name:
            return None
        return [
            name
            for part in parts
            for name in (part.names if part.names is not None else [f"{part.name}[{i}]" for i in range(len(part))])
        ]

    def _both(self, what: str) -> Any:
        """One value per example of both; None where either has none."""
        one, two = getattr(self.one, what), getattr(self.two, what)
        if one is None or two is None:
            return None
        if not isinstance(one, np.ndarray):
            return [*one, *two]
        if one.dtype.kind == two.dtype.kind:
            return np.concatenate([one, two])
        return np.array([*one.tolist(), *two.tolist()], object)

    def targets(self) -> Tree:
        return self.labels

    def spec(self) -> dict[str, Any]:
        y = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape[1:], array.dtype), self.labels)
        return {"x": self.one.spec()["x"], "y": y}

    def shapes(self) -> set[tuple[int, ...]]:
        return self.one.shapes() | self.two.shapes()

    def thumbnail(self, index: int, side: int) -> np.ndarray:
        source, place = self._where(index)
        return source.thumbnail(place, side)

    def original_size(self, index: int) -> tuple[int, int] | None:
        source, place = self._where(index)
        return source.original_size(place)

    def hashes(self) -> np.ndarray:
        return np.concatenate([self.one.hashes(), self.two.hashes()])

    def with_columns(self, columns: tuple[str, ...]) -> "Joined":
        return Joined(self.one.with_columns(columns), self.two.with_columns(columns), self.labels)

    def with_levels(self, levels: Sequence[Sequence[str]]) -> "Joined":
        return Joined(self.one.with_levels(levels), self.two.with_levels(levels), self.labels)

    def with_bits(self, bits: int) -> "Joined":
        return dataclasses.replace(self, one=self.one.with_bits(bits), two=self.two.with_bits(bits))

    def _where(self, index: int) -> tuple[Source, int]:
        index, first = range(len(self))[index], len(self.one)  # which counts -1 from the end
        return (self.one, index) if index < first else (self.two, index - first)

    def __len__(self) -> int:
        return len(self.one) + len(self.two)

    def __getitem__(self, index: int) -> dict[str, Any]:
        source, place = self._where(index)
        return {"x": source[place]["x"], "y": jax.tree.map(lambda array: array[index], self.labels)}


def check_source(source: Any) -> Source:
    """Raises InputError unless `source` is a `Source`."""
    if isinstance(source, Source):
        return source
    raise InputError(
        f"the examples are a {type(source).__name__}; expected a data.Source: data.arrays(x, y), data.folder(path) and "
        "others make one, and a class of your own is a subclass of data.Source with __len__ and __getitem__"
    )


def subset(source: Source, indices: Sequence[int] | np.ndarray) -> Source:
    """The examples `indices` of `source`, which keeps its classes, groups and times.

    Raises:
      InputError: if an index is no whole number or outside the source.
    """
    check_source(source)
    indices = np.asarray(indices)
    if indices.size and indices.dtype.kind not in "ui":
        raise InputError(f"indices are {indices.dtype}; expected whole numbers; numpy.flatnonzero makes them of a mask")
    indices = indices.astype(np.int64)
    if indices.size and (indices.min() < 0 or indices.max() >= len(source)):
        raise InputError(f"indices {indices.min()} to {indices.max()} reach outside the {len(source)} examples")
    return source.take(indices)


def with_groups(source: Source, groups: np.ndarray) -> Source:
    """`source` with other groups. Raises InputError if there is not one for every example."""
    groups = np.asarray(groups)
    if len(groups) != len(source):
        raise InputError(f"{source.name} has {len(source)} examples, but groups has {len(groups)}; they must match")
    return source.with_groups(groups)


def with_weights(source: Source, weights: np.ndarray) -> Source:
    """`source` with weights, by which its examples count in training.

    The loss of a batch is the weighted mean of its examples' losses, and what is fitted to a training part (mean and
    standard deviation of inputs and of numbers to predict, the balance of classes) is weighted, too: with whole batches
    a weight of 2 is what the example twice would be, and an example of weight 0 is left out. Scores are not weighted:
    each tested example counts once.

    Args:
      source: the examples.
      weights: numbers of 0 or more ``[n]``, not all 0. Only their ratios matter.

    Raises:
      InputError: for other weights.
    """
    return source.with_weights(check_weights(weights, len(source), source.name))


def check_weights(weights: Any, count: int, name: str) -> np.ndarray:
    """``float64[count]`` of `weights`. Raises InputError, naming the examples, for what cannot be weights."""
    weights = np.asarray(weights)
    if weights.dtype.kind not in "uifb" or weights.shape != (count,):
        raise InputError(
            f"{name}: weights are {weights.dtype}{list(weights.shape)}; expected a number for each of {count} examples"
        )
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise InputError(f"{name}: the weight at index {bad[0]} is {weights[bad[0]]}; expected a number of 0 or more")
    if not weights.any():
        raise InputError(f"{name}: all weights are 0; expected one or more above 0")
    return weights.astype(np.float64)


def arrange_columns(source: Source, like: Any) -> Source:
    """`source` with its features in the order, and its categories in the levels, that a network was trained on.

    Where either has no names there is nothing to arrange.

    Args:
      source: to be arranged.
      like: what has ``columns`` and ``preprocessing``: the card of a checkpoint, or the source that was trained on.

    Raises:
      InputError: if the features are others.
    """
    columns, had = like.columns, source.columns
    if columns is None or had is None or not source.COLUMNS_BY_NAME:
        return source
    if sorted(had) != sorted(columns):
        missing, foreign = sorted(set(columns) - set(had)), sorted(set(had) - set(columns))
        raise InputError(
            f"{source.name} has other columns than the network was trained on: it lacks "
            f"{', '.join(missing) or 'none'}, and {', '.join(foreign) or 'none'} are not known to it. (A target column "
            "of another name than target, label, class or y is named behind the file: FILE.csv:COLUMN. From Python "
            "data.csv(path, like=checkpoint.card) reads the columns that the network knows)"
        )
    arranged = source if had == tuple(columns) else source.with_columns(tuple(columns))
    return arranged.with_levels(levels_of(like))


def levels_of(like: Any) -> tuple[tuple[str, ...], ...]:
    """Of each column of a source, or of a checkpoint's card, the texts that occur; empty for a column of numbers."""
    return getattr(like.preprocessing, "levels", None) or ((),) * len(like.columns)


def describe_content(source: Source) -> Mapping[str, Any]:
    """Name, number and fingerprint of the examples, as a run's folder notes them."""
    return {"name": source.name, "examples": len(source), "sha256": source.fingerprint()}
