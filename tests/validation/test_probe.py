"""Probing: grids over folds, choices inside, and heads put back into a checkpoint."""

import json

import numpy as np
import pytest
from sklearn import linear_model, model_selection, pipeline, preprocessing

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import TablePreprocessing
from jaxdl.errors import InputError
from jaxdl.validation.probes.heads import ABSENT, HEADS
from jaxdl.validation.probes.probe import MOST_FITTED, Probing
from jaxdl.validation.probes.selection import select
from jaxdl.validation.splits import Split
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
        mine = result.out_of_fold.kept[result.out_of_fold.fold == fold]
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


@pytest.mark.slow
def test_every_head_runs_in_every_fold_and_is_kept(tmp_path):
    x, labels = examples(noise=0.4)
    heads = tuple(HEADS)
    probing, twice = Probing(heads, PENALTIES, (1, 5)), jaxdl.Splitting(repeats=2)
    found = jaxdl.probe(x, labels, twice, probing, folds=3)
    assert len(found.split) == 6
    path = found.save(tmp_path / "run")
    saved = json.loads((path / "probe.json").read_text())
    for name in heads:
        result = jaxdl.load_result(path / name)
        assert result.mean == found.result(name).mean > 0.85
        assert ("loss" in result.folds[0]) == HEADS[name].probabilistic == result.calibrated
        assert result.interval["low"] < result.mean < result.interval["high"]
        assert saved["heads"][name]["grid"] == found.heads[name].grid.tolist()
        assert np.bincount(result.out_of_fold.index).tolist() == [2] * 150


@pytest.mark.slow
def test_the_page_of_a_head(tmp_path):
    path = jaxdl.probe(*examples(), probing=Probing(("logistic",), PENALTIES), folds=3).save(tmp_path / "run")
    assert "logistic" in jaxdl.write_run_report(path / "logistic").read_text()


@pytest.mark.slow
def test_numbers_are_predicted():
    x, _ = examples()
    target = np.float32(x @ np.arange(10) / 50 + np.random.default_rng(1).normal(size=150))
    probing = Probing(("ridge", "knn", "mlp"), (10.0, 0.1), (3, 9))
    found = jaxdl.probe(x, target, probing=probing, folds=3)
    assert found.metric == "r2"
    assert found.result("ridge").mean > 0.8
    assert found.result("mlp").mean > 0.7
    assert found.result("knn").mean > 0.4
    with pytest.raises(InputError, match="'svm'"):
        jaxdl.probe(x, target, probing=Probing(("svm",)))


@pytest.mark.parametrize("classes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_leaving_one_out_is_the_fit_without_the_example(classes):
    """Of ridge by its closed form, whose scale is that of all examples; of logistic regression by refits."""
    x, labels = examples(40, 6, classes)
    found = jaxdl.probe(x, labels, "leave-one-out", Probing(("ridge", "logistic"), (100.0, 3.0), tolerance=1e-6))
    for name, head in found.heads.items():
        assert head.outputs.shape == (2, 40, classes)
        assert not head.nested
        for i in range(0, 40, 9):
            rest = np.delete(np.arange(40), i)
            inputs = preprocessing.StandardScaler().fit(x if name == "ridge" else x[rest]).transform(x)
            for place, penalty in enumerate(head.grid):
                models = {
                    "ridge": linear_model.RidgeClassifier(alpha=penalty, solver="svd"),
                    "logistic": linear_model.LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=10_000),
                }
                wanted = models[name].fit(inputs[rest], labels[rest]).decision_function(inputs[i : i + 1])[0]
                mine = np.diff(head.outputs[place, i])[0] if classes == 2 else head.outputs[place, i]
                np.testing.assert_allclose(mine, wanted, atol=1e-5 if name == "ridge" else 2e-3)


def test_leaving_one_out_of_many_examples_is_refused_for_what_is_iterated():
    x, labels = examples(MOST_FITTED + 1, 3)
    with pytest.raises(InputError, match="'svm'") as refusal:
        jaxdl.probe(x, labels, "leave-one-out", Probing(("ridge", "svm")))
    assert "ridge, knn, ncm" in str(refusal.value)
    found = jaxdl.probe(x, labels, "leave-one-out", Probing(("ridge",), PENALTIES))  # the advice works
    assert found.heads["ridge"].outputs.shape[1] == len(x)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("splitter", ["folds", "leave-one-out"])
def test_a_class_without_training_examples_has_finite_outputs(splitter, classes, tmp_path):
    """Its only example is in one test part; what is written is JSON, with finite metrics."""
    x, labels = examples(24, 4, classes - 1 or 1)
    labels = np.where(np.arange(24) == 5, classes - 1, labels)
    test = np.arange(24).reshape(3, 8)
    parts = [(np.setdiff1d(np.arange(24), rows), rows) for rows in test]
    divided = Split("by hand", 0, *zip(*parts, strict=True)) if splitter == "folds" else splitter
    found = jaxdl.probe(x, labels, divided, Probing(tuple(HEADS), (1.0,), (3,), nested=False))
    path = found.save(tmp_path / "run")
    for name in HEADS:
        result = found.result(name)
        assert np.isfinite(result.out_of_fold.kept).all()
        logits = result.out_of_fold.kept[result.out_of_fold.index == 5][0]
        assert logits.max() - logits[classes - 1] == pytest.approx(ABSENT, rel=1e-4)
        written = json.loads((path / name / "result.json").read_text(), parse_constant=refuse_constant)
        assert np.isfinite([row["accuracy"] for row in written["folds"]]).all()
        if result.calibrated:
            assert max(row["loss"] for row in written["folds"]) <= ABSENT + np.log(classes)
    json.loads((path / "probe.json").read_text(), parse_constant=refuse_constant)


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


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
        jaxdl.probe(x, labels, jaxdl.Splitting("holdout", repeats=3))
    with pytest.raises(InputError, match="repeats is 3, but the splitter 'stratified-group'"):  # not torn apart
        jaxdl.probe(x, labels, jaxdl.Splitting(repeats=3), groups=np.arange(len(x)) // 2)
    with pytest.raises(InputError, match="the first is example 7"):
        jaxdl.probe(np.where(np.arange(150)[:, None] == 7, np.nan, x), labels)


@pytest.mark.parametrize("numbers", [False, True])
def test_a_fitted_head_goes_back_into_the_checkpoint(numbers, tmp_path):
    x, labels = examples(noise=0.4)
    target = np.float32(x.sum(1)) if numbers else labels
    source = data.arrays(x, target)
    model = jaxdl.create("mlp", 7, hidden=(16,))
    init = from_model(model, TablePreprocessing((10,), tuple(map(float, x.mean(0))), tuple(map(float, x.std(0)))))
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


@pytest.mark.slow
def test_published_weights_predict_real_images(real_data):
    """Frozen CIFAR features of 300 test images: far above chance, where raw pixels are not far above."""
    whole = data.npz(real_data / "cifar10_test.npz")
    source = data.subset(whole, np.arange(300))
    published = jaxdl.convert(real_data / "weights" / "cifar10_resnet20-12fca82f.npz", "resnet20_cifar").checkpoint
    probing = Probing(("ridge", "logistic", "ncm"), PENALTIES)
    found = jaxdl.probe_checkpoint(published, source, probing=probing, folds=3)
    assert all(found.result(name).mean > 0.75 for name in found.heads)
    pixels = np.stack([source[i]["x"].reshape(-1) for i in range(300)])[:, ::8]
    assert jaxdl.probe(pixels, source.labels, probing=Probing(("ridge",)), folds=3).result("ridge").mean < 0.5


@pytest.mark.slow
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
