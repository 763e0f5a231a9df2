"""Which installed packages fit each other, by what their own metadata requires."""

import shlex
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from jaxdl.parallel.doctor.facts import Facts

# Of NVIDIA's drivers, the first release that runs a CUDA, and of its GPUs the lowest compute capability: JAX's guide
# to installation, and NVIDIA's release notes.
OLDEST_DRIVER = {"cuda13": 580, "cuda12": 525}
LOWEST_CAPABILITY = {"cuda13": 7.5, "cuda12": 5.2}


def unmet(facts: Facts, owner: str, extra: str = "") -> Iterator[Requirement]:
    """What a package requires and is not there: of the packages that `Facts.versions` is about.

    Args:
      facts: of the machine.
      owner: the package.
      extra: its requirements for one of its extras, of packages that are installed; without it those of any use.
    """
    for line in facts.requirements.get(owner, ()):
        try:
            required = Requirement(line)
        except InvalidRequirement:  # older than the standard
            continue
        told = required.marker
        if extra and (told is None or told.evaluate({"extra": ""}) or not told.evaluate({"extra": extra})):
            continue
        if not extra and told is not None and not told.evaluate({"extra": ""}):
            continue
        held = facts.versions.get(canonicalize_name(required.name))
        if held is None:
            if not extra and required.name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint"):
                yield required
        elif not _holds(required, held):
            yield required


def _holds(required: Requirement, version: str) -> bool:
    """Also of a version that is none by the standard: somebody built it, and knows."""
    try:
        return required.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True


def pip_install(facts: Facts, *requirements: str) -> str:
    """The command that installs packages for the Python that runs."""
    return shlex.join([facts.executable, "-m", "pip", "install", *requirements])


def pip_uninstall(facts: Facts, *packages: str) -> str:
    """The command that removes packages from the Python that runs."""
    return shlex.join([facts.executable, "-m", "pip", "uninstall", "-y", *packages])


def jax_with(facts: Facts, extra: str) -> str:
    """The requirement that brings the plugin that fits the JAX that is installed."""
    held = facts.versions.get("jax")
    return f"jax[{extra}]" + (f"=={held}" if held else "")


def fitting_cuda(facts: Facts) -> str | None:
    """The extra of JAX that this machine's driver and GPUs run, or None where the driver is too old for all.

    A driver that is unknown is taken for a new one.
    """
    driver = int(facts.driver.partition(".")[0] or 10**6)
    lowest = min((gpu.capability for gpu in facts.gpus if gpu.capability), default=100.0)
    fits = (cuda for cuda, oldest in OLDEST_DRIVER.items() if driver >= oldest and lowest >= LOWEST_CAPABILITY[cuda])
    return next(fits, None)
