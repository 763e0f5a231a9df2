"""The numbers of a report as rows and text, the same for the terminal and the page."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.errors import InputError, check_choice
from jaxdl.report.units import LOSS, find_metric, known_scores, loss_word, measure, score_metric, shown_metrics
from jaxdl.tasks import Metric, Task
from jaxdl.validation.result import Result, mean_and_spread
from jaxdl.validation.told import BaselineTold

if TYPE_CHECKING:
    from rich.console import Console

LISTED_NAMES = 20  # of classes or labels; more are counted, not named


def results_table(results: Mapping[str, Result], truth: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """One row per method, in the order given.

    Args:
      results: by the method's name.
      truth: for some methods the score on examples that no fold has seen.

    Returns:
      Rows of ``method, task, metric, mean`` (None where no fold has a score), ``std`` (None for one fold), ``truth``
      (None if not given), ``others`` (means of the other metrics that the task shows, as text), ``loss`` (mean over
      folds; for classes the log loss, in nats) and ``loss_word``, ``seconds``, ``fold_strategy`` (its name), ``folds``
      (how many), ``score`` (the metric, a `Metric`) and ``best``: True for the one with the best mean, of equal ones
      the one with the smallest loss.

    Raises:
      InputError: without results, for results of different metrics, or for a truth of a method that has none.
    """
    if not isinstance(results, Mapping) or not all(isinstance(r, Result) for r in results.values()):
        raise InputError(f"results is a {type(results).__name__}; expected a dict of Result by the method's name")
    if not results:
        raise InputError("results is empty; expected the Result of at least one method")
    (first, metric), *others = ((method, result.metric) for method, result in results.items())
    for method, other in others:
        if other != metric:
            raise InputError(
                f"'{first}' is scored by {metric}, '{method}' by {other}; expected one metric for all results. "
                f"result.scored_by('{metric}') scores a result by another one, without training"
            )
    truth = truth or {}
    for method in truth:
        check_choice("method in truth", method, results)
    rows = [_row(method, result, truth.get(method)) for method, result in results.items()]
    sign = rows[0]["score"].sign

    def merit(row: Mapping[str, Any]) -> tuple[float, float]:
        mean = -np.inf if row["mean"] is None else sign * row["mean"]
        return mean if np.isfinite(mean) else -np.inf, -row["loss"] if np.isfinite(row["loss"]) else -np.inf

    max(rows, key=merit)["best"] = True
    return rows


def baseline_rows(results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """Rows in the form of `results_table` of other models on the same folds: those of the first result that has any.

    They also have ``means`` over folds, by metric.

    None of what was left out, see `left_out`, nor where the results are of several splits.
    """
    if len({result.split["sha256"] for result in results.values()}) > 1:
        return []
    result = next((one for one in results.values() if one.baselines), None)
    return [] if result is None else [_baseline_row(result, one) for one in result.baselines if one["folds"]]


def _baseline_row(result: Result, told: BaselineTold) -> dict[str, Any]:
    task = result.asked
    means = {name: mean_and_spread(folds)[0] for name, folds in told["folds"].items()}
    mean, std = mean_and_spread(told["folds"].get(result.metric, ()))
    loss = means.get(task.LOSS)
    return {
        "method": told["name"],
        "task": result.task,
        "metric": result.metric,
        "mean": mean,
        "std": std,
        "truth": None,
        "others": {name: measure(find_metric(name, task), means.get(name)) for name in _others(result)},
        "means": means,
        "loss": np.nan if loss is None else loss,
        "loss_word": loss_word(find_metric(LOSS.name, task)),
        "seconds": told.get("seconds"),
        "fold_strategy": "–",
        "folds": len(result.folds),
        "score": score_metric(result),
        "best": False,
    }


def beside(results: Mapping[str, Result]) -> str:
    """What the models of `baseline_rows` score, in a sentence; empty where it is not known."""
    rows = baseline_rows(results)
    listed = ", ".join(f"{row['method']} {measure(row['score'], row['mean'])}" for row in rows)
    return f"For comparison, on the same folds: {listed}." if rows else ""


def left_out(results: Mapping[str, Result]) -> list[str]:
    """Sentences on models that were not run beside the results, with the reason."""
    result = next((one for one in results.values() if one.baselines), None)
    return without(() if result is None else result.baselines)


def without(told: Sequence[BaselineTold]) -> list[str]:
    """Sentences on those of the models that were not run, with the reason."""
    return [f"No {one['name']} beside it: {one['skipped']}." for one in told if one.get("skipped")]


def uneven(results: Mapping[str, Result]) -> str:
    """A sentence where classes are uneven; empty where they are not."""
    result = next(iter(results.values()))
    return result.asked.uneven(result.out_of_fold.target)


def _others(result: Result) -> dict[str, Metric]:
    """Metrics that the table shows beside the score, but the loss."""
    task = result.asked
    names = [*shown_metrics(result), *([task.FAIR] if task.FAIR and task.uneven(result.out_of_fold.target) else [])]
    return {name: find_metric(name, task) for name in dict.fromkeys(names) if name not in (result.metric, task.LOSS)}


def _other_scores(result: Result, name: str) -> list[float]:
    """Of the folds that have one."""
    known = known_scores(result.folds, name)
    return known or [value for value in ((result.metrics or {}).get("folds") or {}).get(name, ()) if value is not None]


def _row(method: str, result: Result, truth: float | None) -> dict[str, Any]:
    losses = known_scores(result.folds, "loss")
    return {
        "method": method,
        "task": result.task,
        "metric": result.metric,
        "mean": result.mean,
        "std": result.std,
        "truth": truth,
        "others": {name: _mean(metric, _other_scores(result, name)) for name, metric in _others(result).items()},
        "loss": float(np.mean(losses)) if losses else np.nan,
        "loss_word": loss_word(find_metric(LOSS.name, result.asked)),
        "seconds": result.seconds,
        "fold_strategy": result.fold_strategy["name"],
        "folds": len(result.folds),
        "score": score_metric(result),
        "best": False,
    }


def _mean(metric: Metric, scores: Sequence[float]) -> str:
    return measure(metric, float(np.mean(scores)) if scores else None)


def as_text(
    rows: Sequence[Mapping[str, Any]], below: Sequence[Mapping[str, Any]] = ()
) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of the answer table, those of `baseline_rows` `below`; the truth only where a row has one."""
    metric, loss = rows[0]["metric"], rows[0]["loss_word"]
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "method": lambda row: plain(row["method"]),
        metric: lambda row: measure(row["score"], row["mean"], row["std"]),
        "unseen": lambda row: measure(row["score"], row["truth"]),
        **{name: lambda row, name=name: row["others"].get(name, "–") for name in rows[0]["others"]},
        loss: lambda row: _loss(row["loss"]),
        "seconds": lambda row: _seconds(row["seconds"]),
        "fold strategy": lambda row: plain(row["fold_strategy"]),
    }
    if all(row["truth"] is None for row in rows):
        del columns["unseen"]
    if all(np.isnan(row["loss"]) for row in rows):
        del columns[loss]
    return list(columns), [[write(row) for write in columns.values()] for row in (*rows, *below)]


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _loss(value: float) -> str:
    """A dash where there is none, as of decision values."""
    return "–" if np.isnan(value) else f"{value:.3f}" if value < 100 else f"{value:.4g}"


def meaning(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """A plain sentence on what mean and spread are."""
    if all(row["std"] is None for row in rows):
        return f"There is a single fold: the {metric} is that of its held-out examples, and nothing says how it varies."
    return (
        f"The {metric} is the mean over folds ± the standard deviation between folds. That spread is no standard error "
        "of the mean: the folds' training parts overlap, so that their scores are not independent."
    )


def print_table(
    console: "Console",
    rows: Sequence[Mapping[str, Any]],
    below: Sequence[Mapping[str, Any]] = (),
    *,
    explained: bool = True,
) -> None:
    """Prints what `results_table` gave, with `baseline_rows` below, and what it means unless `explained` is False.

    A name too long for the console is broken, never cut.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    headers, cells = as_text(rows, below)
    several = len(rows) > 1
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for place, header in enumerate(headers):
        table.add_column(
            ("  " if several and place == 0 else "") + header.replace("fold ", "fold\n").replace("_", "\n"),
            justify="left" if header in ("method", "fold strategy") else "right",
            no_wrap=place > 0,
            vertical="bottom",
            overflow="fold",
        )
    for place, (row, line) in enumerate(zip((*rows, *below), cells, strict=True)):
        if place == len(rows):
            table.add_section()
        mark = ("* " if row["best"] else "  ") if several else ""
        # not markup: a method may be called [anything]
        table.add_row(
            *[Text(mark + line[0]), *map(Text, line[1:])],
            style="bold" if several and row["best"] else "dim" if place >= len(rows) else "",
        )
    console.print(table)
    if not explained:
        return
    note = ("* is the best mean. " if several else "") + meaning(rows, rows[0]["metric"])
    console.print(Text(note, style="dim"))


def how_made(results: Mapping[str, Result]) -> dict[str, str]:
    """What a reader needs to make the results again: topics with a text each, a line per method where they differ."""
    plans = {method: flat_plan(result.plan) for method, result in results.items()}
    shared = set.intersection(*(set(plan.items()) for plan in plans.values()))
    common = [f"{key} {value}" for key, value in next(iter(plans.values())).items() if (key, value) in shared]
    plan = ", ".join(common)
    for method, values in plans.items():
        if own := ", ".join(f"{key} {value}" for key, value in values.items() if (key, value) not in shared):
            plan += f"\n{plain(method)}: {own}"
    made = {
        "data": _per_method(results, _describe_data),
        "model": _per_method(results, lambda r: ", ".join([r.model["name"], *_pairs(r.model["arguments"])])),
        "start": _per_method(results, _describe_init),
        "plan": plan.strip(),
        "folds": _per_method(results, _describe_split),
        "fold strategy": _per_method(results, _describe_strategy),
        "versions": _per_method(results, lambda r: describe_environment(r.environment)),
        "seconds": _per_method(results, lambda r: f"{r.seconds:.1f}"),
    }
    return {topic: text for topic, text in made.items() if text}


def _per_method(results: Mapping[str, Result], describe: Callable[[Result], str]) -> str:
    texts = {method: plain(describe(result)) for method, result in results.items()}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "\n".join(f"{plain(method)}: {text}" for method, text in texts.items())


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} {value}" for key, value in values.items()]


def flat_plan(plan: Mapping[str, Any]) -> dict[str, str]:
    """A plan as plain values to its entries as text."""
    flat = {key: ", ".join(_pairs(value)) if isinstance(value, Mapping) else value for key, value in plan.items()}
    for key, value in flat.items():
        if isinstance(value, list | tuple) and value and all(isinstance(one, float) for one in value):
            flat[key] = ", ".join(f"{one:.3g}" for one in value)
    return {key: plain("none" if value in (None, "", [], ()) else value) for key, value in flat.items()}


def _describe_data(result: Result) -> str:
    names = result.asked.names
    listed = f": {', '.join(names)}" if 0 < len(names) <= LISTED_NAMES else ""
    return f"{result.data['name']}, {result.data['examples']} examples, {brief(result.asked)}{listed}"


def brief(task: Task) -> str:
    """The task in words without the names of its outputs: ``3 classes``."""
    return task.describe().partition(" (")[0]


def _describe_init(result: Result) -> str:
    init = result.init
    if init["kind"] == "scratch":
        return "random weights"
    parts = [f"checkpoint of {init['model']}", str(init.get("path") or "not saved"), *_pairs(init.get("source") or {})]
    return ", ".join(parts)


def _describe_split(result: Result) -> str:
    split = result.split
    trained = [fold["fold"] for fold in result.folds]
    only = f", of which {len(trained)} ran ({', '.join(map(str, trained))})" if len(trained) < split["k"] else ""
    seed = "" if split["seed"] is None else f", seed {split['seed']}"
    given = "".join(
        f", {name.replace('_', ' ')} {value}"
        for name, value in (split.get("options") or {}).items()
        if value is not None
    )
    count = f"{split['k']} {'fold' if split['k'] == 1 else 'folds'}"
    return f"{split['kind']}, {count}{only}{given}{seed}, sha256 {split['sha256']}"


def _describe_strategy(result: Result) -> str:
    cached = "; frozen stages were computed once for all folds" if result.cached else ""
    return f"{result.fold_strategy['name']} ({result.fold_strategy['reason']}){cached}"


def describe_environment(environment: Mapping[str, Any]) -> str:
    """Versions and devices as `weights.checkpoint.environment` gives them."""
    held = dict(environment)
    devices = held.get("devices", [])
    counted = [f"{devices.count(kind)} × {kind}" for kind in dict.fromkeys(devices)]
    rest = [f"{key} {held[key]}" for key in ("python", "backend", "machine") if key in held]
    return ", ".join([*_pairs(held.get("packages", {})), *rest, *counted])


def plain(text: object) -> str:
    """`text` without what neither XML nor UTF-8 can hold: control characters and halves of surrogate pairs."""
    return "".join(c if c.isprintable() or c in " \n" else "\ufffd" for c in str(text))
