"""Sections on the answer of a cross-validation, the same for every task: scores and curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.report.markup import Section, escaped, in_scroll, legend, make_table, note
from jaxdl.report.plots import MOST_LINES, draw_curves, draw_fold_scores
from jaxdl.report.table import as_text, baseline_rows, left_out, meaning, uneven
from jaxdl.report.units import in_percent, measure, percent, score_metric, shown_metrics
from jaxdl.tasks import Classification, Metric
from jaxdl.validation.result import Result

MOST_FOLDS = 200  # with more, the table of all folds is left out
ACCURACY = Classification.METRICS["accuracy"]


def check_source(source: Source, method: str, result: Result) -> None:
    """Raises InputError unless `source` holds the examples that `result` was made on."""
    held = result.out_of_fold
    names = {tuple(source.class_names), tuple(result.asked.names)} - {()}  # a task may do without those of a source
    targets = source.targets()
    if len(names) > 1 or len(source) != result.data["examples"] or not _same(targets, held.target, held.index):
        raise InputError(
            f"the result of '{method}' was made on {result.data['examples']} examples of {result.data['name']}, but "
            f"source is {source.name} with {len(source)} examples, or others; give the one that it was made on"
        )


def _same(targets: Any, held: Any, index: np.ndarray) -> bool:
    """Whether the targets at `index` are those that were held out."""
    if jax.tree.structure(targets) != jax.tree.structure(held):
        return False
    pairs = zip(jax.tree.leaves(targets), jax.tree.leaves(held), strict=True)
    return all(_equal(np.asarray(mine)[index], np.asarray(theirs)) for mine, theirs in pairs)


def _equal(one: np.ndarray, two: np.ndarray) -> bool:
    # what is NaN on both sides is the same, missing target
    return one.shape == two.shape and bool(((one == two) | ((one != one) & (two != two))).all())


def show_answer(rows: Sequence[Mapping[str, Any]], results: Mapping[str, Result]) -> Section:
    """The table of `report.table.results_table`, with what its numbers mean."""
    headers, cells = as_text(rows, baseline_rows(results))
    lines = [[escaped(cell) for cell in line] for line in cells]
    several = len(rows) > 1
    place = next(place for place, row in enumerate(rows) if row["best"])
    best = results[rows[place]["method"]]
    lines[place][0] += ' <span class="tag">best</span>' if several else ""
    said = []
    if all(fold["test"] == 1 for fold in best.folds):
        value = "its score is 0 or 1 and " if in_percent(score_metric(best)) else ""
        said.append(f"Each fold tests one example, so that {value}the spread says little.")
    said += _without_looking(best)
    said += [one for one in (uneven(results), *left_out(results)) if one]
    if any(row["truth"] is not None for row in rows):
        said.append("“Unseen” is measured on examples that no fold has seen: cross-validation tries to predict it.")
    if several:
        said.append("The best of several is chosen by the folds that score it, and so looks a little too good.")
    if len({result.split["sha256"] for result in results.values()}) > 1:
        said.append("The methods were not all tested on the same folds, which makes them harder to compare.")
    table = make_table([escaped(header) for header in headers], lines, "numbers answer", place if several else -1)
    first = escaped(meaning(rows, rows[place]["metric"]))
    return Section("The answer", f"{in_scroll(table, 'The answer')}<p>{first}</p>{note(' '.join(said))}")


def _without_looking(result: Result) -> list[str]:
    """What a model scores that knows only the targets, for comparison."""
    metric = score_metric(result)
    if metric is ACCURACY:
        counts = np.unique(result.out_of_fold.target, return_counts=True)[1]
        return [f"Always naming the most frequent class would be right for {percent(counts.max() / counts.sum())}."]
    found = (result.baseline or {}).get(metric.name)  # results of older releases have none
    if found is None:
        return []
    said = measure(metric, found)
    return [f"A model that knows the training targets but looks at no example has this score: {metric.name} {said}."]


def show_scores(results: Mapping[str, Result], truth: Mapping[str, float]) -> Section:
    """The score of each fold, as a picture and as numbers; of a single method also the other metrics of its task."""
    signs = [("●", "var(--held-out)", "a fold"), ("━━", "var(--ink)", "mean over folds")]
    signs += [("◆", "var(--truth)", "examples that no fold has seen")] if truth else []
    folds = sorted({fold["fold"] for result in results.values() for fold in result.folds})
    table = ""
    if len(folds) <= MOST_FOLDS:
        columns = _fold_columns(results)
        lines = [
            [f"fold {f}", *(measure(metric, held[f]) if f in held else "–" for metric, held in columns.values())]
            for f in folds
        ]
        numbers = make_table(["fold", *map(escaped, columns)], lines, "numbers")
        table = f"<details><summary>The numbers</summary>{in_scroll(numbers, 'Scores of each fold')}</details>"
    picture = in_scroll(draw_fold_scores(results, truth), "Picture of the scores of each fold")
    return Section("Each fold", legend(*signs) + picture + table)


def _fold_columns(results: Mapping[str, Result]) -> dict[str, tuple[Metric, dict[int, float | None]]]:
    """By the heading of a column a metric, and its value in each fold."""
    if len(results) == 1 and len(shown := shown_metrics(next(iter(results.values())))) > 1:
        (result,) = results.values()
        return {name: (metric, _by_fold(result, name)) for name, metric in shown.items()}
    return {method: (score_metric(r), _by_fold(r, r.metric)) for method, r in results.items()}


def _by_fold(result: Result, name: str) -> dict[int, float | None]:
    return {fold["fold"]: fold.get(name) for fold in result.folds}


def show_curves(
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    measures: Mapping[str, Metric],
    patience: object = None,
    *,
    ended: str = "",
    chosen: str = "",
) -> Section:
    """Learning curves by the method's name; of rows with ``fold``, or without where there are no folds.

    Args:
      curves: rows by the method's name.
      measures: those of `units.curve_metrics`.
      patience: that of early stopping, None without it.
      ended: why the curves end, in sentences.
      chosen: what the held-out curves chose, in a sentence; empty for nothing.
    """
    title = "Learning curves"
    curves = {method: [{"fold": 0, **row} for row in rows] for method, rows in curves.items()}
    if not any(curves.values()):
        return Section(title, note("None were recorded."))
    folds = max(len({row["fold"] for row in rows}) for rows in curves.values())
    measured = any(key.startswith("test_") for rows in curves.values() for row in rows for key in row)
    signs = [("╍╍", "var(--train)", "training part"), ("━━", "var(--held-out)", "held-out part")]
    blocks = []
    for method, pictures in draw_curves(curves, measures).items():
        if len(curves) == 1:
            blocks += [f"<div>{picture}</div>" for picture in pictures]
        else:
            blocks.append(f"<div><h3>{escaped(method)}</h3>{''.join(reversed(pictures))}</div>")
    kind = "grid wide" if len(curves) == 1 else "grid"
    said = []
    if folds > MOST_LINES:
        said.append("The band is one standard deviation between folds.")
    elif folds > 1:
        said.append("Thin lines are folds, thick ones their mean.")
    if patience is not None:
        said.append("Early stopping chose the epoch that counts on an inner part of the training examples.")
    elif measured:
        said.append(chosen or "Nothing is chosen by the held-out curves: the score is that after the last epoch.")
    if not measured:
        said.append("No examples were held out to measure on while it trained.")
    said += [ended] if ended else []
    signs = legend(*signs[: 1 + measured])
    return Section(title, f'{signs}<div class="{kind}">{"".join(blocks)}</div>{note(" ".join(said))}')


def show_facts(facts: Mapping[str, str], before: str = "") -> Section:
    """A table of topics and texts; `before` is HTML above it."""
    lines = [[escaped(key), escaped(text)] for key, text in facts.items()]
    return Section("How this was made", before + make_table([], lines, "made"))
