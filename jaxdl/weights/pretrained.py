"""A checkpoint to start from: a folder here, or published weights that are converted once and kept."""

from pathlib import Path

from jaxdl.parallel.cache import cache_folder
from jaxdl.weights import hub
from jaxdl.weights.checkpoint import Checkpoint, restore, save
from jaxdl.weights.convert import convert
from jaxdl.weights.files import write_text


def load_pretrained(source: str | Path) -> Checkpoint:
    """The checkpoint in a folder, or of ``hf:OWNER/NAME[@REVISION]``.

    What comes from the hub is fetched and converted once, and kept under the commit it was at in the cache folder (see
    `cache_folder`). Without a connection the commit fetched last is used.

    Raises:
      InputError: if it cannot be had, read, or converted.
    """
    if not hub.is_hub(source):
        return restore(source)
    repository, revision = hub.parse(str(source))
    place = cache_folder() / "converted" / repository.replace("/", "--")
    last = place / "revisions" / revision.replace("/", "--")
    try:
        found = hub.find(str(source))
    except hub.Unreachable:
        if not last.is_file():
            raise
        commit = last.read_text()
    else:
        commit = found.revision
        write_text(last, commit)
    kept = place / commit
    if not kept.exists():
        save(convert(f"{hub.PREFIX}{repository}@{commit}").checkpoint, kept)
    return restore(kept)
