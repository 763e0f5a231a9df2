"""The examples that a task is asked of, as a command line names them."""

from typing import Any

from jaxdl import data
from jaxdl.data import MaskOptions, TableOptions
from jaxdl.data.source import Source
from jaxdl.data.table import TASKS as READ_AS
from jaxdl.errors import InputError, check_choice
from jaxdl.shown import counted
from jaxdl.tasks import TASKS, choose_task


def load_examples(
    spec: str,
    task: str = "auto",
    *,
    labelled: bool = True,
    split: str | None = "train",
    masks: MaskOptions | None = None,
    table: TableOptions | None = None,
    like: Any = None,
) -> Source:
    """The examples that `spec` names, with targets as `task` needs them; see `data.load`.

    Raises:
      InputError: if there is no such thing, or no such task.
    """
    check_choice("task", task, ("auto", *TASKS))
    how = task if task in READ_AS else "auto"  # a user's own task takes the targets as they are
    kind = TASKS.get(task)
    labelled = labelled and not (kind and kind.MAKES_TARGETS)
    source = data.load(spec, split=split, labelled=labelled, task=how, masks=masks, table=table, like=like)
    return kind.examples(source) if kind else source


def load_validation(
    spec: str,
    named: str | None,
    source: Source,
    task: str = "auto",
    *,
    masks: MaskOptions | None = None,
    table: TableOptions | None = None,
) -> Source:
    """The examples that curves are measured on: those that `named` says, else the val of `spec`.

    Args:
      spec: what is learned from.
      named: another spec, or None.
      source: what was read of `spec`; columns of another table are read as its are.
      task: see `load_examples`.
      masks: how masks are read.
      table: what the columns of a table are for.
    """
    if named is not None:
        how = {"table": table, "like": source} if data.is_table(named) else {}
        return load_examples(named, task, masks=masks if data.has_masks(named, task) else None, **how)
    if data.is_table(spec):
        return load_examples(spec, task, split="val", table=table)
    return load_examples(f"{spec}:val", task, masks=masks)


def describe_examples(source: Source) -> str:
    """What was read, in one line: how many examples, of what size, with which targets.

    ``244 examples, 160 × 160 to 160 × 240 pixels, colour; 2 classes (ants 123, bees 121)``. Which splits, what columns
    mean and what was left out is in the source's notes.
    """
    count = len(source)
    parts = [counted(count, "example")]
    if count and (x := source.describe_x()):
        parts.append(x)
    targets = source.targets() if count else None
    said = "without labels"
    if targets is not None:
        try:
            said = choose_task(source, purpose="a summary").tally(targets)
        except InputError:  # of a task that has to be named, or what no task takes: who asks for one says so
            said = "targets that no task takes by itself"
    groups = "" if source.groups is None else f"; {len(set(source.groups.tolist())):,} groups"
    return f"{', '.join(parts)}; {said}{groups}"
