"""What every modality's preprocessing has in common."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.augment import Augmentation
from jaxdl.data.source import Source, stack
from jaxdl.errors import InputError
from jaxdl.parallel.memory import bytes_of

Tree = Any
Constants = Mapping[str, Any]  # arrays by name; empty for a preprocessing that fits nothing


@flax.struct.dataclass
class Augmented:
    """A batch after augmentation, whose loss is ``share * loss(y) + (1 - share) * loss(y[partner])``.

    Attributes:
      x: what flows into the network.
      y: targets, changed with `x` where they belong to places in it.
      partner: ``int32[batch]``, the row of the example that was mixed in; the row itself where none was.
      share: ``float32[batch]``, the share of the example's own; None where nothing is ever mixed.
    """

    x: Tree
    y: Tree
    partner: jax.Array | None
    share: jax.Array | None


class Preprocessing:
    """How examples are prepared for a network, in three steps; a part of a checkpoint's card.

    - `stored`: on the host, once per example: decoded, resized, of fixed shape and compact type.
    - `fit`: numbers such as mean and standard deviation, from a training part alone.
    - `on_device`: inside the step, for a batch: what the network is fed.

    A modality is a frozen dataclass; its fields are what a card holds. See `PREPROCESSINGS` for those there are.

    Attributes:
      modality: its name on a card.
      reads_all: whether folds share what it makes of all examples; see `chosen_for`.
      apart: whether a network makes a vector of each part of an example, so that there is none of the whole.
    """

    modality: ClassVar[str]
    reads_all: ClassVar[bool] = False
    apart: ClassVar[bool] = False

    def spec(self) -> Tree:
        """Shape and type of one example as the network is fed with it: a pytree of `jax.ShapeDtypeStruct`."""
        raise NotImplementedError

    def stored_spec(self) -> Tree:
        """The same, as it is stored."""
        return self.spec()

    def describe(self) -> str:
        """The stored example in words, such as ``224×224×3 uint8``."""
        leaves = jax.tree.leaves(self.stored_spec())
        return ", ".join(f"{'×'.join(map(str, leaf.shape))} {leaf.dtype}" for leaf in leaves)

    def check(self, source: Source) -> None:
        """Raises InputError where one look at `source` shows that the network cannot take its examples."""
        raise NotImplementedError

    def stored(self, example: Mapping[str, Any], what: str = "an example") -> dict[str, Any]:
        """``{"x": …}`` and the ``y`` that the example has, as stored.

        Raises:
          InputError: naming `what`, if it is nothing that the network can take.
        """
        raise NotImplementedError

    def load(self, source: Source) -> Tree:
        """Every ``x`` of `source` as stored, ``[n, …]``.

        Raises:
          InputError: if its examples are of another kind or shape than the network takes.
        """
        self.check(source)
        rows = [self.stored(source[i], f"example {i} of {source.name}")["x"] for i in range(len(source))]
        return stack(rows, f"the examples of {source.name}")

    @property
    def constants(self) -> Constants | None:
        """What was fitted, float32; None before."""
        return {}

    @property
    def fitted(self) -> bool:
        """Whether there is nothing left to fit."""
        return self.constants is not None

    def with_constants(self, constants: Constants) -> "Preprocessing":
        """The same, fitted."""
        return self

    def unfitted(self) -> "Preprocessing":
        """The same, with nothing fitted."""
        return self

    def measure(self, x: Tree) -> Tree:
        """Sums of each stored example, ``[n, …]``, from which `fit` follows for any part of the data."""
        return {}

    def fit(self, sums: Tree, indices: np.ndarray) -> Constants:
        """The constants from the examples `indices` alone."""
        return {}

    def fit_weighted(self, sums: Tree, indices: np.ndarray, weights: np.ndarray) -> Constants:
        """As `fit`, where examples count by ``weights[n]``; unless a preprocessing says how, each counts once."""
        return self.fit(sums, indices)

    def on_device(self, x: Tree, constants: Constants) -> Tree:
        """What the network is fed, of a batch of stored examples."""
        return x

    def instructions(self) -> dict[str, list[str]]:
        """In words, for who feeds an exported network without jaxdl.

        Returns:
          ``prepare``, the steps from an example to what `stored` makes of it, and ``inside``, what `on_device` does.
        """
        return {"prepare": ["take the arrays as they are"], "inside": []}

    def augment(
        self, augmentation: Augmentation, x: Tree, y: Tree, key: jax.Array, weights: jax.Array, constants: Constants
    ) -> Augmented:
        """A batch of stored examples and their targets, changed at random, as the network is fed with it.

        Args:
          augmentation: what is done.
          x: stored examples ``[batch, …]``.
          y: their targets.
          key: that all draws come from.
          weights: ``float32[batch]``, 0 for rows that only pad.
          constants: that were fitted.
        """
        raise NotImplementedError

    def check_augmentation(self, augmentation: Augmentation) -> None:
        """Raises InputError unless these examples can be augmented so."""
        if augmentation.operations:
            raise InputError(
                f"the examples are {self.describe()}; --augment is for uint8 images. Leave it "
                "out, or name --augment none"
            )

    def check_model(self, model: Any) -> None:
        """Raises InputError for a model that cannot read what it is fed with, where the shapes do not say so."""

    def check_training(self, source: Source) -> None:
        """Raises InputError for examples that nothing can be learned from, although they can be predicted."""

    def for_targets(self, source: Source) -> "Preprocessing":
        """The same for this source: made to leave in place what its targets belong to, such as pixels."""
        return self

    def chosen_for(self, source: Source) -> "Preprocessing":
        """The same for networks that learn from `source`: what it makes of these examples, without labels, is made."""
        return self

    def align(self, source: Source) -> Source:
        """The examples, decoded as those were that it was made for."""
        return source

    def resized(self, image_size: int) -> "Preprocessing":
        """For images of another size. Raises InputError for what has none."""
        raise InputError(f"the examples are {self.describe()}, not images; an image size cannot be set")

    def network_input(self, x: Tree) -> Tree:
        """What the network is fed, of examples as stored.

        Raises:
          InputError: if the preprocessing is not fitted yet.
        """
        if self.constants is None:
            raise InputError("mean and std of this preprocessing are not fitted: train first")
        return self.on_device(jax.tree.map(jnp.asarray, x), self.constants)

    def plain(self) -> dict[str, Any]:
        """Plain values for a card."""
        return {"modality": self.modality, **dataclasses.asdict(self)}


def nbytes(preprocessing: Preprocessing) -> int:
    """Bytes of one example as stored."""
    return bytes_of(preprocessing.stored_spec())


def kind_of(source: Source) -> str:
    """What a source holds, in words, for a message."""
    leaves = jax.tree.leaves(source.spec()["x"])
    if leaves and all(leaf.dtype.kind == "U" for leaf in leaves):
        return "text"
    return ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves)
