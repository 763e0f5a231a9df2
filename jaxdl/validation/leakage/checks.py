"""The leaks between the examples that a fold trains on and those that it tests."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from jaxdl.data.source import Source
from jaxdl.errors import InputError, check_choice
from jaxdl.shown import counted, few
from jaxdl.tasks import Task
from jaxdl.training.features import DataStore, kept
from jaxdl.training.setup import Init
from jaxdl.validation.leakage.columns import REMEDIES as COLUMNS
from jaxdl.validation.leakage.columns import column_leaks, find_suspects
from jaxdl.validation.leakage.duplicates import (
    LARGEST,
    Copies,
    alike_contradictions,
    are_telling,
    contradictions,
    find_copies,
)
from jaxdl.validation.leakage.frames import Frames, frames_tested, measure_frames
from jaxdl.validation.leakage.near_duplicate_images import holds_pictures
from jaxdl.validation.leakage.pairs import find_halves, say_halves
from jaxdl.weights.checkpoint import Checkpoint

LeakName = Literal[
    "labels",
    "groups",
    "times",
    "duplicates",
    "near-duplicates",
    "frames",
    "parent",
    "identity-columns",
    "time-columns",
    "target-columns",
]
LEAKS = get_args(LeakName)
UNTAUGHT = "untaught"  # a fold tests a class that it does not train on
TOKENIZER, HALVES = "tokenizer", "pairs"
NEW = "\n  "
FEW = 0.25  # share of tested examples up to which neighbours in a sequence are a caution: blocks of frames have ends
SHOWN = 3  # examples that a message names
LISTED = 10  # sets of equal examples with labels that contradict each other

Folds = Sequence[tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Leak:
    """A leak that was found, or that was not looked for.

    Attributes:
      name: one of `LEAKS`, or `UNTAUGHT`, `TOKENIZER` or `HALVES`, which are always a caution.
      examples: number of test examples that it makes easier; None if it was not looked for.
      said: what it is, in words, with a few of the examples.
      caution: whether it is only said, and not refused.
    """

    name: str
    examples: int | None
    said: str
    caution: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


REMEDIES = {
    "labels": "Of each of these keep one, with the right label (of image files: delete the others); or leave all of "
    "them out: --drop-contradicting, from Python source, dropped = validation.leakage.drop_contradictions(source)",
    "groups": "Use the splitter 'stratified-group' or 'group' (one of your own must keep the groups together)",
    "times": "Use the splitter 'time-series' or 'purged'",
    "duplicates": "Remove the copies, or keep them on one side: --group-duplicates, from Python "
    "source = validation.leakage.duplicate_groups(source), with the splitter 'auto', 'stratified-group' or 'group'",
    "frames": "Keep frames that follow each other on one side: blocks of 20 or more as groups (of images with masks "
    "group='frames:20', else data.with_groups), with the splitter 'stratified-group' or 'group'",
    "parent": "Take examples that the checkpoint has never seen, or one that was trained on others",
}
REMEDIES["near-duplicates"] = REMEDIES["duplicates"]


def check_leaks(
    init: Init,
    source: Source,
    split: Any,
    *,
    allow: Iterable[str] = (),
    folds: Sequence[int] | None = None,
    store: DataStore | None = None,
    task: Task | None = None,
) -> list[Leak]:
    """Looks for all that would make the folds' scores too good, before anything is trained.

    - ``labels``: examples are equal, but their labels differ: one image in two classes. A caution alone where no fold
      trains on one and tests another, and where duplicates are allowed. Of images that look the same, and texts that
      read the same, it is always a caution.
    - ``groups``: the source has groups, and a fold trains on some of a group and tests others of it.
    - ``times``: the source has times, and a fold tests examples that are older than some that it trains on. (Splitters
      that purge are made for this.)
    - ``duplicates``: a fold tests an example that it also trains on: the same bytes of a file, the same array. Equal
      rows of a table count only where they are no coincidence; see `duplicates.are_telling`.
    - ``near-duplicates``: the same picture stored differently; see `near_duplicate_images`. They are looked for among
      up to `duplicates.LARGEST` images, also where these are streamed: each is decoded once, at reduced size. And the
      same text written differently, where the examples have texts; see `near_duplicate_texts`.
    - ``frames``: a fold tests images next to which, in a sequence by their names, it trains on others; refused if
      neighbours are much more alike than others of the sequence, and these are more than `FEW` of the tested examples,
      else a caution if they are more alike at all; see `frames`.
    - ``identity-columns``: a feature is called like an identity (subject, patient, site, batch, id, …) and takes few
      values, many times each, and a fold trains on values that it tests; or another one in each row.
    - ``time-columns``: a feature is called like a time, and the source has no times.
    - ``target-columns``: a feature alone nearly gives the target; see `columns.target_columns`. These three are not
      asked of features that are declared as such.
    - Of pairs of texts: a fold tests a text that it trains on beside another one. That is always a caution.
    - ``parent``: a fold tests an example that the weights it starts from were trained on, by the list that the
      checkpoint's card holds. Of a checkpoint without one nothing is known.

    Args:
      init: what the folds start from.
      source: of the examples, with the columns in the order in which the checkpoint takes them.
      split: a `splits.Split`, or its like with ``train`` and ``test`` indices of each fold and ``purged``.
      allow: names of leaks to go on with; near-duplicates that are allowed are not looked for.
      folds: which of them are trained, all by default.
      task: what is asked, where it is known: a fold that tests a class that it does not train on is a caution.
      store: of the source, where what was found whatever the split is kept for other splits of it.

    Returns:
      What was found and is allowed or a caution, and what was not looked for.

    Raises:
      InputError: naming every leak that is not allowed, the number of test examples, some of them, and what to do.
    """
    allow = check_allowed(allow)
    chosen = range(len(split.train)) if folds is None else folds
    parts = [(np.asarray(split.train[k]), np.asarray(split.test[k])) for k in chosen]
    near = "near-duplicates" not in allow
    copies = kept(store, lambda: ("copies", source.fingerprint(), near), lambda: find_copies(source, near=near))
    frames = kept(
        store, lambda: ("frames", source.fingerprint(), tuple(source.names or ())), lambda: measure_frames(source)
    )
    columns = kept(
        store,
        lambda: ("columns", source.fingerprint(), source.columns, source.declared),
        lambda: find_suspects(source),
    )
    halves = kept(store, lambda: ("halves", source.fingerprint()), lambda: find_halves(source))
    found = [
        *_of_labels(source, parts, copies, caution="duplicates" in allow),
        *_of_groups(source, parts),
        *_of_times(source, parts, purged=split.purged),
        *_of_copies(source, parts, copies),
        *_of_frames(source, parts, frames),
        *_of_parent(init, source, parts, copies),
        *(Leak(*found) for found in column_leaks(source, parts, columns)),
        *(Leak(HALVES, *found, caution=True) for found in say_halves(halves, parts)),
        *([] if task is None else find_untaught(source, task, split, chosen)),
        *([] if isinstance(split, _Parts) else _of_tokenizer(init, source)),
    ]
    if copies.alike is None and (holds_pictures(source) or source.texts is not None):
        why = "allowed" if "near-duplicates" in allow else f"there are more than {LARGEST:,} images"
        found.append(Leak("near-duplicates", None, f"near-duplicates were not looked for: {why}"))
    return _refuse(source, found, allow, held_out=isinstance(split, _Parts))


def find_untaught(source: Source, task: Task, split: Any, folds: Sequence[int] | None = None) -> list[Leak]:
    """A caution where folds test classes or labels that they do not train on; arguments as of `check_leaks`."""
    folds = range(len(split.train)) if folds is None else folds
    found = {k: task.untaught(source.targets(), split.train[k], split.test[k]) for k in folds}
    found = {fold: names for fold, names in found.items() if names}
    if not found:
        return []
    fold, names = next(iter(found.items()))
    listed = ", ".join(f"'{name}' ({counted(count, 'example')})" for name, count in names.items())
    many = f"{len(found)} of {len(folds)} folds test" if len(folds) > 1 else "The fold tests"
    first = f", the first of them fold {fold}" if len(found) > 1 else f", fold {fold}" if len(folds) > 1 else ""
    return [
        Leak(
            UNTAUGHT,
            sum(sum(names.values()) for names in found.values()),
            f"{many} a class that they do not train on{first}: {listed}. No network can predict what it was never "
            "taught, and the score counts that as wrong. Where classes have examples or groups enough, fewer folds or "
            "a stratified splitter keep each class on both sides",
            caution=True,
        )
    ]


def check_validation(init: Init, source: Source, validation: Source, *, allow: Iterable[str] = ()) -> list[Leak]:
    """As `check_leaks`, of a training part and a part on which it is measured; times are not looked at.

    Groups are the same on both sides where they are called the same.
    """
    train, test = np.split(np.arange(len(source) + len(validation)), [len(source)])
    return check_leaks(init, together(source, validation), _Parts([train], [test], purged=True), allow=allow)


def together(source: Source, validation: Source) -> Source:
    """Both parts as one source, with the classes of the first; zeros as labels where they have none."""
    ours, theirs = source.targets(), validation.targets()
    if not all(isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in "iu" for y in (ours, theirs)):
        return source.join(validation, np.zeros(len(source) + len(validation), np.int32))
    names = list(source.class_names)
    foreign = [name for name in validation.class_names if name not in names]
    places = np.array([(names + foreign).index(name) for name in validation.class_names], np.int64)
    return source.join(validation, np.concatenate([ours, places[theirs] if len(places) else theirs]))


@dataclasses.dataclass(frozen=True)
class _Parts:
    train: Sequence[np.ndarray]
    test: Sequence[np.ndarray]
    purged: bool = False


def check_allowed(allow: Iterable[str]) -> tuple[str, ...]:
    """The names of leaks that are allowed, in the order of `LEAKS`. Raises InputError for an unknown name."""
    allow = (allow,) if isinstance(allow, str) else tuple(allow)
    for name in allow:
        check_choice("leak to allow", name, LEAKS)
    return tuple(name for name in LEAKS if name in allow)


def _refuse(source: Source, found: Sequence[Leak], allow: Sequence[str], *, held_out: bool) -> list[Leak]:
    refused = [leak for leak in found if leak.examples and not leak.caution and leak.name not in allow]
    if not refused:
        return list(found)
    names = [leak.name for leak in refused]
    listed = [leak.said for leak in found if leak.name == "labels" or leak in refused]
    apart = "Remove them, or give a part of your own to measure on"
    of_rows = [name for name in names if name not in COLUMNS]
    remedies = [apart if held_out and name != "labels" else REMEDIES[name] for name in of_rows]
    remedies = list(dict.fromkeys([*remedies, *(COLUMNS[name] for name in names if name in COLUMNS)]))
    alone = len(refused) == 1
    raise InputError(
        f"the score on {source.name} would be too good{': ' if alone else ':' + NEW}{NEW.join(listed)}"
        f"{'. ' if alone else chr(10)}{'. '.join(remedies)}. To go on all the same: --allow {' '.join(names)}, from "
        f"Python allow=({', '.join(map(repr, names))},)"
    )


def _of_tokenizer(init: Init, source: Source) -> Iterator[Leak]:
    if isinstance(init, Checkpoint) or not (source.preprocessing and source.preprocessing.reads_all):
        return
    said = (
        "the tokenizer is made of all texts, those that a fold tests included, without their labels: words of tested "
        "texts are divided into fewer pieces than words of new texts may be. To rule that out, make it of other texts: "
        "data.train_tokenizer(other_texts)"
    )
    yield Leak(TOKENIZER, None, said, caution=True)


def _of_labels(source: Source, folds: Folds, copies: Copies, *, caution: bool) -> Iterator[Leak]:
    used = _union(part for fold in folds for part in fold)
    found = [one for one in contradictions(source, copies) if np.isin(one, used).sum() > 1]
    if found:
        content = np.unique(copies.content[np.concatenate(found)])
        apart = not any(
            np.intersect1d(*(np.intersect1d(content, copies.content[p]) for p in fold)).size for fold in folds
        )
        said = f"labels: {say_contradictions(source, found)}"
        yield Leak("labels", sum(map(len, found)), said, caution=caution or apart)
    pairs = alike_contradictions(source, copies)
    if len(pairs := pairs[np.isin(pairs, used).all(1)]):
        verb = "look" if source.texts is None else "read"
        count = np.unique(pairs).size
        said = f"labels: {count} examples {verb} the same as others but are labelled differently"
        yield Leak("labels", count, f"{said}: {_sets(source, pairs, '~')}", caution=True)


def say_contradictions(source: Source, found: Sequence[np.ndarray]) -> str:
    """How many examples are equal but labelled differently, and which."""
    count = sum(map(len, found))
    return f"{count} examples are equal to others but labelled differently: {_sets(source, found, '=')}"


def _sets(source: Source, found: Sequence[np.ndarray], sign: str) -> str:
    """The first of the sets of examples, by name and label."""
    targets, names = source.targets(), source.class_names

    def label(index: int) -> str:
        value = targets[index]
        return f" ({names[value]})" if value.ndim == 0 and value < len(names) else ""

    sets = [f" {sign} ".join(f"{_name(source, i)}{label(i)}" for i in one.tolist()) for one in found[:LISTED]]
    more = f", and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return ", ".join(sets) + more


def _of_groups(source: Source, folds: Folds) -> Iterator[Leak]:
    if source.groups is None:
        return
    known: dict[Any, int] = {}
    groups = np.array([known.setdefault(group, len(known)) for group in source.groups.tolist()])
    leaked = _union(test[np.isin(groups[test], groups[train])] for train, test in folds)
    if len(leaked):
        split = list(dict.fromkeys(str(source.groups[i]) for i in leaked))
        yield Leak(
            "groups",
            len(leaked),
            f"groups: {_tested(leaked)} of a group that the same fold trains on (of {len(split)} groups: "
            f"{few(split, SHOWN)})",
        )


def _of_times(source: Source, folds: Folds, *, purged: bool) -> Iterator[Leak]:
    if source.times is None or purged:
        return
    times = np.unique(source.times, return_inverse=True)[1]
    leaked = _union(test[times[test] < times[train].max()] for train, test in folds)
    if len(leaked):
        yield Leak(
            "times",
            len(leaked),
            f"times: {_tested(leaked)} {'that are' if len(leaked) > 1 else 'that is'} older than some that the same "
            f"fold trains on ({_shown(source, leaked)}); what comes later tells of what came before",
        )


def _of_copies(source: Source, folds: Folds, copies: Copies) -> Iterator[Leak]:
    content = copies.content
    count = int(content.max()) + 1

    def trained(train: np.ndarray) -> np.ndarray:
        held = np.zeros(count, bool)
        held[content[train]] = True
        return held

    def alike(train: np.ndarray) -> np.ndarray:
        held, like = trained(train), np.zeros(count, bool)
        for one, two in (copies.alike.T, copies.alike.T[::-1]):
            like[one[held[two]]] = True
        return like & ~held

    kinds: list[tuple[str, tuple[str, str], Callable[[np.ndarray], np.ndarray], Callable[[int], np.ndarray]]] = [
        ("duplicates", ("is an exact copy of", "are exact copies of"), trained, lambda one: np.array([one]))
    ]
    if copies.alike is not None and len(copies.alike):
        around = np.concatenate([copies.alike, copies.alike[:, ::-1]])
        verb = "look" if source.texts is None else "read"
        kinds.append(
            (
                "near-duplicates",
                (f"{verb}s the same as", f"{verb} the same as"),
                alike,
                lambda one: around[around[:, 0] == one, 1],
            )
        )
    for name, are, leaks, partners in kinds:
        with_copy: Mapping[int, int] = {}
        hits = []
        for train, test in folds:
            hits.append(test[leaks(train)[content[test]]])
            for index in hits[-1][:SHOWN]:
                with_copy.setdefault(int(index), int(train[np.isin(content[train], partners(content[index]))][0]))
        leaked = _union(hits)
        if len(leaked):
            yield Leak(
                name,
                len(leaked),
                f"{name}: {_tested(leaked)} that {are[len(leaked) > 1]} some that the same fold trains on "
                f"({_shown(source, sorted(with_copy), with_copy)})",
            )


def _of_frames(source: Source, folds: Folds, frames: Frames) -> Iterator[Leak]:
    if not frames.noticed:
        return
    pairs = [frames_tested(source, train, test) for train, test in folds]
    leaked = _union(one[:, 0] for one in pairs)
    if len(leaked):
        tested = len(_union(test for _, test in folds))
        partners = dict(np.concatenate(pairs)[::-1].tolist())
        yield Leak(
            "frames",
            len(leaked),
            f"frames: {_tested(leaked)}, of {tested}, next to which the same fold trains on another of their sequence "
            f"({_shown(source, leaked, partners)}); neighbours are more alike than others of the sequence in "
            f"{100 * frames.likeness:.0f} % of {frames.pairs} comparisons, unrelated images in 50 %",
            caution=not frames.alike or len(leaked) <= FEW * tested,
        )


def _of_parent(init: Init, source: Source, folds: Folds, copies: Copies) -> Iterator[Leak]:
    if not isinstance(init, Checkpoint) or init.card.trained_on is None:
        return
    seen = np.flatnonzero(np.isin(copies.hashes, init.card.seen))
    seen = seen[copies.telling[seen]]
    seen = seen[are_telling(source, seen)]
    leaked = np.intersect1d(seen, _union(test for _, test in folds))
    if len(leaked):
        yield Leak(
            "parent",
            len(leaked),
            f"parent: {_tested(leaked)} that the checkpoint {'' if init.path is None else repr(init.path) + ' '}was "
            f"trained on itself, or one that it comes from ({_shown(source, leaked)})",
        )


def _union(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate(list(parts)))


def _tested(leaked: np.ndarray) -> str:
    return f"{len(leaked)} example{'s are' if len(leaked) > 1 else ' is'} tested"


def _shown(source: Source, indices: Sequence[int], partners: Mapping[int, int] | None = None) -> str:
    """A few of the examples by name, each with its copy."""
    names = source.names
    shown = [
        _name(source, i) if partners is None else f"{_name(source, i)} and {_name(source, partners[i])}"
        for i in indices[:SHOWN]
    ]
    return ("" if names is not None else "numbers ") + ", ".join(shown) + (", …" if len(indices) > SHOWN else "")


def _name(source: Source, index: int) -> str:
    return str(int(index)) if source.names is None else str(source.names[index])
