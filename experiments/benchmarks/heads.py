"""Heads on features, all penalties and folds: seconds and memory of jaxdl beside scikit-learn.

    python experiments/benchmarks/heads.py [--large] [--folds 5 10] [--penalties 10 20] [--classes 10 100] [--head …]

Logistic regression: `fit_logistic` in every fold beside GridSearchCV(StandardScaler, LogisticRegression, lbfgs) with
two processes, on the same folds, penalties and tolerance (1e-4 by default, as in scikit-learn; its limit of 100
iterations is lifted).
Ridge: all penalties in every fold beside RidgeClassifierCV with the same folds, and leave-one-out beside its default.
GridSearchCV does not refit. Each side runs in a process of its own, whose largest memory is told (for GridSearchCV that
of the largest of its three processes). jaxdl is timed twice: with compilation, as in a first start, and without.

That both came to the same optimum is measured in float64 from the coefficients, in the first fold: the penalised loss
of jaxdl's solution less that of scikit-learn's, smallest and largest over penalties (negative: jaxdl's is nearer to the
minimum); the largest gradients; and the share of held-out examples that both predict alike, smallest over penalties.
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

    from jaxdl.validation.probes.heads import Examples
    from jaxdl.validation.probes.left_out import leave_one_out
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
            outputs = leave_one_out("ridge", examples, grid).outputs
            scores = (outputs.argmax(-1) == y).mean(-1)
        else:
            fitted = fit_all(case.head, grid, examples, split)
            tested = [y[test] for test in split.test]
            scores = np.mean(
                [(f.outputs.argmax(-1) == t).mean(-1) for f, t in zip(fitted, tested, strict=True)], axis=0
            )
            outputs = fitted[0].outputs
        seconds.append(time.perf_counter() - begin)
    made = {"seconds": seconds, "scores": scores.tolist()}
    np.save(case.work / "jaxdl.npy", outputs)
    if case.head == "logistic":
        keep_optimum(case, x, y, pairs[0], grid)
    return made


def keep_optimum(case: argparse.Namespace, x: np.ndarray, y: np.ndarray, pair: tuple, grid: np.ndarray) -> None:
    """The coefficients of the first fold; not timed."""
    import jax.numpy as jnp

    from jaxdl.validation.probes.linear import fit_logistic
    from jaxdl.validation.probes.standard import standardise

    train, test = pair
    standard = standardise(jnp.asarray(x), jnp.asarray(train), jnp.ones(len(train)), jnp.asarray(test))
    path = fit_logistic(standard, y[train], case.classes, grid, tolerance=case.tolerance)
    np.savez(case.work / "jaxdl.npz", kernel=np.asarray(path.kernel), bias=np.asarray(path.bias))


def run_sklearn(case: argparse.Namespace, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    warnings.simplefilter("ignore")
    grid = penalties_of(case.penalties)
    begin = time.perf_counter()
    if case.head == "logistic":
        model = make_pipeline(StandardScaler(), LogisticRegression(tol=case.tolerance, max_iter=100_000))
        search = GridSearchCV(
            model, {"logisticregression__C": 1 / grid}, cv=splitter(case.folds), n_jobs=2, refit=False
        )
        search.fit(x, y)
        scores = search.cv_results_["mean_test_score"].tolist()
    else:
        cv = None if case.head == "ridge-loo" else splitter(case.folds)
        inputs = StandardScaler().fit_transform(x.astype(np.float64))  # for all folds at once: it has no way of its own
        model = RidgeClassifierCV(alphas=grid, cv=cv, store_cv_results=cv is None, scoring="accuracy").fit(inputs, y)
        scores = [float(model.best_score_)]
    seconds = [time.perf_counter() - begin]
    if case.head == "logistic":
        train, _ = next(iter(splitter(case.folds).split(x, y)))
        inputs = StandardScaler().fit_transform(x[train])
        models = [LogisticRegression(C=1 / p, tol=case.tolerance, max_iter=100_000).fit(inputs, y[train]) for p in grid]
        np.savez(case.work / "sklearn.npz", kernel=[m.coef_.T for m in models], bias=[m.intercept_ for m in models])
    elif case.head == "ridge-loo":
        np.save(case.work / "sklearn.npy", np.moveaxis(model.cv_results_, -1, 0))
    return {"seconds": seconds, "scores": scores}


def compare_optimum(case: argparse.Namespace, x: np.ndarray, y: np.ndarray) -> str:
    from scipy.special import logsumexp

    train, test = next(iter(splitter(case.folds).split(x, y)))
    inputs = x.astype(np.float64)
    inputs = (inputs - inputs[train].mean(0)) / inputs[train].std(0)
    sides = [np.load(case.work / f"{side}.npz") for side in ("jaxdl", "sklearn")]
    above, alike, left = [], [], [[], []]
    for place, penalty in enumerate(penalties_of(case.penalties)):
        losses, predicted = [], []
        for side, held in enumerate(sides):
            kernel, bias = np.float64(held["kernel"][place]), np.float64(held["bias"][place])
            logits = inputs[train] @ kernel + bias
            total = logsumexp(logits, axis=1)
            mean = (total - logits[np.arange(len(train)), y[train]]).mean()
            losses.append(mean + penalty / 2 / len(train) * np.square(kernel).sum())
            residual = np.exp(logits - total[:, None])
            residual[np.arange(len(train)), y[train]] -= 1
            slope = (inputs[train].T @ residual + penalty * kernel) / len(train)
            left[side].append(np.abs(slope).max())
            predicted.append((inputs[test] @ kernel + bias).argmax(-1))
        above.append(losses[0] - losses[1])
        alike.append((predicted[0] == predicted[1]).mean())
    return (
        f"loss − theirs {min(above):+.1e} … {max(above):+.1e}, gradients ≤ {max(left[0]):.1e} and {max(left[1]):.1e}, "
        f"predicted alike ≥ {min(alike):.3f}"
    )


def compare_left_out(case: argparse.Namespace, y: np.ndarray) -> str:
    ours, theirs = np.load(case.work / "jaxdl.npy"), np.load(case.work / "sklearn.npy")
    if theirs.shape != ours.shape:
        return f"not compared: {ours.shape} and {theirs.shape}"
    return f"predicted alike ≥ {(ours.argmax(-1) == theirs.argmax(-1)).mean(-1).min():.3f}"


def run_side(case: argparse.Namespace) -> None:
    """One side of a case, in a process of its own."""
    x, y = make_features(case.n, case.d, case.classes)
    made = {"jaxdl": run_jaxdl, "sklearn": run_sklearn}[case.side](case, x, y)
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({**made, "mebibytes": most / 1024}))


def measure(case: argparse.Namespace, side: str) -> dict[str, Any]:
    words = [f"--{name}={getattr(case, name)}" for name in ("n", "d", "work", "tolerance")]
    words += ["--classes", str(case.classes), "--folds", str(case.folds), "--penalties", str(case.penalties)]
    run = subprocess.run(
        [sys.executable, __file__, "--side", side, "--head", case.head, *words], capture_output=True, text=True
    )
    if run.returncode:
        raise SystemExit(run.stderr)
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--head", nargs="+", default=["logistic", "ridge", "ridge-loo"])
    parser.add_argument("--large", action="store_true", help="10,000 × 2,048 features instead of 2,000 × 512")
    parser.add_argument("--folds", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--penalties", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest entry of the gradient, for both sides")
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
                    tell(
                        argparse.Namespace(
                            head=head,
                            classes=classes,
                            folds=folds,
                            penalties=penalties,
                            n=options.n,
                            d=options.d,
                            work=None,
                            tolerance=options.tolerance,
                        )
                    )


def tell(case: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        case.work = Path(folder)
        ours, theirs = measure(case, "jaxdl"), measure(case, "sklearn")
        first, again = ours["seconds"]
        seconds = theirs["seconds"][0]
        x, y = make_features(case.n, case.d, case.classes)
        same = {"logistic": lambda: compare_optimum(case, x, y), "ridge-loo": lambda: compare_left_out(case, y)}
        told = same.get(case.head, lambda: f"best scores {max(ours['scores']):.4f}, {max(theirs['scores']):.4f}")()
    print(
        f"{case.head:10} {case.classes:7} {case.folds or 'loo':>5} {case.penalties:9} | {again:6.2f} ({first:11.2f}) "
        f"{ours['mebibytes']:6.0f} | {seconds:12.2f} {theirs['mebibytes']:6.0f} | {seconds / again:6.1f} "
        f"({seconds / first:5.1f})\n           {told}",
        flush=True,
    )


if __name__ == "__main__":
    main()
