"""What a model learns from."""

from pathlib import Path

from jaxdl.data.builtin import digits
from jaxdl.data.folder import folder, splits_of
from jaxdl.data.preprocessing import Preprocessing
from jaxdl.data.source import Arrays, Source, subset
from jaxdl.data.table import arrays, npz
from jaxdl.errors import InputError, nearest

__all__ = ["Arrays", "Preprocessing", "Source", "arrays", "digits", "folder", "load", "npz", "splits_of", "subset"]


def load(spec: str | Path, split: str | None = None, *, labelled: bool = True) -> Source:
    """The source that a `SPEC` of the command line names.

    Args:
      spec: ``digits``, ``digits:5-9`` or ``digits:1,7``; a folder, with ``:train``, ``:val`` or ``:all`` behind it
        where it has splits; or a file ``.npz``.
      split: taken where a folder has it and the spec does not say one.
      labelled: see `folder`.

    Raises:
      InputError: if there is no such thing.
    """
    spec = str(spec)
    if spec == "digits" or spec.startswith("digits:"):
        return digits(_digit_classes(spec))
    path, colon, said = spec.rpartition(":")
    if colon and said in ("train", "val", "all") and not Path(spec).exists():
        return folder(path, said, labelled=labelled)
    if Path(spec).is_dir():
        return folder(spec, split if split in splits_of(spec) else None, labelled=labelled)
    if spec.endswith(".npz"):
        return npz(spec)
    if Path(spec).exists():
        raise InputError(f"'{spec}' is neither a folder of class folders nor an .npz file")
    raise InputError(
        f"there is no '{spec}'; expected 'digits', a folder of class folders of images, or a file .npz."
        + nearest(spec, ["digits", *(f"{path}:{s}" for s in splits_of(path))])
    )


def _digit_classes(spec: str) -> list[int] | None:
    said = spec.partition(":")[2]
    if not said:
        return None
    try:
        first, dash, last = said.partition("-")
        return list(range(int(first), int(last) + 1)) if dash else [int(c) for c in said.split(",")]
    except ValueError:
        raise InputError(f"'{spec}' names no digits; expected for example digits:0-4 or digits:1,7") from None
