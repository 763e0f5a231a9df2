"""A command on several processes that compute together, as on several hosts; they talk over loopback."""

import collections
import contextlib
import importlib
import itertools
import math
import multiprocessing
import os
import socket
import sys
import time
from pathlib import Path

import numpy as np

from jaxdl.cli import main
from jaxdl.data import stream
from jaxdl.parallel import joining, watchdog
from jaxdl.training import lease

# Processes of their own, but forked from one that has imported all: importing takes longer than these runs.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["jaxdl.cli", "orbax.checkpoint", "grain", "matplotlib", "pytest"])

NUMBERS = itertools.count()


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def draw_photographs(home):
    """27 of 8 × 8 pixels, of three kinds, each brighter than the one before; in the folder ``photos``."""
    from PIL import Image

    draw = np.random.default_rng(0)
    for kind in range(3):
        folder = home / "photos" / f"kind{kind}"
        folder.mkdir(parents=True)
        for number in range(9):
            pixels = draw.integers(0, 150, (8, 8, 3)) + 50 * kind
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{kind}-{number}.png")


def saved(run):
    """The steps of the saves of a training that are whole."""
    folder = run / "state" / "training"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []


class Started:
    """A command line on `count` processes of `devices` each; with one process it is an ordinary command.

    Args:
      home: where it runs, and where what it says is kept.
      line: without the word jaxdl, and without how the processes meet.
      reach: seconds in which they must.
      told: how each is told of the others, by its number; by default rightly.
      hangs: the number of one that, once the file ``hang`` is there, reads no example any more; where a number stands
        in the file, from this example of its own on.
      within: where it hangs in place of that: a module, and the name of a function in it.
      slow: times the limit of the watchdog for what may take long.
    """

    def __init__(
        self, home, line, count=1, devices=2, reach=120, told=None, hangs=None, within=None, slow=watchdog.SLOW
    ):
        port, self.home, self.name = free_port(), home, f"said-{next(NUMBERS)}"
        told = told or (lambda index: f"--coordinator 127.0.0.1:{port} --process {index}/{count}")
        self.processes = []
        for index in range(count):
            arguments = f"{line} {told(index) if count > 1 else ''}".split()
            said = str(home / f"{self.name}-{index}")
            how = (reach, index == hangs, within, slow)
            process = SERVER.Process(target=run, args=(str(home), arguments, said, devices, how, dict(os.environ)))
            process.start()
            self.processes.append(process)

    def kill(self):
        """All at once, as a machine room without power does."""
        for process in self.processes:
            process.kill()
        return self.wait()

    def wait_for_a_save(self, run, after=0):
        """The last step that is saved in the folder of a run, once it is later than `after`; none may end before."""
        end = time.monotonic() + 120
        while not (found := [step for step in saved(run) if step > after]):
            assert time.monotonic() < end, self.said()
            assert all(process.exitcode is None for process in self.processes), self.wait()
            time.sleep(0.01)
        return found[-1]

    def wait(self):
        """Of each process: its exit code, and what it wrote to stdout and stderr."""
        for process in self.processes:
            process.join(240)
            assert process.exitcode is not None, "it hangs"
        return [(process.exitcode, *self.said(index)) for index, process in enumerate(self.processes)]

    def said(self, index=0):
        """What it wrote so far. (gloo, which stands for the network between the hosts, prints lines of its own.)"""
        both = [(self.home / f"{self.name}-{index}.{stream}").read_text() for stream in ("out", "err")]
        return [
            "".join(one for one in text.splitlines(True) if "Gloo" not in one and "peer ranks" not in one)
            for text in both
        ]

    def decoded(self):
        """How often each process decoded each example, by its name."""
        files = [self.home / f"{self.name}-{index}.decoded" for index in range(len(self.processes))]
        return [collections.Counter(file.read_text().splitlines() if file.exists() else ()) for file in files]


def run(home, arguments, said, devices, how, environment):
    reach, hangs, within, slow = how
    os.chdir(home)
    os.environ.update(environment)  # it may have changed since the process from which this one was forked began
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    for number, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{said}.{kind}", os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    joining.REACH, watchdog.SLOW = reach, slow
    lease.RENEW, lease.LOST = 0.5, 3.0  # in a bucket who is silent is soon gone
    _note_what_is_decoded(f"{said}.decoded", hangs and within is None)
    if hangs and within is not None:
        module, name = importlib.import_module(within[0]), within[1]
        function = getattr(module, name)
        setattr(module, name, lambda *given, **named: _hang() or function(*given, **named))
    sys.argv = ["jaxdl", *arguments]
    main()


def _hang(read=math.inf):
    """As where a file server does not answer."""
    with contextlib.suppress(FileNotFoundError):
        while read >= int(Path("hang").read_text() or 0):
            time.sleep(0.1)


def _note_what_is_decoded(file, hangs):
    original, read = stream._stored, itertools.count()

    def stored(source, index, preprocessing):
        if hangs:
            _hang(next(read))
        with Path(file).open("a") as noted:
            noted.write(f"{index if source.names is None else source.names[index]}\n")
        return original(source, index, preprocessing)

    stream._stored = stored
    stream._useful = lambda workers, source: 0  # in processes of their own nothing would be noted
