"""Queries, each with the document that answers it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt32

from jaxdl.data.content import content_hash
from jaxdl.data.preprocessing.pairs import DOCUMENT
from jaxdl.data.source import Source
from jaxdl.data.texts import LENGTH, Texts, texts
from jaxdl.errors import InputError

BEGIN = 30  # letters of a document that name its group


def pairs(
    queries: Sequence[str],
    documents: Sequence[str],
    *,
    groups: Any = None,
    times: Any = None,
    weights: Any = None,
    tokenizer: str | Path | None = None,
    length: int = LENGTH,
) -> Texts:
    """A source of queries, each with the document that answers it: for the task retrieval.

    Args:
      queries: such as questions.
      documents: the one that answers each query. Equal texts are one document, which may answer several queries.
      groups: which belong together, such as the article that a document is from. By default the documents: no fold
        trains on a document that it tests.
      times: when each was written.
      weights: how much each query counts in training.
      tokenizer: see `texts`.
      length: number of tokens, of query and document alike.

    Raises:
      InputError: for what is no text, a text without letters, or lengths that differ.
    """
    if isinstance(queries, str) or isinstance(documents, str):
        raise InputError("queries and documents are lists of texts; one of them is a string")
    if len(queries) != len(documents):
        raise InputError(f"there are {len(queries)} queries and {len(documents)} documents; expected one for each")
    how = dict(times=times, weights=weights, tokenizer=tokenizer, length=length)
    made = texts(list(zip(queries, documents, strict=True)), groups=groups, **how)
    return queries_of(dataclasses.replace(made, name="pairs"))


def queries_of(source: Source) -> Texts:
    """Pairs of texts as queries with their documents; labels that they have are left out.

    Raises:
      InputError: for what are no pairs of texts, or one without letters.
    """
    if not isinstance(source, Texts) or source.describe_x() != "pairs of texts":
        raise InputError(
            f"{source.name} holds {source.describe_x() or 'nothing'}; expected queries with their documents: of tables "
            "--text-column QUERY DOCUMENT, from Python data.pairs(queries, documents)"
        )
    for index, pair in enumerate(source.held):
        if not all(text.strip() for text in pair):
            raise InputError(f"{source.name}: the query or the document at index {index} is empty; leave the pair out")
    labels = document_ids([second for _, second in source.held])
    if source.groups is None:
        words = labels.view(np.uint64)[:, 0]
        named = [f"{second:.{BEGIN}} [{word:x}]" for (_, second), word in zip(source.held, words, strict=True)]
        source = source.with_groups(np.array(named))
    return dataclasses.replace(source, labels={DOCUMENT: labels}, class_names=(), target=None)


def document_ids(documents: Sequence[str]) -> UInt32[np.ndarray, "n 2"]:
    """64 bits that tell documents apart by what they say, in two numbers: JAX has none of 64 bits."""
    return np.array([content_hash(np.str_(one)) for one in documents], np.uint64)[:, None].view(np.uint32)
