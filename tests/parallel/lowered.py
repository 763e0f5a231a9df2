"""Steps lowered from shapes alone, for devices that need not be here."""

import jax

from jaxdl.parallel.collectives import holds
from jaxdl.training.feeds import epoch_batches
from jaxdl.training.runners import make_runner


def structs(tree):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def lowered_step(setup, executor, count=1):
    """The step of `count` runs as the compiler is given it, and the shapes of the state, placed."""
    runner, runs = make_runner(executor, setup.recipe(), False), [setup.run(fold) for fold in range(count)]
    state = executor.place_state(structs(jax.eval_shape(lambda: setup.states(runs))))
    batch = jax.tree.map(lambda a: structs(a[0]), epoch_batches(setup, runs, 0))
    shared = runner.place_shared(structs(setup.shared))
    return runner.step.lower(state, batch, shared), state


def compiled_step(setup, executor, count=1):
    """The compiled step of `count` runs, and the shapes of the state, placed."""
    lowered, state = lowered_step(setup, executor, count)
    return lowered.compile(), state


def collectives(compiled, devices=8):
    """``{kind: (count, bytes)}`` of a compiled program."""
    return {kind: (one.count, one.bytes) for kind, one in holds(compiled.as_text(), devices).collectives.items()}
