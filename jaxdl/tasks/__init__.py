"""What a model is asked: one file per task."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxdl.checks import check_type
from jaxdl.errors import InputError, check_choice
from jaxdl.models.staged import Staged
from jaxdl.tasks.classification import Classification
from jaxdl.tasks.metric import Metric
from jaxdl.tasks.multilabel import MultiLabel
from jaxdl.tasks.multitarget import MultiTarget
from jaxdl.tasks.ordinal import Ordinal
from jaxdl.tasks.question_answering import QuestionAnswering
from jaxdl.tasks.regression import Regression
from jaxdl.tasks.retrieval import Retrieval
from jaxdl.tasks.segmentation import Segmentation
from jaxdl.tasks.task import Constants, Metrics, Task
from jaxdl.tasks.token_classification import TokenClassification

__all__ = [
    "TASKS",
    "Classification",
    "Constants",
    "Metric",
    "Metrics",
    "MultiLabel",
    "MultiTarget",
    "Ordinal",
    "QuestionAnswering",
    "Regression",
    "Retrieval",
    "Segmentation",
    "Task",
    "TokenClassification",
    "choose_task",
    "fitting_task",
    "parse_task",
    "register_task",
    "task_of",
]

# Where nothing is said, the first whose targets these could be is asked.
TASKS: dict[str, type[Task]] = {
    kind.name: kind
    for kind in (
        Classification,
        MultiLabel,
        Regression,
        MultiTarget,
        Ordinal,
        Segmentation,
        TokenClassification,
        Retrieval,
        QuestionAnswering,
    )
}


def register_task(task: type[Task]) -> type[Task]:
    """Adds a task of your own to `TASKS`, so that checkpoints of it can be restored; also as a decorator.

    Raises:
      InputError: if the name is that of another task.
    """
    if TASKS.get(task.name, task) is not task:
        raise InputError(f"there is a task '{task.name}' already; give yours another name")
    TASKS[task.name] = task
    return task


def fitting_task(targets: Any, names: tuple[str, ...]) -> type[Task] | None:
    """The first of `TASKS` whose targets these could be; None if there is none."""
    return next((kind for kind in TASKS.values() if kind.fits(targets, names)), None)


def choose_task(source: Any, task: Task | str | None = None, metrics: Metrics = None, *, purpose: str) -> Task:
    """What is asked of the examples of a source.

    Args:
      source: labelled; see `data.Source`.
      task: a `Task`, the name of one, or None or ``"auto"`` for what the targets look like.
      metrics: see `Task.scored_by`.
      purpose: what the labels are for, in words, for messages.

    Raises:
      InputError: if there are no labels, or they are no targets of this task.
    """
    if len(source) == 0:
        raise InputError(f"{source.name} holds no examples; {purpose} needs some")
    targets, names = source.targets(), tuple(source.class_names)
    if targets is None:
        advice = " (for queries with their documents: data.pairs)" if source.describe_x() == "pairs of texts" else ""
        raise InputError(f"{source.name} has no labels; {purpose} needs a class or a number for every example{advice}")
    if isinstance(task, Task):
        found = task
        if found.names != names and sorted(found.names) == sorted(names):
            raise InputError(
                f"the names of the task ({', '.join(found.names)}) stand in another order than those of {source.name} "
                f"({', '.join(names)}), whose labels are their places; give the source class_names in the order wanted"
            )
    elif task in (None, "auto"):
        kind = fitting_task(targets, names)
        if kind is None:
            raise InputError(
                f"the labels of {source.name} are no whole numbers (classes), no floats (regression), no matrix of 0 "
                "and 1 (multi-label) or of floats (multitarget), no masks (segmentation) and no tags of words; name "
                f"the task, of {', '.join(TASKS)} or your own"
            )
        found = kind.of(targets, names)
    else:
        check_choice("task", task, TASKS)
        found = TASKS[task].of(targets, names)
    found.check(targets, len(source), source.name, purpose)
    return found.scored_by(metrics)


def task_of(model: Staged, names: Sequence[str], kind: str | None = None) -> Task | None:
    """What a network is asked whose outputs have these names.

    Args:
      model: the network.
      names: of its outputs.
      kind: name of the task; by default what its outputs are usually taken for.

    Returns:
      None where the outputs have no names and the task needs them, or it is no task here.
    """
    kind = kind or model.ANSWERS
    made = TASKS[kind](tuple(names)) if kind in TASKS else None
    return made if made is not None and made.num_outputs == model.num_outputs else None


def parse_task(held: Mapping[str, Any]) -> Task:
    """The task of a card's plain values. Raises InputError for one that is not known."""
    held = dict(held)
    name = held.pop("name")
    if "names" in held:
        check_type("names of the task", held["names"], tuple[str, ...])
    if name not in TASKS:
        raise InputError(
            f"the task '{name}' is not known; if it is a task of your own, register it first (jaxdl.register_task). "
            f"Known are {', '.join(TASKS)}"
        )
    return TASKS[name](**{key: tuple(value) if isinstance(value, list) else value for key, value in held.items()})
