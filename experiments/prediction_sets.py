"""How often prediction sets and intervals hold the truth of real examples that were held out.

    python experiments/prediction_sets.py [--repeats 20] [--coverage 0.9]

Data and models are scikit-learn's: five folds of 200 random examples, tried on all others. CV+ is what `jaxdl predict
--coverage` does. Beside it stand what one would do without: the smallest set that has 90 % of the mean probability of
the folds' models, and two standard deviations (of the held-out errors) around their mean.
"""

import argparse
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxdl.tasks.conformal import cumulative_probability
from jaxdl.tasks.metric import percent
from jaxdl.validation.conformal.comparison import choose, interval_ends, p_values, p_values_by_class

FOLDS, TRAIN = 5, 200


def fold_models(x: np.ndarray, y: np.ndarray, model: Callable, seed: int) -> tuple[np.ndarray, ...]:
    """What models of the folds of some examples say: of their test parts, and of all other examples; and the folds.

    Returns:
      ``held[train, …]``, ``said[folds, new, …]``, ``fold[train]``, targets of the training and of the new examples.
    """
    order = np.random.default_rng(seed).permutation(len(x))
    train, new = order[: min(TRAIN, len(x) // 2)], order[min(TRAIN, len(x) // 2) :]
    fold, held, said = np.empty(len(train), int), [None] * len(train), []
    for k, (kept, tested) in enumerate(KFold(FOLDS).split(train)):
        fitted = model().fit(x[train[kept]], y[train[kept]])
        say = getattr(fitted, "predict_proba", fitted.predict)
        fold[tested] = k
        for place, answer in zip(tested, say(x[train[tested]]), strict=True):
            held[place] = answer
        said.append(say(x[new]))
    return np.array(held), np.array(said), fold, y[train], y[new]


def sets(held: np.ndarray, said: np.ndarray, fold: np.ndarray, target: np.ndarray, coverage: float) -> dict:
    """By the name of a method the sets ``bool[new, classes]``."""
    unit, made = np.arange(len(fold)), {}
    for name, score in (("probability", lambda p: 1 - p), ("adaptive", cumulative_probability)):
        rows = np.array([score(p) for p in said]), score(held)[unit, target], fold, unit
        made[f"CV+, {name}"] = choose(p_values(*rows), coverage)
        made[f"CV+, {name}, by class"] = choose(p_values_by_class(*rows, target), coverage)
    return {**made, "probability adds up": cumulative_probability(said.mean(0)) < coverage}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--coverage", type=float, default=0.9)
    options = parser.parse_args()
    table = Table(title=f"{percent(options.coverage, decimals=0)} asked, {options.repeats} random divisions")
    for head in ("data", "method", "holds the truth", "of the worst class", "mean size", "empty"):
        table.add_column(head, justify="left" if head in ("data", "method") else "right")
    classifier = lambda: make_pipeline(StandardScaler(), LogisticRegression(C=10, max_iter=300))  # noqa: E731
    for name, load in (("digits", load_digits), ("wine", load_wine), ("breast cancer", load_breast_cancer)):
        x, y = load(return_X_y=True)
        found: dict[str, list] = {}
        for seed in range(options.repeats):
            *said, truth = fold_models(x, y, classifier, seed)
            for method, holds in sets(*said, options.coverage).items():
                rows = np.stack([truth, holds[np.arange(len(truth)), truth], holds.sum(1)])
                found.setdefault(method, []).append(rows)
        for method, rows in found.items():
            label, held, size = np.concatenate(rows, 1)
            worst = min(held[label == c].mean() for c in np.unique(label))
            empty = percent((size == 0).mean())
            table.add_row(name, method, percent(held.mean()), percent(worst), f"{size.mean():.2f}", empty)
    x, y = load_diabetes(return_X_y=True)
    found = {"CV+": [], "mean ± 2 standard deviations": []}
    for seed in range(options.repeats):
        held, said, fold, target, truth = fold_models(x, y, LinearRegression, seed)
        ends = interval_ends(said, np.abs(target - held), fold, np.arange(len(fold)), options.coverage)
        spread = 2 * np.std(target - held)
        for method, (low, high) in zip(found, (ends, (said.mean(0) - spread, said.mean(0) + spread)), strict=True):
            found[method].append(np.stack([(low <= truth) & (truth <= high), high - low]))
    for method, rows in found.items():
        held, width = np.concatenate(rows, 1)
        table.add_row("diabetes", method, percent(held.mean()), "", f"{width.mean():.0f}", "")
    Console().print(table)


if __name__ == "__main__":
    main()
