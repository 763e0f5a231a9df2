"""The card of a checkpoint: what there is to know about it besides its numbers."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.preprocessing import Preprocessing, parse_preprocessing
from jaxdl.errors import InputError
from jaxdl.models.staged import Staged
from jaxdl.tasks import Regression, Task, parse_task, task_of
from jaxdl.tasks.classification import of_classes
from jaxdl.weights.buckets import BucketPath
from jaxdl.weights.files import check_regular, read_json, reading
from jaxdl.weights.hints import CARD, why_no_checkpoint

FORMAT = 1
ENSEMBLE = "ensemble.json"  # what the folder of an ensemble has instead of a card; see `validation.ensemble`
TRAINED_ON = "trained_on.u64"  # beside the card: the hashes, 8 bytes each, in rising order
TESTED = "tested.u64"  # in the same form
LISTS = {"trained_on": TRAINED_ON, "tested": TESTED}  # of the card: the file of each


@dataclasses.dataclass(frozen=True)
class Card:
    """What there is to know about a checkpoint besides its numbers.

    Attributes:
      preprocessing: how examples were prepared for the network.
      task: what the network was asked; None if unknown, as of a network that was never trained.
      parent: the checkpoint that training started from, or None.
      data: name of the source trained on, or None.
      split: sha256 of the training indices, or None.
      plan: of the training, as plain values, or None.
      source: file and sha256 of converted weights, or None.
      targets: what the task fitted to the targets and predictions need, numbers by name; empty for nothing.
      columns: names of the features of a table, in order; None where they have none.
      target: names of the columns of a table that the targets came from; None where they have none.
      trained_on: hashes (`data.Source.hashes`) of all examples that the weights were shaped by, those of the
        parents included where their cards list them: 8 bytes each, in rising order (see `seen`). None if unknown.
      tested: of a fold's network the hashes of its test part in the same form; None of any other.
    """

    preprocessing: Preprocessing
    task: Task | None = None
    parent: str | None = None
    data: str | None = None
    split: str | None = None
    plan: Mapping[str, Any] | None = None
    source: Mapping[str, Any] | None = None
    targets: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    columns: tuple[str, ...] | None = None
    target: tuple[str, ...] | None = None
    trained_on: bytes | None = dataclasses.field(default=None, repr=False)
    tested: bytes | None = dataclasses.field(default=None, repr=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order; empty if they have none or these are not known."""
        return () if self.task is None else self.task.names

    @property
    def normalise(self) -> bool:
        """Whether the features are embeddings of unit length: by the task, or as the weights were published."""
        return bool((self.source or {}).get("normalise")) or (self.task is not None and self.task.UNIT)

    def asked(self, model: Staged) -> Task:
        """The task; of an unknown one, that of such a model, with as many classes, called by their numbers.

        Raises:
          InputError: where a model's outputs may mean several things.
        """
        asked = self.task or task_of(model, tuple(map(str, range(model.num_outputs))))
        if asked is None:
            raise InputError(
                "the card does not say what the network is asked, since its outputs have no names: convert it with "
                "these (--class-names FILE, in Python names=(…)), or train it"
            )
        return asked

    def check_trained(self, name: str = "the checkpoint", advice: str = "", *, head: bool = True) -> None:
        """Raises InputError, with `advice`, if the network called `name`, or its `head`, has seen no examples."""
        if not self.preprocessing.fitted:
            raise InputError(f"{name} was never trained: its card has no mean and std", advice)
        if head and (self.source or {}).get("without_head") and self.data is None:
            raise InputError(
                f"{name} was converted without a head, and so predicts nothing yet",
                advice or "train one on it: jaxdl finetune --init CKPT, or jaxdl cross-validate",
            )

    def target_constants(self) -> dict[str, np.ndarray]:
        """`targets` as float32 arrays. Raises InputError if the task needs more than there is to predict."""
        if self.task is not None and (missing := set(self.task.KEPT) - set(self.targets)):
            raise InputError(
                f"the checkpoint was never trained as {self.task.name}: its card has no {', '.join(sorted(missing))}"
            )
        return {name: np.float32(values) for name, values in self.targets.items()}

    @property
    def seen(self) -> np.ndarray:
        """`trained_on` as ``uint64[n]``; empty if unknown."""
        return np.frombuffer(self.trained_on or b"", "<u8")

    def with_seen(self, hashes: np.ndarray) -> "Card":
        """The card after more training: examples of these hashes ``uint64[n]`` are trained on, too, and none tested."""
        return dataclasses.replace(self, trained_on=_packed(np.union1d(self.seen, hashes)), tested=None)

    def with_tested(self, hashes: np.ndarray) -> "Card":
        """The same card, which lists examples of these hashes ``uint64[n]`` as tested."""
        return dataclasses.replace(self, tested=_packed(np.unique(hashes)))


def _packed(hashes: np.ndarray) -> bytes:
    return hashes.astype("<u8").tobytes()


def read_card(path: Path) -> tuple[Card, dict[str, Any]]:
    """The card of the checkpoint in the folder `path`, and all that its file holds.

    Raises:
      InputError: if there is no checkpoint, or its card is damaged or newer than this jaxdl.
    """
    if not path.is_dir():
        raise InputError(why_no_checkpoint(path))
    for file in () if isinstance(path, BucketPath) else path.glob("*"):
        if not file.is_dir():
            check_regular(file)
    if (path / ENSEMBLE).is_file():
        raise InputError(
            f"'{path}' is an ensemble of several networks, which only predicts; expected a checkpoint of one, such as "
            "those that it was made of"
        )
    if not (path / CARD).is_file():
        raise InputError(why_no_checkpoint(path))
    held = read_json(path / CARD, newest=FORMAT)
    with reading(path / CARD):
        card = parse_card(held)
        listed = {name: dict(held[name]) for name in LISTS if held.get(name) is not None}  # older cards have none
    return dataclasses.replace(card, **{k: _read_list(path / LISTS[k], v) for k, v in listed.items()}), held


def plain_card(card: Card) -> dict[str, Any]:
    """The card as values for JSON; of what was trained on and tested only how much, and a hash of the file."""
    plain = {f.name: getattr(card, f.name) for f in dataclasses.fields(card)}
    plain |= {
        "preprocessing": card.preprocessing.plain(),
        "task": None if card.task is None else card.task.plain(),
        "class_names": list(card.class_names),  # for readers of the file
        "targets": {name: list(values) for name, values in card.targets.items()},
    }
    return plain | {name: _about_list(held) for name, held in lists_of(card).items()}


def lists_of(card: Card) -> dict[str, bytes]:
    """The lists of examples that the card holds, by name; see `LISTS`."""
    return {name: getattr(card, name) for name in LISTS if getattr(card, name) is not None}


def _about_list(hashes: bytes) -> dict[str, Any]:
    return {"examples": len(hashes) // 8, "sha256": hashlib.sha256(hashes).hexdigest()}


def _read_list(file: Path, listed: Mapping[str, Any]) -> bytes:
    hashes = None
    if file.is_file():
        with reading(file):
            hashes = file.read_bytes()
    if hashes is None or _about_list(hashes) != listed or len(hashes) % 8:
        raise InputError(
            f"'{file}', which lists examples that the checkpoint was trained on or tested by, is missing or not that "
            "of its card. Take it from the same copy of the checkpoint"
        )
    return hashes


def parse_card(held: Mapping[str, Any]) -> Card:
    """The card of a file's plain values, without its `LISTS`; what is wrong comes as one of many kinds of errors."""
    _check_kinds(held)
    fields = {name: held[name] for name in ("parent", "data", "split", "plan", "source")}
    for key in ("columns", "target"):  # older cards have neither
        if (named := held.get(key)) is not None:
            if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
                raise TypeError(f"{key} is {str(named)[:50]}")
            fields[key] = tuple(named)
    fields["preprocessing"] = parse_preprocessing(held["preprocessing"])
    fields["task"], fields["targets"] = _parse_task(held)
    task = fields["task"]
    if task is not None and task.num_outputs != held["num_outputs"]:
        raise ValueError(f"its {task.name} has {task.num_outputs} outputs, the network {held['num_outputs']}")
    if missing := {"model", "arguments", "num_outputs"} - held.keys():
        raise KeyError(*missing)
    return Card(**fields)


def _parse_task(held: Mapping[str, Any]) -> tuple[Task | None, dict[str, tuple[float, ...]]]:
    """The task and what it fitted. Older cards name no task: class names meant classes, a scaling a number."""
    if "task" in held:
        task, targets = None if held["task"] is None else _task_of(held["task"]), held["targets"]
    elif (scaling := held.get("scaling")) is not None:
        task, targets = Regression(), {"scaling": scaling}
    else:
        task, targets = of_classes(held["class_names"]), {}
    targets = {name: _numbers(name, values) for name, values in targets.items()}
    if task is not None:
        task.check_constants(targets)
    return task, targets


def _task_of(plain: Mapping[str, Any]) -> Task:
    """The task of its plain values, none of which it would have left out or written otherwise."""
    names = plain.get("names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"the names of its task are no list of names: {str(names)[:50]}")
    task = parse_task(plain)
    if unknown := plain.keys() - task.plain().keys():
        raise TypeError(f"its task has what no {task.name} has: {', '.join(sorted(unknown))}")
    return task


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    numbers = tuple(map(float, values)) if isinstance(values, list) else ()
    with np.errstate(over="ignore"):  # they are used as float32
        finite = bool(np.isfinite(np.float32(numbers)).all())
    if not isinstance(values, list) or not finite:
        raise ValueError(f"what is known of its targets are no finite numbers: {name} is {str(values)[:50]}")
    return numbers


def _check_kinds(held: Mapping[str, Any]) -> None:
    """Raises TypeError for a value of a card whose kind would only surprise whoever uses it later."""
    text, table = (str, type(None)), (dict, type(None))
    kinds = {"parent": text, "data": text, "split": text, "fingerprint": text, "plan": table, "source": table}
    kinds["environment"] = table  # of versions: not on the card, but in its file
    for key, kind in {"model": str, **kinds}.items():
        if not isinstance(held.get(key), kind):
            raise TypeError(f"{key} is {str(held[key])[:50]}")
    if not isinstance(held["class_names"], list) or not all(isinstance(name, str) for name in held["class_names"]):
        raise TypeError("class_names is no list of names")
    for key in ("task", "targets"):
        if not isinstance(held.get(key), table):
            raise TypeError(f"{key} is {str(held[key])[:50]}")
