"""What a search found, as rows and as a section of the page of its run."""

from pathlib import Path
from typing import Any

from jaxdl.report.edges import search_edges
from jaxdl.report.markup import Section, escaped, in_scroll, make_table, note
from jaxdl.report.search_picture import draw_parallel, draw_settings
from jaxdl.report.units import find_metric, measure, score_metric
from jaxdl.validation.search.result import SearchResult, load_search

LISTED = 10  # of the best configurations


def search_rows(found: SearchResult, most: int = LISTED) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of the best configurations, the best first; the last column counts the outer folds' choices.

    The inner values of the criterion come first, beside those of the score where that is another metric.
    """
    names = list(found.configurations[0]["values"])
    inner = {found.criterion: "loss", found.result.metric: "mean"}  # by metric the key of the row
    headers = [*names, *(f"inner {name}" for name in inner), "epochs", *(["chosen by"] if found.nested else [])]
    lines = []
    for row in found.ranking[:most]:
        number = row["configuration"]
        values = found.configurations[number]["values"]
        means = [
            "not finite" if row[key] is None else measure(find_metric(name, found.result.asked), row[key])
            for name, key in inner.items()
        ]
        chosen = found.choices.count(number)
        cells = [*(as_word(values[name]) for name in names), *means, str(row["epochs"])]
        lines.append([*cells, *([f"{chosen} of {len(found.choices)}" if chosen else "–"] if found.nested else [])])
    return headers, lines


def as_word(value: Any) -> str:
    """A value of the space in few digits."""
    return "none" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def verdict(found: SearchResult) -> str:
    """The score in a sentence, with what it is of."""
    result = found.result
    score = measure(score_metric(result), result.mean, result.std)
    if not found.nested:
        return f"Not nested: {result.metric} {score}. {found.warning}"
    optimism = found.not_nested
    found_by = measure(score_metric(result), optimism)
    beside = "" if optimism is None else f" (The folds that chose the final one give it {found_by}.)"
    return (
        f"Nested: {result.metric} {score} over {len(result.folds)} outer folds, each of which tested what its own "
        f"inner folds had chosen by {found.criterion} out of {len(found.configurations)} configurations.{beside}"
    )


def choice(found: SearchResult) -> str:
    """By what the final configuration was chosen, in a sentence."""
    rule = "the best" if found.selection["rule"] == "best" else "the simplest within one standard error of the best"
    return (
        f"With all examples, the final configuration is {rule} by inner {found.criterion}. Inner values make the "
        "choice and are no estimate of the score."
    )


def stability(found: SearchResult) -> str:
    """How far the outer folds agreed, in a sentence; what was chosen, by dimension, where they did not."""
    if not found.choices:
        return ""
    folds, same = len(found.choices), round(found.agreement * len(found.choices))
    said = f"{same} of {folds} outer folds chose the same configuration"
    if found.final in found.choices:
        said += f"; {found.choices.count(found.final)} chose the final one"
    differing = {name: values for name, values in found.stability().items() if len(set(map(str, values))) > 1}
    listed = "; ".join(f"{name}: {', '.join(map(as_word, values))}" for name, values in differing.items())
    return f"{said}." + (f" By fold, {listed}." if listed else "")


def seeds_said(found: SearchResult) -> str:
    """The outer score with each seed, in a sentence; nothing for one."""
    if len(found.seed_means) < 2:
        return ""
    scores = ", ".join(measure(score_metric(found.result), mean) for mean in found.seed_means)
    return f"With each of the {len(found.seed_means)} seeds: {scores}; the first is the one above."


def show_search(run: Path) -> Section:
    """The section of a run that was a search."""
    found = load_search(run)
    headers, lines = search_rows(found)
    place = next((i for i, row in enumerate(found.ranking[:LISTED]) if row["configuration"] == found.final), -1)
    table = make_table(
        [escaped(h) for h in headers], [[escaped(cell) for cell in line] for line in lines], "numbers", place
    )
    texts = verdict(found), stability(found), seeds_said(found), *search_edges(found)
    said = "".join(f"<p>{escaped(text)}</p>" for text in texts if text)
    marked = note(
        f"The best {len(lines)} of {len(found.configurations)} configurations on all examples; the final one is "
        f"marked. {choice(found)}"
    )
    return Section("The search", said + in_scroll(table, "The best configurations") + marked + _pictures(found))


def _pictures(found: SearchResult) -> str:
    """Scores along each setting, and all settings at once."""
    along = draw_settings(found)
    if not along:
        return ""
    early = found.selection["strategy"] == "halving"
    said = (
        f"Each dot is a configuration: its value and its inner {found.criterion} on all examples. The ring marks the "
        "final one." + (" Hollow dots were stopped before the last epoch." if early else "")
    )
    grid = "".join(f"<div>{picture}</div>" for picture in along)
    made = f'<h3>Along each setting</h3><div class="grid wide">{grid}</div>{note(said)}'
    if (parallel := draw_parallel(found)) is not None:
        how = "A line for each configuration, the darker the better its inner value; the final one is the black line."
        made += f"<h3>All settings at once</h3>{in_scroll(parallel, 'Parallel coordinates')}{note(how)}"
    return made
