"""Where is kept what can be made again: converted weights, compiled programs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """``jaxdl`` in ``$XDG_CACHE_HOME``, by default in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "jaxdl"


def compiled_programs() -> Path:
    """The folder of JAX's compilation cache: ``$JAX_COMPILATION_CACHE_DIR``, or one in `cache_folder`."""
    return Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or cache_folder() / "xla")
