"""One self-contained HTML page that shows what cross-validation found, of one method or several."""

from collections.abc import Mapping
from pathlib import Path

from jaxdl.data.source import Source
from jaxdl.report.answer import check_source, show_answer, show_curves, show_facts, show_scores
from jaxdl.report.diagnosis import why_ended
from jaxdl.report.markup import check_place, document, escaped
from jaxdl.report.sections import task_sections
from jaxdl.report.shown import Shown
from jaxdl.report.table import how_made, results_table
from jaxdl.report.units import curve_metrics
from jaxdl.validation.result import Result
from jaxdl.weights.files import write_text


def write_page(
    path: str | Path,
    title: str,
    results: Mapping[str, Result],
    *,
    source: Source | None = None,
    intro: str = "",
    truth: Mapping[str, float] | None = None,
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Writes one HTML file that needs nothing else: no scripts, no network.

    Args:
      path: of the file, whose folder must be there; a file of that name is replaced at once or not at all.
      title: of the page.
      results: by the method's name, as of `cross_validate`; the one with the best mean is shown closer.
      source: the examples that `results` were made on, to show those that were predicted wrong.
      intro: a paragraph below the title; empty lines part several.
      truth: for some methods the score on examples that no fold has seen, such as an accuracy from 0 to 1.
      facts: topics and texts of the table on how this was made; by default those of `report.table.how_made`.

    Returns:
      The absolute path of the file.

    Raises:
      InputError: if the file cannot be written, there are no results, or `source` is not what they were made on.
    """
    path = check_place(path)
    truth = dict(truth or {})
    rows = results_table(results, truth)
    if source is not None:
        for method, result in results.items():
            check_source(source, method, result)
    best = next(row["method"] for row in rows if row["best"])
    closer = results[best]
    ends = {method: why_ended(result.curves, result.plan) for method, result in results.items()}
    curves = {method: result.curves for method, result in results.items()}
    same = len(set(ends.values())) == 1
    ended = " ".join(f"{method}: {said}" for method, said in ends.items() if said) if not same else ends[best]
    sections = [
        show_answer(rows, results),
        show_scores(results, truth),
        show_curves(curves, curve_metrics(closer.asked, closer.metric), ended=ended),
        *task_sections(Shown(closer.asked, best, closer, source)),
        show_facts(how_made(results) if facts is None else facts),
    ]
    paragraphs = "".join(f"<p>{escaped(part)}</p>" for part in intro.split("\n\n") if part.strip())
    write_text(path, document(title, paragraphs, sections))
    return path
