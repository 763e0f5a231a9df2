"""What a section of a page is drawn from."""

import dataclasses

from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.report.run import Run
from jaxdl.tasks import Task
from jaxdl.validation.result import Result


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """What a page is about, for the functions of `sections.SECTIONS`.

    Attributes:
      task: what was asked.
      method: what the page calls the result.
      result: of a cross-validation; None for a checkpoint.
      source: the examples, None where they are not available.
      run: with its networks; None on a page that compares several methods, whose sections are brief.
    """

    task: Task
    method: str
    result: Result | None
    source: Source | None = None
    run: Run | None = None

    @property
    def predictions(self) -> Result:
        """The result. Raises InputError for a checkpoint, which has no held-out predictions."""
        if self.result is None:
            raise InputError("A checkpoint keeps no held-out predictions.")
        return self.result
