"""The examples that a task is asked of, as a command line names them."""

from jaxdl import data
from jaxdl.data import MaskOptions
from jaxdl.data.source import Source
from jaxdl.data.table import TASKS as READ_AS
from jaxdl.errors import check_choice
from jaxdl.tasks import TASKS


def load_examples(
    spec: str,
    task: str = "auto",
    *,
    labelled: bool = True,
    split: str | None = "train",
    masks: MaskOptions | None = None,
) -> Source:
    """The examples that `spec` names, with targets as `task` needs them; see `data.load`.

    Raises:
      InputError: if there is no such thing, or no such task.
    """
    check_choice("task", task, ("auto", *TASKS))
    how = task if task in READ_AS else "auto"  # a user's own task takes the targets as they are
    return data.load(spec, split=split, labelled=labelled, task=how, masks=masks)
