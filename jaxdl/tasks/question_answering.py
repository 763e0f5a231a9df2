"""Which part of a text answers a question: extractive question answering, as in SQuAD."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdl.errors import InputError
from jaxdl.tasks.columns import CONFIDENCE, as_cells
from jaxdl.tasks.metric import ERROR, SHARE, Mean, Metric
from jaxdl.tasks.spans import exact_match, word_f1
from jaxdl.tasks.task import Constants, Task

if TYPE_CHECKING:
    from jaxdl.data.source import Source

LONGEST = 30  # tokens of an answer that is predicted
FAR = -1e9  # the logit of a token that cannot be the answer
TARGETS = ("answers", "end", "start")

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Mean("exact_match", value="exact", **SHARE),
        Mean("f1", value="overlap", **SHARE),
        Mean("cross_entropy", value="nats", **ERROR),
    )
}


@dataclasses.dataclass(frozen=True)
class QuestionAnswering(Task):
    """The part of a text that answers a question (Rajpurkar et al., arXiv:1606.05250).

    Targets are ``{"start": int32[n], "end": int32[n], "answers": str[n]}``: where in the text the answer that is
    learned begins and ends, in characters, and all that are known, as a list in JSON. Outputs are two logits for each
    token, of being the first and the last one of the answer. A text may be several windows of tokens: probabilities are
    of all tokens of all its windows together (Clark & Gardner, arXiv:1710.10723).
    """

    name = "question-answering"
    METRICS = METRICS
    LOSS = "cross_entropy"
    SHOWN = ("exact_match", "f1")
    SECTIONS = ("wrong",)
    FUNCTIONS = False
    CARRIES = ("places",)
    ANY_LENGTH = True
    ON_HOST = True
    NOT_CONFORMAL = "an answer is any part of a text, of which there are too many to list those that may be true"
    BASELINE = "the first words of each text, as many as training answers mostly have"
    PREDICTS = (
        "start and end: where in the text the answer begins and ends, in characters; score: the logarithm of its "
        "probability"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", ())  # its outputs are none that a user meets
        super().__post_init__()

    @classmethod
    def fits(cls, targets: Any, names: Sequence[str]) -> bool:
        return isinstance(targets, Mapping) and tuple(sorted(targets)) == TARGETS

    @property
    def num_outputs(self) -> int:
        return 2

    def describe(self) -> str:
        return "question answering"

    def tally(self, targets: Mapping[str, np.ndarray]) -> str:
        words = [len(_known(one)[0].split()) for one in targets["answers"]]
        return f"answers of {min(words)} to {max(words)} words within a text"

    def check(self, targets: Any, count: int, data: str, purpose: str) -> None:
        if not self.fits(targets, self.names) or any(len(one) != count for one in targets.values()):
            raise InputError(
                f"the labels of {data} are no answers within a text; expected for each of {count} examples start and "
                "end, whole numbers, and answers, a list of strings in JSON; data.squad reads them from a file"
            )
        start, end = targets["start"], targets["end"]
        if start.dtype.kind not in "iu" or end.dtype.kind not in "iu" or not (start < end).all() or (start < 0).any():
            raise InputError(f"{data}: answers begin at 0 or later, and end behind where they begin, in characters")

    def device_targets(self, targets: Mapping[str, Any]) -> dict[str, Any]:
        return {name: targets[name] for name in ("start", "end")}

    def baseline(self, targets: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
        """The first words of each text, as many as training answers have: the median."""
        words = np.median([len(_known(one)[0].split()) for one in targets["answers"]])
        return {"words": np.full(count, max(1, round(words)), np.int32)}

    def loss(
        self, outputs: Mapping[str, Array], targets: Mapping[str, Array], constants: Constants
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """The mean of the cross-entropies of the first and of the last token of the answer, over all windows, and 1.

        Where windows share the answer, its probability is the sum over them. Nothing, and 0, where no window holds it.
        """
        logits, places = _by_token(outputs)
        start, end = (targets[name][:, None, None] for name in ("start", "end"))
        of_text = places[..., 0] >= 0
        first = of_text & (places[..., 0] <= start) & (start < places[..., 1])
        last = of_text & (places[..., 0] < end) & (end <= places[..., 1])
        whole = first.any(-1, keepdims=True) & last.any(-1, keepdims=True)  # of a window that holds all of it
        nats, known = 0.0, whole.any((1, 2))
        for which, right in enumerate((first & whole, last & whole)):
            every = jax.nn.logsumexp(logits[..., which], (1, 2))
            nats += (every - jax.nn.logsumexp(jnp.where(right, logits[..., which], FAR), (1, 2))) / 2
        return jnp.where(known, nats, 0.0), known.astype(jnp.float32)

    def predict(self, outputs: Mapping[str, Array], constants: Constants) -> dict[str, Array]:
        """The most probable part of the text, of `LONGEST` tokens at most, that lies within a window: ``[batch]``."""
        logits, places = _by_token(outputs)
        batch, windows, length, _ = logits.shape
        longest = min(LONGEST, length)
        first, last = logits[..., 0], logits[..., 1]
        behind = jnp.pad(last, ((0, 0), (0, 0), (0, longest - 1)), constant_values=FAR)
        total = jnp.stack([first + behind[..., more : more + length] for more in range(longest)], -1)
        best = total.reshape(batch, -1).argmax(-1)
        window, begin, more = jnp.unravel_index(best, (windows, length, longest))
        row = jnp.arange(batch)
        every = sum(jax.nn.logsumexp(one, (1, 2)) for one in (first, last))
        return {
            "start": jnp.maximum(places[row, window, begin, 0], 0),
            "end": jnp.maximum(places[row, window, begin + more, 1], 0),
            "score": total.reshape(batch, -1)[row, best] - every,
        }

    def keep(self, outputs: Any, targets: Any, constants: Constants) -> dict[str, Array]:
        """As `predict`, and ``nats``, the loss, ``float32[batch]``."""
        return {**self.predict(outputs, constants), "nats": self.loss(outputs, targets, constants)[0]}

    def read(self, kept: Mapping[str, np.ndarray], source: "Source", indices: np.ndarray) -> dict[str, np.ndarray]:
        """Also ``text``, the answer in words, ``str[n]``."""
        texts = [_text(source[int(i)]["x"]) for i in indices]
        if "words" in kept:
            ends = [_end_of_words(text, int(count)) for text, count in zip(texts, kept["words"], strict=True)]
            kept = {"start": np.zeros(len(ends), np.int32), "end": np.array(ends, np.int32)}
        spans = zip(texts, kept["start"], kept["end"], strict=True)
        return {**kept, "text": np.array([text[start:end] for text, start, end in spans], str)}

    def record(self, kept: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """``exact`` and ``overlap``, exact match and F1 of each example, and ``nats`` where it is kept."""
        known = [_known(one) for one in targets["answers"]]
        pairs = list(zip(map(str, kept["text"]), known, strict=True))
        made = {
            "exact": np.array([exact_match(*pair) for pair in pairs]),
            "overlap": np.array([word_f1(*pair) for pair in pairs]),
        }
        return made | {name: np.asarray(kept[name]) for name in ("nats",) if name in kept}

    def predicted(self, kept: Mapping[str, np.ndarray]) -> np.ndarray:
        """The answers in words, ``str[n]``."""
        return np.asarray(kept["text"])

    def columns(self, kept: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """The answer, its probability, and where in the text it begins and ends, in characters."""
        places = {name: np.asarray(kept[name]).tolist() for name in ("start", "end")}
        return {"answer": [*map(str, kept["text"])], CONFIDENCE: as_cells(np.exp(np.float64(kept["score"]))), **places}

    def target_words(self, targets: Mapping[str, np.ndarray]) -> list[str]:
        """The known answers, each once."""
        return [" / ".join(dict.fromkeys(_known(one))) for one in targets["answers"]]


def _by_token(outputs: Mapping[str, Array]) -> tuple[Array, Array]:
    """Logits of the tokens of the text, float32, `FAR` elsewhere, and their places: ``[batch, windows, length, 2]``."""
    logits, places = outputs["outputs"].astype(jnp.float32), outputs["places"]
    return jnp.where(places[..., :1] >= 0, logits, FAR), places


def _known(answers: str) -> list[str]:
    return json.loads(str(answers))


def _text(x: Mapping[str, Any]) -> str:
    """What a question is about."""
    return str(x["second"])


def _end_of_words(text: str, count: int) -> int:
    """Where the first words of a text end; the text itself where it has fewer."""
    ends = [found.end() for _, found in zip(range(count), re.finditer(r"\S+", text), strict=False)]
    return ends[-1] if ends else 0
