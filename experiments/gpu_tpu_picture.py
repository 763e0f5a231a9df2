"""The picture of gpu_tpu.py: a roofline, and what part of the peak a batch reaches."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gpu_tpu_kernels import Point, Roof
from gpu_tpu_kernels import dense as dense_layer
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = ("black", "tab:blue", "tab:green", "tab:orange", "tab:red", "tab:purple", "tab:brown", "tab:olive")
MARKS = {"product": "s", "dense": "o", "convolution": "^", "attention": "D", "a*x+y": "v"}
APART = 0.045  # of the height of the axes: labels of roofs are moved until they are so far from each other


def dtype_of(roof: Roof) -> str:
    """That a device is shown with: bfloat16 where it is faster."""
    return max(roof.peak, key=lambda dtype: (roof.peak[dtype], dtype == "bfloat16"))


def draw(roofs: Sequence[Roof], points: Sequence[Point], out: Path) -> Figure:
    """Both panels, to a file."""
    figure = Figure(figsize=(12, 5.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    colours = {roof.name: COLOURS[place % len(COLOURS)] for place, roof in enumerate(roofs)}
    shown = [one for one in points if one.dtype == dtype_of(one.roof)]
    _roofline(left, roofs, shown, colours)
    _batches(right, shown, colours)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    return figure


def _roofline(axes: Axes, roofs: Sequence[Roof], points: Sequence[Point], colours: dict[str, str]) -> None:
    intensity = np.geomspace(0.05, 1e4, 400)
    for roof in roofs:
        peak = roof.peak[dtype_of(roof)]
        axes.loglog(intensity, np.minimum(peak, intensity * roof.bandwidth), color=colours[roof.name], linewidth=1.2)
    for one in points:
        colour = colours[one.roof.name]
        inside = colour if one.measured else "white"
        where = one.kernel.intensity(one.dtype), one.rate
        axes.plot(*where, MARKS[one.kernel.kind], color=colour, markerfacecolor=inside, markersize=5)
    axes.set_xlim(0.05, 1e4)
    axes.set_ylim(top=4 * axes.get_ylim()[1])
    _name_roofs(axes, roofs, colours)
    for kind in dict.fromkeys(one.kernel.kind for one in points):
        axes.plot([], [], MARKS[kind], color="0.35", label=kind)
    axes.plot([], [], "o", color="0.35", markerfacecolor="white", label="hollow: estimated")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=6, frameon=False, fontsize=9, columnspacing=1)
    axes.set_xlabel("arithmetic intensity (FLOP/byte)")
    axes.set_ylabel("FLOP/s of one device")
    axes.set_title("Roofline: memory limits on the slope, the peak on the flat part", fontsize=10)
    axes.grid(alpha=0.25)


def _name_roofs(axes: Axes, roofs: Sequence[Roof], colours: dict[str, str]) -> None:
    """To the right of the axes, at the height of the peaks, or a little above or below."""
    low, high = np.log10(axes.get_ylim())
    names = sorted(roofs, key=lambda roof: roof.peak[dtype_of(roof)])
    heights = [(np.log10(roof.peak[dtype_of(roof)]) - low) / (high - low) for roof in names]
    for place in range(1, len(heights)):
        heights[place] = max(heights[place], heights[place - 1] + APART)
    for place in reversed(range(len(heights))):  # down again, where they end above the axes
        heights[place] = min([heights[place], 1.0, *(height - APART for height in heights[place + 1 : place + 2])])
    for roof, height in zip(names, heights, strict=True):
        label = f"{roof.name}, {dtype_of(roof)}"
        axes.text(1.01, height, label, color=colours[roof.name], transform=axes.transAxes, va="center", fontsize=9)


def _batches(axes: Axes, points: Sequence[Point], colours: dict[str, str]) -> None:
    layers = [one for one in points if one.kernel.kind == "dense"]
    for roof in {one.roof.name: one.roof for one in layers}.values():
        mine = sorted((one for one in layers if one.roof.name == roof.name), key=lambda one: one.kernel.size)
        sizes, peak = [one.kernel.size for one in mine], roof.peak[dtype_of(roof)]
        style = dict(color=colours[roof.name], markerfacecolor=None if mine[0].measured else "white")
        axes.semilogx(sizes, [one.rate / peak for one in mine], "o", label=roof.name, **style)
        batches = np.unique(np.geomspace(min(sizes), max(sizes), 100).astype(int))
        limits = [roof.at(dense_layer(int(batch)), dtype_of(roof)) / peak for batch in batches]
        axes.semilogx(batches, limits, color=colours[roof.name], linestyle=":", linewidth=1)
    axes.plot([], [], color="0.35", linestyle=":", label="the roof")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("batch: examples through a dense layer of 4096 × 4096")
    axes.set_ylabel("share of the peak")
    axes.set_title("What a batch is worth", fontsize=10)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False, fontsize=9)
    axes.grid(alpha=0.25)
