"""The facts of the machine that the tests run on, and of files that are made up."""

import dataclasses
import json
import os
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
import pytest
from packaging.requirements import Requirement

from jaxdl.parallel.doctor import gather
from jaxdl.parallel.doctor.findings import findings
from jaxdl.parallel.doctor.table import lines
from jaxdl.parallel.memory import _limits, held_memory, total_memory

UNSET = ("JAX_PLATFORMS", "XLA_FLAGS")


@pytest.fixture(scope="module")
def facts():
    return gather.gather(speed=False)


def test_the_facts_are_those_of_this_process(facts):
    assert facts.executable == sys.executable
    assert facts.versions["jax"] == jax.__version__
    assert "jax>=0.10" in facts.requirements["jaxdl"] or any(
        one.startswith("jaxlib") for one in facts.requirements["jax"]
    )
    assert [device.kind for device in facts.start.devices] == [one.device_kind for one in jax.local_devices()]
    assert facts.environment["XLA_FLAGS"] == os.environ["XLA_FLAGS"]
    assert 0 < facts.free <= facts.memory <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    (here,) = (one for one in facts.installed if one.imported)
    assert Path(here.folder) == Path(gather.__file__).parents[2].resolve()
    assert json.loads(json.dumps(lines(facts, findings(facts))))


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("JAX_PLATFORMS", "cuda", "platforms"),
        pytest.param("JAX_PLATFORMS", "cppu", "platforms", marks=pytest.mark.slow),
        pytest.param("XLA_FLAGS", "--xla_not_there=1 --xla_cpu_use_thunk_runtime", "xla-flags", marks=pytest.mark.slow),
        pytest.param(
            "XLA_FLAGS", "--xla_force_host_platform_device_count=3", "virtual-devices", marks=pytest.mark.slow
        ),
    ],
)  # fmt: skip
def test_a_wrong_setting_of_this_machine_is_found_and_mended_by_a_shell(monkeypatch, name, value, found):
    """The command is given to a shell, whose environment is gathered again."""
    monkeypatch.setenv(name, value)
    before = {one.name: one for one in findings(gather.gather(speed=False))}
    assert found in before
    assert "start" not in before
    shell = f"{before[found].command}; env -0"
    told = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout
    after = dict(line.split("=", 1) for line in told.split("\0") if "=" in line)
    for variable in UNSET:
        monkeypatch.delenv(variable, raising=False)
        if variable in after:
            monkeypatch.setenv(variable, after[variable])
    mended = gather.gather(speed=False)
    assert mended.start.devices
    assert not mended.start.error
    assert found not in {one.name for one in findings(mended)}


def test_a_start_that_hangs_is_ended(tmp_path, monkeypatch):
    """Also its children; what it said before is kept."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text(
        "import subprocess, time\nprint('{\"devices\": []}', flush=True)\n"
        f"subprocess.Popen(['sleep', '60']); open({str(tmp_path / 'begun')!r}, 'w').close()\ntime.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    began = time.monotonic()
    start = gather.start_jax(speed=False, limit=2)
    assert time.monotonic() - began < 20
    assert (tmp_path / "begun").exists()
    assert start.timed_out
    assert not start.devices
    assert "2 seconds" in start.error


def test_a_jax_that_cannot_be_imported_is_told_of_by_the_program(tmp_path):
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("raise RuntimeError('jaxlib version 9 is newer than jax')\n")
    home = str(Path(gather.__file__).parents[3])
    settings = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{home}"}

    def program(*words):
        code = f"import sys; sys.argv = {['jaxdl', *words]}; from jaxdl.program import main; main()"
        return subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=False)

    other = program("models")
    assert (other.returncode, other.stdout) == (2, "")
    assert other.stderr == (
        "jaxdl: error: it cannot start (jaxlib version 9 is newer than jax); to see what is wrong, run: jaxdl doctor\n"
    )
    doctor = program("doctor")
    assert (doctor.returncode, doctor.stderr) == (1, "")
    assert "JAX does not start: RuntimeError: jaxlib version 9 is newer than jax" in doctor.stdout
    assert f"install --force-reinstall --no-deps jax=={jax.__version__}" in doctor.stdout


def test_the_reason_is_taken_from_what_jax_writes():
    fatal = "F1129 16:09:40.738885    7621 parse_flags_from_env.cc:234] Unknown flag in XLA_FLAGS: --bogus_flag=1\n"
    assert gather.started("", fatal, -6, False).error == "Unknown flag in XLA_FLAGS: --bogus_flag=1"
    trace = "Traceback\n  line\nRuntimeError: Unable to initialize backend 'tpu': NOT_FOUND\n"
    assert gather.started("", trace, 1, False).error == "RuntimeError: Unable to initialize backend 'tpu': NOT_FOUND"
    assert gather.started("", "", -9, False).error == "it ended with code -9"
    half = gather.started('{"devices": [{"platform": "cpu", "kind": "cpu"}]}\n{"spe', "", -9, False)
    assert [device.kind for device in half.devices] == ["cpu"]
    assert half.speed is None


def test_nvidia_smi_is_asked(tmp_path, monkeypatch):
    """A program of that name answers as the real one does."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\ncase $1 in\n"
        '*query-gpu*) echo "NVIDIA H200, 580.82.07, 9.0, 143771, 143000"\n'
        'echo "Tesla T4, 580.82.07, [N/A], 15360, 100";;\n'
        '*) echo "4321, python3";;\nesac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (h200, t4), driver = gather.nvidia_gpus()
    assert (h200.name, h200.capability, h200.memory, driver) == ("NVIDIA H200", 9.0, 143771 * 2**20, "580.82.07")
    assert (t4.capability, t4.free) == (0.0, 100 * 2**20)
    (holder,) = gather.gpu_holders()
    assert (holder.pid, holder.command) == (4321, "python3")
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'; exit 18\n")
    assert gather.nvidia_gpus() == ((), "")


def test_a_process_that_holds_a_tpu_is_found(tmp_path):
    for pid, place in ((41, "/dev/accel0"), (42, "/dev/vfio/3"), (43, "/dev/vfio/vfio"), (44, "/dev/null")):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "fd" / "5").symlink_to(place)
        (tmp_path / str(pid) / "cmdline").write_text("python\0train.py\0")
    (tmp_path / "self").symlink_to("41")
    found = gather.tpu_holders(tmp_path, own=(42,))
    assert [(one.pid, one.command, one.place) for one in found] == [(41, "python train.py", "/dev/accel0")]


def test_tpu_chips_are_counted_on_the_bus(tmp_path):
    for name, vendor, device in (("a", "0x1ae0", "0x0063"), ("b", "0x1ae0", "0x0042"), ("c", "0x10de", "0x0063")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "device").write_text(f"{device}\n")
    assert gather.tpu_chips(tmp_path) == 1


def test_the_cache_is_looked_into(tmp_path):
    (tmp_path / "xla" / "deep").mkdir(parents=True)
    (tmp_path / "xla" / "a").write_bytes(bytes(100))
    (tmp_path / "xla" / "deep" / "b").write_bytes(bytes(23))
    found = gather.cache(tmp_path / "xla")
    assert (found.files, found.size, found.writable) == (2, 123, True)
    assert found.free > 0
    assert gather.cache(tmp_path / "not" / "there").writable
    assert not gather.cache(tmp_path / "xla" / "a").writable  # a file
    assert not gather.cache(Path("/proc/xla")).writable  # also of the superuser


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="becomes another user")
def test_a_cache_that_belongs_to_someone_else_is_not_writable(tmp_path):
    """Nor does it raise: the folder may not even be looked at."""
    (tmp_path / "mine" / "xla").mkdir(parents=True)
    (tmp_path / "mine").chmod(0o700)
    code = (
        "import os, sys; from pathlib import Path; from jaxdl.parallel.doctor import gather; os.setuid(65534);"
        "print(gather.cache(Path(sys.argv[1])).writable, gather.tpu_holders())"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "mine" / "xla")]
    home = str(Path(gather.__file__).parents[3])
    run = subprocess.run(words, env=os.environ | {"PYTHONPATH": home}, capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("False ()\n", "")


def test_two_installations_are_two_folders(tmp_path, monkeypatch):
    """One beside the code that runs is no other."""
    for home in (tmp_path / "site-packages", Path(gather.__file__).parents[3]):
        monkeypatch.syspath_prepend(home)
    (tmp_path / "site-packages" / "jaxdl-0.0.9.dist-info").mkdir(parents=True)
    (tmp_path / "site-packages" / "jaxdl-0.0.9.dist-info" / "METADATA").write_text("Name: jaxdl\nVersion: 0.0.9\n")
    found = {one.folder: one for one in gather.installations()}
    other = found[str(tmp_path / "site-packages" / "jaxdl")]
    assert (other.version, other.imported) == ("0.0.9", False)
    here = found[str(Path(gather.__file__).parents[2].resolve())]
    assert here.imported
    assert here.version == metadata.version("jaxdl") or here.version[0].isdigit()


def test_the_limit_of_a_container_counts(tmp_path):
    assert _limits(tmp_path) == []
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("active_file 1\ninactive_file 50\n")
    assert _limits(tmp_path) == [(1000, 700, 50)]
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("2000\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("1700\n")
    (tmp_path / "memory" / "memory.stat").write_text("inactive_file 3\ntotal_inactive_file 60\n")
    assert _limits(tmp_path) == [(2000, 1700, 60)]
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{2**63 - 4096}\n")
    assert _limits(tmp_path) == []
    assert total_memory() > 0


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc/self/statm")
def test_memory_of_a_process():
    before = held_memory()
    block = np.ones(2**27, np.uint8)
    assert held_memory() - before > 0.9 * block.nbytes
    assert held_memory(os.getpid()) > block.nbytes
    assert held_memory(2**30) is None  # no process has this number


@pytest.mark.parametrize(
    ("name", "version", "found", "wanted"),
    [
        ("jax_cuda13_plugin", "0.9.0", "cuda-plugin", f"jax[cuda13]=={jax.__version__}"),
        ("jax_cuda12_plugin", "99.0", "cuda-plugin", f"jax[cuda12]=={jax.__version__}"),
        ("libtpu", "99.0", "libtpu", f"jax[tpu]=={jax.__version__}"),
        ("jaxlib", "0.1.0", "packages", "jaxlib"),
        ("flax", "0.1.0", "packages", "flax"),
    ],
)
def test_the_metadata_of_the_jax_that_is_installed_says_what_fits(
    tmp_path, monkeypatch, facts, name, version, found, wanted
):
    """The real one, beside another package of which the metadata alone is there."""
    folder = tmp_path / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: {name.replace('_', '-')}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    wrong = dataclasses.replace(facts, versions=gather.versions(), requirements=gather.requirements())
    new = {one.name: one for one in findings(wrong)}.keys() - {one.name for one in findings(facts)}
    assert new == {found}
    (one,) = (one for one in findings(wrong) if one.name == found)
    assert version in one.problem
    (requirement,) = shlex.split(one.command)[4:]
    assert requirement.startswith(wanted)
    assert not Requirement(requirement).specifier.contains(version) or wanted.startswith("jax[")
