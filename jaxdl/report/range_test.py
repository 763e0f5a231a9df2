"""The picture of a learning-rate range test."""

from pathlib import Path

from jaxdl.report.markup import check_picture
from jaxdl.training.range_test import RangeTest


def write_range_test(path: str | Path, found: RangeTest, title: str = "") -> Path:
    """Loss against learning rate, with the suggestion; to a new file ``.png``, ``.svg`` or ``.pdf``.

    Raises:
      InputError: if the file is there already or has another ending.
    """
    from matplotlib.figure import Figure

    path = check_picture(path)
    figure = Figure((7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(found.rates, found.losses, color="0.6", linewidth=0.8, label="each batch")
    axes.plot(found.rates, found.smoothed, color="#0072b2", linewidth=2, label="smoothed")
    for rate, colour, dash, name in (
        (found.suggestion, "#d55e00", "-", "suggestion"),
        (found.steepest, "#d55e00", ":", "steepest"),
    ):
        axes.axvline(rate, color=colour, linestyle=dash, label=f"{name}: {rate:.2g}")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.1 * max(found.smoothed[0], found.losses[: len(found.losses) // 2 + 1].max()))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.set_title(title, loc="left", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
