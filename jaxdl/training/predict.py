"""What a trained network says of examples."""

import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data import stream
from jaxdl.data.batches import evaluation_batches
from jaxdl.data.preprocessing import Preprocessing, normalise, to_memory
from jaxdl.data.source import Source, arrange_columns
from jaxdl.errors import InputError
from jaxdl.parallel.compiler import compiler_options
from jaxdl.tasks import choose_task
from jaxdl.tasks.classification import probabilities
from jaxdl.weights.card import Card
from jaxdl.weights.checkpoint import Checkpoint


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """What a checkpoint says of each example.

    Attributes:
      logits: float32[n, classes]; of a regression the numbers themselves, float32[n, 1].
      class_names: of the columns; empty for a regression.
      labels: the true class as a column of `logits`, -1 where it is unknown to the checkpoint, or the true number; None
        if not given.
      names: of the examples, or None.
    """

    logits: np.ndarray
    class_names: tuple[str, ...]
    labels: np.ndarray | None = None
    names: tuple[str, ...] | None = None

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, ``[n, classes]``."""
        if not self.class_names:
            raise InputError("a regression gives numbers, not probabilities; see predicted")
        return probabilities(self.logits)

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each example, or the number."""
        return self.logits.argmax(-1) if self.class_names else self.logits[:, 0]

    @property
    def scores(self) -> dict[str, float] | None:
        """What the task measures, such as ``accuracy`` and ``loss``; None where a label is not known."""
        if self.labels is None or (self.class_names and (self.labels < 0).any()):
            return None
        return choose_task(self.class_names).evaluate(self.logits, self.labels)

    @property
    def accuracy(self) -> float | None:
        """Share predicted right; None without labels or classes."""
        if self.labels is None or not self.class_names:
            return None
        return float((self.predicted == self.labels).mean())


def predict(
    checkpoint: Checkpoint,
    source: Source,
    *,
    batch_size: int = 64,
    streaming: bool | None = None,
    workers: int = 2,
) -> Predictions:
    """Logits of every example of `source`.

    Args:
      checkpoint: a trained network; its card says how to prepare the examples.
      source: with or without labels; labels are matched to the checkpoint's classes by name.
      batch_size: examples at a time.
      streaming: read the examples batch by batch; by default if they do not fit in memory.
      workers: processes that decode what is streamed.

    Raises:
      InputError: if the examples are of another kind or shape than the network takes.
    """
    if not isinstance(checkpoint, Checkpoint):
        raise InputError(f"a {type(checkpoint).__name__} is no Checkpoint; an ensemble has a predict of its own")
    card, preprocessing = checkpoint.card, checkpoint.card.preprocessing
    if not preprocessing.fitted:
        raise InputError("the checkpoint was never trained: its card has no mean and std")
    if len(source) == 0:
        raise InputError(f"{source.name} holds no examples")
    source = arrange_columns(source, card.columns)
    mean, std = np.float32(preprocessing.mean), np.float32(preprocessing.std)

    @partial(jax.jit, compiler_options=compiler_options())
    def run(variables: Any, x: jax.Array) -> jax.Array:
        return checkpoint.model.apply(variables, normalise(x, mean, std)).astype("float32")

    variables = jax.tree.map(jnp.asarray, checkpoint.variables)  # to the device once
    feed = stored_batches(source, preprocessing, batch_size, streaming, workers)
    logits = np.concatenate([np.asarray(run(variables, x)) for x in feed])[: len(source)]
    names = None if source.names is None else tuple(source.names)
    if card.scaling:
        logits = choose_task(()).unscale(logits, np.float32(card.scaling))
    return Predictions(logits, *match_labels(source, card, checkpoint.model.num_outputs), names)


def stored_batches(
    source: Source, preprocessing: Preprocessing, batch_size: int, streaming: bool | None, workers: int
) -> Iterable[np.ndarray]:
    """Every example as stored, in batches of one shape; the last rows may only pad. Arguments as of `predict`."""
    everything = np.arange(len(source))
    if streaming or (streaming is None and stream.must_stream(source, preprocessing)):
        order = stream.EvaluationOrder((everything,), batch_size)
        return (b["x"] for b in stream.stream(source, preprocessing, order, range(1), workers=workers))
    data = to_memory(source, preprocessing)
    return (data.x[rows] for rows in evaluation_batches([everything], batch_size, [0])[0].indices)


def match_labels(source: Source, card: Card, outputs: int) -> tuple[tuple[str, ...], np.ndarray | None]:
    """The checkpoint's classes and the labels of `source` among them, as `Predictions` holds both."""
    if card.scaling:
        return (), None if source.labels is None or source.class_names else source.labels
    known = card.class_names or tuple(str(i) for i in range(outputs))
    labels = None
    if source.labels is not None and source.class_names:
        places = np.array([known.index(c) if c in known else -1 for c in source.class_names])
        labels = places[source.labels]
    return known, labels
