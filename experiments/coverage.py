"""How often 95 % intervals of a cross-validated score hold the truth, and how wide they are.

    python experiments/coverage.py [--repetitions 1000] [--nested-repeats 3] [--picture docs/coverage.png]

Simulated problems of `simulation.py`, ridge on each, the truth without noise; the score is the accuracy, of numbers R²,
as `cross_validate` reports it. The constants of the default were chosen on problems like the first twelve, with another
seed, and are confirmed on the others. The interval of a cross-validation is
about the models that it trained (on n (K-1)/K examples): that is the truth here, the mean true error of the K models.
The last columns hold the same intervals against the model that is trained on all n examples, at which the nested
cross-validation of Bates, Hastie and Tibshirani aims: it is better than the folds' models, much so where features are
many, and an interval that is not centred on it misses it for that reason.

Of a learning curve's smaller sizes, where folds train on a part of their training part, the intervals are made as at
full size: what they correct for is training examples that folds share, and smaller parts share fewer.
"""

import argparse
import time

import numpy as np
from simulation import Problem, simulate

from jaxdl.validation.statistics.intervals import (
    corrected_t,
    drawn_weights,
    naive,
    out_of_fold,
    parts_of_r2,
    percentiles,
    wider,
)
from jaxdl.validation.statistics.nested import nested

PROBLEMS = {
    "classes, n 50, p 20, K 5": Problem(50, 20, 5),
    "classes, n 100, p 20, K 5": Problem(100, 20, 5),
    "classes, n 100, p 20, K 10": Problem(100, 20, 10),
    "classes, n 100, p 60, K 5": Problem(100, 60, 5),
    "classes, n 400, p 20, K 5": Problem(400, 20, 5),
    "noisy labels, n 100, p 20, K 5": Problem(100, 20, 5, flipped=0.2),
    "rare class, n 400, p 20, K 5": Problem(400, 20, 5, offset=-6.0),
    "groups of 10, n 400, p 20, K 5": Problem(400, 20, 5, groups=40),
    "numbers, n 100, p 20, K 5": Problem(100, 20, 5, classes=False),
    "numbers, n 100, p 20, K 10": Problem(100, 20, 10, classes=False),
    "numbers, n 400, p 60, K 10": Problem(400, 60, 10, classes=False),
    "heavy tails, n 400, p 20, K 5": Problem(400, 20, 5, classes=False, tails=5.0),
    "confirm: classes, n 70, p 30, K 7": Problem(70, 30, 7, signal=1.5),
    "confirm: classes, n 200, p 40, K 3": Problem(200, 40, 3, decay=1.0, penalty=10.0),
    "confirm: classes, n 200, p 10, K 20": Problem(200, 10, 20, signal=6.0, offset=1.0),
    "confirm: numbers, n 80, p 15, K 4": Problem(80, 15, 4, classes=False, signal=1.0),
    "confirm: numbers, n 200, p 40, K 10": Problem(200, 40, 10, classes=False, decay=1.0, penalty=10.0),
    "confirm: groups of 8, heavy tails": Problem(240, 10, 5, classes=False, tails=5.0, groups=30, group_effect=0.7),
}
SIZES = {
    "classes, 10 of n 100, p 20, K 5": Problem(100, 20, 5, size=10),
    "classes, 40 of n 100, p 20, K 5": Problem(100, 20, 5, size=40),
    "classes, 20 of n 400, p 20, K 5": Problem(400, 20, 5, size=20),
    "classes, 40 of n 400, p 20, K 10": Problem(400, 20, 10, size=40),
    "numbers, 30 of n 100, p 20, K 5": Problem(100, 20, 5, classes=False, size=30),
    "numbers, 80 of n 400, p 20, K 5": Problem(400, 20, 5, classes=False, size=80),
}
METHODS = ("naive", "t over folds", "bootstrap", "nested", "corrected-t", "wider", "out-of-fold")
DEFAULT = "out-of-fold"
WANTED = (0.93, 0.985)


def intervals(problem: Problem, found: dict[str, np.ndarray], place: int, weights: np.ndarray) -> dict[str, tuple]:
    """Of one simulated data set, by method."""
    from scipy.stats import t

    fold, loss, k = found["fold"][place], found["loss"][place].astype(np.float64), problem.k
    y = found["y"][place].astype(np.float64)
    sizes = np.bincount(fold, minlength=k)
    scores = 1 - np.bincount(fold, loss, minlength=k) / sizes
    values, scale, drawn = 1 - loss, 1.0, 1 - weights @ loss / weights.sum(1)
    if not problem.classes:
        values, scale = parts_of_r2(y, np.sqrt(loss)), y.var()
        scores = np.array([1 - loss[fold == one].mean() / y[fold == one].var() for one in range(k)])
        total = weights.sum(1)
        variance = weights @ np.square(y) / total - np.square(weights @ y / total)
        drawn = 1 - (1 - drawn) / variance
    share = float(np.mean(sizes / (problem.n - sizes)))
    half = t.ppf(0.975, k - 1) * scores.std(ddof=1) / np.sqrt(k)
    tested = problem.n / float(np.mean(problem.n - sizes))
    made = {
        "naive": naive(scores),
        "t over folds": (scores.mean() - half, scores.mean() + half),
        "bootstrap": percentiles(drawn, len(np.unique(found["group"][place]))),
        "corrected-t": corrected_t(scores, share),
        "wider": wider(scores, share, drawn.std(ddof=1)),
        "out-of-fold": out_of_fold(values, found["group"][place], tested, skewed=not problem.classes),
    }
    if "inner" in found:
        centre, half = nested(
            found["outer"][place], found["inner"][place], found["outer_fold"][place], found["outer"][place].mean()
        )
        made["nested"] = 1 - (centre + half) / scale, 1 - (centre - half) / scale
    return made


def measure(problem: Problem, repetitions: int, repeats: int) -> dict[str, tuple[float, float, float]]:
    """Coverage of the folds' models, mean width, and coverage of the model trained on all examples, by method."""
    found = simulate(problem, repetitions, repeats)
    weights = drawn_weights(found["group"][0], 1000, seed=0)  # groups are the same rows in every repetition
    made = [intervals(problem, found, place, weights) for place in range(repetitions)]
    scale = 1.0 if problem.classes else problem.variance
    truths = {name: 1 - found[name] / scale for name in ("truth_of_folds", "truth")}
    rows = {}
    for method in made[0]:
        low, high = np.array([one[method] for one in made]).T
        hits = [np.mean((low <= truth) & (truth <= high)) for truth in truths.values()]
        rows[method] = float(hits[0]), float((high - low).mean()), float(hits[1])
    return rows


def draw(rows: dict[str, dict[str, tuple[float, float, float]]], path: str) -> None:
    """Coverage and width of all methods, one line a problem."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    marks = dict(zip(METHODS, "xs^vdPo", strict=True))
    for method in METHODS:
        style = dict(marker=marks[method], linestyle="none", label=method, markersize=7 if method == DEFAULT else 5)
        style["color"] = {"naive": "tab:red", DEFAULT: "tab:blue"}.get(method, "0.55")
        held = [(place, row[method], row["naive"]) for place, row in enumerate(rows.values()) if method in row]
        left.plot([one[0] for _, one, _ in held], [place for place, *_ in held], **style)
        right.plot([one[1] / plain[1] for _, one, plain in held], [place for place, *_ in held], **style)
    left.axvspan(*WANTED, color="tab:blue", alpha=0.12)
    left.set_xlabel("share of intervals that hold the truth (claimed: 0.95)")
    right.set_xlabel("width ÷ that of the naive interval")
    left.set_yticks(range(len(rows)), rows)
    left.invert_yaxis()
    for axes in (left, right):
        axes.grid(alpha=0.25)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(METHODS), frameon=False)
    figure.savefig(path)


def tell(name: str, row: dict[str, tuple[float, float, float]]) -> None:
    cells = [f"{row[m][0]:.3f} ({row[m][1]:.3g}; {row[m][2]:.2f})" if m in row else "–" for m in METHODS]
    print(f"{name:37}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--nested-repeats", type=int, default=3, help="0 leaves nested cross-validation out")
    parser.add_argument("--picture", help="file for a picture (.png)")
    options = parser.parse_args()
    begin, rows = time.perf_counter(), {}
    print(
        f"coverage (mean width; coverage of the model of all n) of 95 % intervals, {options.repetitions} data sets each"
    )
    print(f"{'':37}" + "".join(f"{method:>20}" for method in METHODS))
    for name, problem in PROBLEMS.items():
        rows[name] = measure(problem, options.repetitions, options.nested_repeats)
        tell(name, rows[name])
    passing = {m for m in METHODS if all(m in row and WANTED[0] <= row[m][0] <= WANTED[1] for row in rows.values())}
    print(f"inside {WANTED[0]} to {WANTED[1]} on all: {', '.join(sorted(passing)) or 'none'}")
    missed = [name for name, row in rows.items() if not WANTED[0] <= row[DEFAULT][0] <= WANTED[1]]
    print(f"the default, {DEFAULT}, is outside {WANTED[0]} to {WANTED[1]} on: {', '.join(missed) or 'none'}")
    print("smaller sizes of learning curves")
    for name, problem in SIZES.items():
        tell(name, measure(problem, options.repetitions, 0))
    print(f"{time.perf_counter() - begin:.0f} s")
    if options.picture:
        draw(rows, options.picture)


if __name__ == "__main__":
    main()
