"""Arrays given from Python or in an ``.npz`` file."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.masks_classes import array_masks
from jaxdl.data.source import Arrays, check_weights
from jaxdl.errors import InputError, check_choice

# what a label of an example may be
LABELS = ("auto", "classification", "multilabel", "regression", "multitarget", "ordinal")
TASKS = (*LABELS, "segmentation")
MASKS = ("mask", "masks", "labels")  # what a file may call the targets of a segmentation, beside y
IMAGE_CHANNELS = (1, 3, 4)
MEMBERS = ("x", "y", "channels", "groups", "times", "texts", "weights", "class_names")  # that a file may hold
SEVERAL = "several columns are labels, 0 or 1 each; the task multitarget learns several numbers"
ALONE = "leave out the task multilabel to learn one class or number per example"
MOST_CLASSES = 20  # whole numbers of more different values than that are taken for amounts


def arrays(
    x: Any,
    y: Any = None,
    *,
    class_names: Sequence[str] | None = None,
    groups: Any = None,
    times: Any = None,
    texts: Sequence[str] | None = None,
    weights: Any = None,
    channels: str = "auto",
    name: str = "arrays",
    task: str = "auto",
) -> Arrays:
    """A source from arrays.

    Args:
      x: images ``uint8[n, height, width, channels]`` (or ``[n, height, width]``, grey), or numbers
        ``float[n, features]`` or ``float[n, height, width, channels]``.
      y: class of each example, whole numbers or strings; or floats, which are numbers for regression; or a matrix
        ``[n, labels]`` of 0 and 1 (of any numeric type or bool) for a multi-label task; or a matrix ``[n, numbers]`` of
        other floats, to be predicted together (the task multitarget); or masks ``[n, height, width]``
        for segmentation, the class of each pixel, and 255 where nobody knows; None if unknown.
      class_names: with whole numbers `y`, the name of class 0, 1, …; by default the values found in `y`, sorted. With a
        matrix, the names of its columns; by default "0", "1", …
      groups: which belong together, for splitters that keep groups whole.
      times: when each was taken, for splitters that go forward in time.
      texts: what each row of numbers was computed from, such as the sentence of an embedding: copies on both sides of
        a split are found by it; see `validation.leakage.near_duplicate_texts`.
      weights: how much each counts in training; see `with_weights`.
      channels: ``"first"`` or ``"last"``, where arrays ``[n, a, b, c]`` have them. ``"auto"`` is last, but first for
        uint8 images whose second axis alone is 1, 3 or 4, such as ``[n, 3, 32, 32]``: the source's notes say so.
      name: where they came from, for messages and reports.
      task: what `y` is, see `to_labels`.

    Raises:
      InputError: lengths that differ, NaN or infinity, Python objects, labels that do not fit the task, texts that are
        no strings or stand beside images.
    """
    if isinstance(x, dict):
        raise InputError(f"{name}: x is a dict; data.Arrays(x, y, class_names) takes dicts of arrays, as they are")
    try:
        x = np.asarray(x)
    except ValueError as error:  # rows of different length
        raise InputError(f"{name}: x is no array ({error}); expected uint8 images or floats of one shape") from error
    if x.dtype == object or x.dtype.kind not in "uifb":
        raise InputError(f"{name}: x has the type {x.dtype}; expected uint8 images or floats of one shape")
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise InputError(f"{name}: x has the shape {x.shape}; expected [n, features] or [n, height, width, channels]")
    x, notes = _channels_last(x, channels, name)
    if x.dtype != np.uint8 or x.ndim not in (3, 4):  # only images stay bytes
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity
            x = x.astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(x).all(axis=tuple(range(1, x.ndim))))
        if len(bad):
            raise InputError(
                f"{name}: x holds NaN or infinity (as float32) in {len(bad)} of {len(x)} examples, the first at index "
                f"{bad[0]}; remove or fill them"
            )
    if x.ndim == 3:
        x = x[..., None]
    check_choice("task", task, TASKS)
    if wants_masks(task) or (task == "auto" and _are_masks(y, x)):
        labels, names = array_masks(y, x.shape, class_names, "auto", name)
    else:
        labels, names = to_labels(y, class_names, task, name)
    extra: dict[str, Any] = groups_and_times(groups, times, labels, len(x), f"{name}: x has {len(x)} examples")
    extra["notes"] = notes
    extra["texts"] = None if texts is None else _texts(texts, x, name)
    extra["weights"] = None if weights is None else check_weights(weights, len(x), name)
    return Arrays(x, labels, names, name=name, **extra)


def groups_and_times(groups: Any, times: Any, labels: Any, count: int, said: str) -> dict[str, np.ndarray | None]:
    """Both as arrays, by name. Raises InputError unless they and the labels have `count` values, as `said` in words."""
    made = {k: None if v is None else np.atleast_1d(v) for k, v in {"groups": groups, "times": times}.items()}
    for what, values in {"y": labels, **made}.items():
        if values is not None and len(values) != count:
            raise InputError(f"{said} but {what} has {len(values)}; they must match")
    return made


def _channels_last(x: np.ndarray, channels: str, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """``x[n, height, width, channels]`` where it has four axes, and how its axes were read where that is no matter of
    course.

    Raises:
      InputError: for what may be a single image, or channels said of what has none.
    """
    check_choice("channels", channels, ("auto", "first", "last"))
    shape, is_image = list(x.shape), x.dtype == np.uint8
    if channels != "auto" and x.ndim != 4:
        raise InputError(f"{name}: channels is '{channels}', but x has the shape {shape}; leave it out")
    if x.ndim == 3 and is_image and x.shape[2] in (3, 4) and min(x.shape[:2]) > 4:
        raise InputError(
            f"{name}: x is uint8{shape}: is it a single image, or {x.shape[0]} grey ones that are {x.shape[2]} pixels "
            "wide? Give x[None] for the former, x[..., None] for the latter"
        )
    if x.ndim != 4:
        return x, ()
    looks_first = x.shape[1] in IMAGE_CHANNELS and x.shape[3] not in IMAGE_CHANNELS
    said = f"x is {x.dtype}{shape}: read as {{}} × {{}} pixels with {{}} channels"
    if channels == "first" or (channels == "auto" and looks_first and is_image):
        moved = np.moveaxis(x, 1, -1)
        return moved, (f"{said.format(*moved.shape[1:])}, which come first; channels='last' reads it otherwise",)
    if channels == "auto" and looks_first:
        return x, (f"{said.format(*x.shape[1:])}, which come last; channels='first' reads it otherwise",)
    if x.dtype.kind in "ui" and not is_image:
        return x, (f"x is {x.dtype}{shape}: read as numbers, not as images of 8 bits (uint8)",)
    return x, ()


def _texts(texts: Sequence[str], x: np.ndarray, name: str) -> tuple[str, ...]:
    if x.ndim != 2:
        raise InputError(f"{name}: texts stand beside rows of numbers [n, features]; x is {list(x.shape)}")
    if isinstance(texts, str) or np.ndim(texts) != 1:
        raise InputError(f"{name}: texts are no list of strings; expected one for each of {len(x)} examples")
    if len(texts) != len(x):
        raise InputError(f"{name}: x has {len(x)} examples but texts has {len(texts)}; they must match")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"{name}: the text at index {index} is {text!r:.50}; expected strings")
    return tuple(map(str, texts))


def wants_masks(task: str) -> bool:
    """Whether the targets of a task are the classes of pixels."""
    return task == "segmentation"


def _are_masks(y: Any, x: np.ndarray) -> bool:
    return isinstance(y, np.ndarray) and y.ndim == 3 and y.dtype.kind in "uib" and y.shape == x.shape[:3]


def few_enough(values: int, examples: int) -> bool:
    """Whether whole numbers that take so many different values in so many examples are classes, not amounts."""
    return values <= MOST_CLASSES and 2 * values < examples


def to_labels(
    y: Any, class_names: Sequence[str] | None, task: str, name: str
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """What a source holds as `labels` and `class_names`.

    Args:
      y: whole numbers, strings or floats ``[n]``, or 0 and 1 ``[n, labels]``, or numbers ``[n, numbers]``; or None.
      class_names: see `arrays`.
      task: ``"classification"`` and ``"ordinal"`` give ``int32[n]`` from 0 (floats have to be whole; 2.0 is called
        "2"),
        ``"multilabel"`` ``uint8[n, labels]``, ``"regression"`` ``float32[n]`` without names,
        ``"multitarget"`` ``float32[n, numbers]``. ``"auto"`` is multitarget for a matrix of floats that are not all
        whole, multilabel for another one of two or more columns, regression for floats without `class_names`, else
        classification.
      name: of the source, for messages.

    Raises:
      InputError: if `y` cannot be that, naming the value and its index.
    """
    check_choice("task", task, LABELS)
    names = () if class_names is None else tuple(str(c) for c in np.atleast_1d(class_names))
    if len(set(names)) < len(names):
        raise InputError(f"{name}: class_names holds a name twice: {', '.join(names)}")
    if y is None:
        return None, names
    try:
        y = np.asarray(y)
    except ValueError as error:  # rows of different length
        raise InputError(f"{name}: y is no array ({error}); expected a label per example") from error
    kind = y.dtype.kind
    task = "classification" if task == "ordinal" else task  # the order is that of the names
    if task == "multitarget" or (task == "auto" and y.ndim == 2 and kind == "f" and _has_fractions(y)):
        return _several_numbers(y, names, name)
    if task == "multilabel" or (task == "auto" and y.ndim == 2 and y.shape[1] > 1):
        return _multilabel(y, names, name)
    what, kinds = {
        "auto": ("whole number or string (class) or float (regression)", "uibUf"),
        "classification": ("whole number or string", "uibUf"),
        "regression": ("number", "uibf"),
    }[task]
    if task == "auto" and class_names is not None:  # which says that there are classes
        what, kinds = "whole number or string", "uibU"
    if y.ndim != 1 or kind not in kinds:
        raise InputError(
            f"{name}: y is {y.dtype}{list(y.shape)}; expected one {what} per example, or with the task multilabel "
            "a matrix [n, labels] of 0 and 1"
        )
    if task == "regression" or (task == "auto" and kind == "f"):
        return _numbers(y, name), ()
    if kind == "f" and len(bad := np.flatnonzero(~(np.isfinite(y) & (y == np.round(y))))):
        raise InputError(f"{name}: y holds {y[bad[0]]} at index {bad[0]}; classes are whole numbers or strings")
    if kind == "U" or not names:
        values = np.asarray(names) if names else np.unique(y)
        names = names or tuple(str(int(v) if kind == "f" else v) for v in values)
        order = np.argsort(values)
        labels = order[np.searchsorted(values[order], y).clip(max=len(values) - 1)]
        unknown = y[values[labels] != y]
        if len(unknown):
            raise InputError(f"{name}: y holds '{unknown[0]}', which is not among class_names: {', '.join(names)}")
        return labels.astype(np.int32), names
    if len(y) and not (y.min() >= 0 and y.max() < len(names)):
        raise InputError(
            f"{name}: y runs from {y.min()} to {y.max()}; with {len(names)} class_names expected 0 to {len(names) - 1}"
        )
    return y.astype(np.int32), names


def _has_fractions(y: np.ndarray) -> bool:
    return bool((np.isfinite(y) & (y != np.round(y))).any())


def _multilabel(y: np.ndarray, names: tuple[str, ...], name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    remedy = ALONE if y.ndim == 1 else SEVERAL
    if y.ndim not in (1, 2) or y.shape[1:] == (0,) or y.dtype.kind not in "uibf":
        raise InputError(f"{name}: y is {y.dtype}{list(y.shape)}; expected a matrix [n, labels] of 0 and 1; {remedy}")
    y = y[:, None] if y.ndim == 1 else y
    names = names or tuple(map(str, range(y.shape[1])))
    if len(names) != y.shape[1]:
        raise InputError(f"{name}: y has {y.shape[1]} columns but class_names has {len(names)}; they must match")
    if len(bad := np.argwhere((y != 0) & (y != 1))):
        row, column = bad[0]
        raise InputError(
            f"{name}: y holds {y[row, column]} at index [{row}, {column}] (label '{names[column]}'); {remedy}"
        )
    return y.astype(np.uint8), names


def _several_numbers(y: np.ndarray, names: tuple[str, ...], name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if y.ndim != 2 or not y.shape[1] or y.dtype.kind not in "uibf":
        raise InputError(
            f"{name}: y is {y.dtype}{list(y.shape)}; expected a matrix [n, numbers] for the task multitarget; leave "
            "the task out to learn one class or number per example"
        )
    names = names or tuple(map(str, range(y.shape[1])))
    if len(names) != y.shape[1]:
        raise InputError(f"{name}: y has {y.shape[1]} columns but class_names has {len(names)}; they must match")
    return _numbers(y, name), names


def _numbers(y: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity
        y = y.astype(np.float32)
    if len(bad := np.flatnonzero(~np.isfinite(y.reshape(len(y), -1)).all(1))):
        raise InputError(
            f"{name}: y holds NaN or infinity (as float32) in {len(bad)} of {len(y)} examples, the first at index "
            f"{bad[0]}; remove them"
        )
    return y


def npz(path: str | Path, *, task: str = "auto", classes: Any = None, void: Any = "auto") -> Arrays:
    """A source from an ``.npz`` file with ``x``, and optionally ``y``, ``channels``, ``groups``, ``times``, ``texts``
    and ``class_names``, each as in `arrays`; `task` says what ``y`` is.

    Args:
      path: the file.
      task: see `arrays`. For segmentation ``y`` may also be called ``mask``, ``masks`` or ``labels``.
      classes: for segmentation, instead of ``class_names``: see `masks.masks`.
      void: for segmentation, the number of pixels that nobody knows: see `masks.masks`.

    Raises:
      InputError: if it cannot be read, holds Python objects (reading them would execute code), or as `arrays`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file '{path}'")
    check_choice("task", task, TASKS)
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise InputError(f"'{path}' is not an .npz archive; save it with numpy.savez(path, x=…, y=…)")
        with file:
            held = _read_members(file, path, (*MEMBERS, *MASKS) if wants_masks(task) else MEMBERS)
    except InputError:
        raise
    except Exception as error:  # numpy, zipfile and zlib say in many ways that a file is damaged
        reason = "it is neither an archive nor an array" if "pickle" in str(error) else error  # no advice to load it
        raise InputError(f"'{path}' cannot be read as an .npz archive ({reason}); is it whole?") from error
    if "x" not in held:
        raise InputError(f"'{path}' has no array 'x'; it holds: {', '.join(file.files) or 'nothing'}")
    if "channels" in held:
        held["channels"] = str(held["channels"])
    x, y, class_names = held.pop("x"), held.pop("y", None), held.pop("class_names", None)
    if not wants_masks(task):
        return arrays(x, y, class_names=class_names, name=str(path), task=task, **held)
    found = {key: held.pop(key) for key in MASKS if key in held} | ({} if y is None else {"y": y})
    if len(found) > 1:
        raise InputError(f"'{path}' holds several arrays of masks: {', '.join(found)}; save one of them, as y")
    source = arrays(x, name=str(path), **held)
    y = next(iter(found.values()), None)
    labels, names = array_masks(y, source.x.shape, class_names if classes is None else classes, void, str(path))
    return dataclasses.replace(source, labels=labels, class_names=names)


def _read_members(file: Any, path: Path, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    held = {}
    for key in file.files:
        if key not in wanted:
            continue
        try:
            held[key] = file[key]
        except ValueError as error:
            if "pickle" in str(error) or "Object arrays" in str(error):
                raise InputError(
                    f"'{path}': the array '{key}' holds Python objects, which are stored as pickles and can execute "
                    "code; it was not read. Save it as numbers or as strings of fixed width"
                ) from error
            raise
    return held
