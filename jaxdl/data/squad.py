"""Questions with answers that are parts of a text: files in the form of SQuAD (Rajpurkar et al., arXiv:1606.05250)."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data.image_file import printable
from jaxdl.data.preprocessing.text import preprocessing_by
from jaxdl.data.text_file import half_character, opened
from jaxdl.data.texts import Texts
from jaxdl.errors import InputError
from jaxdl.shown import counted

SUFFIXES = (".json", ".json.gz")
FORM = (
    'expected the form of SQuAD: {"data": [{"title": …, "paragraphs": [{"context": …, "qas": [{"id": …, "question": …, '
    '"answers": [{"text": …, "answer_start": …}]}]}]}]}'
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Questions(Texts):
    """Questions about texts; attributes as in `Source`.

    ``x`` of an example is ``{"first": question, "second": text}``, ``y`` ``{"start": int32, "end": int32, "answers":
    str}``: where in the text the first of its known answers begins and ends, in characters, and all of them as a list
    in JSON.
    """

    name: str = "questions"

    def describe_x(self) -> str:
        return f"questions about {counted(len({text for _, text in self.held}), 'text')}"


@dataclasses.dataclass
class _Read:
    """What is read so far."""

    shown: str
    pairs: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    ids: dict[str, None] = dataclasses.field(default_factory=dict)
    titles: list[str] = dataclasses.field(default_factory=list)
    start: list[int] = dataclasses.field(default_factory=list)
    end: list[int] = dataclasses.field(default_factory=list)
    answers: list[str] = dataclasses.field(default_factory=list)
    unanswered: list[str] = dataclasses.field(default_factory=list)  # ids of questions without known answers
    impossible: int = 0

    def add(self, article: Any, paragraph: Any, asked: Any) -> None:
        """A question. Raises InputError, naming it, for what cannot be."""
        text, question = self.string(paragraph, "context"), self.string(asked, "question")
        name = self.string({"id": f"question {len(self.ids) + 1}", **asked}, "id")
        if name in self.ids:
            raise InputError(f"{self.shown}: the id '{name}' is that of two questions")
        if asked.get("is_impossible"):
            self.impossible += 1
            return
        if not question.strip() or not text.strip():
            raise InputError(f"{self.shown}: the {'text' if question.strip() else 'question'} of '{name}' is empty")
        known = self.items(asked.get("answers", []), "answers")
        spans = [self.span(name, text, one) for one in known]
        self.ids[name] = None
        self.pairs.append((question, text))
        self.titles.append(self.string(article, "title"))
        if not spans:
            self.unanswered.append(name)
            return
        self.start.append(spans[0][0])
        self.end.append(spans[0][1])
        self.answers.append(json.dumps([one["text"] for one in known], ensure_ascii=False))

    def span(self, name: str, text: str, answer: Any) -> tuple[int, int]:
        """Where an answer begins and ends, without space around it."""
        said, start = self.string(answer, "text"), answer.get("answer_start")
        if type(start) is not int or start < 0 or text[start : start + len(said)] != said or not said.strip():
            there = repr(text[start : start + len(said)][:50]) if type(start) is int and start >= 0 else "nothing"
            raise InputError(
                f"{self.shown}: the answer {said[:50]!r} of '{name}' does not stand at its answer_start, "
                f"{start!r:.50}: there is {there}. It counts characters of the text from 0"
            )
        begin = start + len(said) - len(said.lstrip())
        return begin, start + len(said.rstrip())

    def string(self, held: Any, key: str) -> str:
        if not isinstance(held, Mapping) or not isinstance(held.get(key), str):
            raise InputError(f"{self.shown} has no text for a '{key}'; {FORM}")
        if half := half_character(held[key]):
            raise InputError(
                f"{self.shown}: a '{key}' holds half of a character, {half!r}: it was cut, or read in a wrong encoding"
            )
        return held[key]

    def items(self, held: Any, key: str) -> list[Any]:
        if not isinstance(held, list) or not all(isinstance(one, Mapping) for one in held):
            raise InputError(f"{self.shown}: '{key}' is no list of objects; {FORM}")
        return held


def squad(
    path: str | Path,
    *,
    labelled: bool = True,
    groups: str | None = "title",
    tokenizer: str | Path | None = None,
    length: int = 256,
) -> Questions:
    """Questions of a file in SQuAD's form, version 1.1; ``.json``, or compressed, ``.json.gz``.

    Questions of version 2.0 that have no answer (``is_impossible``) are left out, which the source's notes say.

    Args:
      path: the file.
      labelled: if False, questions may have no answers; the source has labels only if all have some.
      groups: ``"title"``: questions about one article stand together in every division; ``"context"``: those about one
        paragraph; None for neither.
      tokenizer: for a model that has none, as of `texts`.
      length: number of tokens of a window for that tokenizer.

    Raises:
      InputError: naming the file, and the question by its id: for a file that cannot be read or has another form,
        answers that do not stand where they should, questions without one, and no questions.
    """
    path = Path(path)
    read = _Read(f"'{printable(path)}'")
    held = _read_json(path, read.shown)
    if not isinstance(held, Mapping) or "data" not in held:
        raise InputError(f"{read.shown} has no 'data'; {FORM}")
    for number, given in enumerate(read.items(held["data"], "data")):
        article = {"title": f"article {number + 1}", **given}
        for paragraph in read.items(article.get("paragraphs"), "paragraphs"):
            for asked in read.items(paragraph.get("qas"), "qas"):
                read.add(article, paragraph, asked)
    if not read.pairs:
        raise InputError(f"{read.shown} holds no questions that have an answer; {FORM}")
    if labelled and read.unanswered:
        raise InputError(
            f"{read.shown}: {len(read.unanswered)} of {counted(len(read.pairs), 'question')} have no answers, the "
            f"first '{read.unanswered[0]}'; give each one, or leave it out"
        )
    labels = None
    if not read.unanswered:
        places = {"start": np.array(read.start, np.int32), "end": np.array(read.end, np.int32)}
        labels = {**places, "answers": np.array(read.answers, str)}
    return Questions(
        read.pairs,
        labels,
        groups=_groups(read, groups),
        names=list(read.ids),
        preprocessing=None if tokenizer is None else preprocessing_by(tokenizer, length),
        name=printable(path),
        notes=_notes(read, groups),
    )


def _groups(read: _Read, groups: str | None) -> np.ndarray | None:
    if groups not in ("title", "context", None):
        raise InputError(f"groups is {groups!r}; expected 'title', 'context' or None")
    if groups is None:
        return None
    return np.array(read.titles if groups == "title" else [text for _, text in read.pairs], object)


def _notes(read: _Read, groups: str | None) -> tuple[str, ...]:
    notes = []
    if groups is not None:
        count = len(set(_groups(read, groups)))
        what = "article" if groups == "title" else "text"
        notes.append(f"{counted(count, what)}: the questions about one stay together in every division")
    if read.impossible:
        notes.append(f"{counted(read.impossible, 'question')} without an answer (is_impossible) left out")
    return tuple(notes)


def _read_json(path: Path, shown: str) -> Any:
    with opened(path, newline="") as file:
        content = file.read()
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise InputError(f"{shown} is no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise InputError(f"{shown} is nested too deeply; {FORM}") from error
    except ValueError as error:  # such as a number of thousands of digits
        raise InputError(f"{shown} is no JSON that can be read ({error}); {FORM}") from error
