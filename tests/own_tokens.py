"""Sequences of tokens as somebody's own source and task: padded ids with a mask, the next token is asked for."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from jaxdl import data
from jaxdl.tasks.metric import Sums

VOCABULARY, LENGTH, PADDING = 11, 8, 0


class Counting(data.Source):
    """Sentences that count upwards in steps of 1 or 2, round and round; the next token is asked for at every place."""

    class_names = tuple(map(str, range(VOCABULARY)))

    def __init__(self, count, seed=0, name="counting"):
        random, self.name = np.random.default_rng(seed), name
        first, step = random.integers(0, VOCABULARY - 1, (count, 1)), random.integers(1, 3, (count, 1))
        tokens = 1 + (first + step * np.arange(LENGTH + 1)) % (VOCABULARY - 1)
        self.mask = np.arange(LENGTH) < random.integers(4, LENGTH + 1, (count, 1))
        self.ids = np.where(self.mask, tokens[:, :-1], PADDING).astype(np.int32)
        self.next = np.where(self.mask, tokens[:, 1:], PADDING).astype(np.int32)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return {"x": {"ids": self.ids[index], "mask": self.mask[index]}, "y": self.next[index]}


@dataclasses.dataclass(frozen=True)
class NextToken(jaxdl.Task):
    """The next token at every place; targets ``int32[n, length]``, `PADDING` where there is none."""

    name = "next-token"
    METRICS: ClassVar = {
        name: Sums(
            name,
            columns=lambda record, part=part: np.stack([record[part], record["count"]], 1).astype(np.float64),
            combine=lambda sums: sums[..., 0] / sums[..., 1],
            reads=(part, "count"),
            higher_is_better=part == "right",
            best=1.0 if part == "right" else 0.0,
        )
        for name, part in (("token_accuracy", "right"), ("nats", "nats"))
    }
    LOSS = "nats"
    SHOWN = ("token_accuracy",)

    @property
    def num_outputs(self):
        return len(self.names)

    def check(self, targets, count, data, purpose):
        if targets.ndim != 2 or len(targets) != count:
            raise jaxdl.InputError(f"the targets of {data} are no {count} sequences")

    def baseline(self, targets, count):
        shares = np.bincount(targets[targets != PADDING], minlength=VOCABULARY) + 1e-9
        return np.broadcast_to(np.log(shares / shares.sum()), (count, *targets.shape[1:], VOCABULARY))

    def loss(self, outputs, targets, constants):
        known = targets != PADDING
        nats = optax.softmax_cross_entropy_with_integer_labels(outputs.astype(jnp.float32), targets)
        return jnp.where(known, nats, 0).sum(1), known.sum(1).astype(jnp.float32)

    def predict(self, outputs, constants):
        return jax.nn.log_softmax(outputs.astype(jnp.float32))

    def record(self, kept, targets):
        known = targets != PADDING
        chosen = jnp.take_along_axis(kept, targets[..., None], -1)[..., 0]
        return {
            "right": (known & (kept.argmax(-1) == targets)).sum(1),
            "nats": -jnp.where(known, chosen, 0).sum(1),
            "count": known.sum(1),
        }
