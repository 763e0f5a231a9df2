"""How often 95 % intervals of a cross-validated score hold the truth, and how wide they are.

    python experiments/coverage.py [--repetitions 1000] [--nested-repeats 3] [--picture docs/coverage.png]
    python experiments/coverage.py --kinds [--repetitions 300] [--quick]

Simulated problems of `simulation.py`, ridge on each, the truth without noise; the score is the accuracy, of numbers R²,
as `cross_validate` reports it. The constants of the default were chosen on problems like the first twelve, with another
seed, and are confirmed on the others. The interval of a cross-validation is
about the models that it trained (on n (K-1)/K examples): that is the truth here, the mean true error of the K models.
The last columns hold the same intervals against the model that is trained on all n examples, at which the nested
cross-validation of Bates, Hastie and Tibshirani aims: it is better than the folds' models, much so where features are
many, and an interval that is not centred on it misses it for that reason.

Of a learning curve's smaller sizes, where folds train on a part of their training part, the intervals are made as at
full size: what they correct for is training examples that folds share, and smaller parts share fewer.

With `--kinds` the default is measured for metrics of every kind and for unstable learners, on `simulation_kinds.py`.
"""

import argparse
import time
from typing import TYPE_CHECKING

import numpy as np
from simulation import Problem, simulate
from simulation_kinds import SETTINGS, Setting, cross_validated

from jaxdl.tasks.classification import Classification
from jaxdl.tasks.regression import Regression
from jaxdl.validation.statistics.intervals import corrected_t, naive, out_of_fold, percentiles, wider
from jaxdl.validation.statistics.nested import nested
from jaxdl.validation.statistics.sample import Sample, drawn_counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


ACCURACY, R2 = Classification.METRICS["accuracy"], Regression.METRICS["r2"]


def sampled(problem: Problem, found: dict[str, np.ndarray], place: int) -> Sample:
    """The held-out rows of one simulated data set."""
    fold, loss = found["fold"][place], found["loss"][place].astype(np.float64)
    y = found["y"][place].astype(np.float64)
    record = {"right": 1 - loss} if problem.classes else {"target": y, "predicted": y + np.sqrt(loss)}
    sizes = np.bincount(fold, minlength=problem.k)
    return Sample(
        metric=ACCURACY if problem.classes else R2,
        record=record,
        fold=fold,
        unit=found["group"][place],
        index=np.arange(problem.n),
        train=problem.n - sizes,
        test=sizes,
    )


def intervals(problem: Problem, found: dict[str, np.ndarray], place: int, counts: np.ndarray) -> dict[str, tuple]:
    """Of one simulated data set, by method."""
    from scipy.stats import t

    sample, k = sampled(problem, found, place), problem.k
    scores, sizes, drawn = sample.fold_scores, sample.test, sample.scores_of(counts)
    scale = 1.0 if problem.classes else found["y"][place].astype(np.float64).var()
    share = float(np.mean(sizes / (problem.n - sizes)))
    half = t.ppf(0.975, k - 1) * scores.std(ddof=1) / np.sqrt(k)
    tested = problem.n / float(np.mean(problem.n - sizes))
    made = {
        "naive": naive(scores),
        "t over folds": (scores.mean() - half, scores.mean() + half),
        "bootstrap": percentiles(drawn, sample.units),
        "corrected-t": corrected_t(scores, share),
        "wider": wider(scores, share, drawn.std(ddof=1)),
        "out-of-fold": out_of_fold(sample.metric, sample.pooled_score, sample.variance, sample.units, tested),
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
    units = problem.groups or problem.n
    counts = np.concatenate(list(drawn_counts(units, 1000, 0, width=units)))  # the same draws in every repetition
    made = [intervals(problem, found, place, counts) for place in range(repetitions)]
    scale = 1.0 if problem.classes else problem.variance
    truths = {name: 1 - found[name] / scale for name in ("truth_of_folds", "truth")}
    rows = {}
    for method in made[0]:
        low, high = np.array([one[method] for one in made]).T
        hits = [np.mean((low <= truth) & (truth <= high)) for truth in truths.values()]
        rows[method] = float(hits[0]), float((high - low).mean()), float(hits[1])
    return rows


def draw(rows: dict[str, dict[str, tuple[float, float, float]]], path: str) -> "Figure":
    """Coverage and width of all methods, one line a problem; the picture is written to a file."""
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
    left.set_xlabel("share of intervals that hold the truth\n(claimed: 0.95)")
    right.set_xlabel("width ÷ that of the naive interval")
    left.set_yticks(range(len(rows)), rows)
    left.invert_yaxis()
    for axes in (left, right):
        axes.grid(alpha=0.25)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(METHODS), frameon=False)
    figure.savefig(path)
    return figure


def tell(name: str, row: dict[str, tuple[float, float, float]]) -> None:
    cells = [f"{row[m][0]:.3f} ({row[m][1]:.3g}; {row[m][2]:.2f})" if m in row else "–" for m in METHODS]
    print(f"{name:37}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


def measure_kind(setting: Setting, repetitions: int, seed: int = 0) -> tuple[float, float, float, float]:
    """Coverage and mean width of the default, and of the corrected t, for a metric of any kind."""
    rng, hits, widths = np.random.default_rng(seed), np.zeros((repetitions, 2)), np.zeros((repetitions, 2))
    for place in range(repetitions):
        sample, truth = cross_validated(setting, rng)
        scores, share = sample.fold_scores, float(np.mean(sample.test / sample.train))
        tested = len(np.unique(sample.index)) / float(sample.train.mean())
        made = [
            out_of_fold(sample.metric, sample.pooled_score, sample.variance, sample.units, tested),
            corrected_t(scores[np.isfinite(scores)], share),
        ]
        for which, ends in enumerate(made):
            low, high = np.clip(ends, *sample.metric.bounds)
            hits[place, which], widths[place, which] = low <= truth <= high, high - low
    return (*hits.mean(0), *widths.mean(0))


def tell_kinds(repetitions: int) -> None:
    """A table of `measure_kind` for all settings."""
    print(f"coverage (mean width) of 95 % intervals for the score of the folds' models, {repetitions} data sets each")
    print(f"{'':37}{DEFAULT:>20}{'corrected-t':>20}")
    missed = []
    for name, setting in SETTINGS.items():
        ours, theirs, wide, other = measure_kind(setting, repetitions)
        print(f"{name:37}{f'{ours:.3f} ({wide:.3g})':>20}{f'{theirs:.3f} ({other:.3g})':>20}", flush=True)
        missed += [] if WANTED[0] <= ours <= WANTED[1] else [name]
    print(f"the default, {DEFAULT}, is outside {WANTED[0]} to {WANTED[1]} on: {', '.join(missed) or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--kinds", action="store_true", help="metrics of every kind and unstable learners instead")
    parser.add_argument("--quick", action="store_true", help="30 repetitions, without nested cross-validation")
    parser.add_argument("--nested-repeats", type=int, default=3, help="0 leaves nested cross-validation out")
    parser.add_argument("--picture", help="file for a picture (.png)")
    options = parser.parse_args()
    if options.quick:
        options.repetitions, options.nested_repeats = 30, 0
    if options.kinds:
        tell_kinds(options.repetitions)
        return
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
