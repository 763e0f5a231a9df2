"""A picture of results compared on the same folds."""

from collections.abc import Callable
from pathlib import Path

from jaxdl.tasks.metric import percent
from jaxdl.validation.statistics.compare import POWER, Comparison


def explained(found: Comparison, in_words: Callable[[float], str] = "{:.3g}".format) -> list[str]:
    """Sentences on what the letters, the intervals and the detectable differences of a comparison mean.

    Args:
      found: of `compare`.
      in_words: a difference as the table beside it shows differences.
    """
    whole = f", whole groups, of which there are {found.groups}" if found.groups else ""
    count = f"{len(found.pairs)} pair{'s' if len(found.pairs) > 1 else ''}"
    said = [
        f"Between runs that share a letter no difference was shown at {found.alpha:g} ({found.test}{whole}, Holm's "
        f"correction for {count})."
    ]
    if unshown := [pair for pair in found.pairs if not pair.shown]:
        known = [pair.detectable for pair in unshown if pair.detectable is not None]
        least = in_words(min(known)) if known else ""
        if known and max(known) > 1.01 * min(known):
            least += f" to {in_words(max(known))}"
        said.append(
            "That is no proof that they are equally good: their difference may be anything inside its interval."
            + (
                f" This data could have shown a difference of {least}: as large as that, the test finds it in "
                f"{percent(POWER, decimals=0)} of such experiments (column detectable)."
                if known
                else ""
            )
        )
    return said


def draw_comparison(found: Comparison, path: str | Path) -> None:
    """Writes a PNG: a line for each result with its folds, their mean, and letters; see `explained`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(found.scores)
    figure = Figure(figsize=(7, 1.2 + 0.45 * len(names)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, name in enumerate(names):
        folds = found.folds[name]
        axes.plot(
            folds,
            [place] * len(folds),
            "o",
            color="tab:blue",
            alpha=0.35,
            markersize=5,
            label="fold" if not place else None,
        )
        axes.plot(
            found.scores[name], place, "D", color="black", markersize=6, label="mean over folds" if not place else None
        )
        axes.annotate(
            found.letters[name], (1.01, place), xycoords=("axes fraction", "data"), va="center", family="monospace"
        )
    for number, (name, folds) in enumerate(found.baselines.items()):
        known = [fold for fold in folds if fold is not None]
        if known:
            mean = sum(known) / len(known)
            axes.axvline(mean, color="grey", linestyle=("--", ":")[number % 2], linewidth=1.2, label=name)
    axes.set_yticks(range(len(names)), [f"{name} (too good)" if name in found.cautions else name for name in names])
    axes.invert_yaxis()
    axes.set_xlabel(found.metric)
    axes.set_title(f"Shared letter: no difference shown at {found.alpha:g} ({found.test}, Holm)", fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    axes.margins(y=0.15)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path)
