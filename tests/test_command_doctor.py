"""``jaxdl doctor``: what it prints, its exit codes, its file."""

import gc
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import call, refused
from made_up_machines import H100, machine

from jaxdl import cli, program
from jaxdl.commands import doctor
from jaxdl.parallel.doctor.findings import findings
from jaxdl.parallel.doctor.gather import gather, start_jax


def test_a_machine_that_is_well_and_one_that_is_not(monkeypatch):
    monkeypatch.setattr(doctor, "gather", lambda speed: machine())
    code, out, err = call("doctor")
    assert (code, out.splitlines()[-1], err) == (0, "all well", "")
    monkeypatch.setattr(doctor, "gather", lambda speed: machine(gpus=(H100,)))
    code, out, _ = call("doctor --no-speed")
    assert code == doctor.ILL == 1
    assert "1. a GPU is here (NVIDIA H100 80GB HBM3), but JAX has no CUDA plugin" in out
    assert out.splitlines()[-1] == "   '/opt/my env/bin/python' -m pip install 'jax[cuda13]==0.10.2'"


def test_this_machine(tmp_path):
    """Also where JAX_PLATFORMS is set, of which other commands say that it is wrong before anything else."""
    file = tmp_path / "doctor.json"
    code, out, err = call(f"doctor --no-speed --json {file}")
    told = json.loads(file.read_text())
    assert out.endswith(f"all facts in {file}\n")
    assert (code, err) == (0 if told["well"] else 1, "")
    assert [one["problem"] in out and one["command"] in out for one in told["findings"]] == [True] * len(
        told["findings"]
    )
    assert told["facts"]["versions"]["jax"] in out
    assert len(told["findings"]) == len(findings(gather(speed=False)))
    assert "--json" in refused(f"doctor --no-speed --json {file}")
    assert json.loads(file.read_text()) == told


@pytest.mark.slow
def test_a_wrong_platform_is_told_by_the_doctor_and_refused_by_all_else(monkeypatch):
    """Also where JAX has not started in this process, as it has in that of the tests."""
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    code = "import sys; sys.argv = ['jaxdl', 'models']; from jaxdl.program import main; main()"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (other.returncode, other.stdout) == (2, "")
    assert "finds no device of JAX_PLATFORMS=cuda" in other.stderr
    assert "jaxdl doctor says what there is" in other.stderr
    code, out, _ = call("doctor --no-speed")
    assert code == 1
    assert "export JAX_PLATFORMS=cpu" in out


@pytest.mark.slow
def test_the_speed_is_that_of_a_product_in_numpy_and_of_a_copy():
    """Within a factor of 20: the tests share the machine, and compile with few optimisations."""
    speed = start_jax(speed=True).speed
    left, right = np.random.default_rng(0).normal(size=(2, 1024, 1024)).astype(np.float32)
    into = np.ones(2**26, np.float32)

    def best(call):
        times = []
        for _ in range(5):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        return min(times)

    product = 2 * 1024**3 / best(lambda: left @ right)
    copied = 2 * into.nbytes / best(into.copy)
    assert 1 / 20 < speed.flops["float32"] / product < 20
    assert 1 / 20 < speed.bandwidth / copied < 20


def test_garbage_is_looked_for_again_once_all_is_imported(monkeypatch):
    found = []
    monkeypatch.setattr(cli, "main", lambda: found.append((gc.isenabled(), gc.get_freeze_count() > 0)))
    program.main()
    gc.unfreeze()  # of this process, which goes on
    assert found == [(True, True)]
