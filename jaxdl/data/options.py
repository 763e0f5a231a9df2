"""Options of how data are read, as plain values in a run's folder."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from jaxdl.errors import InputError


class Options:
    """A base of frozen dataclasses, each field of which has a default."""

    def plain(self) -> dict[str, Any]:
        """Plain values, for JSON; those that are not at their defaults."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        given = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

    @classmethod
    def parse(cls, plain: Mapping[str, Any]) -> Self:
        """From what `plain` gave. Raises InputError for other names."""
        if unknown := plain.keys() - {field.name for field in dataclasses.fields(cls)}:
            raise InputError(f"{cls.__name__} has no options {', '.join(sorted(unknown))}")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()})
