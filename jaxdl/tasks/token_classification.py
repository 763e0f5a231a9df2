"""A tag for every word: named entities, parts of speech."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxdl.data.tagged import NO_WORD, tag_words
from jaxdl.errors import InputError
from jaxdl.tasks.class_weights import ClassWeights
from jaxdl.tasks.columns import MOST_COUNTED, as_cells
from jaxdl.tasks.entities import UNKNOWN, UNKNOWN_ON, Entities, check_scheme, scheme_of, split_tag
from jaxdl.tasks.metric import ERROR, SHARE, Mean, Metric, Record, Sums, mean_of_defined
from jaxdl.tasks.task import Constants

CERTAIN = 255  # what a confidence of 1 is stored as
MOST = 2**15 - 1  # tags
NO_TAG = "-"  # of a word that the network did not see
FEWEST = 20  # sentences of a stratum, so that as many folds can each have one


# From sums over sentences of entities that are found, there and predicted, by kind: as conlleval and seqeval count.


def _counts(record: Record) -> np.ndarray:
    """``float64[n, 3 · kinds]``."""
    return np.asarray(record["entities"], np.float64).reshape(len(record["entities"]), -1)


def _by_kind(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found, there, predicted = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
    return found, there, predicted


def _f1(sums: np.ndarray) -> np.ndarray:
    found, there, predicted = _by_kind(sums)
    return 2 * found / (there + predicted)


def _micro_f1(sums: np.ndarray) -> np.ndarray:
    found, there, predicted = (part.sum(-1) for part in _by_kind(sums))
    return 2 * found / (there + predicted)


def _precision(sums: np.ndarray) -> np.ndarray:
    found, _, predicted = _by_kind(sums)
    return found.sum(-1) / predicted.sum(-1)


def _recall(sums: np.ndarray) -> np.ndarray:
    found, there, _ = _by_kind(sums)
    return found.sum(-1) / there.sum(-1)


def _share_of(part: str, whole: str) -> dict[str, Any]:
    """A metric that is one sum of the record divided by another one."""
    return dict(
        columns=lambda record: np.stack([record[part], record[whole]], 1).astype(np.float64),
        combine=lambda sums: sums[..., 0] / sums[..., 1],
        reads=(part, whole),
    )


def of_kind(place: int, name: str) -> Metric:
    """F1 of one kind of entity, called ``f1:NAME``."""
    undefined = f"no entity of a fold is {name}, and none is predicted to be"
    return Sums(f"f1:{name}", combine=lambda sums: _f1(sums)[..., place], undefined=undefined, **SHARE, **ENTITIES)


NOTHING = "there is no entity in a fold, and none is predicted"
ENTITIES = dict(columns=_counts, reads=("entities",))
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Sums("f1", combine=_micro_f1, undefined=NOTHING, **SHARE, **ENTITIES),
        Sums("precision", combine=_precision, undefined="no entity is predicted", **SHARE, **ENTITIES),
        Sums("recall", combine=_recall, undefined="there is no entity in a fold", **SHARE, **ENTITIES),
        # over the kinds that occur or are predicted
        Sums("macro_f1", combine=lambda sums: mean_of_defined(_f1(sums), -1), undefined=NOTHING, **SHARE, **ENTITIES),
        Sums("token_accuracy", **SHARE, **_share_of("right", "words")),
        # the share of sentences all of whose tags are right
        Mean("exact_match", value=lambda r: np.asarray(r["right"]) == r["words"], reads=("right", "words"), **SHARE),
        Sums(
            "log_loss",
            note="In nats for each word; of the words that the network sees: those beyond its length have none.",
            **ERROR,
            **_share_of("nats", "seen"),
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class TokenClassification(ClassWeights):
    """A tag for every word; targets are ``int32[n, words]``, `NO_WORD` beyond the end of a sentence.

    Outputs are a dict of ``outputs``, logits ``[batch, tokens, tags]``, and ``words int32[batch, most words]``, the
    place from 1 of each word's first token, or 0. The logits of the first token of a word are its answer; those of
    others are not asked for. A word beyond the network's length gets no tag: it counts as wrong, and an entity in it as
    missed.

    Attributes:
      names: of the tags.
      class_weights: factors on the loss of single tags by name, 1 for the others, or ``"balanced"`` for the inverse of
        their frequency in the training part; None for none.
      scheme: how entities are read of the tags, see `entities`; by default ``conll`` for tags such as ``B-PER``,
        ``BILOU`` for those that have an L or a U among them, and ``none`` for others, such as parts of speech.
    """

    class_weights: Mapping[str, float] | str | None = None
    scheme: str = ""

    name = "token-classification"
    METRICS = METRICS
    LOSS = "log_loss"
    SHOWN = ("f1", "token_accuracy")
    SECTIONS = ("kinds", "tags")
    OPTIONS = ("class_weights",)
    FUNCTIONS = False
    CARRIES = ("words",)
    ANY_LENGTH = True
    BASELINE = "most frequent tag"
    NOT_CONFORMAL = "an answer is a whole sequence of tags, of which there are too many to list those that may be true"
    PREDICTS = (
        "tags: of each word the number, from 1, of a name of the task, 0 for no word; confidence: 255 times its "
        "probability"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if len(self.names) > MOST:
            raise InputError(f"there are {len(self.names)} tags; expected at most {MOST}")
        if not self.scheme:
            object.__setattr__(self, "scheme", scheme_of(self.names))
        check_scheme(self.scheme, self.names)
        if not self.metric and self.scheme == "none":
            object.__setattr__(self, "metric", "token_accuracy")
        super().__post_init__()

    @cached_property
    def entities(self) -> Entities:
        """How they are read."""
        return Entities(self.names, self.scheme)

    @classmethod
    def fits(cls, targets: Any, names: Sequence[str]) -> bool:
        return isinstance(targets, np.ndarray) and targets.ndim == 2 and targets.dtype.kind == "i" and bool(names)

    @property
    def num_outputs(self) -> int:
        return len(self.names)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """As of every task; also the F1 of each kind of entity, ``f1:PER``."""
        of_kinds = [of_kind(place, kind) for place, kind in enumerate(self.entities.kinds)]
        return {**self.METRICS, **{metric.name: metric for metric in of_kinds}, **self.extra}

    def describe(self) -> str:
        return f"{len(self.names)} tags of words ({self.first_names()})"

    def tally(self, targets: np.ndarray) -> str:
        words = self._words(targets)
        counted = " ".join(f"{name} {count:,}" for name, count in self._most(self.names, words))
        said = f"{len(self.names)} tags of {words.sum():,} words ({counted})"
        if self.scheme == "none":
            return said
        there = self.entities.count(np.full_like(targets, NO_WORD), targets)[:, 1, :-1].sum(0)
        kinds = ", ".join(f"{name} {count:,}" for name, count in self._most(self.entities.kinds, there))
        return f"{said}; {there.sum():,} entities ({kinds})"

    @staticmethod
    def _most(names: Sequence[str], counts: np.ndarray) -> list[tuple[str, int]]:
        """The most frequent ones with their counts; all, in order, where they are few."""
        if len(names) <= MOST_COUNTED:
            return list(zip(names, counts.tolist(), strict=True))
        return Counter(dict(zip(names, counts.tolist(), strict=True))).most_common(MOST_COUNTED)

    def check(self, targets: Any, count: int, data: str, purpose: str) -> None:
        if not self.fits(targets, self.names) or len(targets) != count:
            raise InputError(
                f"the labels of {data} are no {count} sentences of tags; expected int32[n, words] with the number of a "
                f"tag for each word and {NO_WORD} beyond the last, and class_names; see data.tagged"
            )
        if not NO_WORD <= targets.min() <= targets.max() < len(self.names):
            raise InputError(
                f"the tags of {data} run from {targets.min()} to {targets.max()}; with {len(self.names)} class names "
                f"expected 0 to {len(self.names) - 1}, or {NO_WORD} for no word"
            )
        if len(empty := np.flatnonzero((targets == NO_WORD).all(1))):
            raise InputError(f"the sentence at index {empty[0]} of {data} has no words; leave it out")
        present = np.unique(targets[targets >= 0])
        if len(present) < 2:
            raise InputError(
                f"{data} holds a single tag ('{self.names[present[0]]}'); {purpose} needs words of at least two"
            )

    def match(self, targets: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Tags that the task does not have become `UNKNOWN`, or `UNKNOWN_ON` where they go on with an entity.

        They count as wrong, and entities of kinds that were not in the training part as missed.
        """
        known = {name: place for place, name in enumerate(self.names)}
        goes_on = "" if self.scheme == "none" else "IEL"
        places = [known.get(name, UNKNOWN_ON if split_tag(name)[0] in tuple(goes_on) else UNKNOWN) for name in names]
        return np.array([*places, NO_WORD], np.int32)[targets]  # -1 takes the last

    def join(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        """Sentences of both, the longest of which may be of different length."""
        width = max(one.shape[1], two.shape[1])
        return np.concatenate([_as_wide(np, rows, width) for rows in (one, two)]).astype(one.dtype)

    def untaught(self, targets: np.ndarray, train: np.ndarray, test: np.ndarray) -> dict[str, int]:
        known, asked = (self._sentences(targets[part]).sum(0) for part in (train, test))
        return {self.names[i]: int(asked[i]) for i in np.flatnonzero((known == 0) & (asked > 0))}

    def _sentences(self, targets: np.ndarray) -> np.ndarray:
        """Whether each sentence has each tag, ``bool[n, tags]``."""
        made = np.zeros((len(targets), len(self.names)), bool)
        rows, places = np.nonzero(targets >= 0)
        made[rows, targets[rows, places]] = True
        return made

    def in_numbers(self, targets: np.ndarray) -> tuple[str, np.ndarray]:
        return "labels", self._sentences(targets)

    def strata(self, targets: np.ndarray) -> np.ndarray | None:
        """The number of the rarest tag of each sentence, so that every fold gets its share of rare tags.

        Tags that would make a stratum of fewer than `FEWEST` sentences are passed over; None if that leaves one.
        """
        has = self._sentences(targets)
        counts = has.sum(0)
        left = [int(tag) for tag in np.argsort(counts, kind="stable") if counts[tag]]
        while len(left) > 1:
            rank = np.array([left.index(tag) if tag in left else len(left) for tag in range(len(self.names))])
            found = np.where(has, rank, len(left)).min(1)
            found[found == len(left)] = len(left) - 1  # of sentences that have none of these the most frequent
            members = np.bincount(found, minlength=len(left))
            if len(few := np.flatnonzero(members < FEWEST)) == 0:
                return np.array(left, np.int64)[found]
            del left[few[0]]
        return None

    def baseline(self, targets: np.ndarray, count: int) -> dict[str, np.ndarray]:
        """The most frequent tag, everywhere."""
        words = self._words(targets)
        sure = round(CERTAIN * words.max() / words.sum())
        shape = (count, targets.shape[1])
        return {"tags": np.full(shape, 1 + words.argmax(), np.int16), "confidence": np.full(shape, sure, np.uint8)}

    def fit(self, targets: np.ndarray) -> Constants:
        """``class_weights``, ``float32[tags]``, where they are asked for."""
        return self.factors(lambda: self._words(targets), "word")

    def fit_weighted(self, targets: np.ndarray, weights: np.ndarray) -> Constants:
        """As `fit`; a word counts by the weight of its sentence."""
        return self.factors(lambda: self._words(targets, weights), "word")

    def _words(self, targets: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """How many words have each tag, ``[tags]``; `weights` are of sentences."""
        known = targets >= 0
        each = None if weights is None else np.broadcast_to(np.asarray(weights)[:, None], targets.shape)[known]
        return np.bincount(targets[known], each, len(self.names))

    def loss(
        self, outputs: Mapping[str, Array], targets: Int[Array, "batch words"], constants: Constants
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """Cross-entropy in nats of the first token of each word, times the tag's weight, and the sum of these."""
        logits, seen = _of_words(outputs)
        asked = _as_wide(jnp, targets[:, : seen.shape[1]], seen.shape[1])
        is_tag = seen[..., None] & (asked[..., None] == jnp.arange(len(self.names)))
        weights = constants.get("class_weights", jnp.ones(len(self.names)))
        chosen = (is_tag * weights).sum(-1)
        nats = -jnp.where(is_tag, jax.nn.log_softmax(logits), 0.0).sum(-1)
        return (nats * chosen).sum(1), chosen.sum(1)

    def train_scores(self, record: Record) -> dict[str, jax.Array]:
        return {"token_accuracy": record["right"] / jnp.maximum(record["words"], 1)}

    def predict(self, outputs: Mapping[str, Array], constants: Constants) -> dict[str, Array]:
        """``tags``, the number from 1 of each word's tag, and ``confidence``, its probability times 255.

        ``int16[batch, most words]`` and ``uint8``; 0 for a word without a tag, and behind the last one.
        """
        logits, seen = _of_words(outputs)
        sure = jnp.round(CERTAIN * jax.nn.softmax(logits).max(-1))
        return {
            "tags": jnp.where(seen, logits.argmax(-1) + 1, 0).astype(jnp.int16),
            "confidence": jnp.where(seen, sure, 0).astype(jnp.uint8),
        }

    def keep(self, outputs: Any, targets: Any, constants: Constants) -> dict[str, Array]:
        """As `predict`, and ``nats``, ``float32[batch]``: the sum of the cross-entropies of the words that are seen."""
        return {**self.predict(outputs, constants), "nats": self.loss(outputs, targets, {})[0]}

    def record(self, kept: Any, targets: Any) -> dict[str, Any]:
        """What all metrics are made of, on the device for jax arrays, on the host for numpy arrays.

        Args:
          kept: as `keep` or `predict` gives it.
          targets: ``int32[n, words]``.

        Returns:
          ``right``, ``words`` and ``seen``: words with the right tag, all words, and those that have a tag of the
          network's, ``[n]``; ``entities``: see `Entities.count`; ``nats`` where `kept` has it.
        """
        said, there = aligned(kept, targets), targets != NO_WORD
        found = {
            "right": (there & (said == targets)).sum(1),
            "words": there.sum(1),
            "seen": ((targets >= 0) & (said >= 0)).sum(1),
            "entities": self.entities.count(said, targets),
        }
        return found | ({"nats": kept["nats"]} if "nats" in kept else {})

    def predicted(self, kept: Mapping[str, np.ndarray]) -> np.ndarray:
        """The tags of each sentence, a list of their names each, None for a word without: ``object[n]``."""
        made = np.empty(len(kept["tags"]), object)
        made[:] = [self._named(row) for row in np.asarray(kept["tags"])]
        return made

    def columns(self, kept: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """The tags, divided by spaces, and the probability of the one of which the network is least sure."""
        tags, sure = (np.asarray(kept[key]) for key in ("tags", "confidence"))
        lowest = np.where(tags > 0, sure, CERTAIN).min(1, initial=CERTAIN) / CERTAIN
        words = [" ".join(tag or NO_TAG for tag in row) for row in self.predicted(kept)]
        return {"predicted": words, "confidence": as_cells(lowest)}

    def _named(self, tags: np.ndarray) -> list[str | None]:
        """The names of the tags of a sentence, up to the last word that has one."""
        last = np.flatnonzero(tags).max(initial=-1)
        return [self.names[tag - 1] if tag else None for tag in tags[: last + 1]]

    def target_words(self, targets: np.ndarray) -> list[str]:
        return tag_words(targets, self.names)

    def combine(self, kept: Mapping[str, jax.Array], weights: jax.Array) -> dict[str, jax.Array]:
        """The tag for which the networks' confidences add up to most: each votes for one, as strongly as it is sure."""
        votes = kept["confidence"].astype(jnp.float32) * weights[..., None]
        sums = jnp.stack([jnp.where(kept["tags"] == i + 1, votes, 0.0).sum(0) for i in range(len(self.names))], -1)
        there = (kept["tags"] > 0).any(0)
        share = jnp.round(sums.max(-1) / weights.sum(0)[..., None])
        return {
            "tags": jnp.where(there, 1 + sums.argmax(-1), 0).astype(jnp.int16),
            "confidence": jnp.where(there, share, 0).astype(jnp.uint8),
        }


def aligned(kept: Mapping[str, Any], targets: Any) -> Any:
    """What was predicted of each word of the targets, as these have it, ``int32[n, words]``; `NO_WORD` for no tag."""
    xp = np if isinstance(targets, np.ndarray) else jnp
    width = targets.shape[1]
    said = _as_wide(xp, kept["tags"][:, :width].astype(xp.int32) - 1, width)
    return xp.where(targets != NO_WORD, said, NO_WORD)


def _of_words(outputs: Mapping[str, Array]) -> tuple[Float[Array, "batch words tags"], Bool[Array, "batch words"]]:
    """The logits of each word, those of its first token, and whether it has one."""
    logits, first = outputs["outputs"].astype(jnp.float32), outputs["words"]
    return jnp.take_along_axis(logits, jnp.maximum(first - 1, 0)[..., None], 1), first > 0


def _as_wide(xp: Any, rows: Any, width: int) -> Any:
    """``[n, width]``, filled up with `NO_WORD`."""
    return xp.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=NO_WORD)
