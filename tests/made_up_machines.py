"""Machines that are made up: facts, and what becomes of them when a command is followed."""

import dataclasses
import re
import shlex
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jaxdl.parallel.doctor.facts import Cache, Device, Facts, Gpu, Installed, Start

NEEDED = {
    "jaxdl": ("jax>=0.10", "flax>=0.12", "optax>=0.2.8", "orbax-checkpoint>=0.12", 'jax[tpu]>=0.10; extra == "tpu"'),
    "jax": (
        "jaxlib<=0.10.2,>=0.10.1",
        'libtpu==0.0.42.*; extra == "tpu"',
        'jax-cuda12-plugin[with-cuda]<=0.10.2,>=0.10.2; extra == "cuda12"',
        'jax-cuda13-plugin[with-cuda]<=0.10.2,>=0.10.2; extra == "cuda13"',
    ),
    "jax-cuda13-plugin": ("jax-cuda13-pjrt==0.10.2",),
    "flax": ("jax>=0.10.0",),
}
VERSIONS = {"jax": "0.10.2", "jaxlib": "0.10.2", "flax": "0.12.8", "optax": "0.2.8", "orbax-checkpoint": "0.12.8"}
CPU, GPU, TPU = Device("cpu", "cpu"), Device("gpu", "NVIDIA H100 80GB HBM3", 60 * 10**9, 0), Device("tpu", "TPU v4")
H100 = Gpu("NVIDIA H100 80GB HBM3", 9.0, 80 * 10**9, 79 * 10**9)
CUDA13 = VERSIONS | {"jax-cuda13-plugin": "0.10.2", "jax-cuda13-pjrt": "0.10.2"}
WITH_TPU = VERSIONS | {"libtpu": "0.0.42.1"}


def machine(**other):
    """One where all is well, but for what is given."""
    well = dict(
        python="3.12.1",
        executable="/opt/my env/bin/python",  # which a shell must not take for two words
        versions=VERSIONS,
        requirements=NEEDED,
        environment={},
        start=Start((CPU,)),
        cache=Cache("/home/ann/.cache/jaxdl/xla", free=10**11),
        installed=(Installed("/home/ann/jaxdl/jaxdl", "0.1.0", True),),
        memory=16 * 10**9,
        free=12 * 10**9,
        user="ann",
    )
    return Facts(**well | other)


def followed(facts, command):
    """The facts after a command; JAX starts again, and finds what it then finds."""
    for one in command.split(" && "):
        words = shlex.split(one)
        if words[1:3] == ["-m", "pip"]:
            assert words[0] == facts.executable
            facts = _piped(facts, words[3], [word for word in words[4:] if not word.startswith("-")])
        else:
            facts = RUNS[words[0]](facts, words[1:])
    return dataclasses.replace(facts, start=started(facts))


def started(facts):
    """How JAX would start, by the rules that its own guide to installation gives."""
    tpu = facts.tpu_chips and facts.versions.get("libtpu", "").startswith("0.0.42") and not facts.holders
    tpu = tpu and facts.tpu_lock_owner in ("", facts.user)
    gpu = facts.has_gpu and {"0.10.2"} == {v for name, v in facts.versions.items() if "-cuda" in name}
    gpu = gpu and facts.environment.get("CUDA_VISIBLE_DEVICES") != ""
    there = {"cpu": CPU} | ({"cuda": GPU} if gpu else {}) | ({"tpu": TPU} if tpu else {})
    if unknown := re.findall(r"--not\S*", facts.environment.get("XLA_FLAGS", "")):
        return Start(error=f"Unknown flag in XLA_FLAGS: {' '.join(unknown)}")
    chosen = [name for name in facts.platforms if name in there] if facts.platforms else sorted(there, reverse=True)
    if not chosen:
        return Start(error=f"Unable to initialize backend '{facts.platforms[0]}'")
    return Start((there[chosen[0]],))


def _piped(facts, verb, packages):
    versions, installed = dict(facts.versions), facts.installed
    if verb == "uninstall":
        for name in packages:
            versions.pop(name, None)
        gone = packages == ["jaxdl"]
        installed = tuple(dataclasses.replace(one, imported=True) for one in installed if not (gone and one.imported))
        return dataclasses.replace(facts, versions=versions, installed=installed)
    assert verb == "install"
    for name in packages:
        if name.startswith("/"):  # --editable: takes the place of what was installed
            (here,) = (one for one in installed if one.folder == f"{name}/jaxdl")
            installed = (here,)
            continue
        wanted = Requirement(name)
        _install(versions, wanted)
        for extra in wanted.extras:
            assert extra in metadata.metadata("jax").get_all("Provides-Extra")  # of the real one
            for line in facts.requirements["jax"]:
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    _install(versions, needed)
                    for more in facts.requirements.get(needed.name, ()):
                        _install(versions, Requirement(more))
    return dataclasses.replace(facts, versions=versions, installed=installed)


def _install(versions, wanted):
    """The release that a requirement names, if that which is there does not do."""
    held = versions.get(canonicalize_name(wanted.name))
    named = [one.version.replace("*", "1") for one in wanted.specifier if one.operator in ("==", "<=", ">=")]
    if held is None or not wanted.specifier.contains(held):
        fits = [version for version in named if wanted.specifier.contains(version)]
        versions[canonicalize_name(wanted.name)] = fits[0] if fits else "0.10.2"


def _export(facts, words):
    name, _, value = words[0].partition("=")
    cache = Cache(value, free=10**10) if name == "JAX_COMPILATION_CACHE_DIR" else facts.cache
    installed = facts.installed
    if name == "PYTHONPATH":
        installed = tuple(one for one in installed if one.imported)
    return dataclasses.replace(facts, environment=facts.environment | {name: value}, cache=cache, installed=installed)


def _unset(facts, words):
    left = {name: value for name, value in facts.environment.items() if name != words[0]}
    installed = tuple(one for one in facts.installed if one.imported) if words[0] == "PYTHONPATH" else facts.installed
    return dataclasses.replace(facts, environment=left, installed=installed)


def _kill(facts, words):
    assert words == [str(one.pid) for one in facts.holders]
    gpus = tuple(dataclasses.replace(gpu, free=gpu.memory) for gpu in facts.gpus)
    return dataclasses.replace(facts, holders=(), gpus=gpus)


def _rm(facts, words):
    assert words == ["-r", facts.cache.folder]
    freed = dataclasses.replace(facts.cache, size=0, files=0, free=facts.cache.free + facts.cache.size)
    return dataclasses.replace(facts, cache=freed)


def _sudo(facts, words):
    assert words == ["rm", "/tmp/libtpu_lockfile"]
    return dataclasses.replace(facts, tpu_lock_owner="")


RUNS = {"export": _export, "unset": _unset, "kill": _kill, "rm": _rm, "sudo": _sudo}
