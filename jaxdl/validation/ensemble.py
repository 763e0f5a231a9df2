"""Several networks of one kind as one: their predictions averaged, and scored on nothing that a member trained on."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.content import hash_examples
from jaxdl.data.preprocessing import normalise
from jaxdl.data.source import Source, arrange_columns
from jaxdl.errors import InputError
from jaxdl.models import describe
from jaxdl.models.staged import Staged, Variables, walk_shapes
from jaxdl.training.predict import Predictions, match_labels, stored_batches
from jaxdl.training.runners import prefers_scan
from jaxdl.validation.result import Result
from jaxdl.weights.card import CARD, Card
from jaxdl.weights.checkpoint import Checkpoint, restore

FOLDS = "folds"  # of a run of cross-validate: its networks


@dataclasses.dataclass(frozen=True, eq=False)
class EnsemblePredictions(Predictions):
    """What an ensemble says of each example; its scores are refused where a member trained on one.

    Attributes:
      refusal: why there are no scores; empty if there are.
    """

    refusal: str = ""

    @property
    def scores(self) -> dict[str, float] | None:
        """As of `Predictions`. Raises InputError if they would be too good."""
        self._check()
        return super().scores

    @property
    def accuracy(self) -> float | None:
        """As of `Predictions`. Raises InputError if it would be too good."""
        self._check()
        return super().accuracy

    def _check(self) -> None:
        if self.refusal and self.labels is not None:
            raise InputError(self.refusal)


@dataclasses.dataclass(frozen=True, eq=False)
class EnsembleCheckpoint:
    """Networks of one model, classes and input; see `ensemble`.

    Attributes:
      model: of every member.
      variables: of all members, stacked: ``{"params": {stage: [members, …]}, "batch_stats": …}``.
      cards: of each member; normalisation, scaling of a target and training examples may differ.
      path: where it was loaded from, or None.
    """

    model: Staged
    variables: Variables
    cards: Sequence[Card]
    path: str | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.cards[0].class_names

    def seen(self, source: Source) -> np.ndarray:
        """Which members were shaped by which examples, ``bool[members, n]``; examples are compared by their content.

        Raises:
          InputError: if a member's card does not say what it was trained on.
        """
        if unknown := [i for i, card in enumerate(self.cards) if card.trained_on is None]:
            raise InputError(
                f"the cards of members {', '.join(map(str, unknown))} do not list the examples that they were trained "
                "on (an older jaxdl made them), so that no score of this ensemble can be trusted: train them anew, or "
                "predict without labels"
            )
        hashes = hash_examples(source)
        return np.stack([np.isin(hashes, card.seen) for card in self.cards])

    def predict(
        self, source: Source, *, batch_size: int = 64, streaming: bool | None = None, workers: int = 2
    ) -> EnsemblePredictions:
        """The mean over members of the probabilities (of a regression: the numbers) for every example of `source`.

        Args:
          source: with or without labels. With labels the predictions have scores, unless a member was trained on an
            example: then asking for a score raises InputError.
          batch_size: see `training.predict.predict`, as `streaming` and `workers`.

        Returns:
          Predictions whose logits are the logarithms of the mean probabilities.

        Raises:
          InputError: if the examples are of another kind or shape than the networks take.
        """
        weights = np.ones((len(self.cards), len(source)), np.float32)
        logits = self._average(source, weights, batch_size, streaming, workers)
        return self._predictions(source, logits, "" if source.labels is None else self.refusal(source))

    def out_of_fold(
        self, source: Source, *, batch_size: int = 64, streaming: bool | None = None, workers: int = 2
    ) -> EnsemblePredictions:
        """As `predict`, but each example by those members alone that were not trained on it: its scores are fair.

        Raises:
          InputError: also if all members were trained on an example.
        """
        unseen = ~self.seen(source)
        if without := int((~unseen.any(0)).sum()):
            raise InputError(
                f"{without} of the {len(source)} examples of {source.name} were trained on by every member of the "
                "ensemble, so that none is left to predict them; give other data, or leave these out"
            )
        logits = self._average(source, unseen.astype(np.float32), batch_size, streaming, workers)
        return self._predictions(source, logits, "")

    def refusal(self, source: Source) -> str:
        """Why the ensemble cannot be scored on `source`; empty if it can."""
        try:
            count = int(self.seen(source).any(0).sum())
        except InputError as error:
            return str(error)
        if not count:
            return ""
        return (
            f"{count} of the {len(source)} examples of {source.name} were trained on by a member of the ensemble: a "
            "score on them would be too good. Give examples that no member has seen, or use out_of_fold "
            "(--out-of-fold), which has each example predicted by the members that have not seen it"
        )

    def check_unseen(self, source: Source) -> None:
        """Raises InputError, saying how many, if a member was trained on examples of `source`."""
        if refusal := self.refusal(source):
            raise InputError(refusal)

    def _predictions(self, source: Source, logits: np.ndarray, refusal: str) -> EnsemblePredictions:
        names = None if source.names is None else tuple(source.names)
        matched = match_labels(source, self.cards[0], self.model.num_outputs)
        return EnsemblePredictions(logits, *matched, names, refusal=refusal)

    def _average(
        self, source: Source, weights: np.ndarray, batch_size: int, streaming: bool | None, workers: int
    ) -> np.ndarray:
        """``float32[n, outputs]``: means over members with ``weights[members, n]``; see `predict`."""
        if len(source) == 0:
            raise InputError(f"{source.name} holds no examples")
        source = arrange_columns(source, self.cards[0].columns)
        preprocessing = self.cards[0].preprocessing
        mean, std = (np.float32([getattr(card.preprocessing, what) for card in self.cards]) for what in ("mean", "std"))
        scaling = None if self.cards[0].scaling is None else np.float32([card.scaling for card in self.cards])
        apply = _apply_members(self.model, self.variables)
        combine = jax.jit(_mean_log_probability if scaling is None else _mean_number)
        made, done = [], 0
        for x in stored_batches(source, preprocessing, batch_size, streaming, workers):
            part = np.ones((len(self.cards), len(x)), np.float32)  # also for rows that only pad
            count = min(len(x), len(source) - done)
            part[:, :count] = weights[:, done : done + count]
            done += count
            made.append(np.asarray(combine(apply(mean, std, x), part, scaling)))
        return np.concatenate(made)[: len(source)]


def _apply_members(model: Staged, variables: Variables) -> Any:
    """``(mean, std, x) -> outputs[members, batch, …]``: one program mapped over members.

    Where convolutions of several networks at once are slow (on the CPU they become grouped ones), one after the other.
    """

    def one(variables: Variables, mean: jax.Array, std: jax.Array, x: jax.Array) -> jax.Array:
        return model.apply(variables, normalise(x, mean, std)).astype(jnp.float32)

    variables = jax.tree.map(jnp.asarray, variables)  # to the device once
    members = jax.tree.leaves(variables)[0].shape[0]
    if prefers_scan(jax.tree.map(lambda a: a[0], variables)):
        mapped = jax.jit(jax.vmap(one, (0, 0, 0, None)))
        return lambda mean, std, x: mapped(variables, mean, std, x)
    each = [jax.tree.map(lambda a, i=i: a[i], variables) for i in range(members)]
    single = jax.jit(one)
    return lambda mean, std, x: jnp.stack([single(v, mean[i], std[i], x) for i, v in enumerate(each)])


def _mean_log_probability(outputs: jax.Array, weights: jax.Array, scaling: None) -> jax.Array:
    """Logarithm of the mean probability ``[batch, classes]`` of logits ``[members, batch, classes]``."""
    log_p = jax.nn.log_softmax(outputs) + jnp.log(weights)[..., None]
    return jax.nn.logsumexp(log_p, axis=0) - jnp.log(weights.sum(0))[:, None]


def _mean_number(outputs: jax.Array, weights: jax.Array, scaling: jax.Array) -> jax.Array:
    """Mean number ``[batch, 1]`` of outputs ``[members, batch, 1]``, each first brought to the target's units."""
    numbers = outputs * scaling[:, 1, None, None] + scaling[:, 0, None, None]
    return (numbers * weights[..., None]).sum(0) / weights.sum(0)[:, None]


def ensemble(members: Result | str | Path | Sequence[Checkpoint | str | Path]) -> EnsembleCheckpoint:
    """The networks of a cross-validation's folds, or any of one kind, as one that averages what they say.

    Args:
      members: a `Result` that holds its models, the folder of a run of cross-validate with the folds' networks, or
        checkpoints or their folders.

    Raises:
      InputError: if there are fewer than two, or they differ in model, classes or input, naming how.
    """
    found, names = _gather(members)
    if len(found) < 2:
        raise InputError(f"an ensemble needs at least two networks; there {'is one' if found else 'are none'}")
    first = _kind(found[0])
    for name, other in zip(names[1:], found[1:], strict=True):
        differing = [f"{key} {first[key]!s:.200} and {v!s:.200}" for key, v in _kind(other).items() if first[key] != v]
        if differing:
            raise InputError(
                f"the networks of an ensemble must be of one kind, but {names[0]} and {name} differ: "
                + "; ".join(differing)
            )
    for name, one in zip(names, found, strict=True):
        if not one.card.preprocessing.fitted:
            raise InputError(f"{name} was never trained: its card has no mean and std")
    stacked = jax.tree.map(
        lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *[c.variables for c in found]
    )
    return EnsembleCheckpoint(found[0].model, stacked, tuple(one.card for one in found))


def _gather(members: Result | str | Path | Sequence[Any]) -> tuple[list[Checkpoint], list[str]]:
    """The networks, and what to call each in a message."""
    if isinstance(members, Result):
        if not members.models:
            raise InputError("the result holds no networks; give cross_validate keep_models=True")
        return list(members.models), [f"fold {fold['fold']}" for fold in members.folds]
    if isinstance(members, str | Path):
        folder = Path(members).expanduser()
        places = [p for p in (folder / FOLDS).glob("*") if p.name.isdigit() and (p / CARD).is_file()]
        if not places:
            raise InputError(
                f"'{folder}' holds no folds' networks; expected the folder of a run of cross-validate, which keeps "
                "them with --keep-models always"
            )
        places.sort(key=lambda p: int(p.name))
        return [restore(p) for p in places], [f"fold {p.name}" for p in places]
    if not isinstance(members, Sequence) or not all(isinstance(m, Checkpoint | str | Path) for m in members):
        raise InputError(f"members is a {type(members).__name__}; expected a Result, a run's folder, or checkpoints")
    names = [m.path or f"member {i}" if isinstance(m, Checkpoint) else str(m) for i, m in enumerate(members)]
    return [m if isinstance(m, Checkpoint) else restore(m) for m in members], names


def _kind(checkpoint: Checkpoint) -> dict[str, Any]:
    """What all members must share, as values that can be compared and shown."""
    card, own = checkpoint.card, checkpoint.card.preprocessing
    return {
        "model": describe(checkpoint.model),
        "classes": card.class_names,
        "outputs": checkpoint.model.num_outputs,
        "arrays": tuple((name, tuple(leaf.shape)) for name, leaf in walk_shapes(checkpoint.variables)),
        "preprocessing": dataclasses.replace(own, mean=None, std=None),
        "columns": card.columns,
        "regression": card.scaling is not None,
    }
