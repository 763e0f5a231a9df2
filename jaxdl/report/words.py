"""The section on which words spoke for an answer, by the networks of the folds."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.preprocessing.text import TextPreprocessing, text_of
from jaxdl.data.preprocessing.tokenizer import Text, Word
from jaxdl.data.source import Source, subset
from jaxdl.errors import InputError
from jaxdl.report.explain import attention_to_tokens, gradient_times_input, reads_tokens, rolls_out
from jaxdl.report.markup import Section, escaped, legend
from jaxdl.report.run import Run
from jaxdl.report.saliency import EACH, Row, by_its_network, by_whom, caption_of, choose_examples, explained_source
from jaxdl.weights.checkpoint import Checkpoint

TITLE = "Which words counted"
FOR, AGAINST = (0, 114, 178), (213, 94, 0)  # two colours that all readers can tell apart; see style.css
GRADIENT = (
    "Gradient × input (Shrikumar et al. 2016, arXiv:1605.01713): the vector of each token times the gradient of the "
    "logit of the class by it, added up over a word. Words in blue raise the logit, those in orange, underlined with "
    "dots, lower it."
)
ATTENTION = (
    "Attention roll-out (Abnar & Zuidema 2020): how much of each word reaches the output if attention alone moved it; "
    "the same for every class."
)
CAUTION = (
    "Dark is much, pale little; each line has its own scale. Such scores are a first guess at what counted: they may "
    "change with a word that changes nothing else, and do not say that the network is right for the right reason."
)


def show_words(run: Run) -> Section:
    """Some right and some wrong texts, their words marked by the network that did not train on them.

    Raises:
      InputError: if networks or examples are not there, or the network reads no tokens.
    """
    _, network = run.network()
    source = explained_source(run)
    if not reads_tokens(network.model):
        raise InputError(f"The model {type(network.model).__name__} has no vectors of tokens to take gradients by.")

    def explained(network: Checkpoint, rows: Sequence[Row]) -> list[str]:
        return _explained(run, source, network, rows)

    shown = {
        kind: "".join(by_its_network(run, rows, explained))
        for kind, rows in choose_examples(run, source).items()
        if rows
    }
    blocks = "".join(f'<h3>{kind}</h3><div class="said">{body}</div>' for kind, body in shown.items())
    said = f"Each text is explained {by_whom(run)} {GRADIENT}" + (f" {ATTENTION}" if rolls_out(network.model) else "")
    keys = legend(("■", _colour(FOR, 1), "for the class"), ("■", _colour(AGAINST, 1), "against it"))
    return Section(TITLE, f"<p>{escaped(said)}</p>{keys}{blocks}<p class='note'>{CAUTION}</p>")


def _explained(run: Run, source: Source, network: Checkpoint, rows: Sequence[Row]) -> list[str]:
    """A figure for each of `rows`."""
    examples, made = subset(source, [row["index"] for row in rows]), []
    scores = _scores(network, network.card.preprocessing.load(examples), rows)
    for i, row in enumerate(rows):
        lines = {name: values[i] for name, values in scores.items() if values[i] is not None}
        made.append(_figure(run, source, row, text_of(examples[i]["x"]), network, lines))
    return made


def _scores(network: Checkpoint, x: Any, rows: Sequence[Row]) -> dict[str, list[np.ndarray | None]]:
    """By what a line says, the score of each token of each row; None where the line would say the same again.

    Computed for `EACH` texts at a time, so that one program serves all folds.
    """
    filled = np.resize(np.arange(len(rows)), EACH)
    variables = jax.tree.map(jnp.asarray, network.variables)
    inputs = network.card.preprocessing.network_input(jax.tree.map(lambda array: array[filled], x))

    def speak_for(which: str) -> np.ndarray:
        classes = np.array([row[which] for row in rows])[filled]
        return np.asarray(gradient_times_input(network.model, variables, inputs, classes))[: len(rows)]

    wrong = [row["predicted"] != row["label"] for row in rows]
    lines: dict[str, list[np.ndarray | None]] = {"predicted": list(speak_for("predicted"))}
    if any(wrong):
        lines["label"] = [scores if bad else None for scores, bad in zip(speak_for("label"), wrong, strict=True)]
    if rolls_out(network.model):
        lines["attention"] = list(np.asarray(attention_to_tokens(network.model, variables, inputs))[: len(rows)])
    return lines


def _figure(
    run: Run,
    source: Source,
    row: Row,
    text: Text,
    network: Checkpoint,
    lines: Mapping[str, np.ndarray],
) -> str:
    label, predicted = (run.task.names[row[key]] for key in ("label", "predicted"))
    said = {"predicted": f"for {predicted}", "label": f"for {label}", "attention": "attention"}
    preprocessing: TextPreprocessing = network.card.preprocessing
    words = preprocessing.words(text)
    body = "".join(
        f"<div><small>{escaped(said[name])}: {escaped(strongest(text, words, scores))}</small>"
        f"{marked(text, words, scores)}</div>"
        for name, scores in lines.items()
    )
    return f"<figure><figcaption>{caption_of(run, source, row)}</figcaption>{body}</figure>"


def of_words(words: Sequence[Word], scores: np.ndarray) -> np.ndarray:
    """Of each word the sum over its tokens, ``[words]``."""
    return np.array([scores[list(word.tokens)].sum() for word in words], np.float64)


def strongest(text: Text, words: Sequence[Word], scores: np.ndarray, count: int = 3) -> str:
    """The words with the largest scores, for readers who do not see colours."""
    each = of_words(words, scores)
    order = [place for place in np.argsort(-np.abs(each), kind="stable")[:count] if each[place]]
    named = [f"“{word_of(text, words[place])}”{'' if each[place] > 0 else ' (against)'}" for place in order]
    return "most by " + ", ".join(named) if named else "no word more than another"


def word_of(text: Text, word: Word) -> str:
    """The word as it is written."""
    return (text if isinstance(text, str) else text[word.which])[word.start : word.end]


def marked(text: Text, words: Sequence[Word], scores: np.ndarray) -> str:
    """HTML of the text with its words marked by ``scores[length]``; what the network did not read is pale."""
    each = of_words(words, scores)
    largest = np.abs(each).max(initial=0.0) or 1.0
    parts = []
    for which, one in enumerate([text] if isinstance(text, str) else text):
        made, end = "", 0
        for word, score in zip(words, each / largest, strict=True):
            if word.which != which:
                continue
            made += escaped(one[end : word.start])
            kind, colour = ("", FOR) if score >= 0 else (' class="against"', AGAINST)
            style = f"background:{_colour(colour, 0.6 * abs(score))}"
            made += f'<mark{kind} style="{style}">{escaped(one[word.start : word.end])}</mark>'
            end = word.end
        rest = escaped(one[end:])
        parts.append(f'<p dir="auto">{made}{f"<s>{rest}</s>" if rest.strip() else rest}</p>')
    return "".join(parts)


def _colour(colour: tuple[int, int, int], alpha: float) -> str:
    return f"rgb({' '.join(map(str, colour))} / {alpha:.2f})"
