"""A process that is killed, stopped or hangs ends the others, which name it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdl.parallel import hosts
from jaxdl.parallel.watchdog import LOST, SLOW, Beat, Observed, Watchdog, stop_watching, watch

LIMIT = 5


def seen(observed, now, **counts):
    """Tells of processes p0, p1, … their numbers of beats; negative for one of slow work, None for silence."""
    beats = {}
    for name, count in counts.items():
        index, before = int(name[1:]), observed.beats[int(name[1:])]
        if count is None:
            beats[index] = before
        else:
            sent = before.sent + 1 if before else 0
            beats[index] = Beat(f"host{index}", 7, f"step {abs(count)}", abs(count), count < 0, sent)
    observed.see(beats, now)


def test_who_is_silent_is_lost_after_the_limit():
    observed = Observed(2, 10, now=0)
    seen(observed, 1, p0=5, p1=5)
    for now in range(2, 11):
        seen(observed, now, p0=5, p1=None)
        assert observed.lost(now) is None
    seen(observed, 12, p0=5, p1=None)
    said = observed.lost(12)
    assert "process 1 (number 7 on host1, last seen step 5)" in said
    assert "not been heard of for 11 s" in said


def test_who_never_came_is_lost():
    observed = Observed(2, 10, now=0)
    observed.see({0: Beat("host0", 7)}, 1)
    assert observed.lost(9) is None
    observed.see({0: Beat("host0", 7, sent=1)}, 11)
    assert observed.lost(11).startswith("process 1 has not been heard of")


def test_who_stands_still_is_lost_once_others_wait():
    """The time in which all stand at the same point does not count: there they compute, or wait for something else."""
    observed = Observed(3, 10, now=0)
    for now in range(100):
        seen(observed, now, p0=5, p1=5, p2=5)
        assert observed.lost(now) is None
    for now in range(100, 120):
        seen(observed, now, p0=6, p1=5, p2=6)
        said = observed.lost(now)
        assert (said is not None) == (now - 100 > 10), now
    assert said.startswith("process 1 (number 7 on host1, last seen step 5) hangs")


def test_who_moves_slowly_is_not_lost():
    observed = Observed(2, 10, now=0)
    for now in range(100):
        seen(observed, now, p0=50, p1=now // 8)
        assert observed.lost(now) is None


def test_slow_work_has_more_time():
    observed = Observed(2, 10, now=0)
    for now in range(0, 10 * SLOW, 5):
        seen(observed, now, p0=6, p1=-5)
        assert observed.lost(now) is None
    seen(observed, 10 * SLOW + 1, p0=6, p1=-5)
    assert "process 1" in observed.lost(10 * SLOW + 1)


def test_who_has_ended_is_not_missed_but_who_failed_is_told():
    observed = Observed(2, 12, now=0)
    seen(observed, 1, p0=5, p1=5)
    ended = Beat("host1", 7, "step 5", 5, ended=True, sent=9)
    for now in range(2, 100):
        observed.see({0: Beat("host0", 7, "step 6", 6, sent=now), 1: ended}, now)
        assert observed.lost(now) is None
    failed = Beat("host1", 7, "step 5", 5, ended=True, sent=10, failed="OSError: disk full")
    for now in (100, 103, 105):
        observed.see({0: Beat("host0", 7, "step 6", 6, sent=now), 1: failed}, now)
    assert observed.lost(103) is None  # the same may be about to happen to this one
    assert "process 1 (number 7 on host1, last seen step 5) failed: OSError: disk full" in observed.lost(105)


class Store:
    """The runtime's store, in this process."""

    def __init__(self):
        self.held = {}

    def key_value_set(self, key, value, allow_overwrite):
        assert allow_overwrite
        self.held[key] = value

    def blocking_key_value_get(self, key, timeout_in_ms):
        end = time.monotonic() + timeout_in_ms / 1000
        while key not in self.held:
            assert time.monotonic() < end
            time.sleep(0.01)
        return self.held[key]

    def key_value_dir_get(self, prefix):
        return [(key, value) for key, value in self.held.items() if key.startswith(prefix)]


def test_watchdogs_agree_on_who_hangs():
    store, told = Store(), {0: [], 1: [], 2: []}
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        dogs = [Watchdog(i, 3, 0.5, store, address, told[i].append) for i in range(3)]
        with ThreadPoolExecutor() as pool:  # each waits for the others
            list(pool.map(Watchdog.start, dogs))
        for step in range(5):
            for dog in dogs:
                dog.beat(f"step {step}")
            time.sleep(0.05)
        time.sleep(1)
        assert told == {0: [], 1: [], 2: []}  # all stand at the same point
        for dog in dogs[:2]:
            dog.beat("step 5")
        end = time.monotonic() + 30
        while not all(told.values()) and time.monotonic() < end:
            time.sleep(0.05)
    for said in told.values():
        assert len(said) == 1
        assert "process 2" in said[0]
        assert "last seen step 4" in said[0]
        assert "go on from the last save" in said[0]


def test_alone_there_is_nothing_to_watch():
    watch()
    stop_watching(ValueError("of no interest"))


@pytest.fixture
def sent(monkeypatch):
    """Beats of process 0 of 2, and what it tells the other, which answers the same."""
    events = []
    monkeypatch.setattr(hosts, "_send", lambda doing, slow: events.append(doing))
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(jax, "process_count", lambda: 2)

    def told(array, tiled=False):
        events.append("all come together")
        return np.concatenate([array, array]) if tiled else np.stack([array, array])

    monkeypatch.setattr(hosts, "process_allgather", told)
    return events


def test_what_one_process_does_alone_is_no_beat(sent):
    """The others, which wait for it, do not come there."""
    hosts.beat("training")
    with hosts.alone():
        hosts.beat("drawing")
    hosts.beat("training on")
    assert sent == ["training", "training on"]


def test_whoever_waits_for_others_has_said_so(sent):
    """It is then further than one that does not come, which is named."""
    assert hosts.gather_plain({"a": 1}) == [{"a": 1}] * 2
    assert sent == ["telling the others", "all come together", "all come together"]
    sent.clear()
    np.testing.assert_array_equal(hosts.gather_rows(np.arange(2.0), 4), [0, 1, 0, 1])
    assert sent == ["gathering what each has read", "all come together"]
    sent.clear()
    assert hosts.on_first(lambda: sent.append("it works") or 3, "looking") == 3
    assert sent == ["looking", "it works", "telling the others", "all come together", "all come together"]


# Processes


def start(count, limit, hangs=None, how="hang"):
    """Several processes that compute together."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    script, environment = Path(__file__).with_name("watched.py"), dict(os.environ, JAX_PLATFORMS="cpu")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(script.parents[2]), os.environ.get("PYTHONPATH")]))
    return [
        subprocess.Popen(
            [sys.executable, str(script), *map(str, (index, count, port, limit)), *([how] if index == hangs else [])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for index in range(count)
    ]


@contextlib.contextmanager
def running(processes):
    """While they run; at the end none is left."""
    try:
        for process in processes:
            for line in process.stdout:
                if line == "running\n":
                    break
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def check_ends(process, blamed, within, *said):
    """That a process ends by itself, names who is to blame, and says so last."""
    begin = time.monotonic()
    _, err = process.communicate(timeout=within + 60)
    seconds = time.monotonic() - begin
    message = [line for line in err.splitlines() if line.startswith("jaxdl, process")]
    assert process.returncode == LOST, err
    assert len(message) == 1, err
    assert f"process {blamed} (number" in message[0]
    assert socket.gethostname() in message[0]
    assert all(words in message[0] for words in said)
    assert seconds < within, message
    return seconds


@pytest.mark.parametrize(
    ("number", "lost", "count"),
    [
        (signal.SIGKILL, 1, 2),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in [
                (signal.SIGKILL, 0, 2),
                (signal.SIGSTOP, 1, 2),
                (signal.SIGSTOP, 0, 2),
            ]
        ),
    ],
)
def test_a_process_that_is_killed_or_stopped_ends_the_others(number, lost, count):
    processes = start(count, LIMIT)
    with running(processes):
        processes[lost].send_signal(number)
        others = [process for index, process in enumerate(processes) if index != lost]
        seconds = [check_ends(process, lost, within=2 * LIMIT) for process in others]
        print(f"{number.name} of process {lost} of {count}: the others ended within {max(seconds):.1f} s")
        if number == signal.SIGSTOP:  # should it go on, it ends, too
            processes[lost].send_signal(signal.SIGCONT)
            processes[lost].wait(30)
            assert processes[lost].returncode == LOST


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_main_thread_that_hangs_ends_all(lost):
    processes = start(2, LIMIT, hangs=lost)
    with running(processes):
        for process in processes:
            check_ends(
                process, lost, 2 * LIMIT, "hangs: the others have waited for it", "last seen reading for step 20"
            )


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_fails_ends_the_others_with_its_words(lost):
    processes = start(2, LIMIT, hangs=lost, how="fail")
    with running(processes):
        check_ends(processes[1 - lost], lost, 2 * LIMIT, "failed: ValueError: no luck")
        assert processes[lost].wait(30) == 1
