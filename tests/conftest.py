"""What all tests share."""

import ctypes
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before jax is imported; what the caller chose stays.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The time of these tests is compilation: without most optimisations, and shared between the tests and their processes,
# it is a quarter. What they claim does not depend on it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
# Threads of BLAS and OpenMP wait for each other in loops: where other tests run beside, a fit of scikit-learn took ten
# times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# XLA's older way of writing fusions compiles in a third of the time of its newer one, and in one piece faster than in
# several on few cores.
QUICK = ("--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1")
# Eight virtual devices on two busy cores wait for each other longer than on a free machine: after 40 seconds XLA would
# end the process.
PATIENT = ("--xla_cpu_collective_call_terminate_timeout_seconds=600",)


def _known_to_xla(*flags: str) -> bool:
    """Whether this release of XLA has all of the flags: with one that it does not know it ends the process."""
    tried = [sys.executable, "-c", "from jaxlib import xla_client; xla_client.make_cpu_client()"]
    environment = os.environ | {"XLA_FLAGS": " ".join(flags)}
    return not subprocess.run(tried, env=environment, capture_output=True, check=False).returncode


if "XLA_FLAGS" not in os.environ:
    flags = QUICK + PATIENT
    known = flags if _known_to_xla(*flags) else filter(_known_to_xla, flags)  # one process, where all are known
    os.environ["XLA_FLAGS"] = " ".join(known)

# A shell has what it starts in the background ignore Ctrl-C, and so would all programs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# The files that take longest go first, so that no worker is left with one of them at the end.
LONGEST = (
    "test_every_model.py",
    "test_killed.py",
    "test_data_on_eight_devices.py",
    "test_folds_on_eight_devices.py",
    "test_executor_on_eight_devices.py",
    "test_parity_inception.py",
    "test_plan_options.py",
    "test_resume.py",
    "test_search.py",
    "test_leakage.py",
    "test_sklearn.py",
    "test_stream.py",
    "test_augment.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True, scope="module")
def left_alone_by_the_garbage_collector():
    """What a module leaves (traces, compiled programs) is not searched again while the others run: that took 8 %."""
    yield
    gc.collect()
    gc.freeze()


HELD = 5 << 30  # bytes of a test process from which what it compiled is dropped: without this some came to 10 GB


@pytest.fixture(autouse=True)
def programs_are_dropped_before_memory_runs_out():
    """What is still wanted is read from the cache on disk."""
    yield
    import jax

    from jaxdl.parallel.memory import held_memory

    global HELD
    if (held_memory() or 0) > HELD:
        jax.clear_caches()
        gc.unfreeze()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        HELD = max(HELD, held_memory() + (1 << 30))  # not again after each test where much is held by others


@pytest.fixture(autouse=True)
def real_data_is_computed_with_all_optimisations(request: pytest.FixtureRequest):
    """Its networks are large: here the time is not compilation."""
    if "real_data" not in request.fixturenames:
        yield
        return
    import jax

    option = "jax_disable_most_optimizations"
    before = jax.config.read(option)
    jax.config.update(option, False)
    yield
    jax.config.update(option, before)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data and published weights that the environment names."""
    if not os.environ.get("JAXDL_REAL_DATA"):
        pytest.skip("set JAXDL_REAL_DATA to the folder of real data to run this")
    folder = Path(os.environ["JAXDL_REAL_DATA"])
    assert folder.is_dir(), f"JAXDL_REAL_DATA names '{folder}', which is no folder"
    return folder


@pytest.fixture(scope="session")
def cloud_storage() -> Iterator[Any]:
    """A Google Cloud Storage on this machine (`fake_bucket.Store`), which all programs that tests start find, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it would ask for the kind of bucket by gRPC
        pytest.importorskip("gcsfs", reason="buckets take the extra [gcs]: pip install gcsfs")
        from fake_bucket import serve

        with serve() as (address, store):
            patch.setenv("STORAGE_EMULATOR_HOST", address)
            patch.setenv("TENSORSTORE_GCS_HTTP_URL", address)
            yield store


@pytest.fixture
def bucket(cloud_storage: Any) -> str:
    """The name of an empty bucket."""
    name = f"bucket-{len(cloud_storage.buckets)}"
    cloud_storage.buckets[name] = {}
    return name
