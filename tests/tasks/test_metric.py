"""Metrics of tasks and of users, against scikit-learn's, also weighted; records on device and host."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.metrics import get_scorer_names

from jaxdl.errors import InputError
from jaxdl.tasks.classification import MOST_NATS, TIES, Classification
from jaxdl.tasks.metric import Mean, NoInterval, Ranks, Sums
from jaxdl.tasks.multilabel import MultiLabel
from jaxdl.tasks.ranking import verification_accuracy, verification_auc
from jaxdl.tasks.regression import Regression
from jaxdl.tasks.user_metric import as_metric

RNG = np.random.default_rng(0)
WEIGHTS = RNG.integers(0, 4, size=80)


def classes_of(count):
    """Classification into as many classes."""
    return Classification(tuple(map(str, range(count))))


def _record(classes=3, n=80):
    target = RNG.integers(classes, size=n)
    logits = RNG.normal(size=(n, classes)) + np.eye(classes)[target]
    return classes_of(classes).record(logits, target)


def _numbers():
    target = 1000 + RNG.normal(size=80)
    return Regression().record((target + RNG.normal(size=80))[:, None], target)


THEIRS = {
    "accuracy": lambda r, w: sk.accuracy_score(r["target"], r["predicted"], sample_weight=w),
    "balanced_accuracy": lambda r, w: sk.balanced_accuracy_score(r["target"], r["predicted"], sample_weight=w),
    "macro_f1": lambda r, w: sk.f1_score(r["target"], r["predicted"], average="macro", sample_weight=w),
    "kappa": lambda r, w: sk.cohen_kappa_score(r["target"], r["predicted"], sample_weight=w),
    "log_loss": lambda r, w: sk.log_loss(r["target"], r["probabilities"], sample_weight=w),
    "mse": lambda r, w: sk.mean_squared_error(r["target"], r["predicted"], sample_weight=w),
    "mae": lambda r, w: sk.mean_absolute_error(r["target"], r["predicted"], sample_weight=w),
    "r2": lambda r, w: sk.r2_score(r["target"], r["predicted"], sample_weight=w),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", [*THEIRS, "auc"])
@pytest.mark.parametrize("classes", [2, 3])
def test_metrics_are_scikit_learns(name, classes, weighted):
    numbers = name in Regression().metrics
    record = _numbers() if numbers else _record(classes)
    weights = WEIGHTS if weighted else None
    metric = (Regression() if numbers else classes_of(classes)).metrics[name]
    if name == "auc":
        p = record["probabilities"]
        wanted = [sk.roc_auc_score(record["target"] == c, p[:, c], sample_weight=weights) for c in range(classes)]
        wanted = np.mean(wanted)
    else:
        wanted = THEIRS[name](record, weights)
    assert metric.score(record, weights) == pytest.approx(wanted, rel=1e-9)
    if isinstance(metric, Ranks) and weighted:  # many weightings at once
        both = metric.scores(record, np.stack([weights, np.ones(80)]))
        assert both == pytest.approx([wanted, metric.score(record)])


def test_macro_f1_counts_classes_that_are_only_predicted():
    logits = np.eye(3)[[0, 0, 0, 1, 1, 2]]
    record = classes_of(3).record(logits, np.array([0, 0, 0, 1, 1, 1]))
    found = classes_of(3).metrics["macro_f1"].score(record)
    assert found == pytest.approx(sk.f1_score(record["target"], record["predicted"], average="macro"))
    assert found < 0.65


@pytest.mark.parametrize("classes", [2, 3])
def test_auc_ranks_what_probabilities_round_to_one(classes):
    logits = np.zeros((4, classes))
    logits[:, 1] = [100, 200, 300, 400]
    target = np.array([0, 0, 1, 1])
    assert classes_of(classes).metrics["auc"].score(classes_of(classes).record(logits, target)) == 1.0


def test_log_odds_are_those_of_a_slow_loop():
    logits = RNG.normal(size=(20, 4)) * 30
    found = classes_of(4).record(logits, np.zeros(20, int))["scores"]
    for row, mine in zip(logits, found, strict=True):
        wanted = [row[c] - np.logaddexp.reduce(np.delete(row, c)) for c in range(4)]
        np.testing.assert_allclose(mine, wanted, rtol=0, atol=0.51 * 10.0**-TIES)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_record_is_the_same_on_the_device(classes):
    logits, target = RNG.normal(size=(30, classes)), RNG.integers(classes, size=30)
    host = classes_of(classes).record(logits, target)
    device = jax.jit(classes_of(classes).record)(jnp.asarray(logits), jnp.asarray(target))
    assert isinstance(host["nats"], np.ndarray)
    for key, values in host.items():
        np.testing.assert_allclose(np.asarray(device[key]), values, rtol=2e-4, atol=1e-5)


def test_what_is_impossible_costs_a_finite_loss():
    logits = np.array([[0.0, -np.inf], [0.0, 1.0]])
    record = classes_of(2).record(logits, np.array([1, 1]))
    assert record["nats"][0] == MOST_NATS
    assert np.isfinite(classes_of(2).metrics["log_loss"].score(record))


def test_metrics_say_what_they_are():
    for task in (classes_of(3), Regression()):
        for name, metric in task.metrics.items():
            assert metric.name == name
            assert metric.bounds[0] <= metric.best <= metric.bounds[1]
            assert metric.averaged == isinstance(metric, Ranks)
            assert metric.higher_is_better == (metric.best == 1.0)
            assert set(metric.reads) <= set(_record() if isinstance(task, Classification) else _numbers())
    assert isinstance(classes_of(3).metrics["expected_calibration_error"], NoInterval)


@pytest.mark.parametrize("task", [classes_of(3), Regression()])
def test_the_influence_of_a_sum_is_the_change_of_the_score(task):
    record = _record() if isinstance(task, Classification) else _numbers()
    for metric in task.metrics.values():
        if not isinstance(metric, Sums):
            continue
        found = metric.influence(metric.columns(record))
        step = 1e-4
        for row in range(0, 80, 13):
            moved = np.ones((2, 80))
            moved[:, row] += [-step, step]
            low, high = (metric.score(record, weights) for weights in moved)
            assert found[row] == pytest.approx((high - low) / (2 * step), rel=1e-5, abs=1e-9)
        assert found.sum() == pytest.approx(0, abs=1e-8)


NAMES = [
    "f1_macro",
    "matthews_corrcoef",
    "roc_auc_ovr",
    "neg_log_loss",
    "neg_brier_score",
    "average_precision",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weighted", [False, True])
def test_scikit_learns_names_stand_for_their_scorers(name, weighted):
    record = _record(2)
    target, p = record["target"], record["probabilities"]
    weights = WEIGHTS if weighted else None
    wanted = {
        "f1_macro": lambda: sk.f1_score(target, record["predicted"], average="macro", sample_weight=weights),
        "matthews_corrcoef": lambda: sk.matthews_corrcoef(target, record["predicted"], sample_weight=weights),
        "roc_auc_ovr": lambda: sk.roc_auc_score(target, p[:, 1], sample_weight=weights),
        "neg_log_loss": lambda: -sk.log_loss(target, p, sample_weight=weights),
        "neg_brier_score": lambda: -sk.brier_score_loss(target, p[:, 1], sample_weight=weights),
        "average_precision": lambda: sk.average_precision_score(target, record["scores"], sample_weight=weights),
    }[name]()
    metric = as_metric(name)
    assert metric.score(record, weights) == pytest.approx(wanted)
    assert metric.averaged == (name in ("roc_auc_ovr", "average_precision"))


def test_scikit_learns_names_are_for_numbers_and_many_classes_too():
    record = _numbers()
    assert as_metric("neg_median_absolute_error").score(record) == pytest.approx(
        -np.median(np.abs(record["predicted"] - record["target"]))
    )
    record = _record(3)
    p = record["probabilities"]
    assert as_metric("roc_auc_ovr").score(record) == pytest.approx(
        sk.roc_auc_score(record["target"], p, multi_class="ovr")
    )
    few = {key: values[record["target"] < 2] for key, values in record.items()}
    assert np.isnan(as_metric("roc_auc_ovr").score(few))  # a class has no example here


def _plain(targets, predictions):
    return float(np.mean(targets == predictions))


def _weighted(targets, predictions, sample_weight=None):
    return np.average(targets == predictions, weights=sample_weight)


@pytest.mark.parametrize("fn", [_plain, _weighted])
def test_a_function_of_a_user_is_a_metric(fn):
    record, known = _record(), classes_of(3).metrics
    metric = as_metric(fn, known)
    for weights in (None, WEIGHTS):
        assert metric.score(record, weights) == pytest.approx(known["accuracy"].score(record, weights))
    assert metric.name == fn.__name__
    assert as_metric("accuracy", known) is known["accuracy"] is as_metric(known["accuracy"])


def test_what_is_no_metric_is_refused_by_name():
    with pytest.raises(InputError, match=r"f1_makro.*Did you mean 'f1_macro'"):
        as_metric("f1_makro")
    with pytest.raises(InputError, match=r"macro_f2.*'macro_f1'"):
        as_metric("macro_f2", classes_of(3).metrics)
    with pytest.raises(InputError, match="3"):
        as_metric(3)

    def fails(targets, predictions):
        raise KeyError("nothing")

    def gives_two(targets, predictions):
        return [1.0, 2.0]

    for fn in (fails, gives_two):
        with pytest.raises(InputError, match=fn.__name__):
            as_metric(fn).score(_record())
    with pytest.raises(InputError, match="_plain"):
        as_metric(_plain).score(_record(), np.full(80, 0.5))


LABELS = MultiLabel(("sand", "sea-weed", "sky"))


@pytest.mark.parametrize(
    ("task", "given", "suggested"),
    [
        (Regression(), "auc", None),
        (Regression(), "roc_auc", None),
        (Regression(), "f1", None),
        (Regression(), "rmse", "mse"),
        (Regression(), "adjusted_rand_score", "d2_absolute_error_score"),
        (classes_of(3), "roc_auc", "roc_auc_ovr"),
        (classes_of(3), "precision", "precision_micro"),
        (classes_of(2), "precisoin", "precision"),
        (LABELS, "aucc", "auc"),
        (LABELS, "balanced_accuracy", "label_accuracy"),
    ],
)
def test_a_metric_that_does_not_fit_the_task_is_refused_and_what_is_suggested_works(task, given, suggested):
    with pytest.raises(InputError, match=f"'{given}'") as caught:
        task.scored_by(given)
    assert "Error" not in str(caught.value)
    assert "attribute" not in str(caught.value)
    assert re.findall(r"Did you mean '(.*)'\?", str(caught.value)) == ([suggested] if suggested else [])
    if suggested:
        assert np.isfinite(task.scored_by(suggested).evaluate(*task.example())["loss"])


@pytest.mark.slow
def test_every_scorer_that_is_taken_gives_a_score_and_the_others_fail():
    for task in (classes_of(2), classes_of(3), Regression(), LABELS):
        for name in get_scorer_names():
            try:
                found = task.find_metric(name)
            except InputError:
                continue
            assert np.isfinite(found.score(task.host_record(*task.example()))) or "likelihood" in name, name
    assert classes_of(2).find_metric("roc_auc").name == "roc_auc"
    assert Regression().find_metric("neg_mean_gamma_deviance").name == "neg_mean_gamma_deviance"


def test_short_names_are_the_means_over_labels_unless_the_task_has_its_own():
    assert [LABELS.find_metric(name).name for name in ("auc", "f1")] == ["mean_auc", "macro_f1"]
    assert [LABELS.find_metric(name).name for name in ("auc:sea-weed", "label-accuracy")] == [
        "auc:sea-weed",
        "label_accuracy",
    ]
    own = classes_of(3).scored_by({"f1": _plain})
    assert own.find_metric("f1") is own.score


def _faces(n=40, people=8, noise=0.7):
    identity = np.arange(n) % people
    return {"embedding": np.eye(people)[identity] + noise * RNG.normal(size=(n, people)), "identity": identity}


def test_pairs_are_scored_as_in_a_slow_loop():
    record, weights = _faces(), RNG.integers(0, 3, size=40)
    similar, same, counts = [], [], []
    for i in range(40):
        for j in range(i):
            a, b = record["embedding"][[i, j]]
            similar.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
            same.append(record["identity"][i] == record["identity"][j])
            counts.append(weights[i] * weights[j])
    assert verification_auc().score(record, weights) == pytest.approx(
        sk.roc_auc_score(same, similar, sample_weight=counts)
    )
    every = np.array([sk.balanced_accuracy_score(same, np.array(similar) >= cut) for cut in similar])
    metric = verification_accuracy()
    assert np.isnan(metric.score(record))
    assert metric.fitted(record, np.zeros(40)).score(record) == pytest.approx(every.max())


def test_a_mean_says_its_value_of_each_example():
    record = _record()
    metric = Mean("margin", value=lambda given: given["confidence"] - 0.5)
    np.testing.assert_allclose(metric.values(record), record["confidence"] - 0.5)
    assert metric.score(record) == pytest.approx(record["confidence"].mean() - 0.5)
