"""Pages of runs that are no single cross-validation: a learning curve, a variance, heads on frozen features."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.report.answer import check_source, show_facts, show_scores
from jaxdl.report.edges import head_edges
from jaxdl.report.learning_curve import TITLE as CURVE_TITLE
from jaxdl.report.learning_curve import curve_rows, draw_learning_curve, meaning, outlook
from jaxdl.report.markup import Section, escaped, in_scroll, make_table, note
from jaxdl.report.probe import draw_grid, head_rows
from jaxdl.report.recommend import left_out_said, luck_said, table_of, unseen_said, verdict, words_said
from jaxdl.report.sections import task_sections
from jaxdl.report.shown import Shown
from jaxdl.report.table import baseline_rows, beside, describe_environment, flat_plan, how_made, left_out, plain, uneven
from jaxdl.report.uncertainty import HOW_SURE_OF, show_uncertainty
from jaxdl.report.units import measure
from jaxdl.report.variance import CAVEAT, advice, compared, component_rows, draw_variance, repeat_rows
from jaxdl.report.variance import TITLE as REPEAT
from jaxdl.validation.learning_curve import CURVE, LearningCurve, load_learning_curve
from jaxdl.validation.probes.result import PROBE
from jaxdl.validation.recommend.recommend import METHODS, RECOMMENDATION, read_recommendation
from jaxdl.validation.result import Result, load_result
from jaxdl.validation.told import ProbeTold
from jaxdl.validation.variance import VARIANCE, load_variance
from jaxdl.weights.card import ENSEMBLE
from jaxdl.weights.files import read_json


class Study(NamedTuple):
    """What a page says: its title, a line below it, and its sections."""

    title: str
    lead: str
    sections: list[Section]


def read_study(path: Path, source: Source | None = None) -> Study | None:
    """The page of the run in a folder; None if it is of another kind.

    Args:
      path: the folder.
      source: the examples that it was made on, where they are at hand.

    Raises:
      InputError: if what it holds is damaged or of other examples, or it has no page.
    """
    if (path / ENSEMBLE).is_file():
        raise InputError(
            f"'{path}' is an ensemble, which has no page: jaxdl report the run of cross-validate that its members come "
            "from; jaxdl predict --out-of-fold scores it"
        )
    if (path / RECOMMENDATION).is_file():
        return _recommendation(path, source)
    return next((read(path) for name, read in STUDIES.items() if (path / name).is_file()), None)


def _learning_curve(path: Path) -> Study:
    curve = load_learning_curve(path)
    headers, lines = curve_rows(curve)
    table = make_table([escaped(h) for h in headers], [[escaped(c) for c in line] for line in lines], "numbers")
    picture = in_scroll(draw_learning_curve(curve), "Picture of the learning curve")
    largest = curve.points[-1]
    sections = [
        Section(CURVE_TITLE, picture + in_scroll(table, CURVE_TITLE) + note(meaning(curve))),
        Section("What more examples would bring", f"<p>{escaped(outlook(curve))}</p>{_how_fitted(curve)}"),
    ]
    if curve.results:
        name = f"{largest['size']:.0f} examples"
        scores = {f"{p['size']:.0f} examples": r for p, r in zip(curve.points, curve.results, strict=True)}
        sections += [show_scores(scores, {}), _titled(f"How sure is the number with {name}?", curve.results[-1])]
        facts = how_made({"": curve.results[-1]}) | {"budget": f"the same {curve.budget} at every size"}
        sections.append(show_facts(facts | {"plan": _as_text(curve.plan), "seconds": f"{curve.seconds:.1f}"}))
    return Study(f"Learning curve on {curve.data['name']}", _lead(curve.init), sections)


def _how_fitted(curve: LearningCurve) -> str:
    """How the law was fitted; where there is none, the outlook says why."""
    return note(f"{curve.why}.") if curve.law else ""


def _variance(path: Path) -> Study:
    found = load_variance(path)
    parts, again = (
        make_table([escaped(h) for h in headers], [[escaped(c) for c in line] for line in lines], "numbers")
        for headers, lines in (component_rows(found), repeat_rows(found))
    )
    picture = in_scroll(draw_variance(found), "Picture of the parts of the variance")
    what = f"Standard deviation of the {found.metric} of one training by what it varies with; lines are 95 % intervals."
    plans, splits, seeds = found.scores.shape
    facts = {
        "data": f"{found.data['name']}, {found.data['examples']} examples",
        "model": ", ".join([found.model["name"], *(f"{k} {v}" for k, v in found.model["arguments"].items())]),
        "trainings": f"{plans} configurations × {splits} splits × {seeds} seeds",
        "configurations": "\n".join(_as_text(values) or "as the plan" for values in found.configurations),
        "plan": _as_text(found.plan),
        "splits": f"{found.split['kind']}, sha256 {found.split['sha256']}",
        "versions": describe_environment(found.environment),
        "seconds": f"{found.seconds:.1f}",
    }
    sections = [
        Section("What the score varies with", picture + note(what) + in_scroll(parts, "What the score varies with")),
        Section(
            REPEAT, f"<p>{escaped(f'{advice(found)} {CAVEAT}')}</p>" + in_scroll(again, REPEAT) + note(compared(found))
        ),
        show_facts({topic: plain(text) for topic, text in facts.items()}),
    ]
    return Study(f"Variance of a score on {found.data['name']}", f"{found.model['name']}.", sections)


def _probe(path: Path) -> Study:
    told = read_json(path / PROBE, ProbeTold)
    results = {name: load_result(path / name) for name in told["heads"]}
    headers, lines, best = head_rows(told, results)
    lines = [[escaped(cell) for cell in line] for line in lines]
    lines += [
        [escaped(row["method"]), measure(row["score"], row["mean"], row["std"]), *["–"] * (len(headers) - 2)]
        for row in baseline_rows(results)
    ]
    table = make_table([escaped(h) for h in headers], lines, "numbers", best)
    name = list(results)[best]
    said = (
        "Heads trained on what the frozen network makes of the examples. Each is a result of its own: jaxdl report "
        "RUN/HEAD makes its page, jaxdl compare says which differ."
    )
    said = " ".join([said, *(one for one in (uneven(results), *left_out(results)) if one)])
    notes = "".join(note(f"{head}: {'; '.join(one['notes'])}.") for head, one in told["heads"].items() if one["notes"])
    pictures = "".join(f"<div>{draw_grid(told['metric'], head, one)}</div>" for head, one in _with_grid(told).items())
    sections = [Section("The heads", f"<p>{escaped(said)}</p>" + in_scroll(table, "The heads") + notes)]
    if pictures:
        how = "Mean over the outer folds at every point of the grid; the line marks what all folds together choose."
        how = " ".join([how, *head_edges(told["metric"], told["heads"])])
        sections.append(Section("Along the grid", f'<div class="grid wide">{pictures}</div>' + note(how)))
    sections += [show_scores(results, {}), _titled(HOW_SURE_OF.format(name), results[name])]
    sections.append(show_facts(how_made(results)))
    return Study(f"Heads on {told['data']}", _lead(results[name].init), sections)


def _recommendation(path: Path, source: Source | None) -> Study:
    told, results = read_recommendation(path)
    if source is not None:
        check_source(source, told["chosen"], results[told["chosen"]])
    headers, lines = table_of(told, results)
    chosen, names = told["chosen"], list(results)
    lines = [[escaped(cell) for cell in line] for line in lines]
    lines[names.index(chosen)][0] += ' <span class="tag">recommended</span>'
    table = make_table([escaped(h) for h in headers], lines, "numbers answer", names.index(chosen))
    rest = filter(None, (unseen_said(told, results), luck_said(told, results), beside(results)))
    said = f"<p><b>{escaped(verdict(told, results))}</b></p>" + "".join(f"<p>{escaped(text)}</p>" for text in rest)
    how = note(
        f"{words_said(told, results)} A method beats another where this interval leaves out zero. "
        f"Each is a result of its own: jaxdl report RUN/{METHODS}/NAME makes its page."
    )
    sections = [Section("The answer", in_scroll(table, "The answer") + said + how)]
    if left_out := left_out_said(told):
        listed = "".join(f"<li>{escaped(one)}</li>" for one in left_out)
        sections.append(Section("What was left out", f"<ul>{listed}</ul>"))
    if lines := told.get("by_hand"):
        code = "\n\n".join(map(escaped, lines))
        sections.append(Section("The same by hand", f"<pre><code>{code}</code></pre>"))
    result = results[chosen]
    sections += [show_scores(results, {}), _titled(HOW_SURE_OF.format(chosen), result)]
    sections += task_sections(Shown(result.asked, chosen, result, source))
    sections.append(show_facts(how_made(results)))
    return Study(f"Recommendation for {result.data['name']}", _lead(result.init), sections)


def _with_grid(told: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: one for name, one in told["heads"].items() if len(one["grid"]) > 1}


def _titled(title: str, result: Result) -> Section:
    return Section(title, show_uncertainty(result).body)


def _as_text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in flat_plan(values).items())


def _lead(init: Mapping[str, Any]) -> str:
    start = init.get("path") or ("random weights" if init["kind"] == "scratch" else "a checkpoint that was not saved")
    return f"{init['model']}, starting from {start}."


STUDIES: Mapping[str, Callable[[Path], Study]] = {CURVE: _learning_curve, VARIANCE: _variance, PROBE: _probe}
