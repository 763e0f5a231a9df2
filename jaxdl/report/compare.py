"""A picture of results compared on the same folds."""

from pathlib import Path

from jaxdl.validation.statistics.compare import Comparison


def draw_comparison(found: Comparison, path: str | Path) -> None:
    """Writes a PNG: a line for each result with its folds, their mean, and the letters of those that do not differ."""
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
    axes.set_yticks(range(len(names)), [f"{name} (too good)" if name in found.cautions else name for name in names])
    axes.invert_yaxis()
    axes.set_xlabel(found.metric)
    axes.set_title(f"Results that share a letter do not differ at {found.alpha:g} ({found.test}, Holm)", fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    axes.margins(y=0.15)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path)
