"""What a trained network says of examples."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import jax
import numpy as np

from jaxdl.checks import check_type
from jaxdl.data import as_source
from jaxdl.data.preprocessing import Preprocessing
from jaxdl.data.source import Source, arrange_columns
from jaxdl.data.stream import EvaluationOrder
from jaxdl.errors import InputError
from jaxdl.models.staged import Staged
from jaxdl.parallel.executor import Executor
from jaxdl.parallel.hosts import Process, beat, this_process
from jaxdl.parallel.program import Program
from jaxdl.shown import ROWS, Shown
from jaxdl.tasks import Task
from jaxdl.tasks.columns import Top, frame_columns
from jaxdl.training.division import check_division
from jaxdl.training.execution import Execution
from jaxdl.training.finite import check_outputs, finite_rows
from jaxdl.training.lengths import Stored, may_cut, stored, streamed_batches
from jaxdl.training.tiles import needs_tiles, predict_tiled
from jaxdl.training.views import check_views, over_views
from jaxdl.weights.checkpoint import Checkpoint

if TYPE_CHECKING:
    import pandas as pd

_PROGRAMS: WeakKeyDictionary[Checkpoint, dict[tuple[Executor, tuple[str, ...]], Program]] = WeakKeyDictionary()

NOT_HELD_OUT = (
    "there are no prediction sets or intervals: {} no held-out predictions to compare new examples with. An ensemble "
    "of folds does: jaxdl cross-validate … --keep-models always --out RUN, then jaxdl ensemble RUN --out ENSEMBLE (in "
    "Python Execution(keep_models=True), then jaxdl.ensemble(result))"
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Predictions(Shown):
    """What a checkpoint says of each example.

    Attributes:
      outputs: what the task keeps of the network's outputs, arrays ``[n, …]``: of classes the logits, of a regression
        the numbers ``float32[n, 1]``. Lists in place of arrays where images of several sizes were cut into tiles.
      task: what was asked.
      targets: the truth as the task means it, where it is known (-1 for a class that the checkpoint does not know);
        else None.
      names: of the examples, or None.
      seen: whether the checkpoint was trained on each example, ``bool[n]``, as its card lists them by their content.
        None if the card does not list them, or without targets.
    """

    outputs: Any
    task: Task
    targets: Any = None
    names: tuple[str, ...] | None = None
    seen: np.ndarray | None = None

    @property
    def logits(self) -> Any:
        """`outputs`, by the name that classification has for them."""
        return self.outputs

    @property
    def labels(self) -> Any:
        """`targets`, by the name that classification has for them."""
        return self.targets

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the task's outputs; empty where they have no names."""
        return self.task.names

    @property
    def probabilities(self) -> np.ndarray:
        """Of each class or label, ``[n, outputs]``. Raises InputError for a task without."""
        return self.task.probabilities(self.outputs)

    @property
    def predicted(self) -> np.ndarray:
        """The answer for each example: a class, a number, a set of labels."""
        return self.task.predicted(self.outputs)

    def top(self, k: int = 5) -> Top:
        """The most probable classes of each example, the most probable first.

        Args:
          k: how many.

        Returns:
          ``indices int[n, k]``, ``names [n, k]`` and ``probabilities float64[n, k]``.

        Raises:
          InputError: for a task other than classification, or unless `k` is from 1 to the number of classes.
        """
        return self.task.top(self.outputs, k)

    def to_frame(self) -> "pd.DataFrame":
        """A row for each example, by its name: the answer, probabilities and, where they are known, ``target`` and
        ``seen`` (whether the checkpoint was trained on it)."""
        import pandas as pd

        columns = frame_columns(self.task, self.outputs)
        if self.targets is not None:
            columns |= self.task.target_columns(self.targets)
        if self.seen is not None:
            columns["seen"] = self.seen
        index = pd.RangeIndex(len(self)) if self.names is None else list(self.names)
        return pd.DataFrame(columns, index=pd.Index(index, name="example"))

    def __len__(self) -> int:
        outputs = self.outputs
        while isinstance(outputs, Mapping):  # whose values may be lists of images
            outputs = next(iter(outputs.values()))
        return len(outputs)

    def _facts(self) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says is a fact below
            scores = self.scores or {}
        seen = None if self.seen is None else int(self.seen.sum())
        return {"examples": len(self), "seen in training": seen, "task": self.task.describe(), **scores}

    def _preview(self) -> "pd.DataFrame":
        return _first(self, ROWS + 1).to_frame().reset_index()

    @property
    def scores(self) -> dict[str, float] | None:
        """What the task measures, such as ``accuracy`` and ``loss``; None where a target is not known.

        Of the examples that the checkpoint was not trained on. Where it was trained on all of them, or does not say on
        which, they are of all. A warning says so where some or all were trained on. See `scores_of`.
        """
        return None if self._record is None else self.scores_of(self._counted)

    def scores_of(self, rows: np.ndarray) -> dict[str, float]:
        """What the task measures on some of the examples, seen or not; `rows` are indices, or ``bool[n]``.

        Raises:
          InputError: where a target is not known.
        """
        if self._record is None:
            raise InputError("there are no scores: the checkpoint does not know the target of each example")
        return self.task.evaluate_record({key: values[rows] for key, values in self._record.items()})

    @property
    def accuracy(self) -> float | None:
        """Share predicted right, of a classification; a class that the checkpoint does not know is predicted wrong.

        Of the same examples as `scores`.
        """
        if self.targets is None or "accuracy" not in self.task.metrics:
            return None
        return float((self.predicted == self.targets)[self._counted].mean())

    def at_temperature(self, temperature: float) -> "Predictions":
        """The same with logits divided by a temperature: above 1 probabilities are less sure, below 1 surer.

        The predicted class stays the same. The page of a cross-validation says which temperature suits the held-out
        examples (Guo et al. 2017, arXiv:1706.04599).

        Raises:
          InputError: for a number that is not above 0, or a task whose outputs are no logits.
        """
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 < temperature < np.inf:
            raise InputError(f"temperature is {temperature!r:.50}; expected a number above 0, such as 1.5")
        if not self.task.CALIBRATED or not isinstance(self.outputs, np.ndarray):
            raise InputError(
                f"a temperature divides the logits of classes, and {self.task.describe()} has none; leave it out"
            )
        return dataclasses.replace(self, outputs=(self.outputs / temperature).astype(self.outputs.dtype))

    def sets(self, coverage: float = 0.9, by: str | None = None, score: str | None = None) -> Any:
        """Of each example the classes that may be true; of an ensemble of folds, see `EnsemblePredictions.sets`.

        Raises:
          InputError: of a single network, which has no held-out examples to compare with.
        """
        raise InputError(NOT_HELD_OUT.format("a single network keeps"))

    def intervals(self, coverage: float = 0.9, by: str | None = None, score: str | None = None) -> Any:
        """Of each example the numbers that may be true; as `sets`."""
        return self.sets(coverage, by, score)

    @cached_property
    def _record(self) -> dict[str, np.ndarray] | None:
        if self.targets is None or not self.task.known(self.targets).all():
            return None
        return self.task.host_record(self.outputs, self.targets)

    @property
    def _counted(self) -> Any:
        """The examples that scores are of."""
        if self.seen is None or not self.seen.any():
            return slice(None)
        count, total = int(self.seen.sum()), len(self.seen)
        if count == total:
            said = "a score on these says how well they were learned, not how good the network is on new examples"
        else:
            said = f"the score is that of the other {total - count}"
        warnings.warn(f"the checkpoint was trained on {count} of these {total} examples: {said}", stacklevel=3)
        return slice(None) if count == total else ~self.seen


def _first(predictions: Predictions, count: int) -> Predictions:
    """Those of the first examples."""

    def cut(tree: Any) -> Any:
        return {name: cut(one) for name, one in tree.items()} if isinstance(tree, Mapping) else tree[:count]

    held = {name: getattr(predictions, name) for name in ("outputs", "targets", "names", "seen")}
    cut_down = {name: None if tree is None else cut(tree) for name, tree in held.items()}
    return dataclasses.replace(predictions, **cut_down)


def predict(
    checkpoint: Checkpoint,
    source: Source | Any,
    *,
    batch_size: int = 64,
    tta: str | Sequence[str] = (),
    execution: Execution = Execution(),  # noqa: B008
) -> Predictions:
    """What a checkpoint says of every example of `source`.

    Args:
      checkpoint: a trained network; its card says how to prepare the examples and what is asked.
      source: with or without labels; classes are matched to the checkpoint's by name. Also an array ``[n, …]``, a path,
        a list of paths of images, or a list of texts: see `data.as_source`.
      batch_size: examples at a time.
      tta: test-time augmentation, ``"flip"``, ``"flip-vertical"`` or both: mirror images are predicted, too, and the
        answers combined (`Task.combine`: of classes the mean probabilities). For what looks the same in a mirror.
      execution: whether they are read batch by batch, by how many processes, and which devices are used.

    Raises:
      InputError: if the examples are of another kind or shape than the network takes, what it says of some is not
        finite, or `tta` does not go with them.
    """
    if not isinstance(checkpoint, Checkpoint):
        raise InputError(
            f"checkpoint is of type {type(checkpoint).__name__}; expected a Checkpoint (an ensemble has a method "
            "predict)"
        )
    check_type("execution", execution, Execution)
    card, preprocessing = checkpoint.card, checkpoint.card.preprocessing
    card.check_trained()
    check_division(checkpoint.model, checkpoint.variables, preprocessing.spec(), execution.layout)
    source = as_source(source, card)
    if len(source) == 0:
        raise InputError(f"{source.name} holds no examples")
    source = preprocessing.align(arrange_columns(source, card))
    tiled = needs_tiles(preprocessing, source)
    views = check_views(preprocessing, tta, tiled=tiled)
    if tiled:
        kept = predict_tiled(checkpoint, source, batch_size, execution.layout)
    else:
        executor = execution.layout.executor()
        program = _program(checkpoint, executor, views)
        variables = executor.place_variables(checkpoint.variables)  # there once
        model = checkpoint.model if may_cut(checkpoint.model, checkpoint.task) else None
        feed = stored_batches(model, source, preprocessing, batch_size, execution, this_process())
        _, width = EvaluationOrder((np.arange(len(source)),), batch_size)(0).indices.shape
        made = []
        for place, x in enumerate(feed.batches):
            beat(f"predicting batch {place + 1}", slow=place == 0)
            made.append(jax.tree.map(lambda rows: np.asarray(rows)[:width], program(variables, x)))
            beat(f"reading batch {place + 2}")
        kept, finite = feed.by_example(jax.tree.map(lambda *parts: np.concatenate(parts), *made), len(source))
        check_outputs(finite, source)
        kept = checkpoint.task.read(kept, source, np.arange(len(source)))
    targets = match_targets(checkpoint.task, source)
    known = targets is not None and card.trained_on is not None
    beat("comparing the examples with those of the training", slow=True)
    seen = np.isin(source.hashes(), card.seen) if known else None
    return Predictions(kept, checkpoint.task, targets, names_of(source), seen)


def _program(checkpoint: Checkpoint, executor: Executor, views: tuple[str, ...]) -> Program:
    """What `predict` runs; made once for a checkpoint, so that its next call compiles nothing."""
    made = _PROGRAMS.setdefault(checkpoint, {})
    if (executor, views) not in made:
        answer = over_views(checkpoint.task, checkpoint.prediction(_with_finite), views)
        made[executor, views] = executor.forward(answer, divided=True)
    return made[executor, views]


def _with_finite(task: Task, outputs: Any, constants: Any) -> Any:
    kept = task.predict(outputs, constants)
    return kept, finite_rows((outputs, kept))


def stored_batches(
    model: Staged | None,
    source: Source,
    preprocessing: Preprocessing,
    batch_size: int,
    execution: Execution = Execution(),  # noqa: B008
    process: Process = Process(),  # noqa: B008
) -> Stored:
    """Every example as stored, of several processes own rows; for `model` see `lengths.stored`."""
    source = preprocessing.align(source)
    if process.count > 1 or execution.why_streamed(source, preprocessing):
        return streamed_batches(source, preprocessing, batch_size, execution.workers, process)
    return stored(model, preprocessing.load(source), batch_size)


def match_targets(task: Task, source: Source) -> Any:
    """The targets of `source` as `task` means them; None where it has none of this task's kind."""
    targets = source.targets()
    if targets is None or not task.takes(targets, source.class_names):
        return None
    return task.match(targets, source.class_names)


def names_of(source: Source) -> tuple[str, ...] | None:
    """Names of the examples, if they have any."""
    return None if source.names is None else tuple(source.names)
