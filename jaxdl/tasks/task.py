"""What a model is asked: the base class of all tasks."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import jax
import numpy as np

from jaxdl.errors import InputError, check_choice
from jaxdl.models.sequence import CARRIED
from jaxdl.models.staged import Staged
from jaxdl.tasks.columns import Top, most_probable
from jaxdl.tasks.conformal import IntervalScore, SetScore
from jaxdl.tasks.metric import Metric, Record
from jaxdl.tasks.user_metric import Function, as_metric

if TYPE_CHECKING:
    from jaxdl.data.source import Source

Tree = Any
Constants = Mapping[str, Any]  # what a task fits to the targets of a training part: arrays by name
Metrics = str | Metric | Callable[..., float] | Sequence[Any] | Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True)
class Task:
    """What is asked of each example, and all that depends on it.

    To write one, subclass it and define what raises NotImplementedError here; ``jaxdl.register_task`` lets checkpoints
    of it be restored. Methods that take `outputs` or targets as jax arrays run inside the train step.

    Attributes:
      names: of the outputs, such as classes; empty where they have none.
      metric: the name of the score; the first of `METRICS` unless another is asked for.
      extra: metrics of the user's own, by name.
      asked: whether the metric was asked for by name: then search and early stopping choose by it, else by the loss.
      name: of the task, on cards and in ``--task``.
      METRICS: by name; the first is the usual score.
      LOSS: name of the metric that is the mean of the loss.
      SHOWN: names of the metrics that the learning curves show, beside the loss.
      SECTIONS: of the report, by name; see `report.sections`.
      OPTIONS: fields that a plan sets by the same name, such as ``label_smoothing``.
      KEPT: names of the constants (see `fit`) that predictions need, too: they go on the card.
      ELSEWHERE: these constants for a head that was trained elsewhere, whose outputs are taken as they are.
      CALIBRATED: names of the metrics that dividing the logits by a temperature may improve; empty where there are no
        logits.
      OF_PROBABILITIES: keys of a record that mean nothing where `predict` gives decision values in place of logits.
      PROBED: what heads on frozen features take its targets for, ``classes`` or ``numbers``; empty for neither.
      FUNCTIONS: whether functions of targets and predictions, such as scikit-learn's scorers, can be its metrics: not
        where the record has sums in place of them.
      DRAWS: whether its answers are pictures, see `pictures`.
      ANSWERS_WHOLE: whether outputs are a vector for each example, and never one for each pixel.
      CARRIES: names of what must be known of each token, see `models.sequence`; the network then answers for each,
        and its outputs are ``{"outputs": [batch, length, num_outputs], **carried}``. Empty for any other task.
      ANY_LENGTH: whether what is kept of answers for each token has one form, however long sequences of a batch are.
      ON_HOST: whether `record` is made on the host alone, of what was kept and `read`: where it is made of strings.
      MAKES_TARGETS: whether its targets are made of the examples, see `examples`.
      SEES_BATCH: whether the loss of an example depends on the others of its batch, see `batch_loss`. Then no batch is
        computed in parts, and outputs of all devices that share one are collected.
      UNIT: whether features are compared by their cosine, so that `embed` gives vectors of unit length.
      PREDICTS: what `predict` gives, in words, for who reads it without jaxdl.
      CONFORMAL: scores, by name, from which prediction sets or intervals are made; the first is the usual one.
      NOT_CONFORMAL: why there are none, where `CONFORMAL` is empty.
      RANKED: whether `probabilities` of its outputs say which class an example is most probably of; see `top`.
      BASELINE: what `baseline` says, in words.
      FAIR: name of the metric that tables show beside the score where targets are `uneven`; empty for none.
      mixes: whether an example may be mixed with another one, targets in the same shares (MixUp, CutMix).
    """

    names: tuple[str, ...] = ()
    metric: str = ""
    extra: Mapping[str, Metric] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    asked: bool = dataclasses.field(default=False, compare=False, repr=False)

    name: ClassVar[str]
    METRICS: ClassVar[Mapping[str, Metric]]
    LOSS: ClassVar[str]
    SHOWN: ClassVar[tuple[str, ...]]
    SECTIONS: ClassVar[tuple[str, ...]] = ()
    OPTIONS: ClassVar[tuple[str, ...]] = ()
    KEPT: ClassVar[tuple[str, ...]] = ()
    ELSEWHERE: ClassVar[Mapping[str, tuple[float, ...]]] = {}
    PROBED: ClassVar[str] = ""
    CONFORMAL: ClassVar[Mapping[str, SetScore | IntervalScore]] = {}
    NOT_CONFORMAL: ClassVar[str] = "the task states no score of how strange an answer would be"
    RANKED: ClassVar[bool] = False
    DRAWS: ClassVar[bool] = False
    FUNCTIONS: ClassVar[bool] = True
    ANSWERS_WHOLE: ClassVar[bool] = False
    CARRIES: ClassVar[tuple[str, ...]] = ()
    ANY_LENGTH: ClassVar[bool] = False
    ON_HOST: ClassVar[bool] = False
    MAKES_TARGETS: ClassVar[bool] = False
    SEES_BATCH: ClassVar[bool] = False
    UNIT: ClassVar[bool] = False
    PREDICTS: ClassVar[str] = "what the task makes of the network's outputs"
    mixes: ClassVar[bool] = False
    CALIBRATED: ClassVar[tuple[str, ...]] = ()
    OF_PROBABILITIES: ClassVar[tuple[str, ...]] = ()
    BASELINE: ClassVar[str] = "training targets alone"
    FAIR: ClassVar[str] = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.metric:
            object.__setattr__(self, "metric", next(iter(self.METRICS)))
        check_choice(f"metric of {self.name}", self.metric, self.metrics)

    # what is asked of which targets

    @classmethod
    def fits(cls, targets: Tree, names: Sequence[str]) -> bool:
        """Whether targets like these ask for this task where nothing else is said; `names` as of `data.Source`."""
        return False

    @classmethod
    def of(cls, targets: Tree, names: Sequence[str]) -> Self:
        """The task for these targets."""
        return cls(tuple(names))

    @classmethod
    def examples(cls, source: "Source") -> "Source":
        """The source where this task was asked for by name: with targets that are made of what it holds.

        A task that makes them `MAKES_TARGETS`.
        """
        return source

    @property
    def num_outputs(self) -> int:
        """Size of the head."""
        raise NotImplementedError

    def check(self, targets: Tree, count: int, data: str, purpose: str) -> None:
        """Raises InputError, naming `data`, unless each of `count` examples has a target that can be learned."""
        raise NotImplementedError

    def describe(self) -> str:
        """In words, such as ``classification of 2 classes (ant, bee)``."""
        return f"{self.name} of {len(self.names)} outputs ({self.first_names()})" if self.names else self.name

    def tally(self, targets: Tree) -> str:
        """What the targets are, in words with counts, such as ``2 classes (ant 12, bee 9)``."""
        return self.describe()

    def first_names(self) -> str:
        """The first five names, for messages."""
        return ", ".join(self.names[:5]) + (", …" if len(self.names) > 5 else "")

    def same_question(self, other: "Task | None") -> bool:
        """Whether a head that was trained for `other` answers this one."""
        return type(self) is type(other) and self.names == other.names

    def differs_from(self, other: "Task") -> str:
        """How the question differs from that of `other`, in words; empty where it is the same (see `same_question`)."""
        if self.same_question(other):
            return ""
        if type(self) is not type(other):
            return f"{self.name} ({self.describe()}) and {other.name} ({other.describe()})"
        only = [sorted(set(one) - set(two)) for one, two in ((self.names, other.names), (other.names, self.names))]
        if not any(only) and len(self.names) == len(other.names):
            return f"the order of the names, {self.first_names()} and {other.first_names()}"
        said = [", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else "no other" for names in only]
        return f"the names of its outputs, of which only the first has {said[0]}, only the second {said[1]}"

    def takes(self, targets: Tree, names: Sequence[str]) -> bool:
        """Whether predictions of this task can be compared with targets like these: those it `fits`, or can `check`."""
        if type(self).fits(targets, names):
            return True
        try:  # a task that has to be named fits nothing by itself
            self.check(targets, count_of(targets), "the data", "a comparison")
        except InputError:
            return False
        return True

    def match(self, targets: Tree, names: Sequence[str]) -> Tree:
        """Targets that mean `names`, in this task's own; -1 where a class is not among them."""
        return targets

    def join(self, one: Tree, two: Tree) -> Tree:
        """Targets of examples and of further ones, as `match` gives these, in one: of the types of the former.

        Strings are as wide as the longest.
        """

        def both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            made = np.concatenate([a, b])
            return made if made.dtype.kind == "U" else made.astype(a.dtype)

        return jax.tree.map(both, one, two)

    def known(self, targets: Tree) -> np.ndarray:
        """``bool[n]``: False where `match` found no target of this task's own."""
        return np.ones(count_of(targets), bool)

    def of_place(self) -> "Task | None":
        """What is asked of a single place, where targets are maps: heads are then fitted to features of places."""
        return None

    def example(self) -> tuple[Tree, Tree] | None:
        """A few predictions, as `predict` gives them, and their targets: scorers of scikit-learn are tried on them.

        None where there are none: then a scorer is tried first when the score is computed.
        """
        return None

    def baseline(self, targets: Tree, count: int) -> Tree:
        """What one says of `count` examples who knows nothing but the training `targets`; as `predict` gives it."""
        raise NotImplementedError

    def boosted(self, x: np.ndarray, targets: Tree, asked: np.ndarray) -> Tree | None:
        """What gradient-boosted trees say, fitted to rows ``x[n, features]`` of a table and their targets.

        Args:
          x: rows of the training part; NaN where a value is missing.
          targets: of these.
          asked: rows ``[m, features]`` to predict.

        Returns:
          As `predict` gives it, ``[m, …]``; None where trees cannot answer the task.
        """
        return None

    def uneven(self, targets: Tree) -> str:
        """A sentence where some answers are far more frequent than others, so that `FAIR` is worth a look; else ""."""
        return ""

    def fit_model(self, model: Staged, spec: Tree) -> Staged:
        """The network that answers this task, made of `model`: that itself, unless its outputs have another form.

        One that is made for maps is refused where `ANSWERS_WHOLE`; where the task `CARRIES` something, one of tokens is
        made to answer for each of them.

        Stages of `model` that go on in another network have their names there.

        Args:
          model: a network.
          spec: of an example, as the network is fed with it.

        Raises:
          InputError: if it cannot be made to answer.
        """
        if self.CARRIES:
            return self._for_each_token(model, spec)
        if self.ANSWERS_WHOLE and model.ANSWERS == "tokens":
            raise InputError(
                f"a {type(model).__name__} with pool='none' gives an answer for each token; {self.describe()} needs "
                "one for each example: take another pool, such as pool='mean'"
            )
        if self.ANSWERS_WHOLE and model.ANSWERS == "segmentation":
            raise InputError(
                f"a {type(model).__name__} gives a map for each image; {self.describe()} needs one answer for each: "
                "take a model such as its encoder, or images with masks"
            )
        return model

    def _for_each_token(self, model: Staged, spec: Tree) -> Staged:
        carried = spec.get(CARRIED, {}) if isinstance(spec, Mapping) else {}
        if lacking := [name for name in self.CARRIES if name not in carried]:
            raise InputError(
                f"{self.describe()} needs {', '.join(lacking)} of each token, which the examples do not have: take "
                "examples that were made for it"
            )
        found = model if model.ANSWERS == "tokens" else model.for_each_token()
        if found is None:
            raise InputError(
                f"a {type(model).__name__} gives no answer for each token, and {self.describe()} needs them: take a "
                "model such as bert or lstm"
            )
        return found

    # how it is learned

    def device_targets(self, targets: Tree) -> Tree:
        """The part of the targets that the loss is made of: numbers; strings stay on the host."""
        return targets

    def with_options(self, **options: Any) -> Self:
        """The task with the options of a plan. Raises InputError for one that is set and is not of `OPTIONS`."""
        for name, value in options.items():
            if value and name not in self.OPTIONS:
                raise InputError(f"{name} is {value}, but {self.name} has no {name}; leave it out")
        return dataclasses.replace(self, **{name: v for name, v in options.items() if name in self.OPTIONS})

    def fit(self, targets: Tree) -> Constants:
        """What the loss needs to know of the targets of a training part, and of no others; float32 arrays."""
        return {}

    def fit_weighted(self, targets: Tree, weights: np.ndarray) -> Constants:
        """As `fit`, where examples count by ``weights[n]``; unless a task says how, each counts once."""
        return self.fit(targets)

    def check_constants(self, held: Mapping[str, Sequence[float]]) -> None:
        """Raises ValueError if what a card says of `KEPT` cannot be; names that are left out are not yet known."""

    def loss(self, outputs: Tree, targets: Tree, constants: Constants) -> tuple[jax.Array, jax.Array]:
        """Loss of each example and what it is divided by, ``float32[batch]`` both.

        Both are added over the batch, its parts, devices and hosts before the one is divided by the other. The second
        is the weight of the example, or its number of pixels or tokens.
        """
        raise NotImplementedError

    def batch_loss(
        self, outputs: Tree, targets: Tree, constants: Constants, real: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """As `loss`, of a whole batch: ``real bool[batch]`` is False for rows that only pad."""
        return self.loss(outputs, targets, constants)

    def reported_loss(self, loss: jax.Array, constants: Constants) -> jax.Array:
        """A mean loss in the units in which it is reported."""
        return loss

    def train_scores(self, record: Record) -> dict[str, jax.Array]:
        """By name a value for each example, ``[batch]``, whose means the learning curves show of the training part."""
        return {}

    # what is predicted, and how good it is

    def predict(self, outputs: Tree, constants: Constants) -> Tree:
        """What a user gets of the network's outputs, and what is kept out of fold; arrays ``[batch, …]``, small."""
        raise NotImplementedError

    def keep(self, outputs: Tree, targets: Tree, constants: Constants) -> Tree:
        """What is kept of an example whose target is known: what `predict` gives, unless its record needs more.

        Such as its loss, where the outputs are too many to be kept.
        """
        return self.predict(outputs, constants)

    def read(self, kept: Tree, source: "Source", indices: np.ndarray) -> Tree:
        """What was kept of the examples `indices`, and what it takes the examples to read in it, such as a text.

        On the host, once, before `record` and before a user sees it; of arrays ``[n, …]``, as are those it gives.
        """
        return kept

    def record(self, kept: Tree, targets: Tree) -> dict[str, Any]:
        """A few numbers per example, from which every metric follows; `kept` as `keep` or `predict` gives it."""
        raise NotImplementedError

    def as_head(self, kernel: np.ndarray, bias: np.ndarray, constants: Constants) -> tuple[np.ndarray, np.ndarray]:
        """A linear map whose outputs `predict` turns into those of the map `kernel`, `bias`."""
        return kernel, bias

    def head_elsewhere(
        self, kernel: np.ndarray, bias: np.ndarray, constants: Constants
    ) -> tuple[np.ndarray, np.ndarray]:
        """A linear map whose outputs are, as they are, what `predict` makes of those of `kernel`, `bias`."""
        return kernel, bias

    def predicted(self, kept: Tree) -> np.ndarray:
        """The answer for each example as a user reads it: a class, a number, a set of labels."""
        return np.asarray(kept)

    def probabilities(self, kept: Tree) -> np.ndarray:
        """Of each class or label, ``[n, outputs]``. Raises InputError for a task without."""
        raise InputError(f"{self.name} gives no probabilities; see predicted")

    def check_top(self, k: int) -> None:
        """Raises InputError unless `top` can name `k` classes."""
        if not self.RANKED:
            raise InputError(f"top is {k}, but {self.name} has no most probable classes; leave it out")
        if not 1 <= k <= len(self.names):
            raise InputError(f"top is {k}; expected from 1 to {len(self.names)}, the number of classes")

    def top(self, kept: Tree, k: int) -> Top:
        """The `k` most probable classes of each example. Raises InputError as `check_top`."""
        self.check_top(k)
        return most_probable(self.names, self.probabilities(kept), k)

    def conformal(self, name: str | None = None) -> SetScore | IntervalScore:
        """The score of that name in `CONFORMAL`, None for the usual one.

        Raises:
          InputError: where there is none, with the reason.
        """
        stated, predicting = (
            next(kind for kind in type(self).__mro__ if name in vars(kind)) for name in ("CONFORMAL", "predict")
        )
        if not self.CONFORMAL:
            raise InputError(f"there are no prediction sets or intervals for {self.name}: {self.NOT_CONFORMAL}")
        if not issubclass(stated, predicting):  # it may keep something else than what the scores were written for
            raise InputError(
                f"there are no prediction sets or intervals for {self.name}: {predicting.__name__} has a predict of "
                f"its own, and the scores are those of {stated.__name__}; let it state its own CONFORMAL"
            )
        if name is not None:
            check_choice("score", name, self.CONFORMAL)
        return self.CONFORMAL[name or next(iter(self.CONFORMAL))]

    def columns(self, kept: Tree) -> dict[str, list[Any]]:
        """Columns of a table of predictions, by name."""
        raise NotImplementedError

    def pictures(self, kept: Tree) -> list[Any]:
        """Each answer as a Pillow image, to be written to a file. Raises InputError unless it `DRAWS`."""
        raise InputError(f"predictions of {self.name} are no pictures")

    def target_columns(self, targets: Tree) -> dict[str, list[Any]]:
        """Columns of a frame with each target."""
        return {"target": self.target_words(targets)}

    def target_words(self, targets: Tree) -> list[Any]:
        """Each target as a table writes it."""
        return np.asarray(targets).tolist()

    def shown_examples(self, kept: Tree, targets: Tree, source: "Source | None") -> dict[str, list[Any]]:
        """Columns of a list of examples on a page: what is true, and what was predicted.

        Args:
          kept, targets: of these examples.
          source: all examples; None where they are not at hand.
        """
        answers = next(iter(self.columns(kept).values()))  # what may follow are its details
        return {"true": self.target_words(targets), "predicted": answers}

    def mirrored(self, kept: Tree, mirror: Callable[[Any], Any]) -> Tree:
        """What was kept of mirror images, as it is of the images themselves.

        Args:
          kept: of a batch.
          mirror: of arrays ``[batch, height, width, …]``.

        Raises:
          InputError: for a task whose answers may belong to places, but which does not say how they turn.
        """
        if not self.ANSWERS_WHOLE:
            raise InputError(f"answers on mirror images cannot be turned back for {self.describe()}; leave out tta")
        return kept

    def combine(self, kept: Tree, weights: jax.Array) -> Tree:
        """What several networks say together, ``[batch, …]`` of ``[members, batch, …]``; ``weights[members, batch]``.

        Raises:
          InputError: where there is no fair way.
        """
        raise InputError(f"predictions of {self.name} cannot be averaged; take one network")

    def check_parts(self, targets: Tree, parts: Sequence[np.ndarray], purpose: str) -> None:
        """Raises InputError where the targets of a training part, indices of examples, do not teach what all ask."""

    def untaught(self, targets: Tree, train: np.ndarray, test: np.ndarray) -> dict[str, int]:
        """How many examples of the part `test` ask for an answer that the part `train` never teaches, by its name."""
        return {}

    def check_test(self, count: int, purpose: str) -> None:
        """Raises InputError where the score of `count` test examples is not defined."""

    def strata(self, targets: Tree) -> np.ndarray | None:
        """A whole number per example whose shares every fold should keep; None where there is none."""
        return None

    def in_numbers(self, targets: Tree) -> tuple[str, np.ndarray] | None:
        """Targets as numbers ``[n, columns]``, with what the columns are.

        They are ``classes`` (who is of which) or ``labels`` (who has which), by the names of the outputs, or ``target``
        for a single column of plain numbers. None for other targets, such as pictures.
        """
        if (strata := self.strata(targets)) is not None:
            return "classes", strata[:, None] == np.arange(len(self.names))
        shape = np.shape(targets)
        if len(shape) == 1:
            return "target", np.asarray(targets)[:, None]
        return ("labels", np.asarray(targets)) if shape[1:] == (len(self.names),) else None

    # its metrics

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The task's own, those of each output (see `metrics_of`), and the user's, by name."""
        of_outputs = [metric for place, name in enumerate(self.names) for metric in self.metrics_of(place, name)]
        return {**self.METRICS, **{metric.name: metric for metric in of_outputs}, **self.extra}

    def metrics_of(self, place: int, name: str) -> Sequence[Metric]:
        """Of the output at `place` alone, such as of one label."""
        return ()

    @property
    def score(self) -> Metric:
        """The metric that is the score."""
        return self.metrics[self.metric]

    @property
    def chooses_by(self) -> Metric:
        """What search and early stopping choose by: the loss, unless a metric was asked for."""
        return self.score if self.asked else self.metrics[self.LOSS]

    def find_metric(self, given: Any) -> Metric:
        """One of the task's by its name or that of `ALIASES`, one of scikit-learn's, or what `as_metric` takes.

        Dashes of a name are taken for underscores where there is no metric with the dashes.

        Raises:
          InputError: for an unknown name, or a scorer of scikit-learn that does not fit the task.
        """
        metrics = self.metrics
        known = {**{short: metrics[name] for short, name in ALIASES.items() if name in metrics}, **metrics}
        if isinstance(given, str) and given not in known:
            given = given.replace("-", "_")
            self._check_function(given, known)
            if given not in known and (example := self.example()) is not None:
                return as_metric(given, known, (self.describe(), self.host_record(*example)))
        if callable(given) and not isinstance(given, Metric):
            self._check_function(getattr(given, "__name__", given), known)
        return as_metric(given, known)

    def _check_function(self, given: Any, known: Mapping[str, Metric]) -> None:
        """Raises InputError for what is no metric of the task's own where functions cannot be its metrics."""
        if not self.FUNCTIONS and given not in known:
            reads = ", ".join(sorted({key for metric in self.metrics.values() for key in metric.reads}))
            raise InputError(
                f"'{given}' cannot score {self.name}: expected one of {', '.join(self.metrics)}, or from Python a "
                f"jaxdl.tasks.metric.Sums that reads of {reads}"
            )

    def scored_by(self, metrics: Metrics) -> Self:
        """The task with other metrics; the first is the score.

        Args:
          metrics: a name of `METRICS` or of scikit-learn's scorers, a function ``fn(targets, predictions[,
            sample_weight])``, a `Metric`, several of these in a list, or functions by name in a dict.

        Raises:
          InputError: for an unknown name.
        """
        if metrics is None:
            return self
        if isinstance(metrics, Mapping):
            found = [self._named(name, given) for name, given in metrics.items()]
        else:
            found = [self.find_metric(one) for one in (metrics if isinstance(metrics, list | tuple) else [metrics])]
        if not found:
            raise InputError("metrics is empty; expected at least one, such as 'accuracy'")
        own = {one.name: one for one in found if self.METRICS.get(one.name) is not one}
        return dataclasses.replace(self, extra={**self.extra, **own}, metric=found[0].name, asked=True)

    def _named(self, name: str, given: Any) -> Metric:
        if callable(given) and not isinstance(given, Metric):
            self._check_function(name, {})
        found = (
            Function(name, fn=given) if callable(given) and not isinstance(given, Metric) else self.find_metric(given)
        )
        return dataclasses.replace(found, name=name)

    def evaluate(self, kept: Tree, targets: Tree) -> dict[str, float]:
        """The score, what `SHOWN` names and ``loss``, of predictions `kept` and their targets, on the host."""
        return self.evaluate_record(self.host_record(kept, targets))

    def evaluate_record(self, record: Record) -> dict[str, float]:
        """As `evaluate`, from records; without the scores that need more than there is, see `keep`."""
        metrics = self.metrics
        asked = {name: metrics[name] for name in dict.fromkeys((*self.SHOWN, self.metric))}
        asked["loss"] = metrics[self.LOSS]
        return {name: metric.score(record) for name, metric in asked.items() if set(metric.reads) <= set(record)}

    def host_record(self, kept: Tree, targets: Tree) -> dict[str, np.ndarray]:
        """`record` of numpy arrays, as numpy arrays."""
        kept, targets = jax.tree.map(np.asarray, (kept, targets))
        return jax.tree.map(np.asarray, self.record(kept, targets))

    def device_record(self, kept: Tree, targets: Tree) -> dict[str, Any]:
        """`record` as the device makes it: what was kept itself where the rest is made `ON_HOST`."""
        return kept if self.ON_HOST else self.record(kept, targets)

    def curve_record(self, record: Record) -> dict[str, Any]:
        """The part of a record that `evaluate_record` reads: no more than this travels to the host in each epoch."""
        return record if self.ON_HOST else {key: record[key] for key in self.curve_reads or record}

    @property
    def curve_reads(self) -> tuple[str, ...]:
        """Keys of the record that `evaluate_record` reads; empty if it may read all of them."""
        metrics = self.metrics
        read = [metrics[name] for name in {*self.SHOWN, self.metric, self.LOSS}]
        if not all(metric.reads for metric in read):
            return ()
        return tuple(sorted({key for metric in read for key in metric.reads}))

    # on a card

    def plain(self) -> dict[str, Any]:
        """Plain values for a card; what only training needs is left out."""
        skipped = ("metric", "extra", "asked", *self.OPTIONS)
        held = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in skipped}
        return {"name": self.name, **held, "names": list(self.names)}


# short names of metrics that tasks may have
ALIASES = {"f1": "macro_f1", "auc": "mean_auc", "ece": "expected_calibration_error"}


def count_of(targets: Tree) -> int:
    """How many examples there are targets of."""
    return len(jax.tree.leaves(targets)[0])
