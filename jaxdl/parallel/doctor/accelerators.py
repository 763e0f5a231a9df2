"""Checks of GPUs and TPUs. Each returns what is wrong, or None."""

import shlex

from jaxdl.parallel.chips import chip_of
from jaxdl.parallel.doctor.facts import Facts
from jaxdl.parallel.doctor.finding import Finding
from jaxdl.parallel.doctor.versions import (
    OLDEST_DRIVER,
    fitting_cuda,
    jax_with,
    pip_install,
    pip_uninstall,
    unmet,
)
from jaxdl.parallel.memory import in_words
from jaxdl.shown import counted

TAKEN = 0.2  # share of a GPU's memory: with less than this free, another process is at work
SLOW = 0.25  # share of the known peak
NEW_DRIVER = "sudo ubuntu-drivers install"  # on Ubuntu, as nearly all images with a GPU are


def two_cuda_plugins(facts: Facts) -> Finding | None:
    """JAX loads one."""
    if not {"jax-cuda12-plugin", "jax-cuda13-plugin"} <= facts.versions.keys():
        return None
    wrong = "12" if fitting_cuda(facts) == "cuda13" else "13"
    removed = [f"jax-cuda{wrong}-plugin", f"jax-cuda{wrong}-pjrt"]
    return Finding("two-plugins", "JAX's plugins for CUDA 12 and 13 are both installed", pip_uninstall(facts, *removed))


def cuda_plugin_fits(facts: Facts) -> Finding | None:
    """It is compiled against one jaxlib."""
    plugin = facts.cuda_plugin
    if plugin is None:
        return None
    extra = plugin.split("-")[1]
    wanted = next((one for one in unmet(facts, "jax", extra) if one.name == plugin), None)
    if wanted is None:
        return None
    problem = (
        f"{plugin} {facts.versions[plugin]} does not fit JAX {facts.versions.get('jax')} (jaxlib "
        f"{facts.versions.get('jaxlib')}), which needs {wanted.specifier}"
    )
    return Finding("cuda-plugin", problem, pip_install(facts, jax_with(facts, extra)))


def libtpu_fits(facts: Facts) -> Finding | None:
    """It is compiled against one jaxlib, too."""
    wanted = next((one for one in unmet(facts, "jax", "tpu") if one.name == "libtpu"), None)
    if wanted is None:
        return None
    held = facts.versions
    problem = f"libtpu {held['libtpu']} does not fit JAX {held['jax']}, which needs {wanted.specifier}"
    return Finding("libtpu", problem, pip_install(facts, jax_with(facts, "tpu")))


def driver_fits(facts: Facts) -> Finding | None:
    """NVIDIA's driver must be new enough for the plugin's CUDA, and the GPU, too."""
    plugin, right = facts.cuda_plugin, fitting_cuda(facts)
    if plugin is None or not facts.has_gpu or plugin.split("-")[1] == right or right == "cuda13":
        return None
    here = f"the driver {facts.driver or 'of an unknown version'}"
    if facts.gpus:
        here += f" with a {facts.gpus[0].name}"
    problem = f"{here} does not run {plugin}"
    if right is None:
        return Finding("driver", f"{problem}; CUDA 12 needs a driver of {OLDEST_DRIVER['cuda12']} or newer", NEW_DRIVER)
    removed = pip_uninstall(facts, plugin, plugin.replace("plugin", "pjrt"))
    return Finding("driver", problem, f"{removed} && {pip_install(facts, jax_with(facts, right))}")


def gpu_has_a_plugin(facts: Facts) -> Finding | None:
    """Without the plugin JAX computes on the CPU, and says nothing."""
    if not facts.has_gpu or facts.cuda_plugin is not None or facts.found - {"cpu"}:
        return None
    name = facts.gpus[0].name if facts.gpus else facts.nvidia_files[0]
    problem = f"a GPU is here ({name}), but JAX has no CUDA plugin and computes on the CPU"
    cuda = fitting_cuda(facts)
    if cuda is None:
        return Finding("gpu", f"{problem}; the driver {facts.driver} is too old for CUDA 12 and 13", NEW_DRIVER)
    return Finding("gpu", problem, pip_install(facts, jax_with(facts, cuda)))


def tpu_has_libtpu(facts: Facts) -> Finding | None:
    """The same of a TPU."""
    if not facts.tpu_chips or "libtpu" in facts.versions or "tpu" in facts.found:
        return None
    problem = f"this host has {counted(facts.tpu_chips, 'TPU chip')}, but libtpu is not installed"
    return Finding("tpu", problem, pip_install(facts, jax_with(facts, "tpu")))


def tpu_is_free(facts: Facts) -> Finding | None:
    """One process has a TPU to itself."""
    if not facts.tpu_chips or "tpu" in facts.found:
        return None
    held = [one for one in facts.holders if one.place.startswith("/dev/")]
    if held:
        who = ", ".join(f"process {one.pid} ({one.command})" for one in held)
        pids = [str(one.pid) for one in held]
        return Finding("tpu-held", f"the TPU is held by {who}", shlex.join(["kill", *pids]))
    if facts.tpu_lock_owner and (facts.tpu_lock_owner != facts.user or "in use" in facts.start.error):
        problem = f"the TPU's lock file, of the user {facts.tpu_lock_owner}, is there and no process that holds the TPU"
        return Finding("tpu-held", problem, "sudo rm /tmp/libtpu_lockfile")
    return None


def tpu_waits_for_no_other(facts: Facts) -> Finding | None:
    """On a slice of several hosts JAX starts on all of them together, and each waits for the others."""
    if not facts.tpu_chips or not facts.start.timed_out or tpu_is_free(facts) is not None:
        return None
    problem = "JAX did not start in time: on a slice of several hosts it waits for the others; start it on all of them"
    command = "gcloud compute tpus tpu-vm ssh NAME --zone ZONE --worker all --command 'jaxdl doctor'"
    return Finding("tpu-waits", problem, command)


def gpu_is_used(facts: Facts) -> Finding | None:
    """A plugin and a GPU are there, and JAX does not compute on it."""
    plugin = facts.cuda_plugin
    if not facts.has_gpu or plugin is None or facts.found != {"cpu"}:
        return None
    if facts.platforms and not {"cuda", "gpu"} & set(facts.platforms):
        problem = f"a GPU is here, but JAX_PLATFORMS={','.join(facts.platforms)} keeps JAX from it"
        return Finding("gpu-unused", problem, "export JAX_PLATFORMS=cuda,cpu")
    if facts.environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        problem = f"CUDA_VISIBLE_DEVICES='{facts.environment['CUDA_VISIBLE_DEVICES']}' hides the GPU"
        return Finding("gpu-unused", problem, "unset CUDA_VISIBLE_DEVICES")
    return None


def gpu_starts(facts: Facts) -> Finding | None:
    """A GPU that is left unused for a reason that no other check knows."""
    plugin = facts.cuda_plugin
    if not facts.has_gpu or plugin is None or facts.found != {"cpu"}:
        return None
    problem = f"a GPU and {plugin} are here, but JAX finds only the CPU"
    if facts.environment.get("LD_LIBRARY_PATH"):
        said = "LD_LIBRARY_PATH may bring other CUDA libraries than those that pip installed"
        return Finding("gpu-unused", f"{problem}; {said}", "unset LD_LIBRARY_PATH")
    wanted = pip_install(facts, "--force-reinstall", jax_with(facts, plugin.split("-")[1]))
    return Finding("gpu-unused", f"{problem}; its libraries may be damaged", wanted)


def tpu_is_used(facts: Facts) -> Finding | None:
    """A TPU and libtpu are there, and JAX is told to use something else."""
    named = facts.platforms
    if not facts.tpu_chips or "libtpu" not in facts.versions or not named or "tpu" in named:
        return None
    problem = f"a TPU is here, but JAX_PLATFORMS={','.join(named)} keeps JAX from it"
    return Finding("tpu-unused", problem, "export JAX_PLATFORMS=tpu,cpu")


def libtpu_has_a_tpu(facts: Facts) -> Finding | None:
    """Where JAX may choose, it looks for a TPU at each start, with warnings."""
    if "libtpu" not in facts.versions or facts.tpu_chips or facts.platforms or "tpu" in facts.found:
        return None
    right = "cuda,cpu" if facts.has_gpu and facts.cuda_plugin else "cpu"
    problem = "libtpu is installed and no TPU is here: at each start JAX looks for one, as JAX_PLATFORMS is not set"
    return Finding("libtpu-alone", problem, f"export JAX_PLATFORMS={right}")


def gpu_has_memory(facts: Facts) -> Finding | None:
    """JAX takes three quarters of a GPU's memory when it starts."""
    full = [(i, gpu) for i, gpu in enumerate(facts.gpus) if gpu.free < TAKEN * gpu.memory]
    if not full:
        return None
    said = ", ".join(f"GPU {i} has {in_words(gpu.free)} of {in_words(gpu.memory)} free" for i, gpu in full)
    held = [one for one in facts.holders if one.place == "GPU"]
    if not held:
        return Finding("gpu-memory", f"{said}; the processes below hold it", "nvidia-smi")
    who = ", ".join(f"process {one.pid} ({one.command})" for one in held)
    pids = [str(one.pid) for one in held]
    return Finding("gpu-memory", f"{said}; it is held by {who}; end what is not needed", shlex.join(["kill", *pids]))


def gpu_is_fast(facts: Facts) -> Finding | None:
    """A large matrix product comes near the peak, unless something slows the GPU down."""
    shares = shares_of_peak(facts)
    share = max((shares[dtype] for dtype in shares if dtype != "bandwidth"), default=None)
    if "gpu" not in facts.found or share is None or share >= SLOW:
        return None
    kind = facts.start.devices[0].kind
    problem = f"a matrix product reaches {share:.0%} of the peak of {kind}; what slows it is told by"
    return Finding("gpu-slow", problem, "nvidia-smi -q -d PERFORMANCE")


def shares_of_peak(facts: Facts) -> dict[str, float]:
    """What was measured over what the maker says of the device: by dtype, and ``bandwidth``; empty where not known."""
    speed, chip = facts.start.speed, chip_of(facts.start.devices[0].kind) if facts.start.devices else None
    if speed is None or chip is None:
        return {}
    products = {dtype: rate / chip.peak(dtype) for dtype, rate in speed.flops.items()}
    return {**products, "bandwidth": speed.bandwidth / chip.device_bandwidth}
