"""What a training compiles comes after it said that this may take long: others then wait longer before it hangs."""

import logging

import jax
import numpy as np

import jaxdl
from jaxdl import data
from jaxdl.training import loop, runners


class Compiled(logging.Handler):
    def __init__(self, events):
        super().__init__()
        self.events = events

    def emit(self, record):
        name = record.getMessage()
        if name.startswith("Compiling jit(run)"):  # the programs of steps and of predictions
            self.events.append("compiles")


def test_programs_are_compiled_in_time_for_it_also_those_of_stages_that_are_unfrozen(monkeypatch):
    source, held_out = (data.subset(data.digits(range(3)), np.arange(first, 500, 10)) for first in (0, 5))
    parent = jaxdl.pretrain(jaxdl.create("mlp", 3, hidden=(8, 6)), source, jaxdl.Plan(epochs=1))
    events = []
    for module in (loop, runners):
        monkeypatch.setattr(module, "beat", lambda doing, *, slow=False: events.append((doing, slow)))
    plan = jaxdl.Plan(epochs=5, freeze_through="body", unfreeze_every=1)
    handler, logger = Compiled(events), logging.getLogger("jax")
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            jaxdl.finetune(parent, source, plan, validation=held_out)
    finally:
        logger.removeHandler(handler)
    compiling = [place for place, event in enumerate(events) if event == "compiles"]
    assert len(compiling) >= 3 * 2  # a step and a prediction of each number of frozen stages
    before = [next(event for event in reversed(events[:place]) if event != "compiles") for place in compiling]
    assert [doing for doing, slow in before if not slow] == []
    last = next(slow for doing, slow in (one for one in reversed(events) if one != "compiles") if "training" in doing)
    assert not last  # nothing is unfrozen any more
