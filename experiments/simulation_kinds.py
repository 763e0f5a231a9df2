"""Simulated cross-validations of scikit-learn's models, scored by metrics of every kind.

The truth is the score of the K models on 5,000 new examples, or on 600 new identities in blocks of 30, pooled or
averaged as the metric says: the noise of that many is small beside the intervals.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from jaxdl.tasks.classification import Classification
from jaxdl.tasks.metric import Metric, Record
from jaxdl.tasks.ranking import verification_accuracy, verification_auc
from jaxdl.tasks.regression import Regression
from jaxdl.validation.statistics.sample import Sample

NEW, NEW_PEOPLE, BLOCK = 5_000, 600, 30
Data = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Setting:
    """Data, a learner and a metric.

    Attributes:
      metric: that scores.
      draw: gives features and targets of so many examples.
      learner: makes a model to fit; of pairs None.
      n: examples.
      k: folds.
    """

    metric: Metric
    draw: Callable[[np.random.Generator, int], Data]
    learner: Callable[[], Any] | None
    n: int = 150
    k: int = 5


def linear(classes: int, offset: float = 0.0) -> Callable[[np.random.Generator, int], Data]:
    """Ten normal features; classes by a linear score with noise. `offset` makes class 0 more frequent."""
    weights = np.random.default_rng(5).normal(size=(10, classes)) * 0.7

    def draw(rng: np.random.Generator, n: int) -> Data:
        x = rng.normal(size=(n, 10))
        return x, (x @ weights + rng.gumbel(size=(n, classes)) + offset * (np.arange(classes) == 0)).argmax(1)

    return draw


def curved(numbers: bool) -> Callable[[np.random.Generator, int], Data]:
    """Six uniform features, and a target that only a non-linear model finds."""

    def draw(rng: np.random.Generator, n: int) -> Data:
        x = rng.uniform(-1, 1, size=(n, 6))
        score = 3 * np.sign(x[:, 0] * x[:, 1]) * np.abs(x[:, 2]) + np.sin(4 * x[:, 3])
        if numbers:
            return x, score + 0.5 * rng.normal(size=n)
        return x, (score + rng.logistic(scale=0.4, size=n) > 0).astype(int)

    return draw


def faces(rng: np.random.Generator, n: int) -> Data:
    """Six pictures of each identity, of which some are harder than others: 12 numbers with noise, in 8 directions."""
    people = n // 6
    identity = np.repeat(np.arange(people), 6)
    hard = 0.7 + 0.6 * rng.random(people)
    centre = np.concatenate([rng.normal(size=(people, 8)), np.zeros((people, 4))], 1)
    return centre[identity] + hard[identity, None] * rng.normal(size=(len(identity), 12)), identity


CLASSES, NUMBERS = Classification.METRICS, Regression.METRICS
LOGISTIC, TREE, NEAREST = LogisticRegression, DecisionTreeClassifier, KNeighborsClassifier
SETTINGS = {
    "sums: macro F1, logistic": Setting(CLASSES["macro_f1"], linear(3, 1.0), LOGISTIC),
    "sums: kappa, logistic": Setting(CLASSES["kappa"], linear(3), LOGISTIC),
    "sums: log loss, logistic": Setting(CLASSES["log_loss"], linear(3), LOGISTIC),
    "sums: balanced accuracy, rare class": Setting(CLASSES["balanced_accuracy"], linear(2, 2.0), LOGISTIC),
    "ranks: AUC, logistic": Setting(CLASSES["auc"], linear(2), LOGISTIC),
    "ranks: AUC, rare class": Setting(CLASSES["auc"], linear(2, 2.0), LOGISTIC, n=300),
    "ranks: AUC one against rest": Setting(CLASSES["auc"], linear(3), LOGISTIC),
    "pairs: verification AUC": Setting(verification_auc(), faces, None, n=240),
    "pairs: verification accuracy": Setting(verification_accuracy(), faces, None, n=240),
    "unstable: accuracy, tree": Setting(CLASSES["accuracy"], curved(False), TREE),
    "unstable: accuracy, 3 nearest": Setting(CLASSES["accuracy"], curved(False), lambda: NEAREST(3)),
    "unstable: macro F1, tree": Setting(CLASSES["macro_f1"], curved(False), TREE),
    "unstable: AUC, 5 nearest": Setting(CLASSES["auc"], curved(False), lambda: NEAREST(5)),
    "unstable: R², tree": Setting(NUMBERS["r2"], curved(True), DecisionTreeRegressor),
    "unstable: R², 3 nearest": Setting(NUMBERS["r2"], curved(True), lambda: KNeighborsRegressor(3)),
    "unstable: mean abs. error, tree": Setting(NUMBERS["mae"], curved(True), DecisionTreeRegressor),
}


def record_of(model: Any, x: np.ndarray, y: np.ndarray, classes: int) -> Record:
    """Of a model's predictions; classes that it has not seen have a probability of 0."""
    if not hasattr(model, "predict_proba"):
        return Regression().record(model.predict(x)[:, None], y)
    p = np.zeros((len(x), classes))
    p[:, model.classes_] = model.predict_proba(x)
    return Classification().record(np.log(np.maximum(p, 1e-12)), y)


def embedded(x: np.ndarray, train: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A model of pairs: directions are weighted by how much identities differ in them, in the training part."""
    centre = np.stack([x[train][y[train] == one].mean(0) for one in np.unique(y[train])])
    within = (x[train] - centre[np.searchsorted(np.unique(y[train]), y[train])]).var(0)
    weight = np.maximum(centre.var(0) - within / 6, 0.0) / within
    return lambda rows: rows * np.sqrt(weight)


def cross_validated(setting: Setting, rng: np.random.Generator) -> tuple[Sample, float]:
    """The held-out rows of one data set, and the true score of its K models."""
    (x, y), pairs = setting.draw(rng, setting.n), setting.learner is None
    new_x, new_y = setting.draw(rng, 6 * NEW_PEOPLE if pairs else NEW)
    classes = 0 if y.dtype.kind == "f" or pairs else int(max(y.max(), new_y.max())) + 1
    kind = GroupKFold if pairs else StratifiedKFold if classes else KFold
    parts, truths, rows = [], [], []
    folds = kind(setting.k, shuffle=True, random_state=int(rng.integers(2**31)))
    for train, test in folds.split(x, y, y if pairs else None):
        if pairs:
            made = embedded(x, train, y)
            here, there = ({"embedding": made(a), "identity": b} for a, b in ((x[test], y[test]), (new_x, new_y)))
        else:
            model = setting.learner().fit(x[train], y[train])
            here, there = (record_of(model, a, b, classes) for a, b in ((x[test], y[test]), (new_x, new_y)))
        parts.append(here)
        truths.append(there)
        rows.append(test)
    sizes = np.array([len(test) for test in rows])
    sample = Sample(
        metric=setting.metric,
        record={key: np.concatenate([part[key] for part in parts]) for key in parts[0]},
        fold=np.repeat(np.arange(setting.k), sizes),
        unit=np.concatenate(rows),
        index=np.concatenate(rows),
        train=len(y) - sizes,
        test=sizes,
    )
    if not setting.metric.averaged:
        return sample, setting.metric.score({key: np.concatenate([one[key] for one in truths]) for key in truths[0]})
    metrics = [metric for metric, _ in sample.parts]  # with the thresholds of the folds
    block = new_y // BLOCK if pairs else np.zeros(NEW, int)
    scores = [
        metric.score({key: values[block == one] for key, values in truth.items()})
        for metric, truth in zip(metrics, truths, strict=True)
        for one in range(block.max() + 1)
    ]
    return sample, float(np.mean(scores))
