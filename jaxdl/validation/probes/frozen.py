"""Heads on the features of a checkpoint, and a fitted head put back into it."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.checks import check_arguments
from jaxdl.data.content import hash_indices
from jaxdl.data.preprocessing import Preprocessing
from jaxdl.data.source import Source, arrange_columns, check_source, subset
from jaxdl.errors import InputError
from jaxdl.models import describe, is_own
from jaxdl.models.initialise import batch_of
from jaxdl.models.staged import Staged
from jaxdl.models.unet import without_skips
from jaxdl.models.variables import Variables, join_variables, split_variables
from jaxdl.tasks import Metrics, Task, choose_task
from jaxdl.training.display import watched
from jaxdl.training.execution import Execution
from jaxdl.training.features import compute_features
from jaxdl.training.predict import stored_batches
from jaxdl.training.setup import choose_preprocessing
from jaxdl.validation.crossval import describe_init
from jaxdl.validation.given_folds import are_folds, check_folds
from jaxdl.validation.leakage import check_leaks
from jaxdl.validation.leakage.checks import check_allowed
from jaxdl.validation.probes.heads import as_logits
from jaxdl.validation.probes.linear import fit_linear
from jaxdl.validation.probes.places import draw_places, last_map
from jaxdl.validation.probes.probe import Probing, probe_source
from jaxdl.validation.probes.result import ProbeResult
from jaxdl.validation.probes.ridge import fit_ridge, ridge_targets
from jaxdl.validation.probes.standard import standardise
from jaxdl.validation.splits import Split, Splitting
from jaxdl.weights.adapt import variables_for
from jaxdl.weights.checkpoint import Checkpoint

PUT_BACK = ("ridge", "logistic", "svm")


@check_arguments
def extract_features(
    checkpoint: Checkpoint,
    source: Source,
    *,
    stage: str | None = None,
    batch_size: int = 32,
    execution: Execution = Execution(),  # noqa: B008
) -> np.ndarray:
    """What flows out of a stage, in eval mode, for every example: ``float32[examples, columns]``.

    Args:
      checkpoint: a trained network; its card says how to prepare the examples.
      source: with or without labels.
      stage: whose output is taken, averaged over positions where it has any; by default of the last before the head.
      batch_size: examples at a time.
      execution: at which size, and whether, the examples are read batch by batch.

    Raises:
      InputError: if the checkpoint was never trained, the examples are no source, or what flows out of the
        stage is no single array.
    """
    features = _flowing(checkpoint, source, stage, batch_size, execution)
    features = features.reshape(len(features), -1, features.shape[-1]).mean(1) if features.ndim > 2 else features
    return _finite(np.asarray(features, np.float32), source)


def _flowing(
    checkpoint: Checkpoint, source: Source, stage: str | None, batch_size: int, execution: Execution
) -> jax.Array:
    """What flows out of a stage, of a U-Net without its skips; places are not averaged."""
    check_source(source)
    checkpoint.card.check_trained(head=False)
    preprocessing = choose_preprocessing(checkpoint, source, execution.image_size)
    if preprocessing.apart:
        raise InputError(
            f"{source.name} holds queries and documents, which have a vector each: give one of the two as a list of "
            "texts, jaxdl.embed(checkpoint, queries)"
        )
    model = checkpoint.model
    names = model.stage_names
    place = len(names) - 2 if stage is None else model.stage_index(stage)
    if place >= len(names) - 1:
        raise InputError(f"the stage '{stage}' is the head itself; expected one before it: {', '.join(names[:-1])}")
    if names[place] not in model.outlets:
        raise InputError(
            f"what flows out of '{stage}' is not known: it is a part of a module that runs as a whole; expected one of "
            f"{', '.join(model.outlets[:-1])}"
        )
    variables = variables_for(checkpoint, preprocessing)
    frozen, _ = split_variables(variables, names[: place + 1])
    parts = stored_batches(model, source, preprocessing, batch_size, execution)
    frozen = jax.tree.map(jnp.asarray, frozen)
    made = compute_features(
        model,
        frozen,
        names[place + 1],
        parts,
        len(source),
        preprocessing,
        preprocessing.constants,
        execution.layout,
    )
    leaves = jax.tree.leaves(without_skips(made))
    if len(leaves) != 1:
        suited = _single(model, variables, preprocessing)
        expected = f"one, as of {', '.join(suited)}: name such a stage" if suited else "one, which no stage here gives"
        raise InputError(f"{len(leaves)} arrays flow out of the stage '{names[place]}'; expected {expected}")
    return leaves[0]


def _single(model: Staged, variables: Variables, preprocessing: Preprocessing) -> list[str]:
    """The stages before the head out of which a single array flows."""
    names = model.outlets[:-1]
    tapped = jax.eval_shape(lambda v, x: model.apply(v, x, taps=names)[1], variables, batch_of(preprocessing.spec()))
    return [name for name in names if len(jax.tree.leaves(without_skips(tapped[name]))) == 1]


def _finite(features: np.ndarray, source: Source) -> np.ndarray:
    if len(bad := np.flatnonzero(~np.isfinite(features).all(1))):
        raise InputError(f"features of {len(bad)} examples of {source.name} are NaN or infinite, the first is {bad[0]}")
    return features


@check_arguments
@watched
def probe_checkpoint(
    checkpoint: Checkpoint,
    source: Source,
    splitter: str | Splitting | Any = "auto",
    probing: Probing = Probing(),  # noqa: B008
    *,
    folds: int = 5,
    stage: str | None = None,
    task: Task | str | None = None,
    metrics: Metrics = None,
    execution: Execution = Execution(),  # noqa: B008
) -> ProbeResult:
    """How good are heads on the frozen features of a checkpoint? The backbone runs over the data once.

    Where each pixel has a class, heads are fitted to the features of single places, see `places.draw_places`: their
    scores are of such places, and folds keep all places of an image on one side.

    Arguments as of `probe`, `extract_features` and `cross_validate`; ``progress`` gets ``{"head": name}`` of the head
    at work.

    Raises:
      InputError: if the data, the checkpoint and what is asked for do not go together, or a leak is found.
    """
    question = choose_task(check_source(source), task, purpose="probing")
    places = question.of_place()
    question = (places or question).scored_by(metrics)
    probing.grids(source, question)  # what does not go together is refused before the network runs
    allow = check_allowed(execution.allow)
    source = arrange_columns(source, checkpoint.card)
    checkpoint.card.preprocessing.check_training(source)
    begin = time.perf_counter()
    drawn = None
    if places is None:
        features = extract_features(checkpoint, source, stage=stage, execution=execution)
    else:
        stage = stage or last_map(checkpoint.model, choose_preprocessing(checkpoint, source).spec())
        drawn = draw_places(_flowing(checkpoint, source, stage, 8, execution), source, probing.seed)
        features = _finite(drawn.features, source)
        if are_folds(splitter):
            splitter = drawn.of_places(check_folds(source, splitter))
    seconds = time.perf_counter() - begin

    def leaks(split: Split) -> list[dict[str, Any]]:
        split = split if drawn is None else drawn.of_images(split)
        return [leak.as_dict() for leak in check_leaks(checkpoint, source, split, allow=allow)]

    name, arguments = describe(checkpoint.model)
    made = probe_source(
        source if drawn is None else drawn.source,
        features,
        question,
        splitter,
        probing,
        folds=folds,
        progress=lambda head: execution.tell({"head": head}),
        about={"init": describe_init(checkpoint), "model": {"name": name, "arguments": arguments}},
        check=leaks,
    )
    settings = {**made.settings, "stage": stage or checkpoint.model.stage_names[-2]}
    return dataclasses.replace(made, settings=settings, feature_seconds=seconds)


@check_arguments
def with_head(
    checkpoint: Checkpoint,
    source: Source,
    *,
    head: str,
    penalty: float,
    standardise: bool = True,
    task: Task | str | None = None,
    execution: Execution = Execution(),  # noqa: B008
) -> Checkpoint:
    """The checkpoint with a head that is fitted to all of `source`; the standardisation is folded into its weights.

    Args:
      checkpoint: whose last stage is a linear map.
      source: labelled.
      head: of `PUT_BACK`. The outputs of ridge and svm are decision values: their softmax is no probability.
      penalty: of it.
      standardise: see `probe`.
      task: what is asked of the examples; by default what their targets look like.
      execution: see `extract_features`.

    Raises:
      InputError: if the network's head is no linear map, or the head cannot be put there.
    """
    if head not in PUT_BACK:
        raise InputError(f"the head '{head}' is no linear map to put into a checkpoint; expected {', '.join(PUT_BACK)}")
    question = choose_task(check_source(source), task, purpose="fitting a head")
    Probing(heads=(head,)).heads_for(question)  # refuses what it is not for
    source = arrange_columns(source, checkpoint.card)
    checkpoint.card.preprocessing.check_training(source)
    classes = question.num_outputs if question.PROBED == "classes" else 0
    features = extract_features(checkpoint, source, execution=execution)
    layer, leaves = _dense_of_head(checkpoint, features)
    targets = source.targets()
    kernel, bias = _fit(features, targets, classes, head, penalty, standardise)
    constants = question.fit(targets)
    kernel, bias = question.as_head(kernel, bias, constants)
    dtype = np.asarray(leaves["kernel"]).dtype
    fresh = {"params": {"head": {layer: {"kernel": kernel.astype(dtype), "bias": bias.astype(dtype)}}}}
    preprocessing = choose_preprocessing(checkpoint, source, execution.image_size)
    variables = variables_for(checkpoint, preprocessing)
    _, body = split_variables(variables, ("head",))
    card = dataclasses.replace(
        checkpoint.card,
        preprocessing=preprocessing,
        task=question,
        parent=checkpoint.path or checkpoint.card.parent,
        data=source.name,
        split=hash_indices([np.arange(len(source))]),
        plan={"head": head, "penalty": float(penalty), "standardise": standardise},
        targets={name: tuple(map(float, constants[name])) for name in question.KEPT if name in constants},
        columns=source.columns,
        target=source.target,
    ).with_seen(source.hashes())
    model = checkpoint.model.clone(num_outputs=question.num_outputs)
    return Checkpoint(model, jax.tree.map(np.asarray, join_variables(body, fresh)), card)


def check_head(checkpoint: Checkpoint, source: Source, execution: Execution = Execution()) -> None:  # noqa: B008
    """Raises InputError unless `with_head` can put a head into the checkpoint.

    The shapes tell it; of a user's own model a few examples do.
    """
    if is_own(checkpoint.model):
        few = subset(arrange_columns(source, checkpoint.card), range(min(8, len(source))))
        _dense_of_head(checkpoint, extract_features(checkpoint, few, batch_size=8, execution=execution))
        return
    example = batch_of(choose_preprocessing(checkpoint, source, execution.image_size).spec())
    made = jax.eval_shape(lambda v, x: checkpoint.model.apply(v, x, stop="head"), checkpoint.variables, example)
    widths = [leaf.shape[-1] for leaf in jax.tree.leaves(without_skips(made))]
    _dense_of_head(checkpoint, np.empty((0, widths[0] if len(widths) == 1 else 0), np.float32))


def _dense_of_head(checkpoint: Checkpoint, features: np.ndarray) -> tuple[str, Any]:
    """Name and leaves of the layer that is the whole head. Raises InputError where the head is more than that."""
    had = checkpoint.variables["params"].get("head", {})
    layer, leaves = next(iter(had.items()), ("", None))
    linear = len(had) == 1 and isinstance(leaves, dict) and set(leaves) == {"kernel", "bias"}
    width = features.shape[1]
    if not linear or leaves["kernel"].shape[0] != width or not _is_linear(checkpoint, leaves, features[:8]):
        raise InputError(f"the head of {type(checkpoint.model).__name__} is more than a linear map; use finetune")
    return layer, leaves


def _is_linear(checkpoint: Checkpoint, leaves: Any, features: np.ndarray) -> bool:
    """Whether the head is no more than its dense layer; of a user's own model that is tried on some features."""
    if not is_own(checkpoint.model):
        return True
    made = checkpoint.model.apply(checkpoint.variables, features, start="head")
    return np.allclose(made, features @ leaves["kernel"] + leaves["bias"], rtol=1e-3, atol=1e-3 * np.abs(made).max())


def _fit(
    features: np.ndarray, labels: np.ndarray, classes: int, head: str, penalty: float, scaled: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel ``[columns, classes or 1]`` and bias of the features as they are."""
    rows, penalties = np.arange(len(labels)), np.array([float(penalty)])
    with jax.enable_x64(True):
        standard = standardise(jnp.asarray(features), rows, jnp.ones(len(rows)), rows[:1], scaled=scaled)
        if head == "ridge":
            kernels, bias = fit_ridge(np.asarray(standard.train), ridge_targets(labels, classes), penalties)
            kernel = kernels[0]
        else:
            path = fit_linear(head, standard, labels, classes, penalties)
            kernel, bias = np.asarray(path.kernel[0]), np.asarray(path.bias[0])
        scale, mean = np.asarray(standard.scale), np.asarray(standard.mean)
    kernel = kernel / scale[:, None]
    bias = bias - mean @ kernel
    return (as_logits(kernel), as_logits(bias)) if classes else (kernel, bias)
