"""What is misconfigured: each check is a pure function of the facts, and what it finds has a command that mends it."""

import dataclasses
from collections.abc import Callable

from packaging.specifiers import SpecifierSet

from jaxdl.parallel.doctor import accelerators, settings
from jaxdl.parallel.doctor.facts import Facts
from jaxdl.parallel.doctor.finding import Finding
from jaxdl.parallel.doctor.versions import pip_install, unmet


def packages_fit(facts: Facts) -> Finding | None:
    """JAX and what is built on it require versions of each other."""
    needed = [(owner, one) for owner in facts.requirements for one in unmet(facts, owner)]
    if not needed:
        return None
    said = [
        f"{owner} needs {one.name}{one.specifier}, and "
        + (f"{facts.versions[one.name]} is installed" if one.name in facts.versions else "it is not installed")
        for owner, one in needed
    ]
    wanted: dict[str, SpecifierSet] = {}
    for _, one in needed:  # of a package that several require what suits all of them
        wanted[one.name] = wanted.get(one.name, SpecifierSet()) & one.specifier
    command = pip_install(facts, *(f"{name}{suits}" for name, suits in wanted.items()))
    return Finding("packages", "; ".join(said), command)


# What may keep JAX from starting, or from a device, so that this needs no other explanation.
FIRST: tuple[Callable[[Facts], Finding | None], ...] = (
    packages_fit,
    accelerators.two_cuda_plugins,
    accelerators.cuda_plugin_fits,
    accelerators.libtpu_fits,
    accelerators.driver_fits,
    accelerators.gpu_has_a_plugin,
    accelerators.tpu_has_libtpu,
    accelerators.tpu_is_free,
    accelerators.tpu_waits_for_no_other,
    accelerators.gpu_is_used,
    accelerators.tpu_is_used,
    settings.platforms_are_there,
    settings.xla_flags_are_known,
)
OTHERS: tuple[Callable[[Facts], Finding | None], ...] = (
    accelerators.libtpu_has_a_tpu,
    accelerators.gpu_has_memory,
    accelerators.gpu_is_fast,
    settings.cpu_is_one_device,
    settings.memory_is_free,
    settings.cache_can_be_written,
    settings.one_jaxdl,
)


def jax_starts(facts: Facts) -> Finding | None:
    """For a reason that no other check knows."""
    if facts.start.devices:
        return None
    problem = f"JAX does not start: {facts.start.error}"
    if facts.start_on_cpu is not None and facts.start_on_cpu.devices:
        return Finding("start", f"{problem}. On the CPU alone it does", "export JAX_PLATFORMS=cpu")
    held = [f"{name}=={facts.versions[name]}" for name in ("jax", "jaxlib") if name in facts.versions]
    return Finding("start", problem, pip_install(facts, "--force-reinstall", "--no-deps", *(held or ["jax"])))


def findings(facts: Facts) -> list[Finding]:
    """All that is wrong, what keeps JAX from starting first; empty where all is well."""
    found = [one for check in FIRST if (one := check(facts)) is not None]
    rest = OTHERS if found else (jax_starts, accelerators.gpu_starts, *OTHERS)
    return found + [one for check in rest if (one := check(facts)) is not None]


def as_json(facts: Facts, found: list[Finding]) -> dict[str, object]:
    """Facts and findings as plain values."""
    return {
        "well": not found,
        "findings": [dataclasses.asdict(one) for one in found],
        "facts": dataclasses.asdict(facts),
    }
