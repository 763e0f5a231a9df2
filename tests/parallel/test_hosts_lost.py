"""Several processes of one run, of which one is killed, stopped, hangs or is told to stop: all end, and go on later."""

import os
import signal
import socket
import time

import pytest
from several_hosts import Started, draw_photographs, saved

import jaxdl
from jaxdl.parallel.watchdog import LOST
from jaxdl.weights.checkpoint import fingerprint

LIMIT = 6
TRAIN = (
    "pretrain --model cnn --model-arguments features=[4] hidden=[8] dropout=0.2 --data photos --image-size 8 "
    "--stream always --workers 0 --allow near-duplicates --batch-size 6 --epochs 20 --save-every 0.5 "
    f"--validation-fraction 0.2 --hang-seconds {LIMIT} --out"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Photographs, and a run of two processes that nothing stopped."""
    home = tmp_path_factory.mktemp("lost")
    draw_photographs(home)
    told = Started(home, f"{TRAIN} whole", 2, 1).wait()
    assert [code for code, *_ in told] == [0, 0], told
    return home


def check_goes_on(home, out):
    """The same command goes on, and ends with the very numbers of the run that nothing stopped."""
    before, begin = saved(home / out)[-1], time.monotonic()
    again = Started(home, f"{TRAIN} {out}", 2, 1)
    again.wait_for_a_save(home / out, after=before)
    seconds = time.monotonic() - begin
    told = again.wait()
    assert [code for code, *_ in told] == [0, 0], told
    assert "going on with the run" in told[0][2]
    one, other = (jaxdl.restore(home / name) for name in ("whole", out))
    assert fingerprint(one.variables) == fingerprint(other.variables)
    assert one.history == other.history
    return seconds


@pytest.mark.slow
@pytest.mark.parametrize(("how", "lost"), [("SIGKILL", 1), ("SIGKILL", 0), ("SIGSTOP", 1), ("hang", 1)])
def test_one_that_is_lost_ends_the_others_which_go_on_later(home, how, lost):
    out, hang = f"{how}-{lost}", home / "hang"
    started = Started(home, f"{TRAIN} {out}", 2, 1, hangs=lost if how == "hang" else None)
    started.wait_for_a_save(home / out, after=16 if how == "hang" else 0)  # by then all is compiled
    begin = time.monotonic()
    if how == "hang":
        hang.touch()
    else:
        os.kill(started.processes[lost].pid, getattr(signal, how))
    other = 1 - lost
    started.processes[other].join(60)
    seconds = time.monotonic() - begin
    assert started.processes[other].exitcode == LOST, started.said(other)
    if how == "hang":  # it finds out by itself
        started.processes[lost].join(3 * LIMIT)
        assert started.processes[lost].exitcode == LOST
        hang.unlink()
    started.kill()
    last = started.said(other)[1].splitlines()[-1]
    assert last.startswith(f"jaxdl, process {other} of 2: error: process {lost} (number {started.processes[lost].pid} ")
    assert f"on {socket.gethostname()}, last seen " in last
    assert {"SIGKILL": "killed", "SIGSTOP": "stopped, or cut off", "hang": " hangs: "}[how] in last
    assert seconds < 3 * LIMIT
    again = check_goes_on(home, out)
    print(f"{how} of process {lost}: the other ended after {seconds:.1f} s; started again, saved more in {again:.1f} s")


@pytest.mark.slow
def test_sigterm_to_one_process_saves_and_ends_all(home):
    """Pre-emption tells one host, or each at another moment: all save after the same step."""
    out, told, hang = "terminated", 1, home / "hang"
    hang.write_text("40")  # it trains by then, and waits until it has been told
    line = f"{TRAIN.replace('--save-every 0.5', '--save-every 1000')} {out}"
    started, end = Started(home, line, 2, 1, hangs=told), time.monotonic() + 120
    decoded = home / f"{started.name}-{told}.decoded"
    while not decoded.exists() or len(decoded.read_text().splitlines()) < 40:
        assert time.monotonic() < end
        assert all(process.exitcode is None for process in started.processes), started.wait()
        time.sleep(0.1)
    os.kill(started.processes[told].pid, signal.SIGTERM)
    hang.unlink()
    found = started.wait()
    assert [code for code, *_ in found] == [128 + signal.SIGTERM] * 2, found
    assert "the same command goes on from there" in found[0][2]
    assert len(saved(home / out)) == 1  # of both
    check_goes_on(home, out)


PREDICT = f"predict --checkpoint whole --data photos --batch-size 6 --hang-seconds {LIMIT} --out"
BEFORE = {  # what may take long before the first step: a command, what comes out of it, and where it hangs
    "reading the data": (f"{PREDICT} one.csv", "one.csv", None),
    "reading the examples": (f"{TRAIN} begun", "begun/card.json", None),  # as it measures mean and std
    "looking for leaks": (f"{TRAIN} two", "two/card.json", ("jaxdl.commands.train", "check_validation")),
    "hashing the examples": (f"{TRAIN} three", "three/card.json", ("jaxdl.training.transfer", "describe_run")),
}


@pytest.fixture(scope="module")
def hanging(home):
    """All of these commands at once, since they only wait; the limit of what may take long is twice the other here."""
    hang = home / "hang"
    hang.touch()
    started = {
        doing: Started(home, line, 2, 1, hangs=1, within=within, slow=2) for doing, (line, _, within) in BEFORE.items()
    }
    yield started
    hang.unlink()
    for one in started.values():
        one.kill()


@pytest.mark.slow
@pytest.mark.parametrize("doing", BEFORE)
def test_one_that_hangs_before_the_first_step_ends_all(home, hanging, doing):
    started = hanging[doing]
    started.processes[0].join(120)
    code, said = started.processes[0].exitcode, started.said(0)[1]
    assert code == LOST, said
    assert f"process 0 of 2: error: process 1 (number {started.processes[1].pid} " in said
    assert f", last seen {doing}) hangs: " in said
    assert not (home / BEFORE[doing][1]).exists()
