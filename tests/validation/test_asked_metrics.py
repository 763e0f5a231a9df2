"""`metrics=`: any metric by name, of scikit-learn or of a user, is the score everywhere, and chooses."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError

RNG = np.random.default_rng(0)
LABELS = RNG.choice(3, 90, p=[0.5, 0.3, 0.2])
X = (RNG.normal(size=(90, 5)) + 1.5 * np.eye(3, 5)[LABELS]).astype(np.float32)
SOURCE = data.arrays(X, LABELS)
MLP = jaxdl.create("mlp", 3, hidden=(8,))
PLAN = jaxdl.Plan(epochs=4, batch_size=32, learning_rate=1e-2)
AT_ONCE = jaxdl.Execution(fold_strategy="vmap")


def weighted_kappa(targets, predictions, sample_weight=None):
    return sk.cohen_kappa_score(targets, predictions, weights="linear", sample_weight=sample_weight)


def plain_kappa(targets, predictions):
    return sk.cohen_kappa_score(targets, predictions, weights="linear")


def wrong(targets, predictions):
    """Larger for the worse model: what it chooses is never what the loss chooses."""
    return np.mean(targets != predictions)


def one_against_rest(targets, outputs):
    odds = np.exp(outputs - outputs.max(1, keepdims=True))
    return sk.roc_auc_score(targets, odds / odds.sum(1, keepdims=True), multi_class="ovr")


def by_hand(result, score):
    """Of each fold, from its targets, predictions and outputs."""
    held = result.out_of_fold
    folds = [held.fold == row["fold"] for row in result.folds]
    return [score(held.target[rows], held.kept[rows].argmax(1), held.kept[rows]) for rows in folds]


ASKED = {
    "auc": ("auc", "auc", lambda t, p, out: one_against_rest(t, out)),
    "f1": ("f1", "macro_f1", lambda t, p, out: sk.f1_score(t, p, average="macro")),
    "f1_macro": ("f1_macro", "f1_macro", lambda t, p, out: sk.f1_score(t, p, average="macro")),
    "matthews_corrcoef": ("matthews_corrcoef", "matthews_corrcoef", lambda t, p, out: sk.matthews_corrcoef(t, p)),
    "roc_auc_ovr": ("roc_auc_ovr", "roc_auc_ovr", lambda t, p, out: one_against_rest(t, out)),
    "weighted": ({"agreement": weighted_kappa}, "agreement", lambda t, p, out: weighted_kappa(t, p)),
    "plain": ({"agreement": plain_kappa}, "agreement", lambda t, p, out: plain_kappa(t, p)),
    "its own name": ({"kappa": plain_kappa}, "kappa", lambda t, p, out: plain_kappa(t, p)),
    "log-loss": ("log-loss", "log_loss", lambda t, p, out: sk.log_loss(t, np.exp(out) / np.exp(out).sum(1)[:, None])),
}

QUICK = ("auc", "f1_macro", "weighted", "plain")


@pytest.mark.parametrize(
    ("asked", "name", "score"),
    [pytest.param(*row, id=name, marks=() if name in QUICK else pytest.mark.slow) for name, row in ASKED.items()],
)
def test_the_result_speaks_of_it(asked, name, score):
    result = jaxdl.cross_validate(MLP, SOURCE, PLAN, metrics=asked, folds=3, execution=AT_ONCE)
    wanted = by_hand(result, score)
    assert result.metric == name
    assert [row[name] for row in result.folds] == pytest.approx(wanted, rel=1e-5)
    assert result.mean == pytest.approx(np.mean(wanted), rel=1e-5)
    assert result.std == pytest.approx(np.std(wanted, ddof=1), rel=1e-4)
    assert result.metrics["folds"][name] == pytest.approx(wanted, rel=1e-5)
    assert result.interval["about"].startswith(f"{name} on new examples")
    assert result.interval["low"] < result.interval["estimate"] < result.interval["high"]
    assert result.interval["estimate"] == pytest.approx(result.metrics["pooled"][name])
    assert str(result).startswith(f"{name} ")
    last = {row["fold"]: row for row in result.curves if row["epoch"] == 4}
    assert [last[fold][f"test_{name}"] for fold in range(3)] == pytest.approx(wanted, rel=1e-4)
    assert "accuracy" in result.metrics["pooled"]  # the task's own are told, too
    assert "accuracy" in result.folds[0]


def test_several_are_told_and_the_first_is_the_score():
    asked = ["auc", "f1_macro", weighted_kappa]
    result = jaxdl.cross_validate(MLP, SOURCE, PLAN, metrics=asked, folds=3, execution=AT_ONCE)
    assert result.metric == "auc"
    assert {"auc", "f1_macro", "weighted_kappa"} <= set(result.metrics["pooled"])
    with pytest.raises(InputError, match="empty"):
        jaxdl.cross_validate(MLP, SOURCE, PLAN, metrics=[])


def test_weights_or_repeated_rows_give_the_same_interval():
    result = jaxdl.cross_validate(MLP, SOURCE, PLAN, folds=3, execution=AT_ONCE)
    one, other = (jaxdl.interval(result, metric=fn) for fn in (weighted_kappa, plain_kappa))
    assert (one.low, one.high, one.estimate) == pytest.approx((other.low, other.high, other.estimate))


def test_a_metric_of_numbers():
    y = (X @ np.arange(5)).astype(np.float32)
    model, source = jaxdl.create("mlp", 1, hidden=(8,)), data.arrays(X, y)
    for asked, score in (("mae", sk.mean_absolute_error), ("neg_root_mean_squared_error", None)):
        result = jaxdl.cross_validate(model, source, PLAN, metrics=asked, folds=3, execution=AT_ONCE)
        held = result.out_of_fold
        theirs = score or (lambda t, p: -sk.root_mean_squared_error(t, p))
        wanted = [theirs(held.target[held.fold == k], held.kept[held.fold == k, 0]) for k in range(3)]
        assert (result.metric, result.mean) == (asked, pytest.approx(np.mean(wanted), rel=1e-5))


def test_one_that_is_unknown_is_named_with_the_nearest():
    for call in (
        lambda: jaxdl.cross_validate(MLP, SOURCE, PLAN, metrics="acuracy"),
        lambda: jaxdl.search(MLP, SOURCE, PLAN, {"learning_rate": [1e-3]}, metrics="acuracy"),
        lambda: jaxdl.learning_curve(MLP, SOURCE, PLAN, metrics="acuracy"),
        lambda: jaxdl.probe(X, LABELS, metrics="acuracy"),
    ):
        with pytest.raises(InputError, match=r"'acuracy'.*Did you mean 'accuracy'"):
            call()


def test_one_that_fails_or_gives_no_number_is_named():
    for fn, said in ((lambda t, p: np.ones(3), "'broken' gave"), (lambda t, p: t["x"], "'broken' failed")):
        with pytest.raises(InputError, match=said):
            jaxdl.cross_validate(MLP, SOURCE, jaxdl.Plan(epochs=1), metrics={"broken": fn}, folds=2)


def test_early_stopping_chooses_by_it():
    """Under the loss the epochs get better; what is larger the more is wrong is best after the first one."""
    plan = jaxdl.Plan(epochs=12, batch_size=32, learning_rate=1e-2, early_stopping=12, schedule="constant")
    by_loss, by_metric = (
        jaxdl.cross_validate(MLP, SOURCE, plan, metrics=asked, folds=3, execution=AT_ONCE)
        for asked in (None, {"wrong": wrong})
    )
    assert min(row["best_epoch"] for row in by_loss.folds) > 4
    assert max(row["best_epoch"] for row in by_metric.folds) < 4
    assert by_metric.metric == "wrong"
    assert by_metric.mean > 1 - by_loss.mean


SPACE = {"learning_rate": [1e-5, 3e-2]}


@pytest.mark.slow
def test_a_search_chooses_by_it():
    searching = jaxdl.Searching(inner_folds=2)
    options = {"folds": 2, "execution": AT_ONCE}
    by_loss = jaxdl.search(MLP, SOURCE, PLAN, SPACE, searching, **options)
    by_metric = jaxdl.search(MLP, SOURCE, PLAN, SPACE, searching, metrics={"wrong": wrong}, **options)
    assert (by_loss.choices, by_loss.final, by_loss.selection["criterion"]) == ([1, 1], 1, "loss")
    assert (by_metric.choices, by_metric.final, by_metric.selection["criterion"]) == ([0, 0], 0, "metric")
    result = by_metric.result
    assert result.metric == "wrong"
    assert result.mean == pytest.approx(np.mean(by_hand(result, lambda t, p, out: wrong(t, p))))
    assert {tuple(row["folds"]) for row in by_metric.scores} != {tuple(row["folds"]) for row in by_loss.scores}
    settled = jaxdl.Searching(inner_folds=2, criterion="loss")
    told = jaxdl.search(MLP, SOURCE, PLAN, SPACE, settled, metrics={"wrong": wrong}, **options)
    assert (told.final, told.result.metric, told.selection["criterion"]) == (1, "wrong", "loss")


@pytest.mark.slow
def test_a_loss_that_is_asked_for_is_searched_downwards():
    options = {"folds": 2, "execution": AT_ONCE}
    flat = jaxdl.Searching(nested=False, criterion="metric")
    found = jaxdl.search(MLP, SOURCE, PLAN, SPACE, flat, metrics="log_loss", **options)
    assert found.final == 1
    assert found.ranking[0]["mean"] < found.ranking[1]["mean"]


@pytest.mark.slow
def test_a_learning_curve_speaks_of_it():
    curve = jaxdl.learning_curve(MLP, SOURCE, PLAN, sizes=[15, 60], metrics="auc", folds=3, execution=AT_ONCE)
    assert curve.metric == "auc"
    for point, result in zip(curve.points, curve.results, strict=True):
        assert point["folds"] == pytest.approx(by_hand(result, lambda t, p, out: one_against_rest(t, out)), rel=1e-5)
        assert point["interval"]["about"].startswith("auc")
    losses = jaxdl.learning_curve(MLP, SOURCE, PLAN, sizes=[60], metrics="log_loss", folds=3, execution=AT_ONCE)
    assert (losses.best, losses.higher_is_better) == (0.0, False)
    assert losses.score_of(0.25) == 0.25


def test_variance_speaks_of_it():
    made = jaxdl.variance(MLP, SOURCE, PLAN, splits=2, seeds=2, configurations=[{}], metrics="f1", execution=AT_ONCE)
    assert made.metric == "macro_f1"
    assert np.isfinite(made.scores).all()


@pytest.mark.parametrize(
    ("asked", "score"),
    [
        ("f1_macro", lambda t, p: sk.f1_score(t, p, average="macro")),
        ({"agreement": weighted_kappa}, weighted_kappa),
        ({"wrong": wrong}, wrong),
    ],
)
def test_a_probe_chooses_by_it(asked, score):
    probing = jaxdl.Probing(("ridge",), (1e5, 1.0), nested=False)
    found = jaxdl.probe(X, LABELS, probing=probing, folds=3, metrics=asked)
    head, begin = found.heads["ridge"], 0
    wanted = np.zeros((2, 3))
    for fold, test in enumerate(found.split.test):
        said = head.outputs[:, begin : begin + len(test)].argmax(-1)
        wanted[:, fold] = [score(LABELS[test], row) for row in said]
        begin += len(test)
    np.testing.assert_allclose(head.scores, wanted)
    assert head.chosen == wanted.mean(1).argmax() == (0 if asked != "f1_macro" and "wrong" in asked else 1)
    result = found.result("ridge")
    assert result.mean == pytest.approx(wanted[head.chosen].mean())
    assert result.interval["about"].startswith(result.metric)
    nested = jaxdl.probe(X, LABELS, probing=jaxdl.Probing(("ridge",), (1e5, 1.0)), folds=3, metrics=asked)
    assert nested.heads["ridge"].by_fold == [head.chosen] * 3


def test_a_probe_by_what_needs_probabilities():
    probing = jaxdl.Probing(penalties=(1.0,), neighbours=(5,))
    found = jaxdl.probe(X, LABELS, probing=probing, folds=3, metrics="log_loss")
    assert "logistic" in found.heads
    assert not {"ridge", "svm"} & set(found.heads)  # whose decision values are no log-odds
    held = found.result("logistic").out_of_fold
    p = np.exp(held.kept) / np.exp(held.kept).sum(1)[:, None]
    wanted = np.mean([sk.log_loss(held.target[held.fold == k], p[held.fold == k]) for k in range(3)])
    assert found.result("logistic").mean == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(InputError, match=r"'ridge'.*'log_loss'"):
        jaxdl.probe(X, LABELS, probing=jaxdl.Probing(("ridge",)), metrics="log_loss")


def test_results_are_compared_by_it():
    results = {
        str(penalty): jaxdl.probe(
            X, LABELS, probing=jaxdl.Probing(("ridge",), (penalty,)), metrics={"agreement": weighted_kappa}, folds=4
        ).result("ridge")
        for penalty in (1e4, 1.0)
    }
    assert len({one.mean for one in results.values()}) == 2
    own = jaxdl.compare(results)
    assert own.metric == "agreement"
    assert own.scores == pytest.approx({name: one.mean for name, one in results.items()})
    differences = np.subtract(*([row["agreement"] for row in results[name].folds] for name in own.scores))
    assert own.pairs[0].difference == pytest.approx(differences.mean())
    for metric, score in (("f1_macro", lambda t, p, out: sk.f1_score(t, p, average="macro")), (wrong, None)):
        found = jaxdl.compare(results, metric=metric)
        wanted = {
            name: np.mean(by_hand(one, score or (lambda t, p, out: wrong(t, p)))) for name, one in results.items()
        }
        assert found.scores == pytest.approx(wanted)
        assert next(iter(found.scores)) == max(wanted, key=wanted.get)
    with pytest.raises(InputError, match="'f1_marco'"):
        jaxdl.compare(results, metric="f1_marco")


def test_what_is_read_again_names_the_function_that_it_lacks(tmp_path):
    result = jaxdl.cross_validate(MLP, SOURCE, PLAN, metrics={"agreement": weighted_kappa}, folds=3, execution=AT_ONCE)
    again = jaxdl.load_result(result.save(tmp_path / "run"))
    assert (again.metric, again.mean) == ("agreement", result.mean)
    assert again.as_dict() == json.loads(json.dumps(result.as_dict()))
    with pytest.raises(InputError, match="'agreement'"):
        again.sample()
    assert again.sample(weighted_kappa).fold_scores == pytest.approx(result.sample().fold_scores)


def test_nested_intervals_are_of_means_alone():
    for y, asked, name in ((LABELS, "f1", "macro_f1"), (X[:, 0], None, "r2")):
        model = jaxdl.create("mlp", 3 if name == "macro_f1" else 1, hidden=(4,))
        with pytest.raises(InputError, match=name):
            jaxdl.cross_validate(model, data.arrays(X, y), PLAN, metrics=asked, folds=3, interval="nested")
