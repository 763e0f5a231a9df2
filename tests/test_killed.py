"""Real processes that are killed, told to stop, or run out of disk, and started again."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import jaxdl
from jaxdl.cli import main

CODE = "import sys; from jaxdl.cli import main; main()"
# Processes of their own, but forked from one that has imported all: importing takes longer than these runs.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["jaxdl.commands.crossval", "orbax.checkpoint", "matplotlib", "pytest"])
COMMAND = (
    "cross-validate --model cnn --data data.npz --folds 3 --epochs 5 --batch-size 8 --save-every 0 --ema 0.9 "
    "--augment crop --early-stopping 3 --model-arguments features=[4] hidden=[8] dropout=0.2"
)
KILLS = 20


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("killed")
    source = jaxdl.data.digits(range(3))
    np.savez(home / "data.npz", x=source.x[:90], y=source.targets()[:90])
    assert start(home, "whole", COMMAND).wait()[0] == 0
    return home


class Started:
    """A command that runs; what it says lands in a file."""

    def __init__(self, home, arguments):
        self.said = home / f"said-{len(list(home.glob('said-*')))}"
        self.process = SERVER.Process(target=run, args=(str(home), arguments, str(self.said)))
        self.process.start()

    def poll(self):
        return self.process.exitcode

    def send_signal(self, number):
        os.kill(self.process.pid, number)

    def wait(self):
        """Exit code (less than 0: of the signal that killed it) and all that it said."""
        self.process.join()
        return self.process.exitcode, self.said.read_text()


def run(home, arguments, said):
    os.chdir(home)
    file = os.open(said, os.O_CREAT | os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.argv = ["jaxdl", *arguments]
    main()


def start(home, out, command):
    return Started(home, [*command.split(), "--out", out])


def parts(home, out):
    """The folder of every save, whole or being written, of every part of a run."""
    state = home / out / "state"
    return {p for part in state.iterdir() if part.is_dir() for p in part.iterdir()} if state.is_dir() else set()


def wait_until(process, condition, seconds=120):
    """True when `condition` holds, False when the process has ended before."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < end, "it hangs"
        time.sleep(0.001)
    return True


def assert_same_run(home, one, other):
    results = [jaxdl.load_result(home / name) for name in (one, other)]
    for field in ("index", "fold", "target", "kept"):
        np.testing.assert_array_equal(*(getattr(result.out_of_fold, field) for result in results))
    curves = [(home / name / "metrics.jsonl").read_text() for name in (one, other)]
    assert curves[0] == curves[1]
    for fold in range(3):
        models = [jaxdl.restore(home / name / "folds" / str(fold)).variables for name in (one, other)]
        assert jaxdl.weights.checkpoint.fingerprint(models[0]) == jaxdl.weights.checkpoint.fingerprint(models[1])


@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_one_that_was_not(home):
    """Every other kill waits for a save to begin, so that it falls into the middle of one."""
    out, moments, in_saves = "killed", random.Random(0), 0
    for kill in range(KILLS):
        process = start(home, out, COMMAND)
        before = parts(home, out)
        assert wait_until(process, lambda before=before: parts(home, out) - before), process.wait()
        if kill % 2:
            time.sleep(moments.uniform(0, 0.25))
        else:
            known = parts(home, out)
            wait_until(process, lambda known=known: any(".orbax" in p.name for p in parts(home, out) - known))
            time.sleep(moments.uniform(0, 0.005))
        assert process.poll() is None, (kill, process.wait())
        process.send_signal(signal.SIGKILL)
        process.wait()
        in_saves += any(".orbax" in p.name for p in parts(home, out))
    print(f"{KILLS} kills, {in_saves} of them in the middle of a save")
    assert in_saves >= KILLS // 6
    last = start(home, out, COMMAND)
    code, said = last.wait()
    assert code == 0, said
    assert "going on with the run" in said
    assert_same_run(home, "whole", out)
    assert not (home / out / "state").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_has_its_own_exit_code(home, number):
    out, command = f"told-{number.name}", COMMAND.replace("--save-every 0", "--save-every 0.3")
    process = start(home, out, command)
    assert wait_until(process, lambda: parts(home, out))  # it trains
    process.send_signal(number)
    code, said = process.wait()
    assert code == 128 + number, said
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    assert parts(home, out)
    assert start(home, out, command).wait()[0] == 0
    assert_same_run(home, "whole", out)


@pytest.mark.slow
def test_a_full_disk_is_told_and_nothing_is_lost(home):
    """A limit on the size of files stands for the full disk: writing fails in the middle."""
    command = COMMAND.replace("features=[4]", "features=[64]").replace("--epochs 5", "--epochs 2")
    assert start(home, "large", command).wait()[0] == 0
    process = start(home, "full", command)
    assert wait_until(process, lambda: parts(home, "full"))
    process.send_signal(signal.SIGTERM)
    process.wait()

    code = [sys.executable, "-c", CODE, *command.split(), "--out", "full"]
    process = subprocess.Popen(
        ["bash", "-c", 'ulimit -f 100 && exec "$@"', "bash", *code],  # in blocks of 1024 bytes
        cwd=home,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "0"},  # it has files of its own to write
    )
    _, err = process.communicate()
    assert process.returncode == 2, err
    assert "cannot be written" in err
    assert "is the disk full?" in err
    assert "Traceback" not in err
    assert start(home, "full", command).wait()[0] == 0
    assert_same_run(home, "large", "full")
