"""One class out of several."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdl.errors import InputError
from jaxdl.tasks.class_weights import ClassWeights
from jaxdl.tasks.columns import as_cells, distinct, probability_columns, with_counts
from jaxdl.tasks.conformal import SetScore, cumulative_probability
from jaxdl.tasks.metric import SHARE, Mean, Metric, NoInterval, Record, Sums, mean_of_defined, percent
from jaxdl.tasks.ranking import class_auc
from jaxdl.tasks.task import Constants

# Nats of one example are cut here, as in scikit-learn: a model that calls the truth impossible has a finite log loss.
MOST_NATS = float(-np.log(np.finfo(np.float64).eps))
BINS = 15  # of the expected calibration error
UNEVEN = 1.2  # times its even share: from there on the most frequent class makes accuracy look good
TIES = 5  # decimals of log-odds: closer ones are equal except for the rounding of float32, and rank alike


def of_classes(names: Sequence[str]) -> "Classification | None":
    """Classification of these classes; None where none are named."""
    return Classification(tuple(names)) if names else None


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of ``logits[n, classes]``."""
    logits = np.asarray(logits, np.float64)
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def _log_odds(xp: Any, logits: Any) -> Any:
    """Of each class against all others, ``[n, classes]``, also where its probability rounds to 1."""
    top = logits.max(-1, keepdims=True)
    first = xp.arange(logits.shape[1]) == logits.argmax(-1)[:, None]
    odds = xp.exp(logits - top)
    # of all classes but the largest, the rest still holds the largest: nothing cancels
    rest = top + xp.log(xp.maximum(odds.sum(-1, keepdims=True) - odds, 1e-300 if xp is np else 1e-30))
    others = xp.where(first, -xp.inf, logits)
    second = others.max(-1, keepdims=True)
    second = xp.where(xp.isfinite(second), second, 0.0)
    of_first = second + xp.log(xp.exp(others - second).sum(-1, keepdims=True) + (1e-300 if xp is np else 1e-30))
    return logits - xp.where(first, of_first, rest)


def _one_hot(values: np.ndarray, classes: int, weight: np.ndarray | float = 1.0) -> Any:
    """``csr[n, classes]`` with `weight` in the column of each row's value."""
    from scipy.sparse import csr_array

    rows = len(values)
    return csr_array((np.broadcast_to(weight, rows).astype(np.float64), (np.arange(rows), values)), (rows, classes))


def _counts(record: Record) -> Any:
    """``csr[n, 3 · classes]``: hits, targets and predictions by class."""
    from scipy.sparse import hstack

    target, predicted = record["target"], record["predicted"]
    classes = int(max(target.max(initial=0), predicted.max(initial=0))) + 1
    parts = [_one_hot(target, classes, record["right"]), _one_hot(target, classes), _one_hot(predicted, classes)]
    return hstack(parts, format="csr")


def _by_class(sums: np.ndarray) -> np.ndarray:
    """Hits, targets and predictions, ``[3, ..., classes]``."""
    return np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)


def _balanced_accuracy(sums: np.ndarray) -> np.ndarray:
    hits, targets, _ = _by_class(sums)
    return mean_of_defined(hits / targets, -1)


def _macro_f1(sums: np.ndarray) -> np.ndarray:
    hits, targets, predictions = _by_class(sums)
    return mean_of_defined(2 * hits / (targets + predictions), -1)


def _kappa(sums: np.ndarray) -> np.ndarray:
    hits, targets, predictions = _by_class(sums)
    n = targets.sum(-1)
    by_chance = (targets * predictions).sum(-1) / n**2
    return (hits.sum(-1) / n - by_chance) / (1 - by_chance)


def _calibration_error(record: Record, weights: np.ndarray) -> float:
    """Mean distance of confidence from accuracy over `BINS` bins of equal width (Guo et al. 2017, arXiv:1706.04599)."""
    confidence = np.asarray(record["confidence"], np.float64)
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(place, weights * (record["right"] - confidence), minlength=BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def _improbability(logits: np.ndarray) -> np.ndarray:
    """Of each class, in the order of 1 - p: log-odds tell apart what rounds to 0 or 1."""
    return -_log_odds(np, np.asarray(logits, np.float64))


CONFORMAL = {
    # sets as small as can be on average (Sadinle, Lei & Wasserman 2019, arXiv:1609.00451)
    "probability": SetScore("probability", _improbability),
    # larger where the network is unsure, and never empty: fairer to what is hard
    "adaptive": SetScore("adaptive", lambda logits: cumulative_probability(probabilities(logits))),
}
BRIER = (
    "As scikit-learn's brier_score_loss: with two classes the mean squared error of the probability of one class, from "
    "0 to 1; with more classes the sum of this over all of them, from 0 to 2 (Brier 1950)."
)
CALIBRATION = (
    "Few predictions make it too large, by chance, in every fold. All held-out predictions are more, so that their "
    "value can lie below that of every fold; errors of different folds can also cancel."
)
COUNTS = dict(columns=_counts, reads=("target", "predicted", "right"))
LOSS = dict(higher_is_better=False, best=0.0, scale="distance")
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Mean("accuracy", value="right", **SHARE),
        # the mean recall of the classes that occur
        Sums("balanced_accuracy", combine=_balanced_accuracy, **SHARE, **COUNTS),
        # over the classes that occur or are predicted, as in scikit-learn
        Sums("macro_f1", combine=_macro_f1, **SHARE, **COUNTS),
        # Cohen's; 0 is what chance gives
        Sums(
            "kappa",
            combine=_kappa,
            bounds=(-1.0, 1.0),
            scale="share",
            undefined="all examples are of one class, and all are predicted to be of it",
            **COUNTS,
        ),
        class_auc(),
        Mean("log_loss", value="nats", bounds=(0.0, MOST_NATS), **LOSS),
        Mean("brier", value="brier", bounds=(0.0, 2.0), note=BRIER, **LOSS),
        NoInterval(
            "expected_calibration_error",
            measure=_calibration_error,
            higher_is_better=False,
            bounds=(0.0, 1.0),
            best=0.0,
            reads=("confidence", "right"),
            note=CALIBRATION,
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Classification(ClassWeights):
    """One class out of several; targets are ``int[n]`` from 0, outputs logits.

    Attributes:
      names: of the classes.
      label_smoothing: share of each label that is spread over all classes in the training loss (Szegedy et al. 2016,
        arXiv:1512.00567).
      class_weights: factors on the loss of single classes by name, 1 for the others, or ``"balanced"`` for the inverse
        of their frequency in the training part; None for none.
    """

    label_smoothing: Any = 0.0
    class_weights: Mapping[str, float] | str | None = None

    name = "classification"
    METRICS = METRICS
    LOSS = "log_loss"
    PROBED = "classes"
    RANKED = True
    CONFORMAL = CONFORMAL
    SHOWN = ("accuracy",)
    SECTIONS = ("confusion", "reliability", "sets", "wrong", "saliency")
    OPTIONS = ("label_smoothing", "class_weights")
    ANSWERS_WHOLE = True
    PREDICTS = "a logit for each name of the task, in that order: softmax gives probabilities, the largest is predicted"
    mixes = True
    BASELINE = "most frequent class"
    FAIR = "balanced_accuracy"
    CALIBRATED = ("log_loss", "brier", "expected_calibration_error")
    OF_PROBABILITIES = ("nats", "brier", "confidence", "probabilities")

    @classmethod
    def fits(cls, targets: Any, names: Sequence[str]) -> bool:
        return isinstance(targets, np.ndarray) and targets.ndim == 1 and targets.dtype.kind in "iu"

    @property
    def num_outputs(self) -> int:
        return len(self.names)

    def describe(self) -> str:
        return f"{len(self.names)} classes ({self.first_names()})"

    def tally(self, targets: np.ndarray) -> str:
        counts = np.bincount(targets[targets >= 0], minlength=len(self.names)).tolist()
        return with_counts(self.names, counts, ("class", "classes")) if self.names else f"{len(counts)} classes"

    def check(self, targets: Any, count: int, data: str, purpose: str) -> None:
        if not self.fits(targets, self.names) or len(targets) != count:
            raise InputError(f"the labels of {data} are no array of {count} whole numbers (classes); see data.arrays")
        if not self.names:
            raise InputError(
                f"the labels of {data} are whole numbers, but it names no classes: give the source class_names, a name "
                "for each number from 0, such as ('no', 'yes')"
            )
        if targets.min() < 0 or targets.max() >= len(self.names):
            raise InputError(
                f"the labels of {data} run from {targets.min()} to {targets.max()}; with {len(self.names)} class names "
                f"expected 0 to {len(self.names) - 1}"
            )
        present = np.unique(targets)
        if len(present) < 2:
            raise InputError(
                f"{data} holds a single class ('{self.names[present[0]]}'); {purpose} needs examples of at least two "
                "classes"
            )

    def match(self, targets: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """As `Task.match`; InputError for a class whose name two of this task's have."""
        own = distinct(self.names)  # a crane may be a bird or a machine
        if twice := [name for name in names if self.names.count(name) > 1 and name not in own]:
            these = [one for one, name in zip(own, self.names, strict=True) if name == twice[0]]
            raise InputError(
                f"the labels '{twice[0]}' cannot be told apart: {len(these)} classes of the checkpoint have this name. "
                f"Call them {' or '.join(repr(one) for one in these)}"
            )
        places = {name: place for place, name in enumerate(own)}
        return np.array([places.get(name, -1) for name in names], np.int32)[targets]

    def known(self, targets: np.ndarray) -> np.ndarray:
        return targets >= 0

    def example(self) -> tuple[np.ndarray, np.ndarray]:
        """Of two classes or, where there are more, of three: whether there are more than two is what matters."""
        classes = 2 if len(self.names) <= 2 else 3
        targets = np.arange(4 * classes) % classes
        predicted = np.where(np.arange(len(targets)) < classes, (targets + 1) % classes, targets)
        return 2.0 * np.eye(classes)[predicted], targets

    def baseline(self, targets: np.ndarray, count: int) -> np.ndarray:
        """The shares of the classes, the most frequent first among equals."""
        shares = np.bincount(targets, minlength=len(self.names)) / len(targets)
        return np.tile(np.log(np.maximum(shares, 1e-6)).astype(np.float32), (count, 1))

    def boosted(self, x: np.ndarray, targets: np.ndarray, asked: np.ndarray) -> np.ndarray:
        from sklearn.ensemble import HistGradientBoostingClassifier

        log_p = np.full((len(asked), len(self.names)), -MOST_NATS)
        present = np.unique(targets)
        if len(present) > 1:
            fitted = HistGradientBoostingClassifier(random_state=0).fit(x, targets)
            log_p[:, present] = np.log(np.maximum(fitted.predict_proba(asked), np.exp(-MOST_NATS)))
        else:
            log_p[:, present] = 0.0
        return log_p.astype(np.float32)

    def uneven(self, targets: np.ndarray) -> str:
        counts = np.bincount(targets, minlength=len(self.names))
        share, occurring = counts.max() / counts.sum(), int((counts > 0).sum())
        if share < UNEVEN / max(occurring, 1):
            return ""
        return (
            f"The classes are uneven: {percent(share)} of the examples are '{self.names[counts.argmax()]}'. Balanced "
            "accuracy, the mean over classes of the share that is right, counts every class alike."
        )

    def untaught(self, targets: np.ndarray, train: np.ndarray, test: np.ndarray) -> dict[str, int]:
        known, asked = (np.bincount(targets[part], minlength=len(self.names)) for part in (train, test))
        return {self.names[i]: int(asked[i]) for i in np.flatnonzero((known == 0) & (asked > 0))}

    def fit(self, targets: np.ndarray) -> Constants:
        """``class_weights``, ``float32[classes]``, where they are asked for."""
        return self.factors(lambda: np.bincount(targets, minlength=len(self.names)), "example")

    def fit_weighted(self, targets: np.ndarray, weights: np.ndarray) -> Constants:
        """As `fit`; a class is as frequent as its examples weigh."""
        return self.factors(lambda: np.bincount(targets, weights, len(self.names)), "example")

    def loss(
        self, outputs: Float[Array, "batch classes"], targets: Int[Array, " batch"], constants: Constants
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """Cross-entropy in nats against the smoothed labels, times the class's weight, and that weight."""
        log_p = jax.nn.log_softmax(outputs.astype(jnp.float32))
        smoothed = jax.nn.one_hot(targets, len(self.names)) * (1 - self.label_smoothing)
        nats = -((smoothed + self.label_smoothing / len(self.names)) * log_p).sum(-1)
        weights = constants.get("class_weights")
        count = jnp.ones_like(nats) if weights is None else weights[targets]
        return nats * count, count

    def train_scores(self, record: Record) -> dict[str, jax.Array]:
        return {"accuracy": record["right"]}

    def predict(self, outputs: Float[Array, "batch classes"], constants: Constants) -> Float[Array, "batch classes"]:
        """The logits."""
        return outputs.astype(jnp.float32)

    def record(self, kept: Any, targets: Any) -> dict[str, Any]:
        """What all metrics are made of, on the device for jax arrays, on the host in float64 for numpy arrays.

        Args:
          kept: logits ``[n, classes]``.
          targets: ``int[n]``.

        Returns:
          ``target``, ``predicted``, ``right`` (1 or 0), ``nats`` (cross-entropy, cut at `MOST_NATS`), ``brier`` (see
          `BRIER`), ``confidence`` (of the predicted class), ``scores`` (log-odds, to `TIES` decimals:
          of two classes the difference of the logits ``[n]``, else each class against the rest ``[n, classes]``),
          ``probabilities`` and ``decision`` (as scikit-learn's ``decision_function``).
        """
        xp = np if isinstance(kept, np.ndarray) else jnp
        logits = kept.astype(np.float64 if xp is np else jnp.float32)
        classes, predicted = xp.arange(logits.shape[1]), logits.argmax(-1)
        is_target = targets[:, None] == classes
        shifted = logits - logits.max(-1, keepdims=True)
        odds = xp.exp(shifted)
        total = odds.sum(-1, keepdims=True)
        p = odds / total
        nats = xp.log(total[:, 0]) - xp.where(is_target, shifted, 0.0).sum(-1)
        difference = logits[:, 1] - logits[:, 0] if len(classes) == 2 else None
        return {
            "target": targets,
            "predicted": predicted,
            "right": (predicted == targets).astype(logits.dtype),
            "nats": xp.minimum(nats, MOST_NATS),
            "brier": xp.square(p - is_target).sum(-1) / (2 if len(classes) == 2 else 1),
            "confidence": p.max(-1),
            "scores": xp.round(_log_odds(xp, logits) if difference is None else difference, TIES),
            "probabilities": p,
            "decision": logits if difference is None else difference,
        }

    def predicted(self, kept: np.ndarray) -> np.ndarray:
        """The most probable class of each example, ``int[n]``."""
        return np.asarray(kept).argmax(-1)

    def probabilities(self, kept: np.ndarray) -> np.ndarray:
        return probabilities(kept)

    def columns(self, kept: np.ndarray) -> dict[str, list[Any]]:
        chances, names = probabilities(kept), distinct(self.names)
        return {
            "predicted": [names[i] for i in self.predicted(kept)],
            "confidence": as_cells(chances.max(1)),
            **probability_columns(self.names, chances),
        }

    def target_words(self, targets: np.ndarray) -> list[Any]:
        return [self.names[i] if i >= 0 else "" for i in targets]

    def combine(self, kept: jax.Array, weights: jax.Array) -> jax.Array:
        """Logarithm of the mean probability."""
        log_p = jax.nn.log_softmax(kept) + jnp.log(weights)[..., None]
        return jax.nn.logsumexp(log_p, axis=0) - jnp.log(weights.sum(0))[:, None]

    def strata(self, targets: np.ndarray) -> np.ndarray:
        return targets
