"""The numbers of a report as rows and text, the same for the terminal and the page."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.errors import InputError, check_choice
from jaxdl.validation.result import Result

if TYPE_CHECKING:
    from rich.console import Console

LISTED_CLASSES = 20  # more are counted, not named
SHARES = ("accuracy",)  # metrics from 0 to 1 that are shown as percentages
SMALL_IS_GOOD = ("mse", "rmse", "mae", "loss")
# what the curves show; a regression's training loss is in other units than its held-out one
MEASURES = {"classification": ("loss", "accuracy"), "regression": ("mae", "r2")}


def results_table(results: Mapping[str, Result], truth: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """One row per method, in the order given.

    Args:
      results: by the method's name.
      truth: for some methods the accuracy, from 0 to 1, on examples that no fold has seen.

    Returns:
      Rows of ``method, task, metric, mean, std`` (None for one fold), ``truth`` (None if not given), ``loss`` (mean
      over folds; for classes the log loss, in nats), ``seconds``, ``fold_strategy`` (its name), ``folds`` (how many)
      and ``best``: True for the one with the best mean, of equal ones the one with the smallest loss.

    Raises:
      InputError: without results, or for a truth of a method that has none.
    """
    if not isinstance(results, Mapping) or not all(isinstance(r, Result) for r in results.values()):
        raise InputError(f"results is a {type(results).__name__}; expected a dict of Result by the method's name")
    if not results:
        raise InputError("results is empty; expected the Result of at least one method")
    truth = truth or {}
    for method in truth:
        check_choice("method in truth", method, results)
    rows = [
        {
            "method": method,
            "task": result.task,
            "metric": result.metric,
            "mean": result.mean,
            "std": result.std,
            "truth": truth.get(method),
            "loss": float(np.mean([fold.get("loss", np.nan) for fold in result.folds])),
            "seconds": result.seconds,
            "fold_strategy": result.fold_strategy["name"],
            "folds": len(result.folds),
            "best": False,
        }
        for method, result in results.items()
    ]
    finite = lambda value, worst: value if np.isfinite(value) else worst  # noqa: E731
    sign = -1 if rows[0]["metric"] in SMALL_IS_GOOD else 1
    best = max(rows, key=lambda row: (finite(sign * row["mean"], -np.inf), -finite(row["loss"], np.inf)))
    best["best"] = True
    return rows


def as_text(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of the answer table; the column of the truth is left out where no row has one."""
    metric, loss = rows[0]["metric"], "log loss" if rows[0]["task"] == "classification" else "loss"
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "method": lambda row: plain(row["method"]),
        metric: lambda row: measure(row["metric"], row["mean"], row["std"]),
        "unseen": lambda row: "–" if row["truth"] is None else measure(row["metric"], row["truth"]),
        loss: lambda row: f"{row['loss']:.3f}" if row["loss"] < 100 else f"{row['loss']:.4g}",
        "seconds": lambda row: f"{row['seconds']:.1f}" if row["seconds"] < 100 else f"{row['seconds']:.0f}",
        "fold strategy": lambda row: plain(row["fold_strategy"]),
    }
    if all(row["truth"] is None for row in rows):
        del columns["unseen"]
    if all(np.isnan(row["loss"]) for row in rows):
        del columns[loss]
    return list(columns), [[write(row) for write in columns.values()] for row in rows]


def meaning(rows: Sequence[Mapping[str, Any]], metric: str = "accuracy") -> str:
    """A plain sentence on what mean and spread are."""
    if all(row["std"] is None for row in rows):
        return f"There is a single fold: the {metric} is that of its held-out examples, and nothing says how it varies."
    return (
        f"The {metric} is the mean over folds ± the standard deviation between folds. That spread is no standard error "
        "of the mean: the folds' training parts overlap, so that their scores are not independent."
    )


def print_table(console: "Console", rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints what `results_table` gave; a name too long for the console is broken, never cut."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    headers, cells = as_text(rows)
    several = len(rows) > 1
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for place, header in enumerate(headers):
        table.add_column(
            ("  " if several and place == 0 else "") + header.replace("fold ", "fold\n"),
            justify="left" if header in ("method", "fold strategy") else "right",
            no_wrap=place > 0,
            vertical="bottom",
            overflow="fold",
        )
    for row, line in zip(rows, cells, strict=True):
        mark = ("* " if row["best"] else "  ") if several else ""
        # not markup: a method may be called [anything]
        table.add_row(*[Text(mark + line[0]), *map(Text, line[1:])], style="bold" if several and row["best"] else "")
    console.print(table)
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
    names = result.class_names
    if not names:
        return f"{result.data['name']}, {result.data['examples']} examples"
    listed = f": {', '.join(names)}" if len(names) <= LISTED_CLASSES else ""
    return f"{result.data['name']}, {result.data['examples']} examples of {len(names)} classes{listed}"


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


def measure(metric: str, mean: float, std: float | None = None) -> str:
    """A value of `metric` with its spread: a percentage for shares such as accuracy, else a number."""
    if metric in SHARES:
        return percent(mean, std)
    return f"{mean:.3g}" if std is None else f"{mean:.3g} ± {std:.2g}"


def percent(mean: float, std: float | None = None) -> str:
    """``"96.7 ± 2.4 %"``, or ``"96.7 %"`` without a spread."""
    return f"{100 * mean:.1f} %" if std is None else f"{100 * mean:.1f} ± {100 * std:.1f} %"


def plain(text: object) -> str:
    """`text` without what neither XML nor UTF-8 can hold: control characters and halves of surrogate pairs."""
    return "".join(c if c.isprintable() or c in " \n" else "\ufffd" for c in str(text))
