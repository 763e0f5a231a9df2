"""One self-contained HTML page that shows what cross-validation found."""

import base64
import html
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.report.plots import MOST_COUNTS, MOST_LINES, draw_confusion, draw_curves, draw_fold_scores
from jaxdl.report.table import as_text, how_made, meaning, most_wrong, percent, plain, results_table
from jaxdl.validation.result import Result

MOST_WRONG = 12
MOST_FOLDS = 200  # with more, the table of all folds is left out
TINY, LARGE = 64, 192  # pixels: up to TINY a picture keeps its pixels and is enlarged, above LARGE it is made smaller

CSS = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c2024; --faint: #5c6670; --line: #d5dade; --card: #f4f6f8;
  --train: #b54a00; --held-out: #0072b2; --truth: #007a5e; }
@media (prefers-color-scheme: dark) { :root { --ground: #15181b; --ink: #e4e7ea; --faint: #a0a9b2; --line: #3a4148;
  --card: #1f2428; --train: #f0883e; --held-out: #56b4e9; --truth: #2fc79d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 .3rem; }
p { margin: .5rem 0; max-width: 46rem; }
.note { color: var(--faint); font-size: .9rem; }
.scroll { overflow-x: auto; margin: .8rem 0; }
.scroll:focus-visible { outline: 2px solid var(--held-out); }
svg { display: block; width: 100%; height: auto; color: var(--ink); stroke-linejoin: round; }
table { border-collapse: collapse; font-size: .95rem; }
th, td { padding: .4rem .9rem .4rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
.examples td, .examples tbody th { max-width: 18rem; }
thead th { color: var(--faint); font-weight: 500; overflow-wrap: normal; }
tbody th { font-weight: 400; }
.numbers th, .numbers td { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.answer th:last-child, .answer td:last-child { text-align: left; padding-left: .3rem; }
.numbers th:first-child { text-align: left; white-space: normal; min-width: 8rem; max-width: 18rem; }
.numbers td { overflow-wrap: normal; }
.best th, .best td { font-weight: 700; }
.tag { margin-left: .4rem; padding: .05rem .45rem; border-radius: 1rem; font-size: .78rem; font-weight: 600;
  background: var(--held-out); color: var(--ground); print-color-adjust: exact; }
.made th { width: 6.5rem; color: var(--faint); }
.made td { white-space: pre-line; overflow-wrap: anywhere; }
.keys { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .6rem 0; padding: 0; list-style: none;
  font-size: .9rem; }
.keys b { margin-right: .3rem; }
.grid { display: grid; align-items: end; gap: 1.6rem 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 14rem), 1fr)); }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.grid svg { min-width: 0 !important; }
.grid > * { min-width: 0; }
.pictures { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(9.2rem, 1fr)); }
figure { margin: 0; padding: .6rem; border-radius: .4rem; background: var(--card); font-size: .85rem;
  line-height: 1.4; }
figure img { display: block; width: 100%; height: 8rem; object-fit: contain; margin-bottom: .4rem; }
figure img.tiny { image-rendering: pixelated; }
figcaption span { white-space: nowrap; }
figcaption small { display: block; color: var(--faint); font-size: inherit; }
summary { cursor: pointer; }
@media print { body { max-width: none; padding: 0; } .scroll { overflow: visible; } svg { min-width: 0 !important; }
  h2 { break-after: avoid; } figure, tr, .grid > * { break-inside: avoid; } }
"""


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
      truth: for some methods the accuracy, from 0 to 1, on examples that no fold has seen.
      facts: topics and texts of the table on how this was made; by default those of `report.table.how_made`.

    Returns:
      The absolute path of the file.

    Raises:
      InputError: if the file cannot be written, there are no results, or `source` is not what they were made on.
    """
    path = _check_place(path)
    truth = dict(truth or {})
    rows = results_table(results, truth)
    if source is not None:
        for method, result in results.items():
            _check_source(source, method, result)
    best = next(row["method"] for row in rows if row["best"])
    made = how_made(results) if facts is None else facts
    sections = [
        _show_answer(rows, results),
        _show_scores(results, truth),
        _show_curves(results),
        _show_confusion(best, results[best]),
        _show_wrong(best, results[best], source),
        "<h2>How this was made</h2>"
        + _table([], [[_escaped(key), _escaped(text)] for key, text in made.items()], "made"),
    ]
    paragraphs = "".join(f"<p>{_escaped(part)}</p>" for part in intro.split("\n\n") if part.strip())
    _write_whole(
        path,
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escaped(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{_escaped(title)}</h1>{paragraphs}</header>\n"
        + "\n".join(f"<section>{section}</section>" for section in sections)
        + "\n</main>\n</body>\n</html>\n",
    )
    return path


def _check_place(path: str | Path) -> Path:
    path = Path(path).expanduser().absolute()
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; name the file to write in it, such as '{path / 'report.html'}'")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder '{path.parent}' to write '{path.name}' in; make it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"'{path.parent}' is not a folder that may be written to")
    return path


def _write_whole(path: Path, text: str) -> None:
    handle, work = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
        os.chmod(work, 0o644)
        os.replace(work, path)
    except BaseException:
        Path(work).unlink(missing_ok=True)
        raise


def _check_source(source: Source, method: str, result: Result) -> None:
    held = result.out_of_fold
    same = len(source) == result.data["examples"] and source.labels is not None
    if not same or (np.asarray(source.labels)[held.index] != held.label).any():
        raise InputError(
            f"the result of '{method}' was made on {result.data['examples']} examples of {result.data['name']}, but "
            f"source is {source.name} with {len(source)} examples, or others; give the one that it was made on"
        )


def _escaped(text: object) -> str:
    return html.escape(plain(text))


def _in_scroll(content: str, label: str) -> str:
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{_escaped(label)}">{content}</div>'


def _table(headers: Sequence[str], lines: Sequence[Sequence[str]], kind: str, best: int = -1) -> str:
    """Of cells that are HTML; the first of a line is its header; line number `best` is marked."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in headers)
    body = ""
    for place, (first, *others) in enumerate(lines):
        body += '<tr class="best">' if place == best else "<tr>"
        body += f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in others) + "</tr>"
    return f'<table class="{kind}">{f"<thead><tr>{head}</tr></thead>" if head else ""}<tbody>{body}</tbody></table>'


def _show_answer(rows: Sequence[Mapping[str, Any]], results: Mapping[str, Result]) -> str:
    headers, cells = as_text(rows)
    lines = [[_escaped(cell) for cell in line] for line in cells]
    several = len(rows) > 1
    place = next(place for place, row in enumerate(rows) if row["best"])
    best = results[rows[place]["method"]]
    lines[place][0] += ' <span class="tag">best</span>' if several else ""
    said = []
    if all(fold["test"] == 1 for fold in best.folds):
        said.append("Each fold tests one example, so that its score is 0 or 1 and the spread says little.")
    counts = np.bincount(best.out_of_fold.label)
    said.append(f"Always naming the most frequent class would be right for {percent(counts.max() / counts.sum())}.")
    if any(row["truth"] is not None for row in rows):
        said.append("“Unseen” is measured on examples that no fold has seen: cross-validation tries to foretell it.")
    if several:
        said.append("The best of several is chosen by the folds that score it, and so looks a little too good.")
    if len({result.split["sha256"] for result in results.values()}) > 1:
        said.append("The methods were not all tested on the same folds, which makes them harder to compare.")
    table = _table([_escaped(header) for header in headers], lines, "numbers answer", place if several else -1)
    first, rest = _escaped(meaning(rows)), _escaped(" ".join(said))
    return f'<h2>The answer</h2>{_in_scroll(table, "The answer")}<p>{first}</p><p class="note">{rest}</p>'


def _keys(*keys: tuple[str, str, str]) -> str:
    signs = [f'<b style="color:{colour}" aria-hidden="true">{sign}</b>{word}' for sign, colour, word in keys]
    return f'<ul class="keys"><li>{"</li><li>".join(signs)}</li></ul>'


def _show_scores(results: Mapping[str, Result], truth: Mapping[str, float]) -> str:
    keys = [("●", "var(--held-out)", "a fold"), ("━━", "var(--ink)", "mean over folds")]
    keys += [("◆", "var(--truth)", "examples that no fold has seen")] if truth else []
    folds = sorted({fold["fold"] for result in results.values() for fold in result.folds})
    table = ""
    if len(folds) <= MOST_FOLDS:
        scores = [{fold["fold"]: fold[result.metric] for fold in result.folds} for result in results.values()]
        lines = [[f"fold {f}", *(percent(held[f]) if f in held else "–" for held in scores)] for f in folds]
        numbers = _table(["fold", *map(_escaped, results)], lines, "numbers")
        table = f"<details><summary>The numbers</summary>{_in_scroll(numbers, 'Scores of each fold')}</details>"
    picture = _in_scroll(draw_fold_scores(results, truth), "Picture of the scores of each fold")
    return f"<h2>Each fold</h2>{_keys(*keys)}{picture}{table}"


def _show_curves(results: Mapping[str, Result]) -> str:
    if not any(result.curves for result in results.values()):
        return '<h2>Learning curves</h2><p class="note">None were recorded.</p>'
    many = max(len(result.folds) for result in results.values()) > MOST_LINES
    thin = "The band is one standard deviation between folds" if many else "Thin lines are folds, thick ones their mean"
    keys = _keys(("╍╍", "var(--train)", "training part"), ("━━", "var(--held-out)", "held-out part"))
    blocks = []
    for method, (loss, accuracy) in draw_curves(results).items():
        if len(results) == 1:
            blocks += [f"<div>{loss}</div>", f"<div>{accuracy}</div>"]
        else:
            blocks.append(f"<div><h3>{_escaped(method)}</h3>{accuracy}{loss}</div>")
    kind = "grid wide" if len(results) == 1 else "grid"
    note = f"{thin}. Nothing is chosen by the held-out curves: the score is that after the last epoch."
    return f'<h2>Learning curves</h2>{keys}<div class="{kind}">{"".join(blocks)}</div><p class="note">{note}</p>'


def _show_confusion(best: str, result: Result) -> str:
    counts = result.confusion_matrix()
    names = [_escaped(name) for name in result.class_names]
    said = f"Held-out predictions of “{_escaped(best)}”, all folds together: blue are right, orange wrong."
    picture = _in_scroll(draw_confusion(best, result), "Picture of the confusion matrix")
    table = ""
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    if len(counts) > MOST_COUNTS and wrong.any():
        order = np.argsort(-wrong, axis=None, kind="stable")[:10]
        pairs = [divmod(int(place), len(counts)) for place in order if wrong.flat[place]]
        lines = [[names[row], names[column], str(wrong[row, column]), str(counts[row].sum())] for row, column in pairs]
        listed = _table(["true class", "predicted class", "times", "of held-out"], lines, "examples")
        table = "<h3>Most often confused</h3>" + _in_scroll(listed, "Most often confused")
    return f"<h2>Which classes are confused</h2><p>{said}</p>{picture}{table}"


def _show_wrong(best: str, result: Result, source: Source | None) -> str:
    heading = "<h2>Most confidently wrong</h2>"
    rows = most_wrong(result, MOST_WRONG)
    if not rows:
        total = len(result.out_of_fold.index)
        return (
            f"{heading}<p>No prediction was wrong: “{_escaped(best)}” is right for all {total} held-out examples.</p>"
        )
    names = None if source is None else source.names
    pictures = [None if source is None else _picture(source[row["index"]]["x"]) for row in rows]
    for row in rows:
        row["true"], row["said"] = (_escaped(result.class_names[row[key]]) for key in ("label", "predicted"))
        row["p"] = "&gt; 0.99" if row["probability"] >= 0.995 else f"{row['probability']:.2f}"
        row["name"] = "" if names is None else _escaped("/".join(Path(str(names[row["index"]])).parts[-2:]))
    said = f"<p>Held-out examples to which “{_escaped(best)}” gave a wrong class with the largest probability.</p>"
    if all(pictures):
        shown = "".join(_captioned(row, *picture) for row, picture in zip(rows, pictures, strict=True))
        return f'{heading}{said}<div class="pictures">{shown}</div>'
    keys = {"index": "index", "name": "name", "true": "true class", "said": "predicted class", "p": "probability"}
    if names is None:
        del keys["name"]
    table = _table(list(keys.values()), [[str(row[key]) for key in keys] for row in rows], "examples")
    return heading + said + _in_scroll(table, "Most confidently wrong")


def _captioned(row: Mapping[str, Any], uri: str, kind: str) -> str:
    name = f"index {row['index']}" + (f", {row['name']}" if row["name"] else "")
    p = f"(p {row['p']})" if row["p"].startswith("&gt;") else f"(p = {row['p']})"
    said = f"true {row['true']}, predicted {row['said']}"
    image = f'<img class="{kind}" src="{uri}" alt="Example {name}: {said} {p}">'
    return f"<figure>{image}<figcaption>{said} <span>{p}</span><small>{name}</small></figcaption></figure>"


def _picture(x: np.ndarray) -> tuple[str, str] | None:
    """A data URI of an image ``uint8[height, width, 1 or 3]``, ``"tiny"`` if so; None for what is no image."""
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] not in (1, 3):
        return None
    from PIL import Image

    image = Image.fromarray(x[..., 0] if x.shape[2] == 1 else x)
    image.thumbnail((LARGE, LARGE))
    tiny = max(image.size) <= TINY
    file = io.BytesIO()
    image.save(file, "PNG" if tiny else "JPEG", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    return f"data:image/{'png' if tiny else 'jpeg'};base64,{data}", "tiny" if tiny else "large"
