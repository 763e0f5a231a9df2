"""Runs the tests of `eight/` in a process of its own with 8 virtual CPU devices."""

import os
import subprocess
import sys
from pathlib import Path

EIGHT = Path(__file__).parent / "eight"


def test_on_eight_virtual_devices():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    environment = {k: v for k, v in environment.items() if not k.startswith("PYTEST_")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", str(EIGHT), "-q", "-rA", "-p", "no:cacheprovider", "-n", "0"],
        env=environment,
        cwd=EIGHT.parents[2],
        capture_output=True,
        text=True,
    )
    print(run.stdout[-20000:], run.stderr[-5000:])
    assert run.returncode == 0
    assert " passed" in run.stdout
