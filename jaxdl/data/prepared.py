"""Where TensorFlow Datasets has prepared a data set, and what to do where it has not."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

from jaxdl.errors import InputError, nearest

GRAMMAR = "tfds:NAME[/CONFIG][:VERSION][:SPLIT]"
READ = "pip install tensorflow-datasets importlib_resources array_record"
VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclasses.dataclass(frozen=True)
class Spec:
    """What `GRAMMAR` says: for example ``tfds:cifar10``, ``tfds:glue/sst2:2.0.0:train[:80%]``."""

    dataset: str
    version: str | None
    split: str | None

    @classmethod
    def parse(cls, spec: str) -> "Spec":
        """Raises InputError if `spec` is not of that form."""
        match = re.fullmatch(r"tfds:(\w+(?:/[^:/]+)?)(?::(\d+\.\d+\.\d+))?(?::(.+))?", spec)
        if match is None:
            raise InputError(f"'{spec}' names no data set; expected {GRAMMAR}, for example tfds:cifar10:train[:80%]")
        return cls(*match.groups())

    @property
    def full_name(self) -> str:
        return self.dataset if self.version is None else f"{self.dataset}:{self.version}"


def import_tfds(spec: str) -> Any:
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise missing(spec, error) from error
    return tensorflow_datasets


def missing(spec: str, error: ImportError) -> InputError:
    return InputError(
        f"reading '{spec}' takes packages that are not installed ({error}): {READ}. Preparing a data set "
        "takes tensorflow, too"
    )


def prepared_folder(said: Spec, tensorflow_datasets: Any) -> Path:
    """``DATA_DIR/NAME[/CONFIG]/VERSION``."""
    data_dir = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    name, slash, config = said.dataset.partition("/")
    home = data_dir / name
    configs = {p.name: _versions(p) for p in _folders(home) if _versions(p)}
    if not slash and not _versions(home) and configs:
        if len(configs) > 1:
            raise InputError(
                f"'{name}' is prepared in several configs in '{data_dir}': {', '.join(sorted(configs))}. Say which: "
                f"tfds:{name}/{min(configs)}"
            )
        config = next(iter(configs))
    versions = configs.get(config, []) if config else _versions(home)
    if said.version in versions or (versions and said.version is None):
        return home / config / (said.version or versions[-1])
    how = f"\n{how_to_prepare(said, data_dir)}"
    if versions:
        raise InputError(
            f"'{said.dataset}' is prepared in the versions {', '.join(versions)} in '{data_dir}', not {said.version}. "
            f"To prepare it:{how}"
        )
    if configs:
        raise InputError(
            f"'{name}' is prepared in the configs {', '.join(sorted(configs))} in '{data_dir}', not '{config}'"
            f".{nearest(config, configs)} To prepare it:{how}"
        )
    prepared = sorted(p.name for p in _folders(data_dir) if _versions(p) or any(map(_versions, _folders(p))))
    known = tensorflow_datasets.list_builders(with_community_datasets=False)
    looked = f"there is no '{home / config / (said.version or 'VERSION')}' with a dataset_info.json"
    if name not in [*known, *prepared]:
        raise InputError(
            f"unknown data set '{name}': {looked}, and TensorFlow Datasets {tensorflow_datasets.__version__} does not "
            f"list it. Prepared in '{data_dir}': {', '.join(prepared) or 'none'}.{nearest(name, [*prepared, *known])}"
        )
    raise InputError(
        f"'{said.full_name}' is not prepared: {looked}. Preparing downloads it, and takes TensorFlow this once:{how}"
    )


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []  # it is not there, or not ours to read: the message says where it was looked for


def _versions(path: Path) -> list[str]:
    """Prepared versions in a folder, the latest last."""
    found = [p.name for p in _folders(path) if VERSION.fullmatch(p.name) and (p / "dataset_info.json").is_file()]
    return sorted(found, key=lambda version: [int(number) for number in version.split(".")])


def how_to_prepare(said: Spec, data_dir: Path) -> str:
    return (
        f"  {READ} tensorflow\n"
        f"  python -c \"import tensorflow_datasets as tfds; tfds.builder('{said.full_name}', data_dir='{data_dir}', "
        "file_format='array_record').download_and_prepare()\""
    )
