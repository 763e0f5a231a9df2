"""Weights from Hugging Face's hub: ``hf:OWNER/NAME[@REVISION]``."""

import dataclasses
import os
import re
from pathlib import Path

from jaxdl.data.preprocessing.tokenizer import SETTINGS, TOKENIZER, VOCABULARY
from jaxdl.errors import InputError
from jaxdl.weights.bert import MODULES, POOLING
from jaxdl.weights.files import first_line
from jaxdl.weights.hub_config import CONFIG, PREPROCESSOR

PREFIX = "hf:"
# what a repository may hold, the best first: one of them is read
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class Unreachable(InputError):
    """There is no connection to the hub, or it does not answer."""


def is_hub(source: str | os.PathLike) -> bool:
    """Whether `source` names a repository on the hub."""
    return str(source).startswith(PREFIX)


def parse(source: str) -> tuple[str, str]:
    """``OWNER/NAME`` and revision of ``hf:OWNER/NAME[@REVISION]``. Raises InputError."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    found = re.fullmatch(rf"{PREFIX}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", source)
    try:
        if found is None or ".." in source:
            raise HFValidationError("it has another form")
        validate_repo_id(found[1])
    except HFValidationError as error:
        raise InputError(
            f"'{source}' is no source on the hub; expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION"
        ) from error
    return found[1], found[2] or "main"


@dataclasses.dataclass(frozen=True)
class Found:
    """A repository at one commit.

    Attributes:
      repository: ``OWNER/NAME``.
      revision: the commit.
      files: names of what it holds, or None without a connection.
      licence: as it states it, or None.
    """

    repository: str
    revision: str
    files: frozenset[str] | None
    licence: str | None


def find(source: str) -> Found:
    """What `source` names now; without a connection, what was fetched of it last.

    Raises:
      InputError: if there is no such repository or revision.
      Unreachable: if there is no connection, and nothing fetched before.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    repository, revision = parse(source)
    try:
        info = HfApi().model_info(repository, revision=revision, timeout=10)
    except Exception as error:  # of the hub and of several HTTP libraries
        if _says_no(error):
            raise _no_such(source, error) from error
        for name in WEIGHTS:
            file = try_to_load_from_cache(repository, name, revision=revision)
            if isinstance(file, str):
                return Found(repository, Path(file).parent.name, None, None)  # …/snapshots/COMMIT/FILE
        raise _unreachable(source, error) from error
    licence = None if info.card_data is None else info.card_data.get("license")
    return Found(repository, info.sha, frozenset(file.rfilename for file in info.siblings or ()), licence)


def fetch(source: str, found: Found) -> Path:
    """The file of weights of a repository, with what describes it beside it; fetched, or found where it was kept.

    Raises:
      InputError: if the repository cannot be reached or has no weights in a form that can be read; it says which file
        to fetch by hand, and where to put it.
    """
    from huggingface_hub import hf_hub_download

    held = WEIGHTS if found.files is None else [name for name in WEIGHTS if name in found.files]
    if not held:
        shown = ", ".join(sorted(found.files)[:10])
        raise InputError(f"'{source}' holds neither {' nor '.join(WEIGHTS)}, but: {shown}")
    try:
        file = Path(hf_hub_download(found.repository, held[0], revision=found.revision))
        for name in (CONFIG, PREPROCESSOR, POOLING, MODULES, TOKENIZER, VOCABULARY, SETTINGS):
            if found.files is not None and name in found.files:
                hf_hub_download(found.repository, name, revision=found.revision)
    except Exception as error:
        raise (_no_such if _says_no(error) else _unreachable)(source, error) from error
    return file


def _says_no(error: Exception) -> bool:
    """Whether the hub answered, and the answer is that there is no such thing or no access."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    return isinstance(error, (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError)) and not isinstance(
        error, LocalEntryNotFoundError
    )


def _no_such(source: str, error: Exception) -> InputError:
    repository, revision = parse(source)
    return InputError(
        f"the hub has no '{repository}' at revision '{revision}', or it is not public ({first_line(error)}). Check the "
        "name at https://huggingface.co; of a private one, log in with: hf auth login"
    )


def _unreachable(source: str, error: Exception) -> Unreachable:
    repository, revision = parse(source)
    address = f"https://huggingface.co/{repository}/resolve/{revision}"
    return Unreachable(
        f"'{source}' cannot be fetched: the hub cannot be reached ({first_line(error)}). On a machine that reaches it, "
        f"fetch {address}/{WEIGHTS[0]} and {address}/{CONFIG}, put both into one folder here, and name that file: "
        f"jaxdl convert --from FOLDER/{WEIGHTS[0]} --out CKPT"
    )
