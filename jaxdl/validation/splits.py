"""Who is tested on what: the division that a splitter makes, and what says whether two divisions are the same."""

import dataclasses
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.data.content import hash_indices, hash_values
from jaxdl.data.source import Source
from jaxdl.errors import InputError, nearest
from jaxdl.parallel.memory import free_memory
from jaxdl.shown import Shown
from jaxdl.tasks import Task, choose_task
from jaxdl.validation.given_folds import GIVEN, Pair, are_folds, check_folds
from jaxdl.validation.splitters import (
    GROUPED,
    PURGED,
    SPLITTERS,
    TIMED,
    UNSHUFFLED,
    Splitter,
    Splitting,
    check_possible,
    describe_object,
    make_splitter,
    name_of_class,
)
from jaxdl.weights.buckets import place_of
from jaxdl.weights.files import check_format, check_free, read_npz, reading, write_bytes

__all__ = ["SPLITTERS", "Split", "Splitter", "Splitting", "load_split", "make_splitter", "split_source"]

if TYPE_CHECKING:
    import pandas as pd

SPLIT = "split.npz"
FORMAT = 1
FEW = 20  # folds, up to which a manifest lists their sizes
MANIFEST = ("kind", "seed", "examples", "options", "groups_sha256", "times_sha256")
PER_EXAMPLE = ("times", "ends")  # what a file holds of every example, where it is known
REST = -1  # stands for the size of a training part that is all but the test part, in rising order


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Split(Shown):
    """A division of examples into training and test parts, fold by fold; scikit-learn takes it as a splitter.

    Attributes:
      kind: the splitter's name, or its class.
      seed: of its shuffling, None where nothing was shuffled or it is not known.
      train: indices of each fold's training part.
      test: indices of each fold's test part. An example may be tested by several folds, or by none.
      examples: how many there are in the source; None if that is not known.
      options: of the splitter, by name.
      groups_sha256: of the groups of all examples, whatever they are called; None without groups.
      times_sha256: of the times of all examples, where the splitter went by them, else None.
      fingerprint: of the examples (`data.Source.fingerprint`); known of what was saved.
      like: the name of `SPLITTERS` for what the folds are; by default that of `kind`. See `name`.
      times: when each example was taken, ``[n]``, where the splitter went by it.
      ends: when each label was known, ``[n]``, where the splitter was given that instead of a horizon.
      made_by: the splitter object; None where there was a name, or of what was loaded.
      in_blocks: whether every test part is a stretch of time of the source, whatever made the folds: their scores
        depend on one another as those of a splitter by time do.
    """

    kind: str
    seed: int | None
    train: Sequence[np.ndarray]
    test: Sequence[np.ndarray]
    examples: int | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    groups_sha256: str | None = None
    times_sha256: str | None = None
    fingerprint: str | None = None
    like: str | None = None
    times: np.ndarray | None = dataclasses.field(default=None, repr=False)
    ends: np.ndarray | None = dataclasses.field(default=None, repr=False)
    made_by: Any = dataclasses.field(default=None, repr=False)
    in_blocks: bool = False

    def __len__(self) -> int:
        return len(self.train)

    @property
    def name(self) -> str | None:
        """The name of `SPLITTERS` for what the folds are, however they were given; None if there is none."""
        return self.like or name_of_class(self.kind)

    @property
    def timed(self) -> bool:
        """Whether test parts are later than training parts, or purged against them."""
        return self.name in TIMED

    @property
    def purged(self) -> bool:
        """Whether folds train before and after their test part, less what would leak between the two."""
        return self.name in PURGED

    @property
    def forward(self) -> bool:
        """Whether every test part is later than all that its fold trains on."""
        return self.timed and not self.purged

    @property
    def grouped(self) -> bool:
        """Whether the splitter keeps groups whole."""
        return self.name in GROUPED

    @property
    def sha256(self) -> str:
        """Of all indices in order: two results with the same hash have the same folds."""
        return hash_indices([part for pair in zip(self.train, self.test, strict=True) for part in pair])

    def to_frame(self) -> "pd.DataFrame":
        """A row for each example of each fold: ``fold``, ``part`` (``train`` or ``test``) and ``example``."""
        import pandas as pd

        rows = [
            pd.DataFrame({"fold": fold, "part": name, "example": part})
            for fold, parts in enumerate(zip(self.train, self.test, strict=True))
            for name, part in zip(("train", "test"), parts, strict=True)
        ]
        return pd.concat(rows, ignore_index=True)

    def _facts(self) -> dict[str, Any]:
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        facts = {"kind": self.kind, "folds": len(self), "examples": self.examples, "options": options or None}
        return facts | {"seed": self.seed, "sha256": f"{self.sha256[:12]}…"}

    def _preview(self) -> "pd.DataFrame":
        import pandas as pd

        sizes = [(fold, len(a), len(b)) for fold, (a, b) in enumerate(zip(self.train, self.test, strict=True))]
        return pd.DataFrame(sizes, columns=["fold", "train", "test"])

    def as_dict(self) -> dict[str, Any]:
        """The manifest: ``kind``, ``k``, ``seed``, ``sha256``, ``examples``, ``options``, hashes of groups and times.

        Also ``like``, see `name`, and ``timed``, true of folds that are `in_blocks`, too. Of up to `FEW` folds also
        ``sizes``, ``{"train", "test"}`` of each.
        """
        sizes = [{"train": len(a), "test": len(b)} for a, b in zip(self.train, self.test, strict=True)]
        return {
            "kind": self.kind,
            "k": len(self),
            "seed": self.seed,
            "sha256": self.sha256,
            "examples": self.examples,
            "options": dict(self.options),
            "groups_sha256": self.groups_sha256,
            "times_sha256": self.times_sha256,
            "like": self.name,
            "timed": self.timed or self.in_blocks,
        } | ({"sizes": sizes} if len(sizes) <= FEW else {})

    def split(
        self,
        X: Any = None,
        y: Any = None,
        groups: Any = None,
    ) -> Iterator[Pair]:
        """The folds, as scikit-learn asks for them. Raises InputError if `X` holds another number of examples."""
        if X is not None and self.examples is not None:
            count = X.shape[0] if hasattr(X, "shape") else len(X)
            if count != self.examples:
                raise InputError(f"the split is one of {self.examples} examples, not of {count}")
        yield from zip(self.train, self.test, strict=True)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        return len(self)

    def save(self, path: str | Path, source: Source | None = None) -> Path:
        """Writes the indices and the manifest to a new file ``.npz``, all or nothing.

        Args:
          path: of the file.
          source: what was divided; its hash is noted, so that the folds cannot be used on other examples.

        Raises:
          InputError: if something is there already.
        """
        path = check_free(path)
        count = self.examples if source is None else len(source)
        known = self.fingerprint if source is None else source.fingerprint()
        manifest = self.as_dict() | {"format": FORMAT, "examples": count, "fingerprint": known}
        parts = [_packed(train, test, count) for train, test in zip(self.train, self.test, strict=True)]
        arrays = {
            "train_sizes": np.array([REST if part is None else len(part) for part in parts]),
            "train": np.concatenate([part for part in parts if part is not None] or [np.zeros(0, np.int64)]),
            "test_sizes": np.array([len(test) for test in self.test]),
            "test": np.concatenate(self.test),
        }
        arrays |= {key: getattr(self, key) for key in PER_EXAMPLE if getattr(self, key) is not None}
        file = io.BytesIO()
        np.savez_compressed(file, manifest=np.array(json.dumps(manifest)), **arrays)
        write_bytes(path, file.getvalue())
        return path


def _packed(train: np.ndarray, test: np.ndarray, count: int | None) -> np.ndarray | None:
    """None where the training part is just the rest: leave-one-out would else write n² numbers."""
    return None if count is not None and np.array_equal(train, _rest(test, count)) else train


def _rest(test: np.ndarray, count: int) -> np.ndarray:
    return np.setdiff1d(np.arange(count), test)


def load_split(path: str | Path) -> Split:
    """What `Split.save` wrote.

    Args:
      path: the file, or a folder that holds it as ``split.npz``: a run of cross-validate, or what ``jaxdl split`` made.

    Raises:
      InputError: if it is not there, damaged, or of a newer jaxdl.
    """
    path = place_of(path)
    path = path / SPLIT if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"there is no split '{path}'; jaxdl split and cross-validate write {SPLIT}")
    held = read_npz(path)
    with reading(path):
        manifest = json.loads(str(held["manifest"]))
        check_format(manifest["format"], FORMAT)
        test = np.split(held["test"], np.cumsum(held["test_sizes"])[:-1])
        sizes, given = held["train_sizes"], held["train"]
        parts = iter(np.split(given, np.cumsum(sizes[sizes != REST])[:-1]))
        count = manifest["examples"]
        _check_count(count, int((sizes == REST).sum()))
        train = [_rest(part, count) if size == REST else next(parts) for size, part in zip(sizes, test, strict=True)]
        known = {name: manifest[name] for name in MANIFEST} | {name: held.get(name) for name in PER_EXAMPLE}
        known |= {name: manifest.get(name) for name in ("like", "fingerprint")}  # older files have neither
        split = Split(train=train, test=test, **known)
        split = dataclasses.replace(split, in_blocks=bool(manifest.get("timed")) and not split.timed)
        if split.like not in (None, *SPLITTERS):
            raise ValueError(f"like is {split.like!r}")
        if split.sha256 != manifest["sha256"]:
            raise ValueError("its indices are not those that its hash is of")
    return split


def _check_count(count: int, parts: int) -> None:
    """Raises ValueError unless there can be as many examples: `parts` parts are all of them but a few."""
    free = free_memory()
    if type(count) is not int or count < 0 or (free is not None and 8 * count * parts > free):
        raise ValueError(f"it says that there are {count!r:.50} examples")


def auto_splitter(source: Source, strata: np.ndarray | None) -> str:
    """The name that ``auto`` stands for: strata, such as classes, keep their shares, and groups stay whole."""
    if source.groups is None:
        return "kfold" if strata is None else "stratified"
    return "group" if strata is None else "stratified-group"


def split_source(
    source: Source, splitter: str | Path | Splitting | Any, folds: int, seed: int, task: Task | None = None
) -> Split:
    """Divides `source`.

    Args:
      source: labelled; its `groups` and `times` are passed on.
      splitter: a name of `SPLITTERS` (for ``auto`` see `auto_splitter`, or the source's own `folds` if it has some),
        a `Splitting`: a name with options, any object
        with scikit-learn's ``split(X, y, groups)``, folds as a list ``[(train, test), …]`` of indices (see
        `check_folds`), or a `Split` or the path of one that was saved: the same folds.
      folds: for a name; a splitter object has its own number.
      seed: for a name.
      task: what is asked of the examples; by default what their targets look like.

    Raises:
      InputError: too few examples of a class, no groups or times where they are needed, folds that are empty, a split
        of other examples, or an option that does not go with the splitter.
    """
    if isinstance(splitter, Splitting) and splitter.splitter not in SPLITTERS and place_of(splitter.splitter).exists():
        if dataclasses.replace(splitter, splitter="auto") != Splitting():
            raise InputError(f"options are for splitters by name; '{splitter.splitter}' holds folds that are made")
        splitter = splitter.splitter
    if isinstance(splitter, str) and (splitter in SPLITTERS or not place_of(splitter).exists()):
        splitter = Splitting(splitter)
    if isinstance(splitter, str | Path):
        splitter = load_split(splitter)
    if isinstance(splitter, Split):
        return _checked(splitter, source)
    task = task or choose_task(source, purpose="a split")
    if splitter == Splitting() and source.folds is not None:
        from sklearn.model_selection import PredefinedSplit

        return _split_by_object(source, PredefinedSplit(np.unique(source.folds, return_inverse=True)[1]), task)
    if isinstance(splitter, Splitting):
        return split_by_name(source, splitter, folds, seed, task)
    if are_folds(splitter):
        return _as_given(source, GIVEN, check_folds(source, splitter), task)
    if isinstance(splitter, type) or not callable(getattr(splitter, "split", None)):
        raise InputError(
            f"splitter is {splitter!r}; expected one of {', '.join(SPLITTERS)}, a scikit-learn splitter or folds as a "
            "list of (train, test)"
        )
    return _split_by_object(source, splitter, task)


def split_by_name(
    source: Source,
    splitting: Splitting,
    folds: int,
    seed: int,
    task: Task,
    *,
    times: np.ndarray | None = None,
    ends: np.ndarray | None = None,
) -> Split:
    """As `split_source`, with `times` in place of the source's, and the `ends` of labels in place of a horizon."""
    strata, name = task.strata(source.targets()), splitting.splitter
    name = auto_splitter(source, strata) if name == "auto" else name
    if name not in SPLITTERS:
        raise InputError(
            f"unknown splitter '{name}'; expected one of: {', '.join(SPLITTERS)}; or the file of a split."
            + nearest(name, SPLITTERS)
        )
    times = (source.times if times is None else times) if name in TIMED else None
    options = splitting.options_of(name)
    check_possible(source, name, folds, options, times, strata)
    splitter = make_splitter(
        name, folds, seed, stratified=strata is not None, splitting=splitting, times=times, ends=ends
    )
    pairs = _divide(source, splitter, name, source.groups if name in GROUPED else None, times, strata)
    return _as_split(source, name, seed if name not in UNSHUFFLED else None, pairs, options, name, times, ends)


def _split_by_object(source: Source, splitter: Any, task: Task) -> Split:
    kind, strata = type(splitter).__name__, task.strata(source.targets())
    pairs = _divide(source, splitter, kind, source.groups, source.times, strata)
    return dataclasses.replace(_as_given(source, kind, pairs, task, splitter), made_by=splitter)


def _as_given(source: Source, kind: str, pairs: Sequence[Pair], task: Task, splitter: Any = None) -> Split:
    """Folds that no name of ours made, with the name that stands for what they are."""
    name, options = describe_object(splitter)
    if name is None and source.times is not None and (gap := _forward_gap(pairs, source.times)) is not None:
        name, options = "time-series", {"gap": gap}
    if name is None and source.groups is not None and _keep_groups(pairs, source.groups):
        name = auto_splitter(source, task.strata(source.targets()))
    times = getattr(splitter, "times", source.times) if name in TIMED else None
    seed = getattr(splitter, "random_state", None)
    ends = getattr(splitter, "ends", None)
    return _as_split(source, kind, seed, pairs, options, name, times, ends)


def _as_split(
    source: Source,
    kind: str,
    seed: Any,
    pairs: Sequence[Pair],
    options: Mapping[str, Any],
    name: str | None,
    times: Any,
    ends: Any,
) -> Split:
    made = Split(
        kind,
        int(seed) if isinstance(seed, int | np.integer) else None,
        *zip(*pairs, strict=True),
        examples=len(source),
        options=options,
        groups_sha256=None if source.groups is None else hash_values(source.groups, names=False),
        times_sha256=None if times is None else hash_values(times),
        like=name,
        times=_stored(times),
        ends=_stored(ends),
    )
    return _with_blocks(made, source)


def _with_blocks(split: Split, source: Source) -> Split:
    """`split`, knowing whether its test parts are stretches of the source's time."""
    if split.timed or source.times is None:
        return split
    rank = np.argsort(np.argsort(source.times, kind="stable"))
    stretches = all(len(part) > 1 and np.ptp(rank[part]) == len(part) - 1 for part in split.test)
    return dataclasses.replace(split, in_blocks=stretches)


def _stored(values: Any) -> np.ndarray | None:
    """As an array that a file can hold; None for Python objects, which the source keeps."""
    values = None if values is None else np.asarray(values)
    return None if values is None or values.dtype == object else values


def _divide(
    source: Source,
    splitter: Any,
    kind: str,
    groups: np.ndarray | None,
    times: np.ndarray | None,
    strata: np.ndarray | None,
) -> list[Pair]:
    from sklearn.model_selection import TimeSeriesSplit

    # forward in time means in the order of times, whatever order the examples are stored in
    ordered = times is not None and isinstance(splitter, TimeSeriesSplit)
    order = np.argsort(times, kind="stable") if ordered else np.arange(len(source))
    # a splitter object may look at targets that are no strata, such as numbers
    labels = source.targets() if strata is None else strata
    labels = labels[order] if isinstance(labels, np.ndarray) else np.zeros(len(order))
    groups = None if groups is None else groups[order]
    try:
        pairs = [(order[train], order[test]) for train, test in splitter.split(np.zeros(len(labels)), labels, groups)]
    except (ValueError, IndexError) as error:
        raise InputError(f"{source.name} cannot be divided by {kind}: {error}") from error
    if not pairs or any(len(train) == 0 or len(test) == 0 for train, test in pairs):
        raise InputError(f"{kind} makes no folds, or empty ones, of the {len(source)} examples of {source.name}")
    for fold, (train, test) in enumerate(pairs):
        if overlap := np.intersect1d(train, test).size:
            raise InputError(f"fold {fold} of {kind} trains on {overlap} of its own test examples")
    return pairs


def _forward_gap(pairs: Sequence[Pair], times: np.ndarray) -> int | None:
    """How many examples lie between training and test part of every fold, at least; None if a test part is not later.

    Equal times are not later.
    """
    times = np.asarray(times)
    if any(times[test].min() <= times[train].max() for train, test in pairs):
        return None
    place = np.argsort(np.argsort(times, kind="stable"))
    return min(int(place[test].min() - place[train].max()) - 1 for train, test in pairs)


def _keep_groups(pairs: Sequence[Pair], groups: np.ndarray) -> bool:
    return not any(set(groups[train].tolist()) & set(groups[test].tolist()) for train, test in pairs)


def _checked(split: Split, source: Source) -> Split:
    """`split`, if it may be one of `source`."""
    count = split.examples
    last = max(int(part.max()) for part in (*split.train, *split.test))
    if (count is not None and count != len(source)) or last >= len(source):
        raise InputError(
            f"the split is one of {last + 1 if count is None else count} examples, but {source.name} has "
            f"{len(source)}; give the data that was divided"
        )
    known = split.fingerprint
    if known is not None and known != source.fingerprint():
        raise InputError(
            f"the split was made of other examples than those of {source.name}: they differ in content, labels, "
            "groups, times or order. Give the data that was divided, or divide these"
        )
    return _with_blocks(split, source)
