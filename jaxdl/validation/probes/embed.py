"""Examples as vectors that can be compared."""

from typing import Any

import numpy as np

from jaxdl.checks import check_arguments
from jaxdl.data import as_source
from jaxdl.data.source import arrange_columns
from jaxdl.errors import InputError
from jaxdl.training.execution import Execution
from jaxdl.validation.probes.frozen import extract_features
from jaxdl.weights.checkpoint import Checkpoint

SHORTEST = 1e-12  # a vector shorter than this has no direction, and stays as it is


@check_arguments
def embed(
    checkpoint: Checkpoint,
    examples: Any,
    *,
    normalise: bool | None = None,
    stage: str | None = None,
    batch_size: int = 32,
    execution: Execution = Execution(),  # noqa: B008
) -> np.ndarray:
    """One vector for each text, image or other example: ``float32[examples, width]``.

    The vectors are the features that flow into the network's head, as `extract_features` gives them. Of a sentence
    encoder (MiniLM, or another BERT of sentence-transformers) they are its sentence embeddings. Of unit length, the
    product ``vectors @ vectors.T`` is the cosine of each pair.

    Args:
      checkpoint: of any network; its head does not matter.
      examples: a list of texts; any `Source`; or what `data.as_source` takes, such as a path. A text may be empty (it
        is what the tokenizer makes of it) or occur several times (it gets the same vector); of one that is longer than
        the network reads, the beginning is embedded, and a warning says of how many. Two texts in a tuple are read
        together, and get one vector.
      normalise: whether to divide each vector by its length; by default as the weights were published
        (sentence-transformers' ``modules.json``), and not where that says nothing.
      stage: whose output is taken instead; see `extract_features`.
      batch_size: examples at a time.
      execution: which devices are used, and how the examples are read.

    Raises:
      InputError: for no examples, examples that the network does not read, or what `extract_features` refuses.
    """
    source = arrange_columns(as_source(examples, checkpoint.card), checkpoint.card)
    if len(source) == 0:
        raise InputError(f"{source.name} holds no examples to embed")
    vectors = extract_features(checkpoint, source, stage=stage, batch_size=batch_size, execution=execution)
    return unit(vectors) if (checkpoint.card.normalise if normalise is None else normalise) else vectors


def unit(vectors: np.ndarray) -> np.ndarray:
    """``[n, width]``, each divided by its length."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), SHORTEST)
