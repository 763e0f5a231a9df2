"""Sections on the network itself: what its stages cost, how far they moved, idle units, gradients over training."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.source import Source, arrange_columns, subset
from jaxdl.errors import InputError
from jaxdl.parallel.devices import first_device
from jaxdl.report.activity import StageActivity, count_examples, stage_activity
from jaxdl.report.diagnosis import judge_dead, judge_gradients, norms_by_epoch
from jaxdl.report.diagrams import draw_gradients, stage_colours
from jaxdl.report.inspect import StageSummary, inspect, time_stages
from jaxdl.report.markup import Section, escaped, in_scroll, legend, make_table, note
from jaxdl.report.parameter_change import stage_parameter_change
from jaxdl.report.run import Run
from jaxdl.report.units import percent
from jaxdl.validation.result import Result
from jaxdl.weights.checkpoint import Checkpoint

SAMPLE = 64  # examples at most whose activations are looked at
SAMPLE_NUMBERS = 2**22  # of their inputs together, which bounds the time for large images


def show_stages(run: Run) -> Section:
    """What each stage costs and how far it moved."""
    _, network = run.network()
    batch = int(np.clip(SAMPLE_NUMBERS // 4 // input_size(network), 1, 16))
    seconds = time_stages(network.model, network.variables, network.card.preprocessing.spec(), batch_size=batch)
    moved = parameter_changes(run)
    unit, factor, words = ("ms", 1e3, "milliseconds") if sum(seconds.values()) >= 1e-3 else ("µs", 1e6, "microseconds")
    heads = ["stage", "output", "parameters", "MFLOPs", unit, *(["moved"] if moved else [])]
    lines = _stage_lines(inspect(network), {stage: factor * each for stage, each in seconds.items()}, moved)
    said = (
        "For one example: the shape that flows out of the stage, its parameters, the operations of its forward pass "
        f"in millions (a multiplication and an addition are two), and the {words} that pass took in batches of "
        f"{batch} when this page was written, on {first_device().device_kind}."
    )
    if apart := [row for row in network.model.stage_names if row not in seconds]:
        said += f" {', '.join(apart)}: parts of a module that runs as a whole, counted at the stage after them."
    if moved:
        several = f", the mean over {len(run.networks)} folds" if len(run.networks) > 1 else ""
        said += (
            " Moved: ‖θ − θ₀‖ / ‖θ₀‖ of the stage's parameters against the checkpoint that training started "
            f"from{several}. A fresh stage started from random weights of its own."
        )
    else:
        said += f" How far the stages moved is not shown. {run.missing.get('parent', '')}"
    return Section("Stages", in_scroll(make_table(heads, lines, "numbers", len(lines) - 1), "Stages") + note(said))


def _stage_lines(rows: Sequence[StageSummary], times: Mapping[str, float], moved: Mapping[str, str]) -> list[list[str]]:
    """Cells of the table of stages, the sums last."""
    lines = [
        [
            escaped(row.name),
            escaped(", ".join("×".join(map(str, each)) for each in row.output)),
            f"{row.parameters:,}",
            f"{row.flops / 1e6:,.3g}" if row.name in times else "–",
            f"{times[row.name]:.3g}" if row.name in times else "–",
            *([moved[row.name]] if moved else []),
        ]
        for row in rows
    ]
    total = [f"{sum(row.parameters for row in rows):,}", f"{sum(row.flops for row in rows) / 1e6:,.3g}"]
    return [*lines, ["all", "", *total, f"{sum(times.values()):.3g}", *([""] if moved else [])]]


def input_size(network: Checkpoint) -> int:
    """How many numbers an example has, as the network is fed with it."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(network.card.preprocessing.spec()))


def parameter_changes(run: Run) -> dict[str, str]:
    """By stage how far it moved, as text; empty where no parent is known."""
    if run.parent is None or not run.networks:
        return {}
    names = next(iter(run.networks.values())).model.stage_names
    distances = [stage_parameter_change(run.parent.variables, n.variables, names) for n in run.networks.values()]
    fresh = set(names) if run.parent.model.stage_names != names else {"head"} if fresh_head(run) else set()
    return {name: _parameter_change([each[name] for each in distances], name in fresh) for name in names}


def fresh_head(run: Run) -> bool:
    """Whether training started with a fresh head: every fold does, and fine-tuning for other classes or if asked."""
    if run.result:
        return True
    return not run.task.same_question(run.parent.card.task) or run.settings.get("head") == "fresh"


def _parameter_change(distances: Sequence[float | None], fresh: bool) -> str:
    if fresh:
        return "fresh"
    if any(distance is None for distance in distances):
        return "–"
    mean = float(np.mean(distances))
    return "frozen" if mean == 0 else f"{mean:.2g}"


def sample(run: Run) -> dict[int, Any]:
    """By fold, examples as its network is fed with them, to be looked at: held-out ones where they are known.

    Raises:
      InputError: if the examples or the networks are not there.
    """
    _, network = run.network()
    source = run.fresh or run.source
    if source is None:
        raise InputError(run.missing["source"])
    count = int(np.clip(SAMPLE_NUMBERS // input_size(network), 8, SAMPLE))
    chosen = {fold: np.arange(len(source)) for fold in run.networks}
    if run.result:
        held = run.result.out_of_fold
        parts = {fold: held.index[held.fold == fold] for fold in run.networks}
        smallest = min(map(len, parts.values()))
        if smallest >= 2:  # else each fold tests a single example
            chosen, count = parts, min(count, smallest)  # of one size, so that one program serves all folds
    return {fold: _fed(run, fold, spread(places, count)) for fold, places in chosen.items()}


def spread(places: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of `places`, evenly over all of them."""
    return places[np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int))]


def _fed(run: Run, fold: int, indices: np.ndarray) -> Any:
    preprocessing = run.networks[fold].card.preprocessing
    return preprocessing.network_input(preprocessing.load(subset(run.fresh or run.source, indices)))


def stage_activities(run: Run) -> tuple[list[list[StageActivity]], int]:
    """Of each network what flows out of its stages, and for how many examples.

    Raises:
      InputError: as `sample`.
    """
    samples = sample(run)
    found = [_activity(run.networks[fold], x) for fold, x in samples.items()]
    return found, count_examples(next(iter(samples.values())))


def dead_units(found: Sequence[Sequence[StageActivity]]) -> dict[str, float]:
    """Share of dead units by stage, mean over networks, but that of the head; see `stage_activities`."""
    shares = {stages[0].name: float(np.mean([one.dead for one in stages])) for stages in zip(*found, strict=True)}
    shares.pop("head", None)
    return shares


def dead_in_first_fold(result: Result, source: Source) -> dict[str, float] | None:
    """Share of dead units by stage of the first fold's network, on what it tested; None where it was not kept.

    Args:
      result: that holds its networks.
      source: that it was made on.
    """
    if not result.models:
        return None
    network, held = result.models[0], result.out_of_fold
    count = int(np.clip(SAMPLE_NUMBERS // input_size(network), 8, SAMPLE))
    places = spread(held.index[held.fold == result.folds[0]["fold"]], count)
    if len(places) < 2:  # of one example every unit would be dead
        return None
    preprocessing = network.card.preprocessing
    examples = preprocessing.load(subset(arrange_columns(source, network.card), places))
    return dead_units([_activity(network, preprocessing.network_input(examples))])


def show_activity(run: Run, found: Sequence[Sequence[StageActivity]], examples: int) -> Section:
    """Dead and saturated units per stage, as `stage_activities` found them, and what helps against dead ones."""
    mean = lambda values: None if None in values else float(np.mean(values))  # noqa: E731
    lines = []
    for stages in zip(*found, strict=True):
        dead, saturated, near = (mean([getattr(s, k) for s in stages]) for k in ("dead", "saturated", "near_bounds"))
        shown = ["n/a" if value is None else percent(value) for value in (dead, saturated, near)]
        lines.append([escaped(stages[0].name), str(stages[0].units), *shown])
    heads = ["stage", "units", "dead", "saturated", "near a bound"]
    if all(stage.saturated is None for stages in found for stage in stages):
        heads, lines = heads[:3], [line[:3] for line in lines]
    several = f", mean over {len(found)} folds" if len(found) > 1 else ""
    held = "held-out examples" if run.result or run.fresh else "examples"
    said = (
        f"What flows out of each stage for {examples} {held}{several}. A unit (a channel, or a feature of a "
        "token or vector) is dead if nothing about it differs between examples: nothing behind it can use it. "
    )
    activation = getattr(next(iter(run.networks.values())).model, "activation", None)
    if len(heads) > 3:
        said += (
            f"Saturated is a unit of which at least 95 % of the values lie within 1 % of the range of {activation} "
            "from one of its bounds, where its slope is below 4 % of the steepest and hardly any gradient passes. The "
            "head has no activation function. Near a bound is the share of all values that lie so."
        )
    else:
        said += "Saturation is not applicable: no stage ends in a function with two bounds, such as tanh."
    verdict = f"<p>{escaped(judged)}</p>" if (judged := judge_dead(dead_units(found))) else ""
    table = in_scroll(make_table(heads, lines, "numbers"), "Activations")
    return Section("Activations", verdict + table + note(said))


def _activity(network: Checkpoint, x: Any) -> list[StageActivity]:
    return stage_activity(network.model, jax.tree.map(jnp.asarray, network.variables), x)


def show_gradients(run: Run, dead: Mapping[str, float] | None = None) -> Section:
    """The norm of the gradient of each stage over training; `dead` is the share of dead units where it is known."""
    title = "Gradients"
    rows = [row for row in run.history if row.get("stage_grad_norms")]
    if not rows:
        raise InputError("The gradient of each stage was not recorded in this run.")
    recorded = {stage for row in rows for stage in row["stage_grad_norms"]}
    stages = run.network()[1].model.stage_names if run.networks else tuple(rows[0]["stage_grad_norms"])
    norms = {stage: norms_by_epoch(rows, stage) for stage in stages if stage in recorded}
    norms = {stage: values for stage, values in norms.items() if np.isfinite(values).any()}
    colours = stage_colours(len(stages))
    signs = [("━", colour, escaped(stage)) for stage, colour in zip(stages, colours, strict=True) if stage in norms]
    picture = in_scroll(draw_gradients(norms, stages), "Picture of the gradients")
    known = {stage: values[np.isfinite(values)] for stage, values in norms.items()}
    lines = [[escaped(s), *(f"{value:.3g}" for value in (v[0], v.max(), v[-1]))] for s, v in known.items()]
    table = make_table(["stage", "first epoch", "largest", "last epoch"], lines, "numbers")
    numbers = f"<details><summary>The numbers</summary>{in_scroll(table, 'Gradient norms')}</details>"
    several = ", mean over folds" if len({row["fold"] for row in rows}) > 1 else ""
    frozen = [stage for stage in stages if stage not in norms]
    idle = (
        f" Frozen stages, and those without parameters, have none: {', '.join(frozen)}."
        if frozen and run.networks
        else ""
    )
    small = (
        f"Euclidean norm of the gradient of the loss by the parameters of each stage, before clipping, mean over the "
        f"steps of an epoch{several}.{idle} That it falls with the loss is as it should be."
    )
    verdict = escaped(judge_gradients(norms, dead))
    return Section(title, f"<p>{verdict}</p>{legend(*signs)}{picture}{numbers}{note(small)}")
