"""Probing: grids over folds, choices inside, and heads put back into a checkpoint."""

import json

import jax
import numpy as np
import pytest
from sklearn import linear_model, model_selection, pipeline, preprocessing

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import Preprocessing
from jaxdl.errors import InputError
from jaxdl.validation.probes import left_out
from jaxdl.validation.probes.heads import HEADS, Examples
from jaxdl.validation.probes.probe import Probing, fit_all
from jaxdl.validation.probes.selection import select
from jaxdl.weights.checkpoint import from_model

PENALTIES = (100.0, 1.0, 0.01)


def examples(n: int = 150, d: int = 10, classes: int = 3, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.permutation(n) % classes
    x = (random.normal(size=(classes, d)) * 0.6)[labels] + noise * random.normal(size=(n, d))
    return np.float32(x * np.arange(1, d + 1) + 5), labels


def test_scores_are_those_of_scikit_learns_grid_search():
    """The same folds; the scaler is fitted within each."""
    x, labels = examples()
    found = jaxdl.probe(x, labels, probing=Probing(("ridge", "logistic"), PENALTIES, nested=False))
    folds = list(found.split.split(x))
    kinds = {
        "ridge": (linear_model.RidgeClassifier(), "alpha", PENALTIES),
        "logistic": (linear_model.LogisticRegression(tol=1e-6, max_iter=10_000), "C", [1 / p for p in PENALTIES]),
    }
    for name, (model, parameter, values) in kinds.items():
        steps = pipeline.Pipeline([("scale", preprocessing.StandardScaler()), ("head", model)])
        search = model_selection.GridSearchCV(steps, {f"head__{parameter}": values}, cv=folds).fit(x, labels)
        wanted = np.array([search.cv_results_[f"split{k}_test_score"] for k in range(5)]).T
        np.testing.assert_allclose(found.heads[name].scores, wanted, atol=0.035)  # one of 30 may be on the edge
        assert np.mean(found.heads[name].scores == wanted) > 0.8
        assert not found.heads[name].nested
        assert "too good" in found.result(name).fold_strategy["reason"]


def test_nested_choice_sees_nothing_of_the_test_part():
    """What inner folds choose and predict by hand is what comes out."""
    x, labels = examples()
    found = jaxdl.probe(x, labels, probing=Probing(("ridge",), PENALTIES, inner_folds=3), folds=4)
    head = found.heads["ridge"]
    result = found.result("ridge")
    assert head.nested
    for fold, (train, test) in enumerate(found.split.split(x)):
        inside = jaxdl.probe(x[train], labels[train], probing=Probing(("ridge",), PENALTIES, nested=False), folds=3)
        penalty = inside.heads["ridge"].best
        assert penalty == result.folds[fold]["penalty"] == head.grid[head.by_fold[fold]]
        model = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.RidgeClassifier(alpha=penalty))
        wanted = model.fit(x[train], labels[train]).decision_function(x[test])
        mine = result.out_of_fold.logits[result.out_of_fold.fold == fold]
        np.testing.assert_allclose(mine, wanted, atol=1e-5)
        assert result.folds[fold]["accuracy"] == (wanted.argmax(1) == labels[test]).mean()
    assert result.mean == pytest.approx(np.mean([row["accuracy"] for row in result.folds]))
    assert sorted(result.out_of_fold.index) == list(range(150))


def test_the_best_of_many_looks_too_good_and_the_nested_one_does_not():
    """Labels that nothing predicts: what a grid's best claims beyond chance is its bias."""
    random = np.random.default_rng(0)
    claims = []
    for _ in range(8):
        x, labels = random.normal(size=(48, 30)), random.permutation(48) % 2
        counts = (1, 2, 3, 5, 7, 9, 11, 13)
        grids = [Probing(("knn",), neighbours=counts, nested=nested) for nested in (False, True)]
        plain, nested = (jaxdl.probe(x, labels, probing=grid, folds=3).result("knn").mean for grid in grids)
        claims.append((plain, nested))
    plain, nested = np.mean(claims, axis=0)
    assert plain > nested
    assert plain > 0.53
    assert abs(nested - 0.5) < 0.05


def test_every_head_runs_in_every_fold_and_is_kept(tmp_path):
    x, labels = examples(noise=0.4)
    heads = tuple(HEADS)
    probing, twice = Probing(heads, PENALTIES, (1, 5)), jaxdl.Splitting(repeats=2)
    found = jaxdl.probe(x, labels, probing=probing, folds=3, splitting=twice)
    assert len(found.split) == 6
    path = found.save(tmp_path / "run")
    told = json.loads((path / "probe.json").read_text())
    for name in heads:
        result = jaxdl.load_result(path / name)
        assert result.mean == found.result(name).mean > 0.85
        assert ("loss" in result.folds[0]) == HEADS[name].probabilistic == result.probabilistic
        assert result.interval["low"] < result.mean < result.interval["high"]
        assert told["heads"][name]["grid"] == found.heads[name].grid.tolist()
        assert np.bincount(result.out_of_fold.index).tolist() == [2] * 150
    page = jaxdl.write_run_report(path / "logistic")
    assert "logistic" in page.read_text()


def test_numbers_are_foretold():
    x, _ = examples()
    target = np.float32(x @ np.arange(10) / 50 + np.random.default_rng(1).normal(size=150))
    probing = Probing(("ridge", "knn", "mlp"), (10.0, 0.1), (3, 9))
    found = jaxdl.probe(x, target, probing=probing, folds=3)
    assert found.metric == "r2"
    assert found.result("ridge").mean > 0.8
    assert found.result("mlp").mean > 0.7
    assert found.result("knn").mean > 0.4
    with pytest.raises(InputError, match="'svm' tells classes apart"):
        jaxdl.probe(x, target, probing=Probing(("svm",)))


@pytest.mark.parametrize("classes", [2, 3])
def test_leaving_one_out_takes_closed_forms_and_tells_their_error(classes):
    x, labels = examples(60, 6, classes)
    found = jaxdl.probe(x, labels, "leave-one-out", Probing(("ridge", "logistic", "svm"), (100.0, 3.0)))
    for name, head in found.heads.items():
        assert head.outputs.shape == (2, 60, classes)
        assert not head.nested
        refits = Examples(jax.numpy.asarray(x), labels, classes, True, 0, 1e-5)
        exact = np.concatenate([f.outputs for f in fit_all(name, head.grid, refits, [found.split])[0]], 1)
        close = np.abs(head.outputs - exact).max()  # those scale without the example, and end at another tolerance
        assert close < 0.25 * exact.std()
        assert (head.outputs.argmax(-1) == exact.argmax(-1)).mean() > 0.95
        if name == "ridge":
            assert head.approximation is None
        else:
            assert len(head.approximation["refits"]) == left_out.CHECKED
            assert max(head.approximation["largest_error"]) < 0.2 * exact.std()


def test_one_standard_error_takes_the_stronger_penalty():
    scores = np.array([[0.5, 0.5, 0.5], [0.7, 0.8, 0.9], [0.72, 0.82, 0.92], [0.6, 0.6, 0.6]])
    assert select(scores, "best") == 2
    assert select(scores, "one-se") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": ("rigde",)}, "Did you mean 'ridge'"),
        ({"penalties": (1.0, 0.0)}, "above 0"),
        ({"heads": ("knn",), "neighbours": (200,)}, "200 neighbours"),
        ({"selection": "worst"}, "unknown selection"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
    ],
)
def test_bad_input(options, said):
    x, labels = examples()
    with pytest.raises(InputError, match=said):
        jaxdl.probe(x, labels, probing=Probing(**options))
    with pytest.raises(InputError, match="repeats is 3"):
        jaxdl.probe(x, labels, "holdout", splitting=jaxdl.Splitting(repeats=3))
    with pytest.raises(InputError, match="repeats is 3, but the splitter 'stratified-group'"):  # not torn apart
        jaxdl.probe(x, labels, splitting=jaxdl.Splitting(repeats=3), groups=np.arange(len(x)) // 2)
    with pytest.raises(InputError, match="the first is example 7"):
        jaxdl.probe(np.where(np.arange(150)[:, None] == 7, np.nan, x), labels)


@pytest.mark.parametrize("numbers", [False, True])
def test_a_fitted_head_goes_back_into_the_checkpoint(numbers, tmp_path):
    x, labels = examples(noise=0.4)
    target = np.float32(x.sum(1)) if numbers else labels
    source = data.arrays(x, target)
    model = jaxdl.create("mlp", 7, hidden=(16,))
    init = from_model(model, Preprocessing((10,), "float32", tuple(map(float, x.mean(0))), tuple(map(float, x.std(0)))))
    head = "ridge" if numbers else "logistic"
    path = jaxdl.save(jaxdl.with_head(init, source, head=head, penalty=1.0), tmp_path / "made")
    made = jaxdl.restore(path)
    features = jaxdl.extract_features(init, source)
    inputs = preprocessing.StandardScaler().fit_transform(features.astype(np.float64))
    said = jaxdl.predict(made, source)
    if numbers:
        wanted = linear_model.Ridge(alpha=1.0).fit(inputs, target).predict(inputs)
        np.testing.assert_allclose(said.predicted, wanted, rtol=1e-4, atol=1e-3)
    else:
        theirs = linear_model.LogisticRegression(C=1.0, tol=1e-6, max_iter=10_000).fit(inputs, labels)
        np.testing.assert_allclose(said.probabilities, theirs.predict_proba(inputs), atol=0.01)
        assert said.accuracy > 0.9


def test_published_weights_foretell_real_images(real_data):
    """Frozen CIFAR features of 300 test images: far above chance, where raw pixels are not far above."""
    whole = data.npz(real_data / "cifar10_test.npz")
    source = data.subset(whole, np.arange(300))
    published = jaxdl.convert(real_data / "weights" / "cifar10_resnet20-12fca82f.npz", "resnet20_cifar").checkpoint
    probing = Probing(("ridge", "logistic", "ncm"), PENALTIES)
    found = jaxdl.probe_checkpoint(published, source, probing=probing, folds=3)
    assert all(found.result(name).mean > 0.75 for name in found.heads)
    pixels = np.stack([source[i]["x"].reshape(-1) for i in range(300)])[:, ::8]
    assert jaxdl.probe(pixels, source.labels, probing=Probing(("ridge",)), folds=3).result("ridge").mean < 0.5


@pytest.mark.parametrize("step", [16, 8])
def test_ridge_on_real_images_is_scikit_learns(real_data, step):
    """Pixels, which depend on one another closely; fewer and more of them than the 200 images of a training part."""
    source = data.subset(data.npz(real_data / "cifar10_test.npz"), np.arange(300))
    pixels = np.stack([source[i]["x"].reshape(-1) for i in range(300)])[:, ::step]
    assert (pixels.shape[1] < 200) == (step == 16)
    found = jaxdl.probe(pixels, source.labels, probing=Probing(("ridge",), PENALTIES), folds=3)
    head, begin = found.heads["ridge"], 0
    for train, test in zip(found.split.train, found.split.test, strict=True):
        scaler = preprocessing.StandardScaler().fit(pixels[train])
        for place, penalty in enumerate(head.grid):
            theirs = linear_model.RidgeClassifier(alpha=penalty, solver="svd")
            theirs.fit(scaler.transform(pixels[train]), source.labels[train])
            wanted = theirs.decision_function(scaler.transform(pixels[test]))
            np.testing.assert_allclose(head.outputs[place, begin : begin + len(test)], wanted, atol=1e-5)
        begin += len(test)
