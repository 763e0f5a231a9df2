"""Checks of the environment, the memory, the cache and jaxdl itself. Each returns what is wrong, or None."""

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from jaxdl.errors import nearest
from jaxdl.parallel.doctor.facts import Facts
from jaxdl.parallel.doctor.finding import Finding
from jaxdl.parallel.doctor.versions import pip_install, pip_uninstall
from jaxdl.parallel.memory import in_words

KNOWN_PLATFORMS = ("cpu", "cuda", "gpu", "rocm", "tpu", "METAL", "mps")
LOW_MEMORY = 10**9  # bytes: JAX, a small network and its compilation take about as much
FULL_DISK = 2 * 10**8  # bytes: compiled programs of a few commands
DEVICE_COUNT = "--xla_force_host_platform_device_count"
UNKNOWN_FLAGS = re.compile(r"Unknown flags? in XLA_FLAGS: (.+)")


def platforms_are_there(facts: Facts) -> Finding | None:
    """JAX_PLATFORMS names devices that this machine has. (One that it has and that lacks its plugin is told before.)"""
    absent = [name for name in facts.platforms if not _is_there(facts, name)]
    if not absent:
        return None
    meant = next((nearest(name, KNOWN_PLATFORMS) for name in absent if name not in KNOWN_PLATFORMS), "")
    left = [name for name in facts.platforms if name not in absent] or ["cpu"]
    problem = f"JAX_PLATFORMS={','.join(facts.platforms)} names {', '.join(absent)}, which is not here"
    problem += f" ({meant.strip()})" if meant else ""
    return Finding("platforms", problem, f"export JAX_PLATFORMS={','.join(left)}")


def _is_there(facts: Facts, name: str) -> bool:
    if name in ("cuda", "gpu"):
        return facts.has_gpu or "gpu" in facts.found
    if name == "tpu":
        return facts.tpu_chips > 0 or "tpu" in facts.found
    return name == "cpu" or (name in KNOWN_PLATFORMS and bool(facts.start.devices))


def xla_flags_are_known(facts: Facts) -> Finding | None:
    """XLA ends the process at one that it does not know."""
    unknown = _unknown_flags(facts)
    if not unknown:
        return None
    problem = f"this release of XLA does not know {' '.join(unknown)} of XLA_FLAGS, and ends every process"
    return Finding("xla-flags", problem, _flags_left(facts, lambda flag: True))


def cpu_is_one_device(facts: Facts) -> Finding | None:
    """Several virtual devices are for tests: they share the cores of one."""
    told = re.search(rf"{DEVICE_COUNT}=(\d+)", facts.environment.get("XLA_FLAGS", ""))
    if told is None or int(told[1]) < 2:
        return None
    problem = f"XLA_FLAGS shows the CPU as {told[1]} devices, which is for tests and slows a training down"
    return Finding("virtual-devices", problem, _flags_left(facts, lambda flag: not flag.startswith(DEVICE_COUNT)))


def _unknown_flags(facts: Facts) -> list[str]:
    told = UNKNOWN_FLAGS.search(facts.start.error)
    return told[1].split() if told else []


def _flags_left(facts: Facts, kept: Callable[[str], bool]) -> str:
    """Sets those flags that XLA knows and that are kept."""
    unknown = _unknown_flags(facts)
    left = [flag for flag in facts.environment.get("XLA_FLAGS", "").split() if flag not in unknown and kept(flag)]
    return f"export XLA_FLAGS={shlex.quote(' '.join(left))}" if left else "unset XLA_FLAGS"


def memory_is_free(facts: Facts) -> Finding | None:
    """Of the host, within the container's limit."""
    if facts.free is None or facts.free >= LOW_MEMORY:
        return None
    problem = f"{in_words(facts.free)} of this host's memory are free; the processes that take most are listed by"
    return Finding("memory", problem, "ps -eo pid,rss,args --sort=-rss | head -n 6")


def cache_can_be_written(facts: Facts) -> Finding | None:
    """Without a cache every start compiles again."""
    cache = facts.cache
    full = cache.free is not None and cache.free < FULL_DISK
    if cache.writable and not full:
        return None
    why = f"its disk has {in_words(cache.free)} left" if cache.writable else "it cannot be written"
    problem = f"compiled programs cannot be kept in {cache.folder}: {why}"
    if full and cache.size >= FULL_DISK:
        return Finding("cache", problem, shlex.join(["rm", "-r", cache.folder]))
    other = f"/tmp/jaxdl-{facts.user or 'programs'}"
    return Finding("cache", problem, f"export JAX_COMPILATION_CACHE_DIR={shlex.quote(other)}")


def one_jaxdl(facts: Facts) -> Finding | None:
    """Of two, one may run in a terminal and the other in a notebook."""
    here = next(one for one in facts.installed if one.imported)
    others = [one for one in facts.installed if not one.imported]
    if not others:
        return None
    listed = ", ".join(f"{one.version} in {one.folder}" for one in others)
    problem = f"jaxdl {here.version} in {here.folder} runs, but there is also {listed}"
    homes = {str(Path(one.folder).parent) for one in others}
    path = facts.environment.get("PYTHONPATH", "").split(os.pathsep)
    if homes & set(path):
        left = os.pathsep.join(place for place in path if place not in homes)
        return Finding("two-jaxdl", problem, f"export PYTHONPATH={shlex.quote(left)}" if left else "unset PYTHONPATH")
    if "site-packages" in here.folder:
        return Finding("two-jaxdl", problem, pip_uninstall(facts, "jaxdl"))
    command = pip_install(facts, "--no-deps", "--editable", str(Path(here.folder).parent))
    return Finding("two-jaxdl", problem, command)
