"""Texts in files: one in each line, or a file for each in folders."""

from pathlib import Path

from jaxdl.data.class_folders import read_folder
from jaxdl.data.folder_layout import TEXTS
from jaxdl.data.image_file import printable
from jaxdl.data.text_file import opened
from jaxdl.data.texts import Texts
from jaxdl.errors import InputError
from jaxdl.shown import counted


def text_lines(path: str | Path) -> Texts:
    """A source of the texts in a file, one in each line, without labels; an empty line is an empty text.

    Args:
      path: the file in UTF-8, also ``.txt.gz``.

    Raises:
      InputError: if it cannot be read, naming the line; or holds nothing.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file '{printable(path)}'")
    with opened(path) as file:
        held = [line.strip() for line in file]
    if not any(held):
        raise InputError(f"'{printable(path)}' holds no text; expected one in each line")
    empty = sum(not text for text in held)
    notes = (f"{counted(empty, 'line')} without text: predicted as what the tokenizer makes of nothing",)
    return Texts(held, name=printable(path), notes=("a text in each line", *(notes if empty else ())))


def text_folder(
    path: str | Path, split: str | None = None, *, labelled: bool = True, default: str | None = None
) -> Texts:
    """A source from ``path/CLASS/….txt``, or from ``path/train/CLASS/…`` and ``path/val/CLASS/…``: a text for a file.

    Args:
      path: the folder.
      split: as of `folder.folder`, with the following two.
      labelled: if False, a file may also be empty.
      default: the split to take where `split` names none.

    Raises:
      InputError: as `folder.folder`; naming the file that is empty, and file and line of what is not UTF-8.
    """
    found = read_folder(path, TEXTS, split, default, labelled=labelled)
    held = [_read(file, labelled=labelled and found.labels is not None) for file in found.files]
    names = [printable(file) for file in found.files]
    return Texts(held, found.labels, found.class_names, names=names, name=found.name, notes=found.notes)


def _read(path: Path, *, labelled: bool) -> str:
    if not path.is_file():
        raise InputError(f"the text '{printable(path)}' cannot be read (it is no regular file); repair or remove it")
    with opened(path) as file:
        text = file.read().strip()
    if labelled and not text:
        raise InputError(f"'{printable(path)}' is empty: there is nothing to learn from; write its text or remove it")
    return text
