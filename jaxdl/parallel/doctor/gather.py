"""The facts of the machine at hand. Nothing here raises, or waits for longer than it says."""

import csv
import getpass
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from jaxdl.parallel.cache import compiled_programs
from jaxdl.parallel.doctor.facts import Cache, Device, Facts, Gpu, Holder, Installed, Speed, Start
from jaxdl.parallel.memory import free_memory, total_memory

PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "libtpu"),
    *(f"jax-cuda{cuda}-{part}" for cuda in (12, 13) for part in ("plugin", "pjrt")),
)
VARIABLES = (
    *("JAX_PLATFORMS", "XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE", "PYTHONPATH"),
    *("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "TPU_LIBRARY_PATH", "COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"),
)
TPU_VENDOR = "0x1ae0"  # Google's on the PCI bus
TPU_DEVICES = ("0x0027", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076")  # v3, v4, v5p, v5e, v6e, 7x
TPU_FILES = re.compile(r"/dev/(accel\d+|vfio/\d+)")
TPU_LOCK = Path("/tmp/libtpu_lockfile")
START_LIMIT = 120  # seconds for JAX to start, and to measure
ASK_LIMIT = 20  # seconds for an answer of nvidia-smi


def gather(speed: bool = True) -> Facts:
    """What is here.

    Args:
      speed: whether the device is timed, which takes two seconds and some for compilation.
    """
    environment = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    start, on_cpu = start_jax(speed=speed), None
    if not start.devices and environment.get("JAX_PLATFORMS") != "cpu":
        on_cpu = start_jax(speed=False, JAX_PLATFORMS="cpu")
    gpus, driver = nvidia_gpus()
    return Facts(
        python=platform.python_version(),
        executable=sys.executable,
        versions=versions(),
        requirements=requirements(),
        environment=environment,
        start=start,
        start_on_cpu=on_cpu,
        cache=cache(compiled_programs()),
        installed=installations(),
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=total_memory(),
        free=free_memory(),
        gpus=gpus,
        driver=driver or _loaded_driver(),
        nvidia_files=tuple(str(path) for path in sorted(Path("/dev").glob("nvidia[0-9]*"))),
        tpu_chips=tpu_chips(),
        holders=(*tpu_holders(), *(gpu_holders() if gpus else ())),
        tpu_lock_owner=_owner(TPU_LOCK),
        user=_user(),
    )


def start_jax(*, speed: bool, limit: float = START_LIMIT, **environment: str) -> Start:
    """Starts JAX in another process, which is ended after `limit` seconds.

    Args:
      speed: whether it measures the device.
      limit: seconds.
      **environment: variables that differ from those of this process.
    """
    # a GPU that another process uses shall not lose three quarters of its memory to this
    settings = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | environment
    program = str(Path(__file__).with_name("start.py"))
    words = [sys.executable, "-P", program, *(["--speed"] if speed else [])]  # -P: this folder holds no packages
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+", errors="replace") as err:
        # files, not pipes: what cannot be ended (it waits for a driver) then keeps nothing open that we read
        process = subprocess.Popen(words, env=settings, stdout=out, stderr=err, start_new_session=True)
        try:
            process.wait(limit)
            timed_out = False
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            timed_out = True
        out.seek(0)
        err.seek(0)
        if timed_out:
            return started(out.read(), f"it was ended after {limit:g} seconds", None, True)
        return started(out.read(), err.read(), process.returncode, False)


def started(out: str, err: str, code: int | None, timed_out: bool) -> Start:
    """What the other process said, as `Start`; a line that is not whole (it was ended) counts as not said."""
    found = {}
    for line in out.splitlines():
        try:
            found |= json.loads(line)
        except ValueError:
            continue
    error = "" if code == 0 else _reason(err, code)
    return Start(
        devices=tuple(Device(**device) for device in found.get("devices", ())),
        error=error,
        timed_out=timed_out,
        speed=Speed(**found["speed"]) if "speed" in found else None,
    )


def _reason(err: str, code: int | None) -> str:
    """The line of stderr that says why: XLA's fatal one, else the last that an exception wrote."""
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    fatal = [line for line in lines if re.match(r"F\d{4} ", line)]
    told = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    chosen = (fatal or told or lines or [f"it ended with code {code}"])[0 if fatal else -1]
    return re.sub(r"^F\d{4} .*?\] ", "", chosen)[:400]


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def requirements() -> dict[str, tuple[str, ...]]:
    found = {}
    for name in ("jaxdl", *PACKAGES):
        try:
            found[name] = tuple(metadata.requires(name) or ())
        except metadata.PackageNotFoundError:
            continue
    return found


def installations() -> tuple[Installed, ...]:
    """Every jaxdl on the path of this Python, each folder once."""
    imported, found = Path(__file__).resolve().parents[2], {}
    for one in metadata.distributions(name="jaxdl"):
        # an editable installation names its folder; that of metadata beside the code (egg-info) is its own
        told = json.loads(one.read_text("direct_url.json") or "{}")
        if told.get("dir_info", {}).get("editable"):
            home = Path(url2pathname(urlparse(told["url"]).path))
        else:
            home = Path(str(one.locate_file("")))
        found.setdefault((home / "jaxdl").resolve(), one.version)
    found.setdefault(imported, metadata_version(imported))
    return tuple(Installed(str(folder), version, folder == imported) for folder, version in found.items())


def metadata_version(folder: Path) -> str:
    """Of code that is on the path and not installed, by the setup.cfg beside it."""
    setup = folder.parent / "setup.cfg"
    told = re.search(r"^version = (\S+)", setup.read_text(), re.MULTILINE) if setup.is_file() else None
    return told[1] if told else "of an unknown version"


def cache(folder: Path) -> Cache:
    """Looks into the folder, and tries to write where it is or will be."""
    files = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
    sizes = [size for file in files if (size := _size(file)) is not None]
    # os.path says that there is none of what it may not look at, where pathlib raises
    place = next((path for path in (folder, *folder.parents) if os.path.exists(path)), folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            writable = True
    except OSError:
        writable = False
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        free = None
    return Cache(str(folder), len(sizes), sum(sizes), writable, free)


def _size(file: str) -> int | None:
    """None where another process has just removed the file."""
    try:
        return os.path.getsize(file)
    except OSError:
        return None


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def nvidia_gpus() -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that nvidia-smi lists, and the version of its driver."""
    gpus, driver = [], ""
    for row in _nvidia_smi("gpu=name,driver_version,compute_cap,memory.total,memory.free"):
        if len(row) == 5:
            name, driver, capability, total, free = row
            driver = driver if driver[:1].isdigit() else ""
            gpus.append(Gpu(name, _number(capability), int(_number(total) * 2**20), int(_number(free) * 2**20)))
    return tuple(gpus), driver


def gpu_holders() -> tuple[Holder, ...]:
    rows = [row for row in _nvidia_smi("compute-apps=pid,process_name") if len(row) == 2 and row[0].isdigit()]
    return tuple(Holder(int(pid), name, "GPU") for pid, name in rows if int(pid) != os.getpid())


def _nvidia_smi(query: str) -> list[list[str]]:
    if shutil.which("nvidia-smi") is None:
        return []
    words = ["nvidia-smi", f"--query-{query}", "--format=csv,noheader,nounits"]
    try:
        run = subprocess.run(words, capture_output=True, text=True, timeout=ASK_LIMIT, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [[cell.strip() for cell in row] for row in csv.reader(run.stdout.splitlines())]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0  # such as [N/A]


def _loaded_driver(file: Path = Path("/proc/driver/nvidia/version")) -> str:
    told = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", _text(file))
    return told[1] if told else ""


def tpu_chips(bus: Path = Path("/sys/bus/pci/devices")) -> int:
    return sum(
        _text(vendor) == TPU_VENDOR and _text(vendor.with_name("device")) in TPU_DEVICES
        for vendor in bus.glob("*/vendor")
    )


def tpu_holders(processes: Path = Path("/proc"), own: Sequence[int] = ()) -> tuple[Holder, ...]:
    """Other processes that have a TPU open; those of other users are seen by the superuser alone."""
    own = own or (os.getpid(),)
    found = {pid: Holder(pid, _command(processes / str(pid)), place) for pid, place in _open_tpus(processes)}
    return tuple(holder for pid, holder in found.items() if pid not in own)


def _open_tpus(processes: Path) -> Iterator[tuple[int, str]]:
    for folder in processes.glob("[0-9]*"):
        try:
            places = [os.readlink(link) for link in (folder / "fd").iterdir()]
        except OSError:
            continue  # it has ended, or belongs to someone else
        yield from ((int(folder.name), place) for place in places if TPU_FILES.fullmatch(place))


def _command(folder: Path) -> str:
    return _text(folder / "cmdline").replace("\0", " ").strip()[:80]


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _owner(file: Path) -> str:
    try:
        return file.owner()
    except (OSError, KeyError):
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""  # a number without a name, as in some containers
