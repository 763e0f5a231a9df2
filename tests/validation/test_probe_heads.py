"""Heads on frozen features, held to scikit-learn's and to refits by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from sklearn import linear_model, neighbors, preprocessing, svm

from jaxdl.validation.probes.heads import Examples
from jaxdl.validation.probes.linear import TOGETHER, fit_folds, fit_linear
from jaxdl.validation.probes.mlp import fit_mlp
from jaxdl.validation.probes.neighbours import knn, nearest_mean
from jaxdl.validation.probes.probe import fit_all
from jaxdl.validation.probes.ridge import fit_ridge, ridge_leaving_one_out, ridge_targets
from jaxdl.validation.probes.standard import share, standardise
from jaxdl.validation.splits import Split

PENALTIES = np.array([100.0, 1.0, 0.03])


def examples(n: int, d: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes that overlap, in features of unequal spread that depend on one another; one of them is constant."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(d, d)) * np.arange(1, d + 1) ** -0.7
    labels = random.permutation(n) % classes
    x = (random.normal(size=(classes, d)) * 0.6)[labels] + random.normal(size=(n, d))
    x = x @ mixing.T + 3
    x[:, 0] = 7
    return np.float32(x), labels


def standard_of(x: np.ndarray, train: np.ndarray, test: np.ndarray, *, padding: int = 0, dtype=np.float64):
    rows = np.concatenate([train, np.repeat(train[:1], padding)])
    weight = (np.arange(len(rows)) < len(train)).astype(dtype)
    return rows, standardise(jnp.asarray(x), jnp.asarray(rows), jnp.asarray(weight), jnp.asarray(test))


def scaled(x: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scaler = preprocessing.StandardScaler().fit(x[train].astype(np.float64))
    return scaler.transform(x.astype(np.float64)), scaler.scale_


TRAIN, TEST = np.arange(0, 160), np.arange(160, 200)


def test_standardisation_is_scikit_learns_whatever_the_padding():
    x, _ = examples(200, 12, 3)
    with jax.enable_x64(True):
        _, standard = standard_of(x, TRAIN, TEST, padding=9)
    wanted, scale = scaled(x, TRAIN)
    np.testing.assert_allclose(standard.train[:160], wanted[TRAIN], atol=1e-12)
    np.testing.assert_allclose(standard.test, wanted[TEST], atol=1e-12)
    np.testing.assert_allclose(standard.scale, scale)
    assert not np.asarray(standard.train[160:]).any()


@pytest.mark.parametrize(("d", "classes"), [(12, 3), (300, 4), (12, 2), (12, 0)])
def test_ridge_equals_refits(d, classes):
    """With fewer and with more columns than rows, of classes and of numbers."""
    x, labels = examples(200, d, classes or 3)
    if not classes:
        labels = x[:, 1:4].sum(1) + np.random.default_rng(1).normal(size=200)
    inputs, _ = scaled(x, TRAIN)
    kernels, bias = fit_ridge(inputs[TRAIN], ridge_targets(labels[TRAIN], classes), PENALTIES)
    for kernel, penalty in zip(kernels, PENALTIES, strict=True):
        kind = linear_model.RidgeClassifier if classes else linear_model.Ridge
        model = kind(alpha=penalty, solver="svd").fit(inputs[TRAIN], labels[TRAIN])
        np.testing.assert_allclose(kernel.T, np.atleast_2d(model.coef_), atol=1e-8)
        np.testing.assert_allclose(bias, np.atleast_1d(model.intercept_), atol=1e-8)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("size", [80, 10])
def test_ridge_in_folds_equals_refits(size, scale):
    """Training parts of unequal size, of more and of fewer rows than columns; one column is constant in a training
    part, one is ten thousand times as large in a row that one fold leaves out."""
    x, labels = examples(120, 12, 3)
    x[40:, 3] = 2
    x[50, 4] = 1e4
    test = np.arange(120).reshape(3, 40)
    trains = [np.delete(np.arange(120), rows)[: size - fold] for fold, rows in enumerate(test)]
    held = Examples(jnp.asarray(x), labels, 3, scale, 0, 1e-4)
    found = fit_all("ridge", PENALTIES, held, [Split("by hand", 0, trains, list(test))])[0]
    for fold, train in enumerate(trains):
        inputs = scaled(x, train)[0] if scale else x.astype(np.float64)
        for place, penalty in enumerate(PENALTIES):
            model = linear_model.RidgeClassifier(alpha=penalty, solver="svd").fit(inputs[train], labels[train])
            wanted = model.decision_function(inputs[test[fold]])
            np.testing.assert_allclose(found[fold].outputs[place], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("d", [1, 2, 30, 60])
def test_ridge_solves_for_every_penalty_where_columns_repeat(d):
    """The matrix is then singular but for the penalty."""
    random = np.random.default_rng(d)
    x = random.normal(size=(40, d))
    x[:, -1] = x[:, 0]
    x -= x.mean(0)
    y = random.normal(size=(40, 4))
    kernels, bias = fit_ridge(x, y, PENALTIES)
    for penalty, kernel in zip(PENALTIES, kernels, strict=True):
        np.testing.assert_allclose(x.T @ (x @ kernel + bias - y) + penalty * kernel, 0, atol=1e-10)


@pytest.mark.parametrize("d", [12, 90])
def test_ridge_without_one_example_equals_refits(d):
    x, labels = examples(60, d, 3)
    targets = ridge_targets(labels, 3)
    everything = np.arange(60)
    inputs, _ = scaled(x, everything)
    left_out = ridge_leaving_one_out(inputs, targets, PENALTIES)
    for place, penalty in enumerate(PENALTIES):
        for i in everything[::7]:
            rest = np.delete(everything, i)
            model = linear_model.Ridge(alpha=penalty, solver="svd").fit(inputs[rest], targets[rest])
            np.testing.assert_allclose(left_out[place, i], model.predict(inputs[i : i + 1])[0], atol=1e-8)


def _logistic_loss(kernel, bias, x, labels, penalty):
    """And its gradient by the kernel, of the mean loss."""
    p = softmax(x @ kernel + bias, axis=1)
    n = len(labels)
    loss = -np.log(p[np.arange(n), labels]).mean() + penalty / 2 / n * np.square(kernel).sum()
    return loss, x.T @ (p - np.eye(p.shape[1])[labels]) / n + penalty / n * kernel


@pytest.mark.parametrize(
    ("d", "classes"), [(12, 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((12, 2), (300, 4)))]
)
def test_logistic_regression_ends_at_scikit_learns_optimum(d, classes):
    x, labels = examples(200, d, classes)
    with jax.enable_x64(True):
        rows, standard = standard_of(x, TRAIN, TEST, padding=5)
        path = jax.tree.map(
            np.asarray, fit_linear("logistic", standard, labels[rows], classes, PENALTIES, tolerance=1e-9)
        )
    assert (path.gradient <= 1e-9).all()
    inputs, _ = scaled(x, TRAIN)
    for place, penalty in enumerate(PENALTIES):
        model = linear_model.LogisticRegression(C=1 / penalty, tol=1e-9, solver="newton-cholesky")
        model.fit(inputs[TRAIN], labels[TRAIN])
        np.testing.assert_allclose(path.kernel[place].T, model.coef_, atol=2e-5)
        np.testing.assert_allclose(path.bias[place], model.intercept_, atol=1e-4)
        if classes > 2:
            kernel, bias = (np.asarray(part[place]) for part in (path.kernel, path.bias))
            loss, gradient = _logistic_loss(kernel, bias, inputs[TRAIN], labels[TRAIN], penalty)
            theirs, _ = _logistic_loss(model.coef_.T, model.intercept_, inputs[TRAIN], labels[TRAIN], penalty)
            assert loss <= theirs + 1e-12
            assert np.abs(gradient).max() < 2e-9


def test_float32_reaches_scikit_learns_tolerance():
    """In the precision that is used, and with the gradient measured by somebody else."""
    x, labels = examples(200, 40, 4)
    rows, standard = standard_of(x, TRAIN, TEST, padding=5, dtype=np.float32)
    path = fit_linear("logistic", standard, labels[rows], 4, PENALTIES)
    assert path.kernel.dtype == np.float32
    inputs, _ = scaled(x, TRAIN)
    for place, penalty in enumerate(PENALTIES):
        kernel, bias = (np.asarray(part[place], np.float64) for part in (path.kernel, path.bias))
        _, gradient = _logistic_loss(kernel, bias, inputs[TRAIN], labels[TRAIN], penalty)
        p = softmax(inputs[TRAIN] @ kernel + bias, axis=1)[TRAIN, labels[TRAIN]]
        left = np.abs(gradient).max() / (1 - p).mean()  # beside the residuals: at weak penalties both are small
        assert left < 1.05e-4
        assert abs(path.gradient[place] - left) < 1e-5


@pytest.mark.parametrize("classes", [2, 3])
def test_svm_ends_at_scikit_learns_optimum(classes):
    """LinearSVC penalises the bias as the weight of a column of intercept_scaling: with a large one hardly at all."""
    x, labels = examples(200, 12, classes)
    with jax.enable_x64(True):
        rows, standard = standard_of(x, TRAIN, TEST, padding=5)
        path = jax.tree.map(np.asarray, fit_linear("svm", standard, labels[rows], classes, PENALTIES, tolerance=1e-9))
    inputs, _ = scaled(x, TRAIN)
    for place, penalty in enumerate(PENALTIES):
        model = svm.LinearSVC(C=1 / penalty, dual=False, tol=1e-10, max_iter=100_000, intercept_scaling=1e3)
        model.fit(inputs[TRAIN], labels[TRAIN])
        np.testing.assert_allclose(path.kernel[place].T, model.coef_, atol=1e-4)
        np.testing.assert_allclose(path.bias[place], model.intercept_, atol=1e-4)
        signs = np.eye(classes)[labels[TRAIN]][:, -path.kernel.shape[-1] :] * 2 - 1
        slack = np.maximum(1 - signs * (inputs[TRAIN] @ np.asarray(path.kernel[place]) + path.bias[place]), 0)
        gradient = -2 * inputs[TRAIN].T @ (signs * slack) + penalty * np.asarray(path.kernel[place])
        assert np.abs(gradient).max() / 160 < 2e-9


@pytest.mark.parametrize("kind", [pytest.param("logistic", marks=pytest.mark.slow), "svm"])
def test_folds_together_end_where_scikit_learn_ends_in_each(kind):
    """On rows that they share, each with its own mean and scale; one has a column that is constant in it alone. So
    many copies of three folds that they are taken in two parts, the last one filled up."""
    x, labels = examples(120, 8, 3)
    x[40:, 3] = 2  # constant where the first 40 are tested
    test = np.arange(120).reshape(3, 40)
    many = np.arange(TOGETHER // 3 + 5) % 3
    with jax.enable_x64(True):
        _, standard = standard_of(x, np.arange(120), np.arange(1), padding=3)
        weight = np.concatenate([1.0 - np.eye(3).repeat(40, 1), np.zeros((3, 3))], 1)
        shared = share(standard, jnp.asarray(weight[many]))
        outputs, gradient = fit_folds(
            kind, shared, np.append(labels, [0] * 3), 3, PENALTIES, test[many], tolerance=1e-9
        )
    assert outputs.shape == (len(many), 3, 40, 3)
    np.testing.assert_allclose(outputs, outputs[many], atol=1e-6)  # copies
    assert (gradient <= 1e-9).all()
    for fold, rows in enumerate(test):
        train = np.delete(np.arange(120), rows)
        inputs, _ = scaled(x, train)
        for place, penalty in enumerate(PENALTIES):
            if kind == "logistic":
                model = linear_model.LogisticRegression(C=1 / penalty, tol=1e-9, max_iter=20_000)
            else:
                model = svm.LinearSVC(C=1 / penalty, dual=False, tol=1e-10, max_iter=100_000, intercept_scaling=1e3)
            wanted = model.fit(inputs[train], labels[train]).decision_function(inputs[rows])
            np.testing.assert_allclose(outputs[fold, place], wanted, atol=1e-3 if kind == "svm" else 2e-4)


@pytest.mark.slow
def test_penalties_together_end_where_each_ends_alone():
    x, labels = examples(200, 12, 3)
    penalties = np.logspace(2, -1, 11)
    rows, standard = standard_of(x, TRAIN, TEST, dtype=np.float32)
    together = fit_linear("logistic", standard, labels[rows], 3, penalties, tolerance=1e-6)
    for place in (0, 5, 10):
        alone = fit_linear("logistic", standard, labels[rows], 3, penalties[place : place + 1], tolerance=1e-6)
        np.testing.assert_allclose(together.kernel[place], alone.kernel[0], atol=2e-3)


def test_neighbours_and_means_are_scikit_learns():
    x, labels = examples(200, 12, 3)
    counts = np.array([1, 4, 25])
    rows, standard = standard_of(x, TRAIN, TEST, padding=5, dtype=np.float32)
    votes = knn(standard, labels[rows], 3, counts)
    numbers = knn(standard, x[rows, 1], 0, counts)
    inputs, _ = scaled(x, TRAIN)
    for place, k in enumerate(counts):
        model = neighbors.KNeighborsClassifier(k).fit(inputs[TRAIN], labels[TRAIN])
        assert (votes[place].argmax(-1) == model.predict(inputs[TEST])).mean() >= 0.97  # ties of distance may differ
        shares = model.predict_proba(inputs[TEST])
        np.testing.assert_allclose(np.exp(votes[place]), (k * shares + 1 / 3) / (k + 1), atol=0.3 / k)
        regression = neighbors.KNeighborsRegressor(k).fit(inputs[TRAIN], x[TRAIN, 1])
        assert np.mean(np.abs(numbers[place, :, 0] - regression.predict(inputs[TEST])) < 1e-4) >= 0.97
    model = neighbors.NearestCentroid().fit(inputs[TRAIN], labels[TRAIN])
    found = np.asarray(nearest_mean(standard, labels[rows], classes=3))
    assert (found[0].argmax(-1) == model.predict(inputs[TEST])).all()


@pytest.mark.slow
def test_perceptron_learns_what_no_linear_head_can():
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 2)).astype(np.float32)
    labels = (x[:, 0] * x[:, 1] > 0).astype(int)
    train, test = np.arange(300), np.arange(300, 400)
    rows, standard = standard_of(x, train, test, padding=7, dtype=np.float32)
    penalties = np.array([1000.0, 0.1])
    outputs = fit_mlp(standard, labels[rows], 2, penalties, jax.random.key(0))
    right = (outputs.argmax(-1) == labels[test]).mean(-1)
    line = linear_model.LogisticRegression().fit(x[train], labels[train])
    assert right[1] > 0.93 > 0.7 > line.score(x[test], labels[test])
    assert right[0] < right[1]  # the penalty holds it back
    alone = fit_mlp(standard, labels[rows], 2, penalties[1:], jax.random.key(0))
    np.testing.assert_allclose(alone[0], outputs[1], atol=0.05)  # mapped or not: another order of sums, 180 Adam steps
