"""Several networks of one kind as one: their predictions averaged, and scored on nothing that a member trained on."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.checks import check_arguments
from jaxdl.data import as_source
from jaxdl.data.preprocessing import Preprocessing
from jaxdl.data.source import Source, arrange_columns
from jaxdl.errors import InputError
from jaxdl.models import describe
from jaxdl.models.initialise import batch_of
from jaxdl.models.staged import Staged
from jaxdl.models.variables import Variables, walk_shapes
from jaxdl.parallel.executor import Executor
from jaxdl.parallel.hosts import beat
from jaxdl.parallel.layout import Layout
from jaxdl.shown import Shown
from jaxdl.tasks import Task
from jaxdl.training.execution import Execution
from jaxdl.training.finite import check_outputs, finite_rows
from jaxdl.training.lengths import may_cut
from jaxdl.training.predict import match_targets, names_of, stored_batches
from jaxdl.training.runners import prefers_scan
from jaxdl.training.tiles import needs_tiles, predict_tiled, together
from jaxdl.training.views import check_views, said_of_views
from jaxdl.validation.conformal.held_out import HeldOut, held_out_of, prepare
from jaxdl.validation.ensemble_predictions import EnsemblePredictions, check_held_out
from jaxdl.validation.result import RESULT, Result, load_result
from jaxdl.weights.buckets import place_of
from jaxdl.weights.card import Card
from jaxdl.weights.checkpoint import Checkpoint, OwnModels, restore

if TYPE_CHECKING:
    import pandas as pd

FOLDS = "folds"  # of a run of cross-validate: its networks


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class EnsembleCheckpoint(Shown):
    """Networks of one model, classes and input; see `ensemble`.

    Attributes:
      model: of every member.
      variables: of all members, stacked: ``{"params": {stage: [members, …]}, "batch_stats": …}``.
      cards: of each member; normalisation, scaling of a target and training examples may differ.
      path: where it was loaded from, or None.
      held_out: what the members said of the examples that they tested, for prediction sets and intervals; None of
        members that are no folds of one cross-validation, or where the task has none.
    """

    model: Staged
    variables: Variables
    cards: Sequence[Card]
    path: str | None = None
    held_out: HeldOut | None = None

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
                "on (an older jaxdl made them), so that no score of this ensemble can be trusted: train them again, or "
                "predict without labels"
            )
        return self._listed("trained_on", source)

    def unseen(self, source: Source) -> np.ndarray:
        """Which members predict which examples out of fold, ``bool[members, n]``.

        The network of a fold predicts what it tested. Examples that it neither trained on nor tested were left out to
        keep the two apart (purged, or of a gap): it knows their neighbours. So it predicts others only if they are new
        to all members. A network that is of no fold predicts all that it was not trained on.

        Raises:
          InputError: as `seen`.
        """
        seen = self.seen(source)
        tested = self._listed("tested", source)
        of_fold = np.array([card.tested is not None for card in self.cards])[:, None]
        new = ~(seen | tested).any(0)
        return ~seen & (tested | new | ~of_fold)

    def _listed(self, name: str, source: Source) -> np.ndarray:
        hashes = arrange_columns(source, self.cards[0]).hashes()  # as they were trained on
        lists = [np.frombuffer(getattr(card, name) or b"", "<u8") for card in self.cards]
        return np.stack([np.isin(hashes, listed) for listed in lists])

    @property
    def task(self) -> Task:
        """What its members were asked."""
        return self.cards[0].asked(self.model)

    def to_frame(self) -> "pd.DataFrame":
        """A row for each member: ``data``, ``parent``, the number of examples ``trained_on`` and ``tested``."""
        import pandas as pd

        def count(hashes: bytes | None) -> int | None:
            return None if hashes is None else len(hashes) // 8

        rows = [
            {"data": c.data, "parent": c.parent, "trained_on": count(c.trained_on), "tested": count(c.tested)}
            for c in self.cards
        ]
        return pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="member"))

    def _facts(self) -> dict[str, Any]:
        return {
            "members": len(self.cards),
            "model": describe(self.model)[0],
            "task": self.task.describe(),
            "input": self.cards[0].preprocessing.describe(),
            "path": self.path,
        }

    def _preview(self) -> "pd.DataFrame":
        return self.to_frame()

    @check_arguments
    def predict(
        self,
        source: Source | Any,
        *,
        batch_size: int = 64,
        tta: str | Sequence[str] = (),
        execution: Execution = Execution(),  # noqa: B008
    ) -> EnsemblePredictions:
        """What the members say together of every example of `source`: see `tasks.Task.combine`.

        Args:
          source: as `training.predict.predict` takes it. With labels the predictions have scores, unless a member was
            trained on an example: then asking for a score raises InputError.
          batch_size: see `training.predict.predict`, as `tta` and `execution`.
          tta: whether mirror images are predicted, too. Prediction sets and intervals are made without them.
          execution: whether the examples are read batch by batch, and which devices are used.

        Returns:
          Predictions; of classes the logits are the logarithms of the mean probabilities.

        Raises:
          InputError: if the examples are of another kind or shape than the networks take, or the task's predictions
            cannot be averaged.
        """
        source = as_source(source, self.cards[0])
        weights = np.ones((len(self.cards), len(source)), np.float32)
        kept, members = self._average(source, weights, batch_size, execution, tta)
        made = self._predictions(source, kept, "" if source.targets() is None else self.refusal(source))
        known = self.held_out is not None and all(card.trained_on is not None for card in self.cards)
        return dataclasses.replace(
            made, held_out=self.held_out, members=members, seen=self.seen(source).any(0) if known else None
        )

    @check_arguments
    def out_of_fold(
        self,
        source: Source,
        *,
        batch_size: int = 64,
        tta: str | Sequence[str] = (),
        execution: Execution = Execution(),  # noqa: B008
    ) -> EnsemblePredictions:
        """As `predict`, but each example only by members that know nothing of it: its scores are fair.

        See `unseen` for which these are.

        Raises:
          InputError: also if there is no such member for an example.
        """
        unseen = self.unseen(source)
        if without := int((~unseen.any(0)).sum()):
            raise InputError(
                f"{without} of the {len(source)} examples of {source.name} were trained on by every member of the "
                "ensemble, or tested by none of its folds, so that no member can predict them fairly; give other data, "
                "or leave these out"
            )
        kept, _ = self._average(source, unseen.astype(np.float32), batch_size, execution, tta)
        return dataclasses.replace(self._predictions(source, kept, ""), held_out=self.held_out)

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

    def check_coverage(self, coverage: float, by: str | None = None, score: str | None = None) -> None:
        """Raises InputError where predictions would have no such sets or intervals; see `EnsemblePredictions.sets`."""
        prepare(self.task, check_held_out(self.task, self.held_out), len(self.cards), coverage, by, score)

    def _predictions(self, source: Source, kept: Any, refusal: str) -> EnsemblePredictions:
        return EnsemblePredictions(kept, self.task, match_targets(self.task, source), names_of(source), refusal=refusal)

    def _average(
        self, source: Source, weights: np.ndarray, batch_size: int, execution: Execution, tta: str | Sequence[str]
    ) -> tuple[Any, Any]:
        """What the task keeps, arrays ``[n, …]``, of members with ``weights[members, n]``; see `predict`.

        With it what each member says, ``[members, n, …]``, where there is `held_out` to compare it with, else None.
        """
        if len(source) == 0:
            raise InputError(f"{source.name} holds no examples")
        source = arrange_columns(source, self.cards[0])
        preprocessing = self.cards[0].preprocessing
        tiled = needs_tiles(preprocessing, source)
        views = check_views(preprocessing, tta, tiled=tiled)
        if tiled:
            return self._average_tiled(source, weights, batch_size, execution.layout), None
        constants = [(card.preprocessing.constants, card.target_constants()) for card in self.cards]
        constants = jax.tree.map(lambda *each: np.stack(each), *constants)
        executor = execution.layout.executor()
        apply = _apply_members(executor, self.model, preprocessing, self.task, (self.variables, *constants))
        combine = executor.forward(lambda _, both: self.task.combine(*both), rows_in=1)
        made, each, finite, done = [], [], [], 0
        model = self.model if may_cut(self.model, self.task) else None
        feed = stored_batches(model, source, preprocessing, batch_size, execution)
        weights = weights if feed.order is None else weights[:, feed.order]
        for place, x in enumerate(feed.batches):
            beat(f"predicting batch {place + 1}", slow=place == 0)
            rows = len(jax.tree.leaves(x)[0])
            part = np.ones((len(self.cards), rows), np.float32)  # also for rows that only pad
            count = min(rows, len(source) - done)
            part[:, :count] = weights[:, done : done + count]
            done += count
            said = said_of_views(self.task, apply, x, views, members=True)
            kept, fine = jax.tree.map(lambda *views: jnp.concatenate(views), *said)
            finite.append(np.asarray(fine).all(0))
            made.append(jax.tree.map(np.asarray, combine((), (kept, np.tile(part, (len(said), 1))))))
            if self.held_out is not None:
                each.append(jax.tree.map(np.asarray, said[0][0]))
            beat(f"reading batch {place + 2}")
        kept, finite = jax.tree.map(lambda *parts: np.concatenate(parts), *zip(made, finite, strict=True))
        kept, finite = feed.by_example((kept, finite), len(source))
        check_outputs(finite, source)
        if not each:
            return kept, None
        each = jax.tree.map(lambda *parts: np.concatenate(parts, 1), *each)
        return kept, feed.by_example(each, len(source), axis=1)

    def _average_tiled(self, source: Source, weights: np.ndarray, batch_size: int, layout: Layout) -> Any:
        """The same of images that each member predicts tile by tile."""
        members = [
            Checkpoint(self.model, jax.tree.map(lambda leaf, i=i: leaf[i], self.variables), card)
            for i, card in enumerate(self.cards)
        ]
        kept, made = [predict_tiled(member, source, batch_size, layout) for member in members], []
        for i in range(len(source)):
            each = [jax.tree.map(lambda leaf, i=i: leaf[i], one, is_leaf=_is_rows) for one in kept]
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves)[:, None], *each)
            said = self.task.combine(stacked, jnp.asarray(weights[:, i : i + 1]))
            made.append(jax.tree.map(lambda leaf: np.asarray(leaf)[0], said))
        return together(made)


def _is_rows(value: Any) -> bool:
    """Whether it holds a value for each image, in an array or a list."""
    return isinstance(value, list | np.ndarray)


def _apply_members(
    executor: Executor, model: Staged, preprocessing: Preprocessing, task: Task, members: tuple[Variables, Any, Any]
) -> Callable[[Any], Any]:
    """``x -> (kept[members, batch, …], finite[members, batch])``.

    `members` are the variables, and the constants of inputs and targets of all.

    One program mapped over members; where convolutions of several networks at once are slow (on the CPU they become
    grouped ones), one after the other.
    """

    def one(member: tuple[Variables, Any, Any], x: Any) -> Any:
        variables, inputs, targets = member
        outputs = model.apply(variables, preprocessing.on_device(x, inputs))
        kept = task.predict(outputs, targets)
        return kept, finite_rows((outputs, kept))

    members = executor.place_variables(members, stacked=True)  # to the devices once
    if prefers_scan(model.apply, jax.tree.map(lambda a: a[0], members[0]), batch_of(preprocessing.spec())):
        return partial(executor.forward(jax.vmap(one, (0, None)), rows_out=1), members)
    single = executor.forward(one)

    def in_turn(x: Any) -> Any:
        count = len(jax.tree.leaves(members)[0])
        each = [jax.tree.map(lambda a, i=i: a[i], members) for i in range(count)]
        return jax.tree.map(lambda *kept: jnp.stack(kept), *(single(member, x) for member in each))

    return in_turn


def ensemble(
    members: Result | str | Path | Sequence[Checkpoint | str | Path], *, models: OwnModels = None
) -> EnsembleCheckpoint:
    """The networks of a cross-validation's folds, or any of one kind, as one that averages what they say.

    Args:
      members: a `Result` that holds its models, the folder of a run of cross-validate with the folds' networks, or
        checkpoints or their folders.
      models: of your own where folders are read, see `weights.checkpoint.restore`.

    Raises:
      InputError: if there are fewer than two, or they differ in model, classes or input, naming how.
    """
    found, names, held_out = _gather(members, models)
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
        one.card.check_trained(name)
    stacked = jax.tree.map(
        lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *[c.variables for c in found]
    )
    return EnsembleCheckpoint(found[0].model, stacked, tuple(one.card for one in found), held_out=held_out)


def _gather(
    members: Result | str | Path | Sequence[Any], models: OwnModels
) -> tuple[list[Checkpoint], list[str], HeldOut | None]:
    """The networks, what to call each in a message, and what they held out where they are folds of one run."""
    if isinstance(members, Result):
        if not members.models:
            raise InputError("the result holds no networks; give cross_validate execution=Execution(keep_models=True)")
        folds = [fold["fold"] for fold in members.folds]
        return list(members.models), [f"fold {fold}" for fold in folds], held_out_of(members, folds)
    if isinstance(members, str | Path):
        folder = place_of(members)
        places = [p for p in (folder / FOLDS).glob("*") if p.name.isdigit()]
        if not places:
            raise InputError(
                f"'{folder}' holds no folds' networks; expected the folder of a run of cross-validate, which keeps "
                "them with --keep-models always"
            )
        places.sort(key=lambda p: int(p.name))
        found, folds = [restore(p, models=models) for p in places], [int(p.name) for p in places]
        return found, [f"fold {fold}" for fold in folds], _read_held_out(folder, folds, list(map(str, places)))
    if not isinstance(members, Sequence) or not all(isinstance(m, Checkpoint | str | Path) for m in members):
        raise InputError(f"members is a {type(members).__name__}; expected a Result, a run's folder, or checkpoints")
    names = [m.path or f"member {i}" if isinstance(m, Checkpoint) else str(m) for i, m in enumerate(members)]
    return [m if isinstance(m, Checkpoint) else restore(m, models=models) for m in members], names, None


def _read_held_out(run: Path, folds: Sequence[int], networks: Sequence[str]) -> HeldOut | None:
    """What the folds of a run held out; None of a run that has no result."""
    if not (run / RESULT).is_file():
        return None
    try:
        return held_out_of(load_result(run), folds)
    except InputError as error:
        advice = f"or make the ensemble without prediction sets, of the networks alone: {' '.join(networks)}"
        raise InputError(error.problem, advice) from error


def _kind(checkpoint: Checkpoint) -> dict[str, Any]:
    """What all members must share, as values that can be compared and shown."""
    card, own = checkpoint.card, checkpoint.card.preprocessing
    return {
        "model": describe(checkpoint.model),
        "task": checkpoint.task.plain(),
        "outputs": checkpoint.model.num_outputs,
        "arrays": tuple((name, tuple(leaf.shape)) for name, leaf in walk_shapes(checkpoint.variables)),
        "preprocessing": own.unfitted(),
        "columns": card.columns,
    }
