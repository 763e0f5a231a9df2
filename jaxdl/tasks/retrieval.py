"""Which document answers a query: both become vectors by one network, and the nearest document is taken.

Learned by telling each query's document from those of the other queries in its batch: Henderson et al. 2017
(arXiv:1705.00652), the loss of van den Oord et al. 2018 (InfoNCE, arXiv:1807.03748). As in Reimers and Gurevych's
sentence-transformers the cosine is divided by a temperature of 0.05.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxdl.data.pairs import queries_of
from jaxdl.data.preprocessing.pairs import DOCUMENT
from jaxdl.data.preprocessing.text import PAIR
from jaxdl.errors import InputError
from jaxdl.models.staged import Staged
from jaxdl.shown import shortened
from jaxdl.tasks.metric import ERROR, SHARE, Mean, Metric, NoInterval, Record
from jaxdl.tasks.task import Constants, Task

if TYPE_CHECKING:
    from jaxdl.data.source import Source

FAR = -1e9  # similarity of what is no candidate
SHOWN_LETTERS = 200  # of a document, in a list of examples
AT_ONCE = 1000  # queries that are compared with all documents


def unit(vectors: Float[Array, "*n width"]) -> Float[Array, "*n width"]:
    """Each divided by its length, in float32; the gradient of a vector of zeros is finite."""
    vectors = vectors.astype(jnp.float32)
    return vectors * jax.lax.rsqrt(jnp.maximum(jnp.square(vectors).sum(-1, keepdims=True), 1e-24))


# A query's rank is 1 more than the number of documents that are nearer than its own. Where others are just as near, any
# order of these is as good as another: scores are means over all orders.


def recall_at(k: int) -> Mean:
    """The share of queries whose document is among the `k` nearest."""

    def value(record: Record) -> np.ndarray:
        better, tied = (np.asarray(record[name], np.float64) for name in ("better", "tied"))
        return np.clip(k - better, 0, tied) / tied

    return Mean(f"recall_at_{k}", value=value, reads=("better", "tied"), **SHARE)


def reciprocal_rank(record: Record) -> np.ndarray:
    """One by the rank of each query's document."""
    better, tied = (np.asarray(record[name], np.int64) for name in ("better", "tied"))
    upto = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, (better + tied).max(initial=0) + 1))])
    return (upto[better + tied] - upto[better]) / tied


def mean_candidates(record: Record, weights: np.ndarray) -> float:
    """How many documents there are to choose from."""
    return float(np.average(record["candidates"], weights=weights)) if weights.any() else float("nan")


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        recall_at(1),
        recall_at(10),
        Mean("mean_reciprocal_rank", value=reciprocal_rank, reads=("better", "tied"), **SHARE),
        Mean("log_loss", value="nats", **ERROR),
        NoInterval(
            "candidates",
            measure=mean_candidates,
            reads=("candidates",),
            bounds=(1.0, np.inf),
            note="the different documents of the fold. Recall and rank depend on how many these are.",
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Retrieval(Task):
    """The document that answers a query, among all documents of those that are tested together.

    Examples are queries with their documents, see `data.pairs`; the network is one of text, whose head is left out: its
    features are the vectors. A fold's queries choose from the different documents of the same fold.

    Attributes:
      temperature: by which cosines are divided in the loss.
    """

    temperature: float = 0.05

    name = "retrieval"
    METRICS = METRICS
    LOSS = "log_loss"
    SHOWN = ("recall_at_1", "recall_at_10", "mean_reciprocal_rank")
    SECTIONS = ("wrong",)
    FUNCTIONS = False
    ANSWERS_WHOLE = True
    ON_HOST = True
    MAKES_TARGETS = True
    SEES_BATCH = True
    UNIT = True
    PREDICTS = "vectors of unit length, of the query and of the document"
    NOT_CONFORMAL = "its answers are documents, of which every part of the examples has others"
    BASELINE = "chance"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:
            raise InputError(f"the temperature is {self.temperature}; expected a number above 0, such as 0.05")

    @classmethod
    def fits(cls, targets: Any, names: Sequence[str]) -> bool:
        return isinstance(targets, Mapping) and set(targets) == {DOCUMENT}

    @classmethod
    def examples(cls, source: "Source") -> "Source":
        """Pairs of texts as queries with their documents."""
        return queries_of(source)

    @property
    def num_outputs(self) -> int:
        """None: the features are the answer."""
        return 0

    def check(self, targets: Any, count: int, data: str, purpose: str) -> None:
        if not self.fits(targets, ()):
            raise InputError(
                f"{data} does not say which document answers which query; {purpose} needs that: "
                "data.pairs(queries, documents)"
            )
        if len(np.unique(targets[DOCUMENT], axis=0)) < 2:
            raise InputError(f"{data} holds a single document; {purpose} needs others to tell it from")

    def describe(self) -> str:
        return "retrieval (queries with the document that answers each)"

    def tally(self, targets: Any) -> str:
        return f"queries to {len(np.unique(targets[DOCUMENT], axis=0)):,} different documents"

    def fit_model(self, model: Staged, spec: Any) -> Staged:
        model = super().fit_model(model, spec)
        if not model.SEQUENCES:
            raise InputError(
                f"a {type(model).__name__} reads no text, and {self.name} compares texts: take a model such as bert or "
                "lstm"
            )
        return model

    def check_parts(self, targets: Any, parts: Sequence[np.ndarray], purpose: str) -> None:
        for part in parts:
            if len(np.unique(targets[DOCUMENT][part], axis=0)) < 2:
                raise InputError(
                    f"{purpose} has a training part of queries to a single document, with no other to tell it from: "
                    "use fewer folds, or other groups"
                )

    def baseline(self, targets: Any, count: int) -> Any:
        """Vectors that say nothing: all documents are as near as another."""
        return {name: np.zeros((count, 1), np.float32) for name in PAIR}

    def loss(self, outputs: Any, targets: Any, constants: Constants) -> tuple[jax.Array, jax.Array]:
        """As `batch_loss` of a batch without padding."""
        return self.batch_loss(outputs, targets, constants, jnp.ones(len(outputs), bool))

    def batch_loss(
        self, outputs: Float[Array, "batch 2 width"], targets: Any, constants: Constants, real: Bool[Array, " batch"]
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """The cross-entropy of each query's document among those of the batch, and 1.

        A document that occurs several times in a batch is a wrong answer only to the queries of other documents.
        """
        vectors, document = unit(outputs), targets[DOCUMENT]
        cosines = jnp.matmul(vectors[:, 0], vectors[:, 1].T, precision="highest") / self.temperature
        same = (document[:, None] == document[None]).all(-1)
        own = jnp.diagonal(cosines)
        others = jnp.where(real[None] & ~same, cosines, FAR)
        nats = jax.nn.logsumexp(jnp.concatenate([own[:, None], others], 1), axis=1) - own
        return nats, jnp.ones_like(nats)

    def predict(self, outputs: Float[Array, "batch 2 width"], constants: Constants) -> Any:
        return dict(zip(PAIR, jnp.moveaxis(unit(outputs), 1, 0), strict=True))

    def read(self, kept: Any, source: "Source", indices: np.ndarray) -> dict[str, np.ndarray]:
        """Where each query's document stands among the different ones of the examples `indices`.

        Returns:
          ``better`` and ``tied`` ``int32[n]``, the numbers of documents that are nearer than its own and as near
          (itself included), ``candidates int32[n]``, ``nats float32[n]`` and ``nearest int64[n]``, the first example
          of the document that is nearest.
        """
        # objects: strings of one array would all take as much memory as the longest
        texts = np.array([str(source[int(i)]["x"][PAIR[1]]) for i in indices], object)
        _, first, own = np.unique(texts, return_index=True, return_inverse=True)
        queries, documents = (np.asarray(kept[name]) for name in PAIR)
        parts = [
            self._ranked(queries[begin : begin + AT_ONCE] @ documents[first].T, own[begin : begin + AT_ONCE])
            for begin in range(0, len(own), AT_ONCE)
        ]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {**found, "nearest": np.asarray(indices)[first[found["nearest"]]]}

    def _ranked(self, cosines: Float[np.ndarray, "n documents"], own: np.ndarray) -> dict[str, np.ndarray]:
        mine = np.take_along_axis(cosines, own[:, None], 1)
        scaled = (cosines - mine).astype(np.float64) / self.temperature
        largest = scaled.max(1, keepdims=True)
        return {
            "better": (cosines > mine).sum(1, dtype=np.int32),
            "tied": (cosines == mine).sum(1, dtype=np.int32),
            "candidates": np.full(len(own), cosines.shape[1], np.int32),
            "nats": (largest[:, 0] + np.log(np.exp(scaled - largest).sum(1))).astype(np.float32),
            "nearest": cosines.argmax(1),
        }

    def record(self, kept: Any, targets: Any) -> dict[str, Any]:
        """``better``, ``tied``, ``candidates`` and ``nats``, as `read` gives them."""
        return {name: kept[name] for name in ("better", "tied", "candidates", "nats")}

    def predicted(self, kept: Any) -> np.ndarray:
        """Of each query the first example of the nearest document."""
        return np.asarray(kept["nearest"])

    def columns(self, kept: Any) -> dict[str, list[Any]]:
        rank = np.asarray(kept["better"]) + (np.asarray(kept["tied"]) + 1) / 2  # half-way, of documents as near
        candidates = np.asarray(kept["candidates"], int)
        return {"rank": rank.tolist(), "of": candidates.tolist(), "nearest": self.predicted(kept).tolist()}

    def target_words(self, targets: Any) -> list[Any]:
        """A name for each document, made of what it says."""
        return [f"{word:016x}" for word in np.ascontiguousarray(targets[DOCUMENT]).view(np.uint64)[:, 0]]

    def shown_examples(self, kept: Any, targets: Any, source: "Source | None") -> dict[str, list[Any]]:
        """Where each query's document stands, and what the nearest one says."""
        first = np.asarray(kept["better"]) + 1
        last = first + np.asarray(kept["tied"]) - 1
        ranks = [f"{low}" if low == high else f"{low}–{high}" for low, high in zip(first, last, strict=True)]
        nearest = [int(index) for index in self.predicted(kept)]
        return {
            "rank": [f"{rank} of {count}" for rank, count in zip(ranks, kept["candidates"], strict=True)],
            "nearest document": [
                f"of example {i}" if source is None else shortened(str(source[i]["x"][PAIR[1]]), SHOWN_LETTERS)
                for i in nearest
            ],
        }
