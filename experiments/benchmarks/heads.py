"""Heads on features, all penalties and folds: seconds and memory of jaxdl beside scikit-learn.

    python experiments/benchmarks/heads.py [--large] [--folds 5 10] [--penalties 10 20] [--classes 10 100] [--head …]

Logistic regression, SVM (squared hinge) and ridge: `fit_all`, as `jaxdl.probe` calls it, beside GridSearchCV(
StandardScaler, LogisticRegression | LinearSVC(dual=False) | RidgeClassifier) with two processes, on the same folds and
penalties, not refitted. Leave-one-out of ridge beside RidgeClassifierCV. Each side runs in a process of its own, whose
largest memory is shown (for GridSearchCV that of the largest of its three processes). jaxdl is timed twice: with
compilation, as in a first start, and without.

Two timings are only worth comparing at the same optimum. That is looked into in the first fold, for every penalty, in
float64: how far the loss is above its minimum, as a share of it, and how many held-out examples are predicted as at the
minimum. (The minimum is jaxdl's in float64 at a tolerance of 1e-9; its gradient is measured by NumPy and shown.) Where
classes can be told apart, a gradient of 1e-4 is far from the minimum at weak penalties. jaxdl's default tolerance is
one beside the size of the residuals; scikit-learn is timed at its own default, 1e-4, and at the first of 1e-6 and 1e-8
at which its loss, too, is within 1e-4 of the minimum and 99 % of predictions are the same ("at the optimum").
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

ABOVE, ALIKE = 1e-4, 0.99  # "the same optimum"
THEIR_TOLERANCES = (1e-4, 1e-6, 1e-8)
ITERATED = ("logistic", "svm")
BIAS_SCALE = 30.0  # LinearSVC penalises the bias; as the weight of a column of this size only 1/900 as much


def make_features(n: int, d: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes that overlap: means of small size beside noise whose variance falls as 1/rank along random directions."""
    random = np.random.default_rng(0)
    turn = np.linalg.qr(random.normal(size=(d, d)))[0]
    spread = np.arange(1, d + 1) ** -0.5
    labels = random.permutation(n) % classes
    means = random.normal(size=(classes, d)) * 0.12
    x = ((means[labels] + random.normal(size=(n, d))) * spread) @ turn
    return np.float32(x), labels


def penalties_of(count: int) -> np.ndarray:
    return np.logspace(3, -3, count)


def splitter(folds: int) -> Any:
    from sklearn.model_selection import StratifiedKFold

    return StratifiedKFold(folds, shuffle=True, random_state=0)


def run_jaxdl(case: argparse.Namespace, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    import jax.numpy as jnp

    from jaxdl.validation.probes.heads import Examples, ridge_leave_one_out
    from jaxdl.validation.probes.probe import fit_all
    from jaxdl.validation.splits import Split

    grid = penalties_of(case.penalties)
    pairs = list(splitter(max(case.folds, 2)).split(x, y))
    split = Split("stratified", 0, *zip(*pairs, strict=True))
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        examples = Examples(jnp.asarray(x), y, case.classes, True, 0, case.tolerance)
        if case.head == "ridge-loo":
            outputs = ridge_leave_one_out(examples, grid)
        else:
            outputs = [fitted.outputs for fitted in fit_all(case.head, grid, examples, [split])[0]]
        seconds.append(time.perf_counter() - begin)
    made = {"seconds": seconds, "mebibytes": peak()}
    np.save(case.work / "jaxdl.npy", outputs if case.head == "ridge-loo" else outputs[0])
    if case.head in ITERATED:
        keep_path(case, x, y, pairs[0], grid, case.tolerance, "jaxdl")
        keep_path(case, x, y, pairs[0], grid, 1e-9, "minimum")
    return made


def peak() -> float:
    """The largest memory so far, of this process or of the largest that it started; MiB."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def keep_path(
    case: argparse.Namespace, x: np.ndarray, y: np.ndarray, pair: tuple, grid: np.ndarray, tolerance: float, name: str
) -> None:
    """The coefficients of the first fold; not timed. The minimum in float64."""
    import jax
    import jax.numpy as jnp

    from jaxdl.validation.probes.linear import fit_linear
    from jaxdl.validation.probes.standard import standardise

    train, test = pair
    dtype = np.float64 if name == "minimum" else np.float32
    with jax.enable_x64(name == "minimum"):
        standard = standardise(jnp.asarray(x), jnp.asarray(train), jnp.ones(len(train), dtype), jnp.asarray(test))
        path = fit_linear(case.head, standard, y[train], case.classes, grid, tolerance=tolerance)
        np.savez(case.work / f"{name}.npz", kernel=np.asarray(path.kernel), bias=np.asarray(path.bias))


def model_of(head: str, penalty: float, tolerance: float) -> Any:
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.svm import LinearSVC

    if head == "ridge":
        return RidgeClassifier(alpha=penalty)
    if head == "logistic":
        return LogisticRegression(C=1 / penalty, tol=tolerance, max_iter=100_000)
    return LinearSVC(C=1 / penalty, tol=tolerance, dual=False, intercept_scaling=BIAS_SCALE, max_iter=100_000)


def run_sklearn(case: argparse.Namespace, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    warnings.simplefilter("ignore")
    grid = penalties_of(case.penalties)
    begin = time.perf_counter()
    if case.head == "ridge-loo":
        inputs = StandardScaler().fit_transform(x.astype(np.float64))
        model = RidgeClassifierCV(alphas=grid, store_cv_results=True, scoring="accuracy").fit(inputs, y)
        np.save(case.work / "sklearn.npy", np.moveaxis(model.cv_results_, -1, 0))
    else:
        steps = Pipeline([("scale", StandardScaler()), ("head", model_of(case.head, 1.0, case.tolerance))])
        values = {"head__alpha": grid} if case.head == "ridge" else {"head__C": 1 / grid}
        GridSearchCV(steps, values, cv=splitter(case.folds), n_jobs=2, refit=False).fit(x, y)
    made = {"seconds": [time.perf_counter() - begin], "mebibytes": peak()}
    if case.head == "ridge":
        train, test = next(iter(splitter(case.folds).split(x, y)))
        scale = StandardScaler().fit(x[train])
        models = [model_of("ridge", penalty, 0).fit(scale.transform(x[train]), y[train]) for penalty in grid]
        np.save(case.work / "sklearn.npy", [model.decision_function(scale.transform(x[test])) for model in models])
    return made


def find_tolerance(case: argparse.Namespace, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """scikit-learn's first tolerance at which it comes to the minimum, by the first fold; what it leaves at each."""
    from sklearn.preprocessing import StandardScaler

    warnings.simplefilter("ignore")
    train, _ = next(iter(splitter(case.folds).split(x, y)))
    inputs = StandardScaler().fit_transform(x[train])
    checks = Checks(case, x, y)
    left = {}
    for tolerance in THEIR_TOLERANCES:
        models = [model_of(case.head, p, tolerance).fit(inputs, y[train]) for p in penalties_of(case.penalties)]
        found = checks.compare([m.coef_.T for m in models], [m.intercept_ for m in models])
        left[tolerance] = found
        if found["same"]:
            break
    return {"left": left}


class Checks:
    """Losses and predictions of the first fold, in float64, by NumPy."""

    def __init__(self, case: argparse.Namespace, x: np.ndarray, y: np.ndarray):
        self.case = case
        self.train, self.test = next(iter(splitter(case.folds).split(x, y)))
        x = x.astype(np.float64)
        self.x, self.y = (x - x[self.train].mean(0)) / x[self.train].std(0), y
        with np.load(case.work / "minimum.npz") as held:
            self.least = [self.look(*pair) for pair in zip(range(case.penalties), *held.values(), strict=True)]

    def look(self, place: int, kernel: np.ndarray, bias: np.ndarray) -> tuple[float, np.ndarray, float]:
        """The penalised mean loss, the predicted classes, and the largest entry of the gradient."""
        from scipy.special import logsumexp

        kernel, penalty, n = np.float64(kernel), penalties_of(self.case.penalties)[place], len(self.train)
        outputs = self.x @ kernel + np.float64(bias)
        mine, member = outputs[self.train], np.eye(self.case.classes)[self.y[self.train]]
        if self.case.head == "logistic":
            total = logsumexp(mine, axis=1, keepdims=True)
            loss, slope = (total[:, 0] - (mine * member).sum(1)).mean(), np.exp(mine - total) - member
        else:
            slack = np.maximum(1 - (2 * member - 1) * mine, 0)
            loss, slope = np.square(slack).sum(1).mean(), -2 * (2 * member - 1) * slack
        gradient = (self.x[self.train].T @ slope + penalty * kernel) / n
        return loss + penalty / 2 / n * np.square(kernel).sum(), outputs[self.test].argmax(1), np.abs(gradient).max()

    def compare(self, kernels: Any, biases: Any) -> dict[str, Any]:
        above, alike = [], []
        for place, pair in enumerate(zip(kernels, biases, strict=True)):
            loss, predicted, _ = self.look(place, *pair)
            above.append(float((loss - self.least[place][0]) / self.least[place][0]))
            alike.append(float((predicted == self.least[place][1]).mean()))
        return {"above": above, "alike": alike, "same": bool(max(above) <= ABOVE and min(alike) >= ALIKE)}

    def best(self) -> int:
        """The penalty at which the minimum predicts best."""
        return int(np.argmax([(predicted == self.y[self.test]).mean() for _, predicted, _ in self.least]))


def tell_optimum(case: argparse.Namespace, x: np.ndarray, y: np.ndarray, left: dict[str, Any]) -> None:
    checks = Checks(case, x, y)
    with np.load(case.work / "jaxdl.npz") as held:
        ours = checks.compare(held["kernel"], held["bias"])
    said = np.load(case.work / "jaxdl.npy").argmax(-1)  # of the very program that was timed
    ours["alike"] = [float((a == least[1]).mean()) for a, least in zip(said, checks.least, strict=True)]
    ours["same"] = max(ours["above"]) <= ABOVE and min(ours["alike"]) >= ALIKE
    best = checks.best()
    print(f"           minimum: gradients ≤ {max(least[2] for least in checks.least):.0e}; above it, by penalty:")
    for name, found in {"jaxdl": ours, **{f"scikit-learn {t:.0e}": found for t, found in left.items()}}.items():
        print(
            f"           {name:18} {' '.join(f'{share:.0e}' for share in found['above'])}; predicted as there: "
            f"best penalty {found['alike'][best]:.3f}, worst {min(found['alike']):.3f}: "
            f"{'the same optimum' if found['same'] else 'NOT the same optimum'}",
            flush=True,
        )


def run_side(case: argparse.Namespace) -> None:
    """One side of a case, in a process of its own."""
    x, y = make_features(case.n, case.d, case.classes)
    print(json.dumps({"jaxdl": run_jaxdl, "sklearn": run_sklearn, "tolerance": find_tolerance}[case.side](case, x, y)))


def measure(case: argparse.Namespace, side: str, tolerance: float) -> dict[str, Any]:
    words = [f"--{name}={getattr(case, name)}" for name in ("n", "d", "work")] + [f"--tolerance={tolerance}"]
    words += ["--classes", str(case.classes), "--folds", str(case.folds), "--penalties", str(case.penalties)]
    run = subprocess.run(
        [sys.executable, __file__, "--side", side, "--head", case.head, *words], capture_output=True, text=True
    )
    if run.returncode:
        raise SystemExit(run.stderr)
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--head", nargs="+", default=["logistic", "svm", "ridge", "ridge-loo"])
    parser.add_argument("--large", action="store_true", help="10,000 × 2,048 features instead of 2,000 × 512")
    parser.add_argument("--folds", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--penalties", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of jaxdl: gradient beside the mean residual")
    parser.add_argument("--quick", action="store_true", help="scikit-learn at its default tolerance alone")
    parser.add_argument("--n", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--d", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.n = options.n or (10_000 if options.large else 2_000)
    options.d = options.d or (2_048 if options.large else 512)
    if options.side:
        for name in ("head", "folds", "penalties", "classes"):
            setattr(options, name, getattr(options, name)[0])
        run_side(options)
        return
    print(f"{options.n} × {options.d} features; seconds, and MiB at the most")
    print("head       classes folds penalties |  jaxdl (first start)    MiB | scikit-learn    MiB |  ratio (first)")
    for head in options.head:
        for classes in options.classes:
            for folds in options.folds if head != "ridge-loo" else [0]:
                for penalties in options.penalties:
                    case = {**vars(options), "head": head, "classes": classes, "folds": folds, "penalties": penalties}
                    tell(argparse.Namespace(**case))


def tell(case: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        case.work = Path(folder)
        ours, theirs = measure(case, "jaxdl", case.tolerance), measure(case, "sklearn", THEIR_TOLERANCES[0])
        row(case, ours, theirs, "")
        x, y = make_features(case.n, case.d, case.classes)
        if case.head not in ITERATED:
            alike = [np.load(case.work / f"{side}.npy").argmax(-1) for side in ("jaxdl", "sklearn")]
            print(f"           predicted alike ≥ {(alike[0] == alike[1]).mean(-1).min():.3f}", flush=True)
        elif not case.quick:
            left = {float(t): found for t, found in measure(case, "tolerance", 0)["left"].items()}
            if len(left) > 1:
                last = min(left)
                row(case, ours, measure(case, "sklearn", last), f" at {last:.0e}")
            tell_optimum(case, x, y, left)
        else:
            tell_optimum(case, x, y, {})


def row(case: argparse.Namespace, ours: dict[str, Any], theirs: dict[str, Any], label: str) -> None:
    first, again = ours["seconds"]
    seconds = theirs["seconds"][0]
    print(
        f"{case.head:10} {case.classes:7} {case.folds or 'loo':>5} {case.penalties:9} | {again:6.2f} ({first:11.2f}) "
        f"{ours['mebibytes']:6.0f} | {seconds:12.2f} {theirs['mebibytes']:6.0f} | {seconds / again:6.1f} "
        f"({seconds / first:5.1f}){label}",
        flush=True,
    )


if __name__ == "__main__":
    main()
