"""What is found wrong with machines that are made up, and that the commands mend it."""

import dataclasses
from importlib import metadata
from pathlib import Path

import pytest
from made_up_machines import CPU, CUDA13, GPU, H100, NEEDED, TPU, VERSIONS, WITH_TPU, followed, machine, started

from jaxdl.parallel.doctor.facts import Cache, Holder, Installed, Speed, Start
from jaxdl.parallel.doctor.findings import findings
from jaxdl.parallel.doctor.table import lines, runtime

FAILED = Start(error="Unable to initialize backend")
OTHER = Installed("/usr/lib/python3/site-packages/jaxdl", "0.0.9", False)
HELD = Holder(41, "python train.py", "/dev/accel0")

# the facts that are wrong, the name of what is found, words of it, and words of the command
WRONG = {
    "gpu without plugin": (dict(gpus=(H100,), driver="580.82.07"), "gpu", "H100", "jax[cuda13]==0.10.2"),
    "gpu, older driver": (dict(gpus=(H100,), driver="550.54"), "gpu", "CPU", "jax[cuda12]==0.10.2"),
    "gpu, old": (
        dict(gpus=(dataclasses.replace(H100, name="V100", capability=7.0),), driver="580.1"),
        *("gpu", "V100", "jax[cuda12]"),
    ),
    "gpu in /dev alone": (dict(nvidia_files=("/dev/nvidia0",)), "gpu", "/dev/nvidia0", "jax[cuda13]"),
    "plugin too old": (
        dict(gpus=(H100,), driver="580.1", versions=CUDA13 | {"jax-cuda13-plugin": "0.9.2"}),
        *("cuda-plugin", "0.9.2", "jax[cuda13]==0.10.2"),
    ),
    "part of the plugin too old": (
        dict(gpus=(H100,), versions=CUDA13 | {"jax-cuda13-pjrt": "0.9.2"}, start=FAILED),
        *("packages", "jax-cuda13-pjrt==0.10.2, and 0.9.2", "jax-cuda13-pjrt==0.10.2"),
    ),
    "two plugins": (
        dict(gpus=(H100,), versions=CUDA13 | {"jax-cuda12-plugin": "0.10.2"}, start=Start((GPU,)), driver="580.1"),
        *("two-plugins", "12 and 13", "jax-cuda12-plugin"),
    ),
    "driver too old for 13": (
        dict(gpus=(H100,), versions=CUDA13, driver="535.1", start=FAILED),
        *("driver", "535.1", "jax[cuda12]"),
    ),
    "gpu kept away": (
        dict(gpus=(H100,), versions=CUDA13, environment={"JAX_PLATFORMS": "cpu"}),
        *("gpu-unused", "JAX_PLATFORMS=cpu", "JAX_PLATFORMS=cuda,cpu"),
    ),
    "gpu hidden": (
        dict(gpus=(H100,), versions=CUDA13, environment={"CUDA_VISIBLE_DEVICES": ""}),
        *("gpu-unused", "hides", "unset CUDA_VISIBLE_DEVICES"),
    ),
    "gpu with other libraries": (
        dict(gpus=(H100,), versions=CUDA13, environment={"LD_LIBRARY_PATH": "/usr/local/cuda/lib64"}),
        *("gpu-unused", "LD_LIBRARY_PATH", "unset LD_LIBRARY_PATH"),
    ),
    "gpu, libraries damaged": (dict(gpus=(H100,), versions=CUDA13), "gpu-unused", "damaged", "--force-reinstall"),
    "gpu taken": (
        dict(
            gpus=(H100, dataclasses.replace(H100, free=10**9)), versions=CUDA13, start=Start((GPU,)),
            holders=(Holder(7, "python", "GPU"),),
        ),
        *("gpu-memory", "GPU 1 has 1 GB of 80 GB", "kill 7"),
    ),
    "libtpu alone": (dict(versions=WITH_TPU), "libtpu-alone", "no TPU", "JAX_PLATFORMS=cpu"),
    "libtpu beside a gpu": (
        dict(versions=WITH_TPU | CUDA13, gpus=(H100,), start=Start((GPU,))),
        *("libtpu-alone", "no TPU", "JAX_PLATFORMS=cuda,cpu"),
    ),
    "libtpu too new": (
        dict(versions=WITH_TPU | {"libtpu": "0.0.45"}, tpu_chips=4, start=FAILED),
        *("libtpu", "0.0.45", "jax[tpu]==0.10.2"),
    ),
    "tpu without libtpu": (dict(tpu_chips=4), "tpu", "4 TPU chips", "jax[tpu]==0.10.2"),
    "tpu held": (
        dict(tpu_chips=4, versions=WITH_TPU, holders=(HELD,), start=FAILED),
        *("tpu-held", "41 (python train.py)", "kill 41"),
    ),
    "tpu locked": (
        dict(tpu_chips=4, versions=WITH_TPU, tpu_lock_owner="bob", start=FAILED),
        *("tpu-held", "bob", "libtpu_lockfile"),
    ),
    "tpu kept away": (
        dict(tpu_chips=4, versions=WITH_TPU, environment={"JAX_PLATFORMS": "cpu"}),
        *("tpu-unused", "JAX_PLATFORMS=cpu", "JAX_PLATFORMS=tpu,cpu"),
    ),
    "no such platform": (
        dict(environment={"JAX_PLATFORMS": "cudaa,cpu"}, start=FAILED),
        *("platforms", "Did you mean 'cuda'", "JAX_PLATFORMS=cpu"),
    ),
    "no tpu to name": (dict(environment={"JAX_PLATFORMS": "tpu"}, start=FAILED), "platforms", "tpu", "=cpu"),
    "unknown flag": (
        dict(environment={"XLA_FLAGS": "--xla_dump_to=/tmp/d --not_there=1"}),
        *("xla-flags", "--not_there=1", "XLA_FLAGS=--xla_dump_to=/tmp/d"),
    ),
    "virtual devices": (
        dict(environment={"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}),
        *("virtual-devices", "8 devices", "unset XLA_FLAGS"),
    ),
    "cache not writable": (
        dict(cache=Cache("/root/.cache", writable=False)),
        *("cache", "/root/.cache: it cannot be written", "JAX_COMPILATION_CACHE_DIR=/tmp/jaxdl-ann"),
    ),
    "cache's disk full": (
        dict(cache=Cache("/home/ann/a b", 9, 4 * 10**8, True, 1000)),
        *("cache", "1 kB left", "rm -r '/home/ann/a b'"),
    ),
    "two jaxdl": (
        dict(installed=(machine().installed[0], OTHER)),
        *("two-jaxdl", "0.0.9 in /usr/lib", "--editable /home/ann/jaxdl"),
    ),
    "two jaxdl, one in the path": (
        dict(
            installed=(machine().installed[0], Installed("/opt/old/jaxdl", "0.0.1", False)),
            environment={"PYTHONPATH": "/home/ann/jaxdl:/opt/old"},
        ),
        *("two-jaxdl", "/opt/old", "export PYTHONPATH=/home/ann/jaxdl"),
    ),
    "two jaxdl, both installed": (
        dict(installed=(dataclasses.replace(OTHER, imported=True), Installed("/opt/x", "0.1.0", False))),
        *("two-jaxdl", "/opt/x", "uninstall -y jaxdl"),
    ),
    "jaxlib too old": (
        dict(versions=VERSIONS | {"jaxlib": "0.9.0"}, start=FAILED),
        *("packages", "jax needs jaxlib", "jaxlib<=0.10.2,>=0.10.1"),
    ),
    "optax missing": (
        dict(versions={name: one for name, one in VERSIONS.items() if name != "optax"}),
        *("packages", "it is not installed", "optax>=0.2.8"),
    ),
    "unknown reason, cpu starts": (
        dict(start=FAILED, start_on_cpu=Start((CPU,))),
        *("start", "Unable to initialize", "export JAX_PLATFORMS=cpu"),
    ),
    "unknown reason": (dict(start=FAILED), "start", "Unable to initialize", "jax==0.10.2 jaxlib==0.10.2"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_found_and_its_command_mends_it(case):
    wrong, name, said, done = WRONG[case]
    facts = machine(**wrong)
    if "start" not in wrong:
        facts = dataclasses.replace(facts, start=started(facts) if "libraries" not in case else Start((CPU,)))
    (found,) = findings(facts)
    assert found.name == name
    assert said in found.problem
    assert done in found.command.replace("'jax[", "jax[").replace("]==0.10.2'", "]==0.10.2")
    assert findings(followed(facts, found.command)) == []


@pytest.mark.parametrize(
    "well",
    [
        dict(),
        dict(gpus=(H100,), versions=CUDA13, start=Start((GPU,)), driver="580.1"),
        dict(nvidia_files=("/dev/nvidia0",), versions=CUDA13, start=Start((GPU,))),
        dict(tpu_chips=4, versions=WITH_TPU, start=Start((TPU,)), tpu_lock_owner="ann"),
        dict(tpu_chips=4, versions=WITH_TPU, start=Start((TPU,)), holders=(HELD,)),  # of another chip
        dict(versions=WITH_TPU, environment={"JAX_PLATFORMS": "cpu"}),
        dict(environment={"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "LD_LIBRARY_PATH": "/lib"}),
        dict(versions=VERSIONS | {"jaxlib": "0.10.1"}, free=None, memory=None),
        dict(versions=VERSIONS | {"jaxlib": "built here"}, requirements=NEEDED | {"flax": ("jax (>=0.1", "no name !")}),
    ],
)
def test_where_all_is_well_nothing_is_found(well):
    facts = machine(**well)
    assert findings(facts) == []
    assert lines(facts, [])[-1] == "all well"


def test_what_no_command_can_mend_names_who_can_be_asked():
    """Little memory, a slow GPU, a driver that is too old: the command shows more, or asks the system's packages."""
    (found,) = findings(machine(free=5 * 10**8))
    assert (found.name, found.command.split()[0]) == ("memory", "ps")
    slow = Start((GPU,), speed=Speed({"bfloat16": 98.9e12, "float32": 49.4e12}, 3e12))
    (found,) = findings(machine(gpus=(H100,), versions=CUDA13, start=slow))
    assert (found.name, found.command.split()[0]) == ("gpu-slow", "nvidia-smi")
    assert "10% of the peak" in found.problem
    (found,) = findings(machine(gpus=(H100,), driver="470.1"))
    assert (found.name, found.command) == ("gpu", "sudo ubuntu-drivers install")
    waits = Start(error="it was ended after 120 seconds", timed_out=True)
    (found,) = findings(machine(tpu_chips=4, versions=WITH_TPU, start=waits))
    assert (found.name, "--worker all" in found.command) == ("tpu-waits", True)
    (found,) = findings(machine(tpu_chips=4, versions=WITH_TPU, start=waits, holders=(HELD,)))
    assert found.name == "tpu-held"


def test_two_faults_of_the_flags_are_mended_by_one_command_after_the_other():
    flags = "--not_there=1 --xla_force_host_platform_device_count=4 --xla_dump_to=/tmp/d"
    facts = machine(environment={"XLA_FLAGS": flags})
    facts = dataclasses.replace(facts, start=started(facts))
    found = findings(facts)
    assert [one.name for one in found] == ["xla-flags", "virtual-devices"]
    for one in found:
        facts = followed(facts, one.command)
    assert findings(facts) == []
    assert facts.environment["XLA_FLAGS"] == "--xla_dump_to=/tmp/d"


def test_the_extras_that_are_named_are_those_of_jax_and_of_ours():
    real = set(metadata.metadata("jax").get_all("Provides-Extra"))
    assert {"tpu", "cuda12", "cuda13"} <= real
    setup = (Path(__file__).parents[2] / "setup.cfg").read_text()
    assert "jax[tpu]" in setup
    assert "jax[cuda13]" in setup


def test_the_table_says_what_there_is_and_how_fast_it_is():
    speed = Speed({"float32": 400e12, "bfloat16": 712e12}, 2.9e12)
    facts = machine(gpus=(H100,), versions=CUDA13, driver="580.1", start=Start((GPU, GPU), speed=speed))
    said = "\n".join(lines(facts, findings(facts)))
    for words in (
        *("2 × NVIDIA H100 80GB HBM3", "79 GB of 80 GB free", "driver 580.1", "jax-cuda13-plugin 0.10.2"),
        *("bfloat16 712 TFLOP/s (72% of the peak)", "2.9 TB/s (87% of the peak)", "12 GB of 16 GB free", "all well"),
    ):
        assert words in said
    unknown = lines(machine(start=Start((CPU,), speed=Speed({"float32": 1.9e11}, 5e10))), [])
    assert "product    float32 190 GFLOP/s; no peak is known of this device" in unknown


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (machine(), "a machine with a CPU alone"),
        (machine(gpus=(H100,)), "a machine with a GPU"),
        (machine(environment={"COLAB_RELEASE_TAG": "release-colab"}, start=Start((TPU,))), "Colab with a TPU"),
        (machine(environment={"KAGGLE_KERNEL_RUN_TYPE": "Batch"}, start=Start((GPU,))), "Kaggle with a GPU"),
    ],
)
def test_the_runtime_is_named(facts, said):
    assert runtime(facts) == said
