"""`eight/` needs 8 devices: its files are run in processes of their own that have them."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

EIGHT = Path(__file__).parent / "eight"
collect_ignore = [] if jax.device_count() >= 8 else ["eight"]


@pytest.fixture
def run_on_eight(request):
    """Runs a file of `eight/` with 8 virtual CPU devices; what it printed is shown where it fails."""

    def run(name):
        flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        environment["JAX_CPU_ENABLE_ASYNC_DISPATCH"] = "false"  # the threads of one program are enough for few cores
        environment = {k: v for k, v in environment.items() if not k.startswith("PYTEST_")}
        command = ["-m", "pytest", str(EIGHT / name), "-q", "-rA", "-p", "no:cacheprovider", "-n", "0"]
        command.append("--capture=sys")  # so that what XLA writes before it ends the process is seen
        done = subprocess.run(
            [sys.executable, *command, "-m", request.config.option.markexpr],  # the slow ones too where they are wanted
            env=environment,
            cwd=EIGHT.parents[2],
            capture_output=True,
            text=True,
        )
        print(done.stdout[-20000:], done.stderr[-5000:])
        assert done.returncode == 0
        assert " passed" in done.stdout

    return run
