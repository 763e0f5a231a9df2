"""A checkpoint: an Orbax directory of variables and a card that says all about them."""

import dataclasses
import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import flax.linen as nn
import jax
import numpy as np
from flax.core import unfreeze

from jaxdl.checks import check_arguments
from jaxdl.data.preprocessing import Preprocessing
from jaxdl.errors import InputError
from jaxdl.models import describe, rebuild
from jaxdl.models.adapters import check_adapters
from jaxdl.models.initialise import batch_of, init_head, init_variables, variable_shapes
from jaxdl.models.roles import ADAPTERS, is_adapter
from jaxdl.models.staged import Staged
from jaxdl.models.variables import Variables, join_variables, nest, partition, split_variables, walk_shapes
from jaxdl.parallel.devices import device_kinds, first_device
from jaxdl.parallel.hosts import orbax_alone
from jaxdl.shown import Shown
from jaxdl.tasks import Task, task_of
from jaxdl.weights.buckets import here, place_of
from jaxdl.weights.card import CARD, FORMAT, LISTS, Card, lists_of, plain_card, read_card
from jaxdl.weights.files import (
    AGAIN,
    check_free,
    check_regular,
    first_line,
    plain_path,
    read_json_lines,
    reading,
    written_whole,
)
from jaxdl.weights.hints import ARRAYS

if TYPE_CHECKING:
    import pandas as pd

HISTORY = "metrics.jsonl"

OwnModels = Mapping[str, type[Staged] | Staged] | None  # a user's, by the name on a card; see `restore`


class HistoryRow(TypedDict):
    """What every row of a history has."""

    epoch: int


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Checkpoint(Shown):
    """A model with its variables and card.

    Attributes:
      model: the network.
      variables: ``{"params": {stage: …}, "batch_stats": {stage: …}}``.
      card: see `Card`.
      history: one dict per epoch of the training that made it.
      path: where it was restored from, or None.
    """

    IN_WORDS = "a Checkpoint (jaxdl.restore reads one)"

    model: Staged
    variables: Variables
    card: Card
    history: tuple[Mapping[str, Any], ...] = ()
    path: str | None = None

    @property
    def task(self) -> Task:
        """What is asked; see `Card.asked`."""
        return self.card.asked(self.model)

    def prediction(self, finish: Callable[[Task, Any, Any], Any] | None = None) -> Callable[[Variables, Any], Any]:
        """The pure function ``(variables, x) -> kept`` of examples as stored: what the task keeps of the outputs.

        Args:
          finish: ``(task, outputs, constants) -> kept`` instead of the task's `predict`.
        """
        # what is returned may outlive this checkpoint, and does not hold it
        model, preprocessing = self.model, self.card.preprocessing
        task, constants = self.task, self.card.target_constants()

        def predict(variables: Variables, x: Any) -> Any:
            outputs = model.apply(variables, preprocessing.on_device(x, preprocessing.constants))
            return task.predict(outputs, constants) if finish is None else finish(task, outputs, constants)

        return predict

    def to_frame(self) -> "pd.DataFrame":
        """The history of the training that made it: a row for each epoch; no rows where there was none."""
        import pandas as pd

        return pd.DataFrame(self.history)

    def _facts(self) -> dict[str, Any]:
        return {
            "model": describe(self.model)[0],
            "parameters": f"{count_parameters(self.variables):,}",
            "task": "not known" if self.card.task is None else self.card.task.describe(),
            "input": self.card.preprocessing.describe(),
            "data": self.card.data,
            "epochs": len(self.history) or None,
            "trained": None if self.card.preprocessing.fitted else "never",
            "parent": self.card.parent,
            "path": self.path,
        }


def count_parameters(variables: Variables) -> int:
    """Numbers that can be trained."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def environment() -> dict[str, Any]:
    """Versions and devices, for results that should be possible to make again."""
    names = ("jaxdl", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn")
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in names},
        "backend": jax.default_backend(),
        "devices": device_kinds(),
        "machine": platform.machine(),
    }


def fingerprint(variables: Variables) -> str:
    """sha256 over name, type, shape and bytes of every array, in the order of their names.

    The card keeps it, so that arrays which fit the model but are not those that the card was written for (copied from
    another checkpoint, or damaged where the storage has no checksum) are not taken for them.
    """
    digest = hashlib.sha256()
    for name, leaf in sorted(walk_shapes(variables)):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{name} {array.dtype} {np.shape(leaf)}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def check_finite(leaves: Iterable[tuple[str, Any]], where: str) -> None:
    """Raises InputError, naming the arrays and how many numbers, if some of `leaves` are NaN or infinite."""
    bad = []
    for name, leaf in leaves:
        if np.issubdtype((array := np.asarray(leaf)).dtype, np.integer):
            continue
        # bfloat16 is no kind of numpy's, for which isfinite is slow
        finite = np.isfinite(array.astype(np.float32) if array.dtype.itemsize == 2 else array)
        if not finite.all():
            bad.append(f"{name} ({int((~finite).sum())} of {array.size})")
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise InputError(
            f"{where} holds numbers that are not finite (NaN or infinity): {', '.join(bad[:5])}{more}. The training "
            "that made these weights diverged, or the file is damaged: use an earlier save of it"
        )


@check_arguments
def save(checkpoint: Checkpoint, path: str | Path) -> Path:
    """Writes a checkpoint, all of it or nothing.

    Args:
      checkpoint: what to write.
      path: a folder that does not exist yet or is empty; also ``gs://BUCKET/FOLDER``.

    Returns:
      The absolute path.

    Raises:
      InputError: if something is there already, the card's task has another number of outputs than the model, or
        it cannot be written.
    """
    path = check_free(path, bucket=True)
    name, arguments = describe(checkpoint.model)
    task, outputs = checkpoint.card.task, checkpoint.model.num_outputs
    if task is not None and task.num_outputs != outputs:
        raise InputError(f"the card's task, {task.describe()}, has {task.num_outputs} outputs, the model {outputs}")
    variables = jax.tree.map(jax.numpy.asarray, checkpoint.variables)
    card = {
        "format": FORMAT,
        "model": name,
        "arguments": arguments,
        "num_outputs": outputs,
        "fingerprint": fingerprint(variables),
        **plain_card(checkpoint.card),
        "environment": environment(),
    }
    with written_whole(path) as work:
        write_arrays(work, variables, path)
        for listed, hashes in lists_of(checkpoint.card).items():
            (work / LISTS[listed]).write_bytes(hashes)
        (work / CARD).write_text(json.dumps(card, indent=1))
        if checkpoint.history:
            (work / HISTORY).write_text("".join(json.dumps(row) + "\n" for row in checkpoint.history))
    return path


def write_arrays(work: Path, variables: Variables, path: Path) -> None:
    """The arrays of the checkpoint that becomes `path`, into the folder `work`."""
    import orbax.checkpoint as ocp

    try:
        alone = orbax_alone()
        with plain_path(work) as plain, ocp.StandardCheckpointer(**alone) as checkpointer:
            # jax arrays, because Orbax checks the shapes of these and not of numpy's; of several processes it takes
            # none that lies on the devices of one
            checkpointer.save(plain / ARRAYS, jax.tree.map(np.asarray, variables) if alone else variables)
            checkpointer.wait_until_finished()
    except Exception as error:  # Orbax and TensorStore raise many kinds for a full disk
        raise InputError(
            f"the checkpoint '{path}' cannot be written: {first_line(error)}; is the disk full?"
        ) from error


def restore(
    path: str | Path,
    model: Staged | None = None,
    *,
    models: OwnModels = None,
    drop: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
) -> Checkpoint:
    """Reads a checkpoint; strictly, so that no array is silently lost or left at its initial value.

    Args:
      path: the folder that `save` wrote, also ``gs://BUCKET/FOLDER``.
      model: to restore into; by default the one that the card describes.
      models: of your own by the name on the card: ``{"MyNet": MyNet}`` of a subclass of `Staged`, or an instance, as of
        a wrapped module: ``{"MyCNN": jaxdl.wrap(MyCNN(), head="Dense_1")}``. Its num_outputs and dtype come from the
        card. Nothing is imported from a file; see also `register_model`.
      drop: arrays of the checkpoint to leave out, as ``"params/head"`` (a whole subtree) or a full name. The model
        must then have none of that name.
      rename: from names, or beginnings of names, in the checkpoint to those in the model.

    Raises:
      InputError: if it is no checkpoint or a damaged one, or listing every name and shape that does not match.
    """
    path = place_of(path).absolute()
    card, read = read_card(path)
    if model is None:
        try:
            model = rebuild(read["model"], read["num_outputs"], read["arguments"], models)
        except (InputError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise InputError(f"the card '{path / CARD}' describes a model that cannot be made: {error}") from error
    try:
        expected = variable_shapes(model, card.preprocessing.spec())
    except InputError:
        raise
    except Exception as error:  # sizes that nobody would write, of which JAX says many things
        raise InputError(
            f"the card '{path / CARD}' describes a model that cannot be made for inputs "
            f"{card.preprocessing.describe()}: {first_line(error)}"
        ) from error
    variables = read_arrays(path, expected, read.get("fingerprint"), drop=drop, rename=rename)
    return Checkpoint(model, variables, card, _read_history(path), str(path))


def read_arrays(
    path: Path,
    expected: Any,
    known: str | None,
    *,
    drop: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
) -> Variables:
    """The arrays in the folder of a checkpoint, as numpy's, in the structure of `expected`.

    Args:
      path: the folder.
      expected: shapes by name, as nested dicts.
      known: the fingerprint that the arrays must have; older cards have none.
      drop: see `restore`, as `rename`.
      rename: from names in the checkpoint to those in `expected`.

    Raises:
      InputError: if they are not there, are damaged, or do not fit.
    """
    import orbax.checkpoint as ocp

    check_regular(path / ARRAYS)
    try:
        with here(path / ARRAYS) as lies, ocp.StandardCheckpointer(**orbax_alone()) as checkpointer:
            stored = checkpointer.metadata(lies).item_metadata
            stored = stored.tree if hasattr(stored, "tree") else stored
            if not stored:  # Orbax only logs that it found nothing it can read
                raise ValueError("Orbax found nothing that it can read")
            target = jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype), stored)
            advice = "\nName what should be left out in drop=, and what is called differently in rename="
            kept = _match(target, expected, f"the checkpoint '{path}'", drop, rename, advice)
            device = jax.sharding.SingleDeviceSharding(first_device())
            target = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=device), target)
            arrays = checkpointer.restore(lies, target)
    except InputError:
        raise
    except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged store, and say pages
        raise InputError(
            f"the arrays of the checkpoint '{path}' cannot be read: files in its {ARRAYS}/ are damaged or missing; "
            f"{AGAIN}"
        ) from error
    found = dict(walk_shapes(arrays))
    for name, leaf in walk_shapes(target):
        if found[name].shape != leaf.shape:
            raise InputError(f"'{path}': the array {name} has the shape {found[name].shape}, announced {leaf.shape}")
    if known not in (None, fingerprint(arrays)):
        raise InputError(
            f"the arrays of the checkpoint '{path}' are not those that its card was written for: they were exchanged "
            "or damaged. Take arrays and card from the same copy of the checkpoint"
        )
    check_finite(found.items(), f"the checkpoint '{path}'")
    # numpy: arrays bound to a device would make the first step compile twice
    read = nest({new: np.asarray(found[old]) for old, new in kept.items()})
    return {collection: read.get(collection, {}) for collection in expected}


def _read_history(path: Path) -> tuple[Mapping[str, Any], ...]:
    file = path / HISTORY
    if not file.is_file():
        return ()
    rows = read_json_lines(file, HistoryRow)
    with reading(file):
        if not rows:  # without any it would not have been written
            raise ValueError("it has no rows")
    return tuple(rows)


def _match(
    stored: Any,
    expected: Any,
    where: str,
    drop: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    advice: str = "",
) -> dict[str, str]:
    """Pairs of names {in `where`: in the model}; every leaf on both sides is in one, or was dropped.

    An adapter belongs to no model: it need only fit the layer beside it.
    """

    def begins(name: str, prefix: str) -> bool:
        return name == prefix or name.startswith(prefix + "/")

    rename = rename or {}
    have, want = dict(walk_shapes(stored)), dict(walk_shapes(expected))
    problems, kept, taken = [], {}, {}
    for prefix in (*drop, *rename):
        if not any(begins(name, prefix) for name in have):
            problems.append(f"'{prefix}' is named in drop or rename but is not in the checkpoint")
    for name in have:
        if any(begins(name, prefix) for prefix in drop):
            continue
        old = next((p for p in rename if begins(name, p)), None)
        kept[name] = new = name if old is None else rename[old] + name[len(old) :]
        if rival := taken.get(new):
            problems.append(f"{name} and {rival} would both become {new}")
        taken[new] = name
    for name in sorted(want.keys() - set(kept.values())):
        problems.append(f"{name} {want[name].shape}: the model has it, the checkpoint has not")
    for old, new in kept.items():
        if new in want and have[old].shape != want[new].shape:
            problems.append(f"{new}: {have[old].shape} in the checkpoint, {want[new].shape} in the model")
        elif new not in want and new.rsplit("/", 1)[-1] not in ADAPTERS:
            problems.append(f"{old} {have[old].shape}: the checkpoint has it, the model has not")
    problems += check_adapters(nest({new: have[old] for old, new in kept.items()}).get("params", {}))
    if problems:
        raise InputError(
            f"{where} does not fit the model ({len(problems)} mismatches):\n  " + "\n  ".join(problems) + advice
        )
    return kept


def check_fits(checkpoint: Checkpoint, preprocessing: Preprocessing) -> None:
    """Raises InputError unless the checkpoint's arrays are those of a network for inputs of this preprocessing."""
    wanted = variable_shapes(checkpoint.model, preprocessing.spec())
    plain = {**checkpoint.variables, "params": partition(checkpoint.variables["params"], is_adapter)[1]}
    have = {name: leaf.shape for name, leaf in walk_shapes(plain)}
    if have != {name: leaf.shape for name, leaf in walk_shapes(wanted)}:
        raise InputError(
            f"the checkpoint's arrays do not fit inputs of {preprocessing.describe()}; they were made for "
            f"{checkpoint.card.preprocessing.describe()}: leave the image size as it is"
        )


@check_arguments
def replace_head(
    checkpoint: Checkpoint, *, num_outputs: int, class_names: Sequence[str] = (), seed: int = 0
) -> Checkpoint:
    """The same body with a fresh head for a new task.

    Args:
      checkpoint: whose body is kept.
      num_outputs: of the new head.
      class_names: of the new outputs, if known.
      seed: of the new head's initial values.

    Raises:
      InputError: if `class_names` has another length than `num_outputs`.
    """
    if not isinstance(num_outputs, int) or num_outputs < 1:
        raise InputError(f"num_outputs is {num_outputs!r}; expected a positive whole number")
    if class_names and len(class_names) != num_outputs:
        raise InputError(f"{len(class_names)} class names for num_outputs={num_outputs}")
    model = checkpoint.model.clone(num_outputs=num_outputs)
    task = task_of(model, class_names)
    _, body = split_variables(checkpoint.variables, ("head",))
    example = batch_of(checkpoint.card.preprocessing.spec())
    head = init_head(model, jax.random.key(seed), body, example)
    card = dataclasses.replace(checkpoint.card, task=task, targets={}, parent=checkpoint.path)
    return Checkpoint(model, join_variables(body, head), card)


@check_arguments
def from_model(
    model: Staged,
    preprocessing: Preprocessing,
    class_names: Sequence[str] = (),
    seed: int = 0,
    *,
    variables: Variables | None = None,
) -> Checkpoint:
    """A checkpoint of fresh variables, or of your own that are trained already.

    Args:
      model: the network; one of `wrap` without num_outputs gets those of the module's own head.
      preprocessing: what the examples went through.
      class_names: of the outputs, if known.
      seed: of fresh variables.
      variables: ``{"params": …, "batch_stats": …}``, of a wrapped module its own tree.

    Raises:
      InputError: for a model that does not keep the rules, or listing every array of `variables` that does not fit.
    """
    model = model.check(preprocessing.spec())
    if variables is None:
        variables = init_variables(model, jax.random.key(seed), preprocessing.spec())
    else:
        variables = _given(model, variables, preprocessing)
    task = task_of(model, class_names)
    return Checkpoint(model, jax.tree.map(np.asarray, variables), Card(preprocessing, task))


def _given(model: Staged, variables: Variables, preprocessing: Preprocessing) -> Variables:
    """A user's own variables, laid out by stage and of the types that the model has them in."""
    like = variable_shapes(model, preprocessing.spec())
    if not isinstance(variables, Mapping) or variables.keys() - like.keys() or "params" not in variables:
        held = ", ".join(variables) if isinstance(variables, Mapping) else type(variables).__name__
        raise InputError(f"variables holds {held or 'nothing'}; expected a dict of params and batch_stats")
    plain = nn.meta.unbox(unfreeze(dict(variables)))
    laid_out = model.to_stages({"batch_stats": {}, **plain})
    kept = _match(laid_out, like, "variables")
    flat, wanted = dict(walk_shapes(laid_out)), dict(walk_shapes(like))
    # an adapter is of the type of the kernel beside it
    wanted |= {new: wanted[f"{new.rsplit('/', 1)[0]}/kernel"] for new in kept.values() if new not in wanted}
    for name, leaf in flat.items():
        if np.issubdtype(np.asarray(leaf).dtype, np.integer) != np.issubdtype(wanted[name].dtype, np.integer):
            raise InputError(f"{name} in variables is of type {leaf.dtype}; expected {wanted[name].dtype}")
    arrays = nest({new: np.asarray(flat[old], wanted[new].dtype) for old, new in kept.items()})
    return {"params": {}, "batch_stats": {}, **arrays}
