"""How often 95 % intervals of a cross-validated error hold the truth, and how wide they are.

    python experiments/coverage.py [--repetitions 1000] [--nested-repeats 3] [--picture docs/coverage.png]

Simulated problems of `simulation.py`, ridge on each, the truth without noise. The interval of a cross-validation is
about the models that it trained (on n (K-1)/K examples): that is the truth here, the mean true error of the K models.
The last columns hold the same intervals against the model that is trained on all n examples, at which the nested
cross-validation of Bates, Hastie and Tibshirani aims: it is better than the folds' models, much so where features are
many, and an interval that is not centred on it misses it for that reason.
"""

import argparse
import time

import numpy as np
from simulation import Problem, simulate

from jaxdl.validation.statistics.intervals import corrected_t, drawn_weights, naive, nested, wider

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
}
METHODS = ("naive", "t over folds", "bootstrap", "nested", "corrected-t", "wider")
DEFAULT = "wider"
WANTED = (0.93, 0.985)


def intervals(problem: Problem, found: dict[str, np.ndarray], place: int, weights: np.ndarray) -> dict[str, tuple]:
    """Of one simulated data set, by method."""
    from scipy.stats import t

    fold, loss, k = found["fold"][place], found["loss"][place], problem.k
    sizes = np.bincount(fold, minlength=k)
    scores = np.bincount(fold, loss, minlength=k) / sizes
    share = float(np.mean(sizes / (problem.n - sizes)))
    half = t.ppf(0.975, k - 1) * scores.std(ddof=1) / np.sqrt(k)
    drawn = weights @ loss / weights.sum(1)
    made = {
        "naive": naive(scores),
        "t over folds": (scores.mean() - half, scores.mean() + half),
        "bootstrap": tuple(np.quantile(drawn, [0.025, 0.975])),
        "corrected-t": corrected_t(scores, share),
        "wider": wider(scores, share, drawn.std(ddof=1)),
    }
    if "inner" in found:
        made["nested"] = nested(found["outer"][place], found["inner"][place], found["outer_fold"][place], loss.mean())
    return made


def measure(problem: Problem, repetitions: int, repeats: int) -> dict[str, tuple[float, float, float]]:
    """Coverage of the folds' models, mean width, and coverage of the model trained on all examples, by method."""
    found = simulate(problem, repetitions, repeats)
    weights = drawn_weights(found["group"][0], 1000, seed=0)  # groups are the same rows in every repetition
    made = [intervals(problem, found, place, weights) for place in range(repetitions)]
    rows = {}
    for method in made[0]:
        low, high = np.array([one[method] for one in made]).T
        hits = [np.mean((low <= found[truth]) & (found[truth] <= high)) for truth in ("truth_of_folds", "truth")]
        rows[method] = float(hits[0]), float((high - low).mean()), float(hits[1])
    return rows


def draw(rows: dict[str, dict[str, tuple[float, float, float]]], path: str) -> None:
    """Coverage and width of all methods, one line a problem."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    marks = dict(zip(METHODS, "xs^vdo", strict=True))
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
    print(f"{'':32}" + "".join(f"{method:>20}" for method in METHODS))
    for name, problem in PROBLEMS.items():
        row = rows[name] = measure(problem, options.repetitions, options.nested_repeats)
        cells = [f"{row[m][0]:.3f} ({row[m][1]:.3g}; {row[m][2]:.2f})" if m in row else "–" for m in METHODS]
        print(f"{name:32}" + "".join(f"{cell:>20}" for cell in cells), flush=True)
    missed = [name for name, row in rows.items() if not WANTED[0] <= row[DEFAULT][0] <= WANTED[1]]
    print(f"the default, {DEFAULT}, is outside {WANTED[0]} to {WANTED[1]} on: {', '.join(missed) or 'none'}")
    print(f"{time.perf_counter() - begin:.0f} s")
    if options.picture:
        draw(rows, options.picture)


if __name__ == "__main__":
    main()
