"""Metrics of a user: any function of targets and predictions, or a name that scikit-learn knows."""

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxdl.errors import InputError, nearest
from jaxdl.tasks.metric import Metric, Record

AVERAGED = ("roc_auc", "average_precision")  # beginnings of scikit-learn's names of scores of ranks


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Function(Metric):
    """A function ``fn(targets, predictions)`` that gives one number, NaN where it is undefined.

    Where it has an argument ``sample_weight``, weights are passed on; else rows that count twice are repeated. Its
    interval comes from leaving units out, or from the bootstrap.

    Attributes:
      fn: the function.
      predictions: key of the record that it gets as predictions.
    """

    fn: Callable[..., float]
    predictions: str = "predicted"

    def __post_init__(self) -> None:
        object.__setattr__(self, "reads", ("target", self.predictions))

    def score(self, record: Record, weights: np.ndarray | None = None) -> float:
        """Raises InputError if the function fails, or gives anything but a number."""
        rows, options = _counted(self.name, weights, len(record["target"]), _takes_weights(self.fn))
        return _number(self.name, self.fn, (record["target"][rows], record[self.predictions][rows]), options)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Scorer(Metric):
    """A scorer of scikit-learn, which is asked with rows in the place of features; it may read all of the record.

    Attributes:
      scorer: of ``sklearn.metrics.get_scorer``.
    """

    scorer: Callable[..., float]

    def score(self, record: Record, weights: np.ndarray | None = None) -> float:
        """NaN where a class has no weight and scikit-learn refuses that; raises InputError if it fails otherwise."""
        return self._score_of(_stand_in(record), record, weights)

    def scores(self, record: Record, weights: np.ndarray) -> np.ndarray:
        estimator = _stand_in(record)
        return np.array([self._score_of(estimator, record, row) for row in weights])

    def misfit(self, record: Record) -> str:
        """Why scikit-learn cannot score such records; empty if it can."""
        from sklearn.exceptions import UndefinedMetricWarning

        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # as of scores of clusters, given numbers
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            try:
                self.scorer(_stand_in(record), np.arange(len(record["target"])), record["target"])
            except AttributeError:  # whose text names the stand-in
                return "it needs probabilities or decision values of classes"
            except Exception as error:  # scorers raise what they like
                return str(error).strip().partition("\n")[0].rstrip(".")
        return ""

    def _score_of(self, estimator: Any, record: Record, weights: np.ndarray | None) -> float:
        whole = weights is None or not np.mod(weights, 1).any()  # not every scorer takes weights
        rows, options = _counted(self.name, weights, len(record["target"]), not whole)
        return _number(self.name, self._scored, (estimator, rows, record["target"][rows]), options)

    def _scored(self, estimator: Any, rows: np.ndarray, targets: np.ndarray, **options: Any) -> float:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of classes without examples, in every draw
                return self.scorer(estimator, rows, targets, **options)
        except ValueError:
            if len(np.unique(targets)) < len(getattr(estimator, "classes_", ())):
                return float("nan")
            raise


def _counted(name: str, weights: np.ndarray | None, n: int, takes: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rows and options for a function that `takes` weights or not: a row of weight 0 is not there in any case."""
    if weights is None:
        return np.arange(n), {}
    weights = np.asarray(weights, np.float64)
    if takes:
        kept = np.flatnonzero(weights > 0)
        return kept, {"sample_weight": weights[kept]}
    counts = weights.astype(int)
    if (counts != weights).any():
        raise InputError(f"the metric '{name}' has no argument sample_weight; expected weights that are whole numbers")
    return np.repeat(np.arange(n), counts), {}


def _takes_weights(fn: Callable[..., Any]) -> bool:
    try:
        return "sample_weight" in inspect.signature(fn).parameters
    except ValueError:  # some functions written in C have no signature
        return False


def _number(name: str, fn: Callable[..., Any], given: tuple[np.ndarray, ...], options: dict[str, np.ndarray]) -> float:
    try:
        found = np.asarray(fn(*given, **options))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"the metric '{name}' failed: {type(error).__name__}: {error}") from error
    if found.ndim or found.dtype.kind not in "fiub":
        raise InputError(f"the metric '{name}' gave {found.dtype}{list(found.shape)}; expected one number")
    return float(found)


def _stand_in(record: Record) -> Any:
    """An estimator that predicts what the record holds for the rows that it is asked for."""
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

    def stored(name: str, key: str) -> Callable[[Any, np.ndarray], np.ndarray]:
        def method(self: Any, rows: np.ndarray) -> np.ndarray:
            return record[key][rows]

        method.__name__ = name  # by which scikit-learn recognises it
        return method

    methods = {"predict": "predicted", "decision_function": "decision", "predict_proba": "probabilities"}
    known = {name: stored(name, key) for name, key in methods.items() if key in record}
    made = type("Stored", (ClassifierMixin if "decision" in record else RegressorMixin, BaseEstimator), known)()
    if "decision" not in record:
        return made
    made.classes_ = np.arange(2 if record["decision"].ndim == 1 else record["decision"].shape[1])
    return made


def as_metric(given: Any, known: Mapping[str, Metric] | None = None, trial: tuple[str, Record] | None = None) -> Metric:
    """What stands for a metric, as one.

    Args:
      given: a `Metric`; the name of one of `known` or of scikit-learn (``f1_macro``, ``matthews_corrcoef``,
        ``neg_log_loss``); or a function, see `Function`.
      known: metrics by name, such as those of a task.
      trial: what is asked, in words, and a small record of it, on which scorers of scikit-learn are tried.

    Raises:
      InputError: for an unknown name or a scorer that fails on the trial, with the nearest metric that does not; or for
        what cannot be called.
    """
    known = known or {}
    if isinstance(given, Metric):
        return given
    if isinstance(given, str):
        return known[given] if given in known else _scorer(given, known, trial)
    if not callable(given):
        raise InputError(f"metric is {given!r}; expected a name, a function fn(targets, predictions) or a Metric")
    return Function(getattr(given, "__name__", type(given).__name__), fn=given)


def _scorer(given: str, known: Mapping[str, Metric], trial: tuple[str, Record] | None) -> Scorer:
    from sklearn.metrics import get_scorer, get_scorer_names

    def scorer(name: str) -> Scorer:
        return Scorer(name, scorer=get_scorer(name), averaged=name.startswith(AVERAGED))

    def misfit(name: str) -> str:
        return scorer(name).misfit(trial[1]) if trial else ""

    names = get_scorer_names()
    why = misfit(given) if given in names else "unknown"
    if not why:
        return scorer(given)
    problem = f"unknown metric '{given}'"
    if given in names:
        problem = f"the scorer '{given}' of scikit-learn does not fit {trial[0]}: {why}"
    fitting = [name for name in names if not misfit(name)]
    raise InputError(
        f"{problem}; expected one of: {', '.join(known)}; or a scorer of scikit-learn that fits (sklearn.metrics."
        f"get_scorer_names()).{nearest(given, [*known, *fitting])}"
    )
