"""The facts in a few lines for people, and which runtime they are of."""

from jaxdl.parallel.doctor.accelerators import shares_of_peak
from jaxdl.parallel.doctor.facts import Facts
from jaxdl.parallel.doctor.finding import Finding
from jaxdl.parallel.memory import in_words
from jaxdl.shown import counted


def runtime(facts: Facts) -> str:
    """Where this runs and on what: ``Colab with a TPU``, ``a machine with a GPU``, ``a machine with a CPU alone``."""
    hosts = {"COLAB_RELEASE_TAG": "Colab", "KAGGLE_KERNEL_RUN_TYPE": "Kaggle"}
    host = next((name for variable, name in hosts.items() if variable in facts.environment), "a machine")
    if facts.tpu_chips or "tpu" in facts.found:
        return f"{host} with a TPU"
    return f"{host} with a GPU" if facts.has_gpu or "gpu" in facts.found else f"{host} with a CPU alone"


def rows(facts: Facts) -> list[tuple[str, str]]:
    """A name and what is to be said of it."""
    packages = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    cache = facts.cache
    kept = f"{in_words(cache.size)} in {cache.files:,} files" if cache.files else "empty"
    return [
        ("runtime", f"{runtime(facts)}: {facts.cpu or 'unknown processor'}, {facts.cores} cores"),
        ("devices", _devices(facts)),
        *([("GPUs", _gpus(facts))] if facts.has_gpu else []),
        *([("TPU chips", str(facts.tpu_chips))] if facts.tpu_chips else []),
        ("Python", f"{facts.python} ({facts.executable})"),
        ("packages", packages or "none of JAX's"),
        ("cache", f"{cache.folder}: {kept}, {'writable' if cache.writable else 'not writable'}"),
        ("memory", _memory(facts)),
        *_speeds(facts),
    ]


def _devices(facts: Facts) -> str:
    if not facts.start.devices:
        return f"JAX does not start: {facts.start.error}"
    said = []
    for kind in dict.fromkeys(device.kind for device in facts.start.devices):
        same = [device for device in facts.start.devices if device.kind == kind]
        first = same[0]
        free = f", {in_words(first.memory - (first.used or 0))} for JAX" if first.memory else ""
        said.append(f"{len(same)} × {kind} ({first.platform}{free})")
    return "; ".join(said)


def _gpus(facts: Facts) -> str:
    driver = f"driver {facts.driver or 'unknown'}"
    if not facts.gpus:
        return f"{', '.join(facts.nvidia_files)}; {driver}"
    said = ", ".join(f"{gpu.name} ({in_words(gpu.free)} of {in_words(gpu.memory)} free)" for gpu in facts.gpus)
    return f"{said}; {driver}"


def _memory(facts: Facts) -> str:
    if facts.free is None or facts.memory is None:
        return "unknown"
    return f"{in_words(facts.free)} of {in_words(facts.memory)} free"


def _speeds(facts: Facts) -> list[tuple[str, str]]:
    speed, shares = facts.start.speed, shares_of_peak(facts)
    if speed is None:
        return [("speed", "not measured")]

    def beside(name: str) -> str:
        return f" ({shares[name]:.0%} of the peak)" if name in shares else ""

    products = ", ".join(f"{dtype} {_rate(rate)}FLOP/s{beside(dtype)}" for dtype, rate in speed.flops.items())
    unknown = "" if shares else "; no peak is known of this device"
    return [
        ("product", f"{products}{unknown}"),
        ("bandwidth", f"{_rate(speed.bandwidth)}B/s{beside('bandwidth')}"),
    ]


def _rate(value: float) -> str:
    """Such as ``98.7 T`` of 98.7e12."""
    unit, size = next(((unit, size) for unit, size in (("P", 1e15), ("T", 1e12)) if value >= size), ("G", 1e9))
    return f"{value / size:.3g} {unit}"


def lines(facts: Facts, found: list[Finding]) -> list[str]:
    """All that is printed."""
    table = rows(facts)
    width = max(len(name) for name, _ in table)
    said = [f"{name:{width}}  {text}" for name, text in table]
    if not found:
        return [*said, "", "all well"]
    said += ["", f"{counted(len(found), 'finding')}:"]
    for number, one in enumerate(found, 1):
        said += [f"{number}. {one.problem}:", f"   {one.command}"]
    return said
