"""Who is tested on what: the division that a splitter makes, and what says whether two divisions are the same."""

import dataclasses
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.source import Source
from jaxdl.data.split_hash import hash_indices, hash_source, hash_values
from jaxdl.errors import InputError, nearest
from jaxdl.validation.splitters import (
    GROUPED,
    SPLITTERS,
    TIMED,
    UNSHUFFLED,
    Splitter,
    Splitting,
    check_possible,
    make_splitter,
)
from jaxdl.weights.files import check_free, write_bytes

__all__ = ["SPLITTERS", "Split", "Splitter", "Splitting", "load_split", "make_splitter", "split_source"]

SPLIT = "split.npz"
FORMAT = 1
FEW = 20  # folds, up to which a manifest lists their sizes
REST = -1  # stands for the size of a training part that is all but the test part, in rising order


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """A division of examples into training and test parts, fold by fold; scikit-learn takes it as a splitter.

    Attributes:
      kind: the splitter's name.
      seed: of its shuffling, None where nothing was shuffled or it is not known.
      train: indices of each fold's training part.
      test: indices of each fold's test part. An example may be tested by several folds, or by none.
      examples: how many there are in the source; None if that is not known.
      options: of the splitter, by name.
      groups_sha256: of the groups of all examples, whatever they are called; None without groups.
      times_sha256: of the times of all examples, where the splitter went by them, else None.
      source_sha256: of the examples (`data.split_hash.hash_source`); known of what was saved.
    """

    kind: str
    seed: int | None
    train: Sequence[np.ndarray]
    test: Sequence[np.ndarray]
    examples: int | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    groups_sha256: str | None = None
    times_sha256: str | None = None
    source_sha256: str | None = None

    def __len__(self) -> int:
        return len(self.train)

    @property
    def sha256(self) -> str:
        """Of all indices in order: two results with the same hash rest on the same folds."""
        return hash_indices([part for pair in zip(self.train, self.test, strict=True) for part in pair])

    def as_dict(self) -> dict[str, Any]:
        """The manifest: ``kind``, ``k``, ``seed``, ``sha256``, ``examples``, ``options``, hashes of groups and times.

        Of up to `FEW` folds also ``sizes``, ``{"train", "test"}`` of each.
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
        } | ({"sizes": sizes} if len(sizes) <= FEW else {})

    def split(
        self,
        X: Any = None,
        y: Any = None,
        groups: Any = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
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
        known = self.source_sha256 if source is None else hash_source(source, with_times_of_change=False)
        manifest = self.as_dict() | {"format": FORMAT, "examples": count, "source_sha256": known}
        parts = [_packed(train, test, count) for train, test in zip(self.train, self.test, strict=True)]
        arrays = {
            "train_sizes": np.array([REST if part is None else len(part) for part in parts]),
            "train": np.concatenate([part for part in parts if part is not None] or [np.zeros(0, np.int64)]),
            "test_sizes": np.array([len(test) for test in self.test]),
            "test": np.concatenate(self.test),
        }
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
    path = Path(path).expanduser()
    path = path / SPLIT if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"there is no split '{path}'; jaxdl split and cross-validate write {SPLIT}")
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
        manifest = json.loads(str(held["manifest"]))
        if manifest["format"] > FORMAT:
            raise InputError(f"'{path}' is of format {manifest['format']}, newer than this jaxdl: update jaxdl")
        test = np.split(held["test"], np.cumsum(held["test_sizes"])[:-1])
        sizes, given = held["train_sizes"], held["train"]
        parts = iter(np.split(given, np.cumsum(sizes[sizes != REST])[:-1]))
        count = manifest["examples"]
        train = [_rest(part, count) if size == REST else next(parts) for size, part in zip(sizes, test, strict=True)]
        known = {f.name: manifest[f.name] for f in dataclasses.fields(Split) if f.name not in ("train", "test")}
        split = Split(train=train, test=test, **known)
        if split.sha256 != manifest["sha256"]:
            raise ValueError("its indices are not those that its hash is of")
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, StopIteration, zipfile.BadZipFile) as error:
        raise InputError(f"'{path}' is no whole split ({type(error).__name__}: {error})") from error
    return split


def auto_splitter(source: Source) -> str:
    """The name that ``auto`` stands for: classes keep their shares, and groups stay whole."""
    if source.groups is None:
        return "stratified" if source.class_names else "kfold"
    return "stratified-group" if source.class_names else "group"


def split_source(
    source: Source, splitter: str | Path | Any, folds: int, seed: int, splitting: Splitting | None = None
) -> Split:
    """Divides `source`.

    Args:
      source: labelled; its `groups` and `times` are passed on.
      splitter: a name of `SPLITTERS` (for ``auto`` see `auto_splitter`), any object with scikit-learn's
        ``split(X, y, groups)``, or a `Split` or the path of one that was saved: the same folds again.
      folds: for a name; a splitter object has its own number.
      seed: for a name.
      splitting: options, for a name.

    Raises:
      InputError: too few examples of a class, no groups or times where they are needed, folds that are empty, a split
        of other examples, or an option that does not go with the splitter.
    """
    named = isinstance(splitter, str) and (splitter in SPLITTERS or not Path(splitter).exists())
    if isinstance(splitter, str | Path) and not named:
        splitter = load_split(splitter)
    if splitting is not None and not named and splitting != Splitting():
        raise InputError(f"options are for splitters by name; {type(splitter).__name__} has its own")
    if isinstance(splitter, Split):
        return _checked(splitter, source)
    if splitter == "auto" and isinstance(splitter, str):
        splitter = auto_splitter(source)
    kind = splitter if named else type(splitter).__name__
    options = {}
    if named:
        if splitter not in SPLITTERS:
            raise InputError(
                f"unknown splitter '{splitter}'; expected one of: {', '.join(SPLITTERS)}; or the file of a split."
                + nearest(splitter, SPLITTERS)
            )
        options = (splitting or Splitting()).options_of(kind)
        check_possible(source, kind, folds, options)
        splitter = make_splitter(
            kind, folds, seed, classes=bool(source.class_names), splitting=splitting, times=source.times
        )
    elif isinstance(splitter, type) or not callable(getattr(splitter, "split", None)):
        raise InputError(f"splitter is {splitter!r}; expected one of {', '.join(SPLITTERS)} or a scikit-learn splitter")
    pairs = _divide(source, splitter, kind, named=named)
    used = seed if named and kind not in UNSHUFFLED else getattr(splitter, "random_state", None)
    by_time = kind in TIMED or kind == "TimeSeriesSplit"
    times = getattr(splitter, "times", source.times if by_time else None)
    return Split(
        kind,
        int(used) if isinstance(used, int | np.integer) else None,
        *zip(*pairs, strict=True),
        examples=len(source),
        options=options,
        groups_sha256=None if source.groups is None else hash_values(source.groups, names=False),
        times_sha256=None if times is None else hash_values(times),
    )


def _divide(source: Source, splitter: Any, kind: str, *, named: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import TimeSeriesSplit

    # forward in time means in the order of times, whatever order the examples are stored in
    ordered = source.times is not None and isinstance(splitter, TimeSeriesSplit)
    order = np.argsort(source.times, kind="stable") if ordered else np.arange(len(source))
    labels = source.labels[order]
    ignored = source.groups is None or (named and kind not in GROUPED)
    groups = None if ignored else source.groups[order]
    try:
        pairs = [(order[train], order[test]) for train, test in splitter.split(np.zeros(len(labels)), labels, groups)]
    except ValueError as error:
        raise InputError(f"{source.name} cannot be divided by {kind}: {error}") from error
    if not pairs or any(len(train) == 0 or len(test) == 0 for train, test in pairs):
        raise InputError(f"{kind} makes no folds, or empty ones, of the {len(source)} examples of {source.name}")
    for fold, (train, test) in enumerate(pairs):
        if overlap := np.intersect1d(train, test).size:
            raise InputError(f"fold {fold} of {kind} trains on {overlap} of its own test examples")
    return pairs


def _checked(split: Split, source: Source) -> Split:
    """`split`, if it may be one of `source`."""
    count = split.examples
    last = max(int(part.max()) for part in (*split.train, *split.test))
    if (count is not None and count != len(source)) or last >= len(source):
        raise InputError(
            f"the split is one of {last + 1 if count is None else count} examples, but {source.name} has "
            f"{len(source)}; give the data that was divided"
        )
    known = split.source_sha256
    if known is not None and known != hash_source(source, with_times_of_change=False):
        raise InputError(
            f"the split was made of other examples than those of {source.name}: they differ in content, labels, "
            "groups, times or order. Give the data that was divided, or divide anew"
        )
    return split
