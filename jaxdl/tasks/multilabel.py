"""Several labels per example, each there or not."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdl.errors import InputError
from jaxdl.tasks.columns import probability_columns, with_counts
from jaxdl.tasks.metric import ERROR, SHARE, Mean, Metric, Record, Sums, mean_of_defined
from jaxdl.tasks.ranking import Question, mean_auc
from jaxdl.tasks.task import Constants, Task


def _counts(record: Record) -> np.ndarray:
    """Hits, targets and predictions of each label, ``float64[n, 3 · labels]``."""
    target, predicted = (np.asarray(record[key], np.float64) for key in ("target", "predicted"))
    return np.concatenate([target * predicted, target, predicted], 1)


def _macro_f1(sums: np.ndarray) -> np.ndarray:
    """Mean over the labels that occur or are predicted."""
    hits, targets, predictions = np.split(sums, 3, axis=-1)
    return mean_of_defined(2 * hits / (targets + predictions), -1)


def _micro_f1(sums: np.ndarray) -> np.ndarray:
    hits, targets, predictions = (part.sum(-1) for part in np.split(sums, 3, axis=-1))
    return 2 * hits / (targets + predictions)


def _right(record: Record) -> np.ndarray:
    return np.asarray(record["target"] == record["predicted"], np.float64)


def _label(record: Record, place: int) -> Question:
    return np.asarray(record["scores"][:, place], np.float64), np.asarray(record["target"][:, place]) == 1


def _labels(record: Record) -> list[Question]:
    return [_label(record, place) for place in range(record["target"].shape[1])]


def of_label(place: int, name: str) -> tuple[Metric, Metric]:
    """F1 and AUC of the label at `place`, called ``f1:NAME`` and ``auc:NAME``."""

    def f1(sums: np.ndarray) -> np.ndarray:
        hits, targets, predictions = np.moveaxis(sums, -1, 0)
        return 2 * hits / (targets + predictions)

    def counts(record: Record) -> np.ndarray:
        target, predicted = (np.asarray(record[key], np.float64)[:, place] for key in COUNTS["reads"])
        return np.stack([target * predicted, target, predicted], 1)

    return (
        Sums(
            f"f1:{name}",
            columns=counts,
            combine=f1,
            reads=COUNTS["reads"],
            undefined="no example of the fold has the label, and none is predicted to have it",
            **SHARE,
        ),
        mean_auc(
            f"auc:{name}",
            lambda record: [_label(record, place)],
            "all examples of a fold have the label, or none has",
        ),
    )


COUNTS = dict(columns=_counts, reads=("target", "predicted"))
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Sums("macro_f1", combine=_macro_f1, **SHARE, **COUNTS),
        Sums("micro_f1", combine=_micro_f1, **SHARE, **COUNTS),
        Mean("label_accuracy", value=lambda record: _right(record).mean(1), reads=COUNTS["reads"], **SHARE),
        # the share of examples of which every label is right
        Mean("subset_accuracy", value=lambda record: _right(record).min(1), reads=COUNTS["reads"], **SHARE),
        mean_auc("mean_auc", _labels, "a fold tests no label that some of its examples have and others have not"),
        Mean("log_loss", value="nats", **ERROR),
    )
}


@dataclasses.dataclass(frozen=True)
class MultiLabel(Task):
    """Several labels per example, each there or not; targets are ``[n, labels]`` of 0 and 1, outputs a logit each.

    Attributes:
      names: of the labels.
    """

    name = "multilabel"
    METRICS = METRICS
    LOSS = "log_loss"
    SHOWN = ("macro_f1", "label_accuracy")
    SECTIONS = ("labels",)
    ANSWERS_WHOLE = True
    PREDICTS = "a logit for each name of the task, in that order: sigmoid gives probabilities, above 0 it is predicted"
    mixes = True
    BASELINE = "share of each label"
    NOT_CONFORMAL = (
        "a set holds one of several answers, and an example here may have several labels; for a single label train on "
        "its column alone, such as FILE.csv:LABEL"
    )
    OF_PROBABILITIES = ("nats", "probabilities")

    @classmethod
    def fits(cls, targets: Any, names: Sequence[str]) -> bool:
        return isinstance(targets, np.ndarray) and targets.ndim == 2 and targets.dtype.kind in "bu"

    metrics_of = staticmethod(of_label)

    @property
    def num_outputs(self) -> int:
        return len(self.names)

    def check(self, targets: Any, count: int, data: str, purpose: str) -> None:
        if np.ndim(targets) == 1:
            raise InputError(
                f"{data} has one class or number for each example, but the task is multilabel; leave the task out, or "
                "give a table or array with a column of 0 and 1 for each label (FILE.csv:A,B or FILE.npz)"
            )
        if not self.fits(targets, self.names) or targets.shape != (count, len(self.names)):
            raise InputError(
                f"the labels of {data} are no matrix of 0 and 1, {count} examples by {len(self.names)} labels; see "
                "data.arrays"
            )
        if (targets > 1).any():
            raise InputError(f"the labels of {data} hold {targets.max()}; expected 0 and 1")
        same = [name for name, column in zip(self.names, targets.T, strict=True) if np.ptp(column) == 0]
        if len(same) == len(self.names):
            raise InputError(f"every label of {data} is the same for all examples; {purpose} needs one that varies")

    def describe(self) -> str:
        return f"{len(self.names)} {'label' if len(self.names) == 1 else 'labels'} ({self.first_names()})"

    def tally(self, targets: np.ndarray) -> str:
        return with_counts(self.names, np.asarray(targets).sum(0, dtype=int).tolist(), ("label", "labels"))

    def match(self, targets: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """The columns of this task's labels; InputError where one is missing."""
        if missing := [name for name in self.names if name not in names]:
            raise InputError(f"the labels {', '.join(missing)} are missing; there are {', '.join(names)}")
        return targets[:, [list(names).index(name) for name in self.names]]

    def example(self) -> tuple[np.ndarray, np.ndarray]:
        """Of at most three labels."""
        targets = (np.arange(16)[:, None] >> np.arange(min(len(self.names), 3)) & 1).astype(np.uint8)
        return np.where(np.arange(16)[:, None] < 3, 1.0, 2.0 * targets - 1), targets

    def baseline(self, targets: np.ndarray, count: int) -> np.ndarray:
        """The log-odds of each label in the training part, with one example more on either side."""
        there = targets.sum(0, dtype=np.float64) + 1
        return np.tile(np.log(there / (len(targets) + 2 - there)).astype(np.float32), (count, 1))

    def untaught(self, targets: np.ndarray, train: np.ndarray, test: np.ndarray) -> dict[str, int]:
        known, asked = (targets[part].sum(0, dtype=np.int64) for part in (train, test))
        return {self.names[i]: int(asked[i]) for i in np.flatnonzero((known == 0) & (asked > 0))}

    def loss(
        self, outputs: Float[Array, "batch labels"], targets: Int[Array, "batch labels"], constants: Constants
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """Binary cross-entropy in nats, mean over labels, and 1."""
        logits = outputs.astype(jnp.float32)
        nats = (jax.nn.softplus(logits) - logits * targets).mean(-1)
        return nats, jnp.ones_like(nats)

    def train_scores(self, record: Record) -> dict[str, jax.Array]:
        return {"label_accuracy": (record["predicted"] == record["target"]).mean(-1)}

    def predict(self, outputs: Float[Array, "batch labels"], constants: Constants) -> Float[Array, "batch labels"]:
        """The logits."""
        return outputs.astype(jnp.float32)

    def record(self, kept: Any, targets: Any) -> dict[str, Any]:
        """``target``, ``predicted`` (0 or 1), ``scores`` (log-odds) and ``probabilities``, all ``[n, labels]``, and
        ``nats[n]``, mean over labels; on device or host.
        """
        xp = np if isinstance(kept, np.ndarray) else jnp
        kept = kept.astype(np.float64) if xp is np else kept
        return {
            "target": targets,
            "predicted": (kept > 0).astype(xp.uint8),
            "nats": (xp.logaddexp(0.0, kept) - kept * targets).mean(-1),
            "scores": kept,
            "probabilities": 1 / (1 + xp.exp(-kept)),
        }

    def predicted(self, kept: np.ndarray) -> np.ndarray:
        """Which labels are there, ``bool[n, labels]``."""
        return np.asarray(kept) > 0

    def probabilities(self, kept: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-np.asarray(kept, np.float64)))

    def columns(self, kept: np.ndarray) -> dict[str, list[Any]]:
        words = self.target_words(self.predicted(kept))
        return {"predicted": words, **probability_columns(self.names, self.probabilities(kept))}

    def target_words(self, targets: np.ndarray) -> list[Any]:
        return [" ".join(name for name, there in zip(self.names, row, strict=True) if there) for row in targets]

    def combine(self, kept: jax.Array, weights: jax.Array) -> jax.Array:
        """The log-odds of the mean probability."""
        shares = weights[..., None] / weights.sum(0)[:, None]
        log_p, log_q = (jnp.log((jax.nn.sigmoid(sign * kept) * shares).sum(0)) for sign in (1, -1))
        return log_p - log_q
