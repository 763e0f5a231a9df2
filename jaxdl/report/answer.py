"""Sections on the answer of a cross-validation: scores, curves, confusion, and the worst mistakes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.report.markup import Section, escaped, in_scroll, legend, make_table, note, picture_uri
from jaxdl.report.plots import MOST_COUNTS, MOST_LINES, draw_confusion, draw_curves, draw_fold_scores
from jaxdl.report.predictions import most_wrong
from jaxdl.report.table import as_text, meaning, measure, percent
from jaxdl.validation.result import Result

MOST_WRONG = 12
MOST_FOLDS = 200  # with more, the table of all folds is left out


def check_source(source: Source, method: str, result: Result) -> None:
    """Raises InputError unless `source` holds the examples that `result` was made on."""
    held = result.out_of_fold
    same = len(source) == result.data["examples"] and source.labels is not None
    same = same and tuple(source.class_names) == result.class_names
    if not same or (np.asarray(source.labels)[held.index] != held.label).any():
        raise InputError(
            f"the result of '{method}' was made on {result.data['examples']} examples of {result.data['name']}, but "
            f"source is {source.name} with {len(source)} examples, or others; give the one that it was made on"
        )


def show_answer(rows: Sequence[Mapping[str, Any]], results: Mapping[str, Result]) -> Section:
    """The table of `report.table.results_table`, with what its numbers mean."""
    headers, cells = as_text(rows)
    lines = [[escaped(cell) for cell in line] for line in cells]
    several = len(rows) > 1
    place = next(place for place, row in enumerate(rows) if row["best"])
    best = results[rows[place]["method"]]
    lines[place][0] += ' <span class="tag">best</span>' if several else ""
    said = []
    if all(fold["test"] == 1 for fold in best.folds):
        said.append("Each fold tests one example, so that its score is 0 or 1 and the spread says little.")
    if best.class_names:
        counts = np.bincount(best.out_of_fold.label)
        said.append(f"Always naming the most frequent class would be right for {percent(counts.max() / counts.sum())}.")
    if any(row["truth"] is not None for row in rows):
        said.append("“Unseen” is measured on examples that no fold has seen: cross-validation tries to predict it.")
    if several:
        said.append("The best of several is chosen by the folds that score it, and so looks a little too good.")
    if len({result.split["sha256"] for result in results.values()}) > 1:
        said.append("The methods were not all tested on the same folds, which makes them harder to compare.")
    table = make_table([escaped(header) for header in headers], lines, "numbers answer", place if several else -1)
    first = escaped(meaning(rows, rows[place]["metric"]))
    return Section("The answer", f"{in_scroll(table, 'The answer')}<p>{first}</p>{note(' '.join(said))}")


def show_scores(results: Mapping[str, Result], truth: Mapping[str, float]) -> Section:
    """The score of each fold, as a picture and as numbers."""
    signs = [("●", "var(--held-out)", "a fold"), ("━━", "var(--ink)", "mean over folds")]
    signs += [("◆", "var(--truth)", "examples that no fold has seen")] if truth else []
    folds = sorted({fold["fold"] for result in results.values() for fold in result.folds})
    table = ""
    if len(folds) <= MOST_FOLDS:
        scores = [{fold["fold"]: fold[result.metric] for fold in result.folds} for result in results.values()]
        metrics = [result.metric for result in results.values()]
        lines = [
            [f"fold {f}", *(measure(m, held[f]) if f in held else "–" for m, held in zip(metrics, scores, strict=True))]
            for f in folds
        ]
        numbers = make_table(["fold", *map(escaped, results)], lines, "numbers")
        table = f"<details><summary>The numbers</summary>{in_scroll(numbers, 'Scores of each fold')}</details>"
    picture = in_scroll(draw_fold_scores(results, truth), "Picture of the scores of each fold")
    return Section("Each fold", legend(*signs) + picture + table)


def show_curves(
    curves: Mapping[str, Sequence[Mapping[str, Any]]], measures: Sequence[str], patience: object = None
) -> Section:
    """Learning curves by the method's name; of rows with ``fold``, or without where there are no folds.

    `measures` are those of `report.table.MEASURES`; `patience` is that of early stopping, None without it.
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
        said.append("Nothing is chosen by the held-out curves: the score is that after the last epoch.")
    if not measured:
        said.append("No examples were held out to measure on while it trained.")
    signs = legend(*signs[: 1 + measured])
    return Section(title, f'{signs}<div class="{kind}">{"".join(blocks)}</div>{note(" ".join(said))}')


def show_confusion(method: str, result: Result) -> Section:
    """The confusion matrix, and for many classes the pairs most often confused."""
    counts = result.confusion_matrix()
    names = [escaped(name) for name in result.class_names]
    said = f"Held-out predictions of “{escaped(method)}”, all folds together: blue are right, orange wrong."
    picture = in_scroll(draw_confusion(method, result), "Picture of the confusion matrix")
    pairs_table = ""
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    if len(counts) > MOST_COUNTS and wrong.any():
        order = np.argsort(-wrong, axis=None, kind="stable")[:10]
        pairs = [divmod(int(place), len(counts)) for place in order if wrong.flat[place]]
        lines = [[names[row], names[column], str(wrong[row, column]), str(counts[row].sum())] for row, column in pairs]
        listed = make_table(["true class", "predicted class", "times", "of held-out"], lines, "examples")
        pairs_table = "<h3>Most often confused</h3>" + in_scroll(listed, "Most often confused")
    return Section("Which classes are confused", f"<p>{said}</p>{picture}{pairs_table}")


def show_wrong(method: str, result: Result, source: Source | None) -> Section:
    """The examples given a wrong class with the largest probability."""
    title = "Most confidently wrong"
    if not result.probabilistic:
        return Section(title, note("The outputs are decision values: there are no probabilities to go by."))
    rows = most_wrong(result.out_of_fold, MOST_WRONG)
    if not rows:
        total = len(result.out_of_fold.index)
        said = f"No prediction was wrong: “{escaped(method)}” is right for all {total} held-out examples."
        return Section(title, f"<p>{said}</p>")
    said = f"Held-out examples to which “{escaped(method)}” gave a wrong class with the largest probability."
    return Section(title, f"<p>{said}</p>{list_examples(rows, result.class_names, source, title)}")


def list_examples(
    rows: Sequence[Mapping[str, Any]], class_names: Sequence[str], source: Source | None, what: str
) -> str:
    """Rows as of `most_wrong`, as captioned pictures, or as a table where there are no pictures."""
    names = None if source is None else source.names
    pictures = [None if source is None else picture_uri(source[row["index"]]["x"]) for row in rows]
    told = [_told(row, class_names, names) for row in rows]
    if all(pictures):
        shown = "".join(_captioned(row, *picture) for row, picture in zip(told, pictures, strict=True))
        return f'<div class="pictures">{shown}</div>'
    heads = {"index": "index", "name": "name", "true": "true class", "said": "predicted class", "p": "probability"}
    if names is None:
        del heads["name"]
    table = make_table(list(heads.values()), [[row[key] for key in heads] for row in told], "examples")
    return in_scroll(table, what)


def _told(row: Mapping[str, Any], class_names: Sequence[str], names: Sequence[str] | None) -> dict[str, str]:
    return {
        "index": str(row["index"]),
        "name": "" if names is None else escaped(short_name(names[row["index"]])),
        "true": escaped(class_names[row["label"]]),
        "said": escaped(class_names[row["predicted"]]),
        "p": "&gt; 0.99" if row["probability"] >= 0.995 else f"{row['probability']:.2f}",
    }


def short_name(name: object) -> str:
    """The last two parts of a path: the class's folder and the file."""
    return "/".join(Path(str(name)).parts[-2:])


def _captioned(row: Mapping[str, str], uri: str, kind: str) -> str:
    name = f"index {row['index']}" + (f", {row['name']}" if row["name"] else "")
    p = f"(p {row['p']})" if row["p"].startswith("&gt;") else f"(p = {row['p']})"
    said = f"true {row['true']}, predicted {row['said']}"
    image = f'<img class="{kind}" src="{uri}" alt="Example {name}: {said} {p}">'
    return f"<figure>{image}<figcaption>{said} <span>{p}</span><small>{name}</small></figcaption></figure>"


def show_facts(facts: Mapping[str, str], before: str = "") -> Section:
    """A table of topics and texts; `before` is HTML above it."""
    lines = [[escaped(key), escaped(text)] for key, text in facts.items()]
    return Section("How this was made", before + make_table([], lines, "made"))
