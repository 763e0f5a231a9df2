"""Where examples come from: the `Source` protocol and the source that is already in memory."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxdl.data.folder import ImageFiles
from jaxdl.errors import InputError


@runtime_checkable
class Source(Protocol):
    """Random access to labelled examples.

    ``source[i]`` is a dict of numpy arrays: ``x`` (an image ``uint8[height, width, channels]`` of any size, or numbers
    ``float32[…]`` of one shape) and ``y`` (its class, or for regression its number; absent if unknown).

    Attributes:
      name: says to a reader where it came from.
      class_names: name of class 0, 1, …; empty for regression and if the examples carry no labels.
      labels: int32[n] of classes, or float32[n] of numbers for regression (see `holds_numbers`), or None without
        labels. Known without reading the examples, so that splits cost nothing.
      groups: one hashable value per example; examples of one group never stand on both sides of a split. Or None.
      times: one sortable value per example, or None.
      names: what to call each example in a table (a file's name), or None.
    """

    name: str
    class_names: tuple[str, ...]
    labels: np.ndarray | None
    groups: np.ndarray | None
    times: np.ndarray | None
    names: Sequence[str] | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
    """A source in memory: `x` ``[n, …]`` uint8 images or floats; the other attributes as in `Source`.

    `columns` are the names of a table's features, None where there are none. `texts` are what each row of numbers was
    computed from, such as the sentence of an embedding; copies are looked for among them.
    """

    x: np.ndarray
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    names: Sequence[str] | None = None
    name: str = "arrays"
    columns: tuple[str, ...] | None = None
    texts: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = {"x": self.x[index]}
        if self.labels is not None:
            example["y"] = self.labels[index]
        return example


@dataclasses.dataclass(frozen=True, eq=False)
class Subset:
    """The examples `indices` of another source, in that order."""

    source: Source
    indices: np.ndarray

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    @property
    def labels(self) -> np.ndarray | None:
        return self._pick(self.source.labels)

    @property
    def groups(self) -> np.ndarray | None:
        return self._pick(self.source.groups)

    @property
    def times(self) -> np.ndarray | None:
        return self._pick(self.source.times)

    @property
    def names(self) -> Sequence[str] | None:
        return None if self.source.names is None else [self.source.names[i] for i in self.indices]

    def _pick(self, values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.source[int(self.indices[index])]


def holds_numbers(source: Source) -> bool:
    """Whether the labels are numbers to be regressed on, rather than classes: they are floats."""
    return source.labels is not None and np.asarray(source.labels).dtype.kind == "f"


def subset(source: Source, indices: Sequence[int] | np.ndarray) -> Source:
    """The examples `indices` of `source`, which keeps its classes, groups and times.

    Raises:
      InputError: if an index is no whole number or outside the source.
    """
    indices = np.asarray(indices)
    if indices.size and indices.dtype.kind not in "ui":
        raise InputError(f"indices are {indices.dtype}; expected whole numbers; numpy.flatnonzero makes them of a mask")
    indices = indices.astype(np.int64)
    if indices.size and (indices.min() < 0 or indices.max() >= len(source)):
        raise InputError(f"indices {indices.min()} to {indices.max()} reach outside the {len(source)} examples")
    if isinstance(source, ImageFiles):
        return source.take(indices)
    if isinstance(source, Arrays):
        pick = lambda values: None if values is None else np.asarray(values)[indices]  # noqa: E731
        names = None if source.names is None else [source.names[i] for i in indices]
        return dataclasses.replace(
            source,
            x=source.x[indices],
            labels=pick(source.labels),
            groups=pick(source.groups),
            times=pick(source.times),
            names=names,
            texts=None if source.texts is None else [source.texts[i] for i in indices],
        )
    return Subset(source, indices)


def with_groups(source: Source, groups: np.ndarray) -> Source:
    """`source` with other groups.

    Raises:
      InputError: if there is not one for every example, or the source cannot hold any.
    """
    groups = np.asarray(groups)
    if len(groups) != len(source):
        raise InputError(f"{source.name} has {len(source)} examples, but groups has {len(groups)}; they must match")
    if isinstance(source, Subset):
        inner = -1 - np.arange(len(source.source))  # those that are not in the subset: a group each
        inner[source.indices] = np.unique(groups, return_inverse=True)[1]
        return Subset(with_groups(source.source, inner), source.indices)
    if not dataclasses.is_dataclass(source) or "groups" not in {f.name for f in dataclasses.fields(source)}:
        raise InputError(f"{source.name} is a {type(source).__name__}, which cannot be given groups; set its `groups`")
    return dataclasses.replace(source, groups=groups)


@dataclasses.dataclass(frozen=True, eq=False)
class Joined:
    """A source followed by another one; `labels` are those of both, in the classes of the first."""

    one: Source
    two: Source
    labels: np.ndarray
    groups: None = None
    times: None = None
    names: None = None

    @property
    def name(self) -> str:
        return self.one.name

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.one.class_names

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        part = self.one[index] if index < len(self.one) else self.two[index - len(self.one)]
        return {"x": part["x"], "y": self.labels[index]}


def concatenate(one: Source, two: Source, labels: np.ndarray) -> Source:
    """Both sources as one with the classes of the first; see `Joined`.

    Raises:
      InputError: if one holds numbers and the other something of another shape.
    """
    in_memory = isinstance(one, Arrays) and isinstance(two, Arrays)
    if in_memory and (one.x.shape[1:], one.x.dtype) == (two.x.shape[1:], two.x.dtype):
        x = np.concatenate([one.x, two.x])
        texts = None if one.texts is None or two.texts is None else [*one.texts, *two.texts]
        return Arrays(x, labels, one.class_names, name=one.name, columns=one.columns, texts=texts)
    for this, other in ((one, two), (two, one)):
        if isinstance(this, Arrays) and this.x.dtype != np.uint8:
            raise InputError(
                f"{this.name} holds {this.x.dtype}{list(this.x.shape[1:])}; the examples of {other.name} are of "
                "another shape or kind"
            )
    return Joined(one, two, labels)


def check_labelled(source: Source, *, purpose: str) -> None:
    """Raises InputError unless `source` holds labelled examples of at least two classes, or numbers to regress on."""
    if len(source) == 0:
        raise InputError(f"{source.name} holds no examples; {purpose} needs some")
    if source.labels is None:
        raise InputError(f"{source.name} has no labels; {purpose} needs a class or a number for every example")
    labels, classes = source.labels, len(source.class_names)
    if not isinstance(labels, np.ndarray) or labels.shape != (len(source),) or labels.dtype.kind not in "uif":
        raise InputError(
            f"the labels of {source.name} are no array of {len(source)} whole numbers (classes) or floats (regression);"
            " see data.arrays"
        )
    if labels.dtype.kind == "f":
        _check_numbers(source, labels, purpose)
        return
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"the labels of {source.name} run from {labels.min()} to {labels.max()}; with {classes} class names "
            f"expected 0 to {classes - 1}"
        )
    present = np.unique(labels)
    if len(present) < 2:
        only = source.class_names[present[0]]
        raise InputError(
            f"{source.name} holds a single class ('{only}'); {purpose} needs examples of at least two classes"
        )


def _check_numbers(source: Source, labels: np.ndarray, purpose: str) -> None:
    if source.class_names:
        raise InputError(
            f"the labels of {source.name} are {labels.dtype} but it names classes; classes are whole numbers from 0"
        )
    if len(bad := np.flatnonzero(~np.isfinite(labels))):
        raise InputError(
            f"{len(bad)} labels of {source.name} are NaN or infinity, the first at index {bad[0]}; remove them"
        )
    if len(labels) < 2:
        raise InputError(f"{source.name} holds a single example; {purpose} needs at least two")


def texts_of(source: Source) -> Sequence[str] | None:
    """The text that each example is, or was computed from; None if there is none, or not of all."""
    if isinstance(source, Subset):
        texts = texts_of(source.source)
        return None if texts is None else [texts[i] for i in source.indices]
    if isinstance(source, Joined):
        one, two = texts_of(source.one), texts_of(source.two)
        return None if one is None or two is None else [*one, *two]
    return getattr(source, "texts", None)


def columns_of(source: Source) -> tuple[str, ...] | None:
    """Names of a table's features in order, None where they have none."""
    return source.columns if isinstance(source, Arrays) else None


def arrange_columns(source: Source, columns: Sequence[str] | None) -> Source:
    """`source` with its features in the order of `columns`, those that a network was trained on.

    Where either has no names there is nothing to arrange.

    Raises:
      InputError: if the features are others.
    """
    had = columns_of(source)
    if columns is None or had is None or had == tuple(columns):
        return source
    if sorted(had) != sorted(columns):
        missing, foreign = sorted(set(columns) - set(had)), sorted(set(had) - set(columns))
        raise InputError(
            f"{source.name} has other columns than the network was trained on: it lacks "
            f"{', '.join(missing) or 'none'}, and {', '.join(foreign) or 'none'} are not known to it. (A target column "
            "of another name than target, label, class or y is named behind the file: FILE.csv:COLUMN)"
        )
    return dataclasses.replace(source, x=source.x[:, [had.index(name) for name in columns]], columns=tuple(columns))
