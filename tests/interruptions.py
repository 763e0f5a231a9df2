"""Runs that are stopped and started again."""

from jaxdl.training.execution import Execution
from jaxdl.training.resume import Interrupted, RunFolder


class Stop:
    """Says stop when asked for the `after`-th time."""

    def __init__(self, after):
        self.left = after

    def __call__(self):
        self.left -= 1
        return self.left < 0


def run_to_the_end(call, folder, every_poll, how=None):
    """Starts `call` again and again, each start stopped after a few polls; the result and how often it was stopped."""
    for stops in range(200):
        work = RunFolder(folder, save_every=0, should_stop=Stop(every_poll))
        try:
            return call((how or Execution()).replace(work=work)), stops
        except Interrupted:
            continue
    raise AssertionError("it never ended")
