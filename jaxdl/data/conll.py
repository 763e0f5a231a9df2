"""Files in columns, as of CoNLL's shared tasks: a word and its tag in each line, a blank line between sentences."""

import dataclasses
import re
from pathlib import Path

import numpy as np

from jaxdl.data.image_file import printable
from jaxdl.data.tagged import Tagged, make_tagged
from jaxdl.data.text_file import opened
from jaxdl.errors import InputError
from jaxdl.shown import counted

SUFFIXES = (".conll", ".conllu")
UNIVERSAL = ".conllu"  # of Universal Dependencies: ten columns; the second is the word, the fourth its part of speech
DOCUMENT = "-DOCSTART-"
NEW_DOCUMENT = re.compile(r"#\s*newdoc\b")
NO_WORD_LINE = re.compile(r"\d+[-.]\d+")  # number of a line in .conllu that is several words, or one left out


@dataclasses.dataclass(frozen=True)
class _Line:
    number: int
    text: str

    @property
    def columns(self) -> list[str]:
        """Divided by tabs where there are any, else by spaces."""
        return self.text.split("\t") if "\t" in self.text else [one for one in self.text.split(" ") if one]


@dataclasses.dataclass
class _Sentence:
    line: int
    document: int
    words: list[str] = dataclasses.field(default_factory=list)
    tags: list[str] = dataclasses.field(default_factory=list)


def conll(
    path: str | Path, word: int | None = None, tag: int | None = None, *, documents: bool = True, labelled: bool = True
) -> Tagged:
    """Sentences of a file in columns, UTF-8: a line for each word, a blank line between sentences.

    Columns are divided by tabs, else by spaces. A line ``-DOCSTART-`` (or, of Universal Dependencies, ``# newdoc``)
    begins a document; lines that begin with ``#`` and have another number of columns than the others are
    comments.

    Args:
      path: the file.
      word: column of the words, from 0, or from the end -1, …; by default the first, of ``.conllu`` the second.
      tag: column of the tags; by default the last, of ``.conllu`` the fourth (the universal part of speech).
      documents: whether sentences of one document are a group, which no division takes apart.
      labelled: if False, a file of words alone, one in each line, is read without tags.

    Raises:
      InputError: with file and line: for a line that is no UTF-8 or has another number of columns than the first, a
        column that is not there, a word or tag that is empty, or a file without words.
    """
    path = Path(path)
    lines = _read_lines(path)
    shown = printable(path)
    width = next((len(line.columns) for line in lines if _holds_word(line)), None)
    if width is None:
        raise InputError(f"'{shown}' holds no words; expected a word and its tag in each line")
    universal = path.suffix.lower() == UNIVERSAL and width == 10
    alone = width == 1 and not labelled and word is None and tag is None
    if width == 1 and not alone:
        raise InputError(
            f"'{shown}' has one column; expected a word and its tag in each line, divided by a tab or a space"
        )
    usual = (1, 3) if universal else (0, 0 if alone else -1)
    places = [
        _column(given, other, width, what, shown)
        for given, other, what in zip((word, tag), usual, ("word", "tag"), strict=True)
    ]
    sentences, left_out = _sentences(lines, width, places, universal, shown)
    source = make_tagged(
        [one.words for one in sentences],
        None if alone else [one.tags for one in sentences],
        [f"'{shown}', line {one.line}" for one in sentences],
    )
    count = len({one.document for one in sentences})
    notes = [f"words are column {places[0] + 1}" + ("" if alone else f", tags column {places[1] + 1}") + f" of {width}"]
    grouped = documents and count > 1
    if grouped:
        notes.append(f"{count:,} documents: the sentences of one stay together in every division")
    if left_out:
        notes.append(f"{counted(left_out, 'line')} left out: of several words in one, or of a word that is not there")
    return dataclasses.replace(
        source,
        groups=np.array([one.document for one in sentences]) if grouped else None,
        names=[f"{shown}:{one.line}" for one in sentences],
        name=shown,
        notes=tuple(notes),
    )


def conll_spec(spec: str) -> tuple[str, int | None] | None:
    """The file that a spec names, and the column of its tags from 0 if one is behind it (from 1); None for others.

    Raises:
      InputError: for what is no number of a column.
    """
    path, colon, said = spec.rpartition(":")
    if Path(spec).suffix.lower() in SUFFIXES:
        return spec, None
    if not colon or Path(path).suffix.lower() not in SUFFIXES:
        return None
    if not re.fullmatch(r"-?[1-9]\d{0,4}", said):
        raise InputError(
            f"'{printable(spec)}': '{said}' is no number of a column; the columns of such a file have no names. "
            f"Expected for example {printable(path)}:4 for the fourth, or :-1 for the last"
        )
    number = int(said)
    return path, number - (number > 0)


def _read_lines(path: Path) -> list[_Line]:
    with opened(path) as file:
        return [_Line(number, line.strip("\r\n ")) for number, line in enumerate(file, start=1)]


def _holds_word(line: _Line) -> bool:
    """Whether it is surely no comment, mark of a document or end of a sentence."""
    return bool(line.text) and not line.text.startswith(("#", DOCUMENT))


def _column(given: int | None, usual: int, width: int, what: str, shown: str) -> int:
    """From 0. Raises InputError for one that is not there."""
    place = usual if given is None else given
    if isinstance(place, bool) or not isinstance(place, int) or not -width <= place < width:
        raise InputError(
            f"the column of the {what}s of '{shown}' is {place!r} (from 0); expected one of {width}: 0 to {width - 1}, "
            f"or {-width} to -1 from the end"
        )
    return place % width


def _sentences(
    lines: list[_Line], width: int, places: list[int], universal: bool, shown: str
) -> tuple[list[_Sentence], int]:
    """Those that hold words, and how many lines were left out."""
    made: list[_Sentence] = []
    document = left_out = 0
    ended = True
    for line in lines:
        columns = line.columns
        if not line.text:
            ended = True
        elif line.text.startswith(DOCUMENT):
            document, ended = document + 1, True
        elif line.text.startswith("#") and len(columns) != width:
            document += bool(NEW_DOCUMENT.match(line.text))
        elif len(columns) != width:
            raise InputError(
                f"'{shown}', line {line.number} has {counted(len(columns), 'column')}, and the line of the first word "
                f"{width}: {line.text[:50]!r}"
            )
        elif universal and NO_WORD_LINE.fullmatch(columns[0]):
            left_out += 1
        else:
            word, tag = (columns[place].strip() for place in places)
            if not word or not tag:
                raise InputError(
                    f"'{shown}', line {line.number} has no {'tag' if word else 'word'}: {line.text[:50]!r}"
                )
            if ended:
                made.append(_Sentence(line.number, document))
            made[-1].words.append(word)
            made[-1].tags.append(tag)
            ended = False
    return made, left_out
