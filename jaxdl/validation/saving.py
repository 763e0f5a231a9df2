"""What all results have: they are saved as a folder."""

from pathlib import Path

from jaxdl.weights.files import check_free, written_whole


class Saved:
    """A result that knows its files."""

    def save(self, path: str | Path) -> Path:
        """Writes the files of `write_to` to a new folder, also ``gs://BUCKET/FOLDER``, all or nothing.

        Raises:
          InputError: if something is there already.
        """
        path = check_free(path, bucket=True)
        with written_whole(path) as work:
            self.write_to(work)
        return path

    def write_to(self, folder: Path) -> None:
        """The files, into a folder that is there."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its files are")
