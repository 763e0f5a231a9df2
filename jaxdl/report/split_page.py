"""The page of a division: its folds in numbers and as a picture, what it means and what is wrong with it."""

import base64
from pathlib import Path

from jaxdl.data.source import Source
from jaxdl.report.answer import show_facts
from jaxdl.report.markup import Section, check_place, document, escaped, in_scroll, make_table, note
from jaxdl.report.split import as_text, fold_rows, name_of, say_split
from jaxdl.report.table import plain
from jaxdl.tasks import Task
from jaxdl.validation.splits import Split
from jaxdl.weights.files import write_text

MOST_ROWS = 200  # folds of the table


def write_split_page(path: str | Path, split: Split, source: Source, task: Task, picture: Path) -> Path:
    """Writes one HTML file that needs nothing else.

    Args:
      path: of the file, whose folder must be there; a file of that name is replaced at once or not at all.
      split: of `source`.
      source: labelled.
      task: what is asked of the examples.
      picture: file of the picture that `split_picture.write_split_picture` drew.

    Returns:
      The absolute path of the file.

    Raises:
      InputError: if the file cannot be written.
    """
    path = check_place(path)
    rows = fold_rows(split, source, task)
    headers, cells = as_text(rows[:MOST_ROWS], source)
    table = make_table([escaped(h) for h in headers], [[escaped(cell) for cell in line] for line in cells], "numbers")
    said = "".join(f"<p>{escaped(sentence)}</p>" for sentence in say_split(split, rows, source))
    more = note(f"The first {MOST_ROWS} of {len(rows)} folds.") if len(rows) > MOST_ROWS else ""
    data = base64.b64encode(picture.read_bytes()).decode()
    alt = escaped(f"A line for each of {len(split)} folds, a column for each of {len(source)} examples: see the table")
    shown = f'<img class="drawing" src="data:image/png;base64,{data}" alt="{alt}">'
    facts = {
        "data": f"{source.name}, {len(source)} examples",
        "task": task.describe(),
        "splitter": name_of(split),
        "folds": str(len(split)),
        "options": ", ".join(f"{name} {value}" for name, value in split.options.items()) or "none",
        "seed": "none" if split.seed is None else str(split.seed),
        "sha256": split.sha256,
    }
    sections = [
        Section("What is divided, and how", said),
        Section("Who is where", in_scroll(shown, "Picture of the folds")),
        Section("The folds", in_scroll(table, "The folds") + more),
        show_facts({topic: plain(text) for topic, text in facts.items()}),
    ]
    lead = f"<p>{len(split)} folds of {len(source)} examples, before anything is trained.</p>"
    write_text(path, document(f"Folds of {source.name}", lead, sections))
    return path
