"""Texts as the tokens that a model reads: what ``--tokenizer`` and ``--length`` say."""

from typing import Any

from jaxdl.cli_options import ExamplesAsTokens, parse_arguments
from jaxdl.data import Texts, with_tokenizer
from jaxdl.data.source import Source
from jaxdl.data.texts import LENGTH
from jaxdl.errors import InputError
from jaxdl.models import MODELS, create
from jaxdl.models.own import defaults
from jaxdl.models.staged import Staged
from jaxdl.tasks import Task
from jaxdl.weights.adapt import with_length
from jaxdl.weights.checkpoint import Checkpoint
from jaxdl.weights.pretrained import load_pretrained


def as_tokens(source: Source, subject: ExamplesAsTokens) -> Source:
    """`source`; texts for a new model with the tokenizer that was given.

    Raises:
      InputError: for a tokenizer beside a checkpoint, which has its own; for a length of what are no texts.
    """
    if subject.init is not None:
        if subject.tokenizer is not None:
            raise InputError(f"--tokenizer is for a --model; '{subject.init}' brings its own: leave it out")
        return source
    if subject.tokenizer is not None:
        known = MODELS.get(subject.model)
        return with_tokenizer(source, subject.tokenizer, subject.length or (known.length if known else 0) or LENGTH)
    if subject.length is not None:
        held = "texts, and needs a --tokenizer, too" if isinstance(source, Texts) else "no texts: leave it out"
        raise InputError(f"--length is the number of tokens of a text; {source.name} holds {held}")
    return source


def new_model(subject: ExamplesAsTokens, task: Task, source: Source) -> Staged:
    """A fresh model for the task; of texts it knows as many tokens as their tokenizer, unless that is said."""
    arguments: dict[str, Any] = parse_arguments(subject.model_arguments)
    tokens, known = getattr(source.preprocessing, "vocabulary", None), MODELS.get(subject.model)
    if tokens is not None and known is not None and "vocabulary" in defaults(known.family):
        arguments = {"vocabulary": tokens} | arguments
    return create(subject.model, task.num_outputs, **arguments)


def pretrained(subject: Any) -> Checkpoint:
    """The checkpoint of ``--init``, which reads as many tokens as ``--length`` says."""
    network = load_pretrained(subject.init)
    return network if subject.length is None else with_length(network, subject.length)
