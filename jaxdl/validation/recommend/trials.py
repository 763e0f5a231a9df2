"""Methods are cross-validated one after the other, the cheapest first, while time is left."""

import dataclasses
import time
from collections.abc import Callable, Sequence

from jaxdl.data.source import Source
from jaxdl.tasks import Task
from jaxdl.training.execution import Execution
from jaxdl.training.plan import Plan
from jaxdl.training.progress import Diverged
from jaxdl.training.setup import Init
from jaxdl.validation.crossval import Folds
from jaxdl.validation.learning_curve import run_part
from jaxdl.validation.recommend.methods import Candidate, score_method
from jaxdl.validation.recommend.timing import estimate_seconds
from jaxdl.validation.result import Result, load_result
from jaxdl.validation.splits import Split

NO_TIME = "no time was left"

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A method that was not tried.

    Attributes:
      name: of it.
      why: in words.
      seconds: that it would take, with the final fit; None where it does not apply.
      timed: False where there was no time to try its speed: it takes at least as long as the longest before it, which
        train less.
    """

    name: str
    why: str
    seconds: float | None = None
    timed: bool = True


def in_turn(made: Sequence[Candidate]) -> list[Candidate]:
    """The first learning rate of every kind, the cheapest kind first, then the others."""
    first = [one for place, one in enumerate(made) if one.kind not in [other.kind for other in made[:place]]]
    return first + [one for one in made if one not in first]


@dataclasses.dataclass
class Trials:
    """Methods are cross-validated one after the other, while time is left.

    Attributes:
      init, source, task, split, execution: of all.
      seconds: for all of it.
      begin: when it began; what was finished before an interruption counts, too.
      say: see `recommend`.
      results, estimates, left_out: what came of it.
      before: seconds of what was finished before an interruption.
      of_kind: seconds of a method by its kind, as measured or else as estimated.
      longest_trial: seconds; most of it is compilation, which takes longer the more a method trains.
    """

    init: Init
    source: Source
    task: Task
    split: Split
    execution: Execution
    seconds: float
    begin: float
    say: Say
    results: dict[str, Result] = dataclasses.field(default_factory=dict)
    estimates: dict[str, float] = dataclasses.field(default_factory=dict)
    left_out: list[LeftOut] = dataclasses.field(default_factory=list)
    before: float = 0.0
    of_kind: dict[str, float] = dataclasses.field(default_factory=dict)
    longest_trial: float = 0.0

    def run(self, candidate: Candidate) -> None:
        """Cross-validates a method, or says why not."""
        name, work = candidate.name, self.execution.work
        if work and (finished := work.finished_part(candidate.folder)) is not None:
            self.results[name] = dataclasses.replace(load_result(finished), own=self.task)
            self.before += self.results[name].seconds
        else:
            try:
                if isinstance(candidate.method, Plan) and not self._fits(candidate):
                    return
                self.results[name] = self._result(candidate)
            except Diverged as error:
                self.left_out.append(LeftOut(name, str(error)))
                return
        self.of_kind[candidate.kind] = self.results[name].seconds

    def _fits(self, candidate: Candidate) -> bool:
        """Whether a method fits in the time that is left, with the fit to all examples; if not it is left out.

        The first of all is run however long it takes. Another learning rate takes as long as the first one.
        """
        name, share = candidate.name, 1 + len(self.source) / sum(len(part) for part in self.split.train)
        seconds = self.of_kind.get(candidate.kind)
        if seconds is None and self.results and self._left() <= 2 * self.longest_trial:  # nor time for its own trial
            least = max(self.of_kind.values()) * share
            self.left_out.append(LeftOut(name, NO_TIME, least, timed=False))
            return False
        if seconds is None:
            self.say(f"{name}: a trial of its speed")
            parts, plan, begin = self.split.train, candidate.method, time.perf_counter()
            seconds = estimate_seconds(self.init, self.source, plan, parts, self.task, self.execution)
            self.longest_trial = max(self.longest_trial, time.perf_counter() - begin)
            self.of_kind[candidate.kind] = seconds
        self.estimates[name] = seconds
        if self.results and seconds * share > self._left():
            self.left_out.append(LeftOut(name, NO_TIME, seconds * share))
            return False
        return True

    def _left(self) -> float:
        return self.seconds - self.before - (time.perf_counter() - self.begin)

    def _result(self, candidate: Candidate) -> Result:
        seconds = self.estimates.get(candidate.name)
        self.say(f"{candidate.name}: {len(self.split)} folds" + ("" if seconds is None else f", about {seconds:.0f} s"))
        if isinstance(candidate.method, Plan):
            asked = Folds(self.init, self.source, candidate.method, self.task, self.split)
            return run_part(candidate.folder, asked, self.execution)
        result = score_method(
            self.init, self.source, candidate.method, self.split, task=self.task, execution=self.execution
        )
        if self.execution.work:
            with self.execution.work.finish_part(candidate.folder) as folder:
                result.write_to(folder)
        return result
