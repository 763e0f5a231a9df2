"""Heads on the features of a checkpoint, and a fitted head put back into it."""

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.content import hash_examples
from jaxdl.data.source import Source, arrange_columns, check_labelled, columns_of
from jaxdl.data.split_hash import hash_indices
from jaxdl.errors import InputError
from jaxdl.models import describe
from jaxdl.models.staged import join_variables, split_variables
from jaxdl.tasks import choose_task
from jaxdl.training.features import compute_features
from jaxdl.training.predict import stored_batches
from jaxdl.training.setup import choose_preprocessing
from jaxdl.validation.leakage import check_leaks
from jaxdl.validation.leakage.checks import check_allowed
from jaxdl.validation.probes.heads import as_logits
from jaxdl.validation.probes.linear import fit_logistic, fit_svm
from jaxdl.validation.probes.probe import Probing, probe_source
from jaxdl.validation.probes.result import ProbeResult
from jaxdl.validation.probes.ridge import fit_ridge, ridge_targets
from jaxdl.validation.probes.standard import standardise
from jaxdl.validation.splits import Splitting
from jaxdl.weights.adapt import variables_for
from jaxdl.weights.checkpoint import Checkpoint

PUT_BACK = ("ridge", "logistic", "svm")


def extract_features(
    checkpoint: Checkpoint,
    source: Source,
    *,
    stage: str | None = None,
    image_size: int | None = None,
    batch_size: int = 32,
    streaming: bool | None = None,
    workers: int = 2,
) -> np.ndarray:
    """What flows out of a stage, in eval mode, for every example: ``float32[examples, columns]``.

    Args:
      checkpoint: a trained network; its card says how to prepare the examples.
      source: with or without labels.
      stage: whose output is taken, averaged over positions where it has any; by default of the last before the head.
      image_size: see `training.setup.choose_preprocessing`.
      batch_size: examples at a time.
      streaming: read the examples batch by batch; by default if they do not fit in memory.
      workers: processes that decode what is streamed.

    Raises:
      InputError: if the checkpoint was never trained, or what flows out of the stage is no single array.
    """
    if not checkpoint.card.preprocessing.fitted:
        raise InputError("the checkpoint was never trained: its card has no mean and std")
    preprocessing = choose_preprocessing(checkpoint, source, image_size)
    model = checkpoint.model
    names = model.stage_names
    place = len(names) - 2 if stage is None else model.stage_index(stage)
    if place >= len(names) - 1:
        raise InputError(f"the stage '{stage}' is the head itself; expected one before it: {', '.join(names[:-1])}")
    frozen, _ = split_variables(variables_for(checkpoint, preprocessing.input_shape), names[: place + 1])
    parts: Iterable[np.ndarray] = stored_batches(source, preprocessing, batch_size, streaming, workers)
    mean, std = np.float32(preprocessing.mean), np.float32(preprocessing.std)
    frozen = jax.tree.map(jnp.asarray, frozen)
    made = compute_features(model, frozen, names[place + 1], parts, mean, std, batch_size)
    leaves = jax.tree.leaves(made)
    if len(leaves) != 1:
        raise InputError(
            f"{len(leaves)} arrays flow out of the stage '{names[place]}'; expected one: name another stage"
        )
    features = leaves[0][: len(source)]
    features = features.reshape(len(features), -1, features.shape[-1]).mean(1) if features.ndim > 2 else features
    features = np.asarray(features, np.float32)
    if len(bad := np.flatnonzero(~np.isfinite(features).all(1))):
        raise InputError(f"features of {len(bad)} examples of {source.name} are NaN or infinite, the first is {bad[0]}")
    return features


def probe_checkpoint(
    checkpoint: Checkpoint,
    source: Source,
    splitter: str | Any = "auto",
    probing: Probing = Probing(),  # noqa: B008
    *,
    folds: int = 5,
    splitting: Splitting | None = None,
    stage: str | None = None,
    image_size: int | None = None,
    allow: Iterable[str] = (),
    streaming: bool | None = None,
    workers: int = 2,
    progress: Callable[[str], None] | None = None,
) -> ProbeResult:
    """How good are heads on the frozen features of a checkpoint? The backbone runs over the data once.

    Arguments as of `probe`, `extract_features` and `cross_validate`.

    Raises:
      InputError: if the data, the checkpoint and what is asked for do not go together, or a leak is found.
    """
    if not isinstance(checkpoint, Checkpoint):
        raise InputError("probing takes a Checkpoint: a network without weights has no features worth probing")
    check_labelled(source, purpose="probing")
    probing.grids(source)  # what does not go together is told before the network runs
    allow = check_allowed(allow)
    source = arrange_columns(source, checkpoint.card.columns)
    begin = time.perf_counter()
    features = extract_features(
        checkpoint, source, stage=stage, image_size=image_size, streaming=streaming, workers=workers
    )
    seconds = time.perf_counter() - begin
    name, arguments = describe(checkpoint.model)
    init = {"kind": "checkpoint", "model": name, "path": checkpoint.path}
    init |= {"source": dict(checkpoint.card.source)} if checkpoint.card.source else {}
    made = probe_source(
        source,
        features,
        splitter,
        probing,
        folds=folds,
        splitting=splitting,
        progress=progress,
        about={"init": init, "model": {"name": name, "arguments": arguments}},
        check=lambda split: [leak.as_dict() for leak in check_leaks(checkpoint, source, split, allow=allow)],
    )
    settings = {**made.settings, "stage": stage or checkpoint.model.stage_names[-2]}
    return dataclasses.replace(made, settings=settings, feature_seconds=seconds)


def with_head(
    checkpoint: Checkpoint,
    source: Source,
    *,
    head: str,
    penalty: float,
    standardise: bool = True,
    image_size: int | None = None,
    streaming: bool | None = None,
    workers: int = 2,
) -> Checkpoint:
    """The checkpoint with a head that is fitted to all of `source`; the standardisation is folded into its weights.

    Args:
      checkpoint: whose last stage is a linear map.
      source: labelled.
      head: of `PUT_BACK`. The outputs of ridge and svm are decision values: their softmax is no probability.
      penalty: of it.
      standardise: see `probe`.
      image_size: see `extract_features`, as `streaming` and `workers`.
      streaming: read the examples batch by batch.
      workers: processes that decode what is streamed.

    Raises:
      InputError: if the network's head is no linear map, or the head cannot be put there.
    """
    if head not in PUT_BACK:
        raise InputError(f"the head '{head}' is no linear map to put into a checkpoint; expected {', '.join(PUT_BACK)}")
    check_labelled(source, purpose="fitting a head")
    source = arrange_columns(source, checkpoint.card.columns)
    classes, task = len(source.class_names), choose_task(source.class_names)
    features = extract_features(checkpoint, source, image_size=image_size, streaming=streaming, workers=workers)
    had = checkpoint.variables["params"]["head"]
    width = features.shape[1]
    if set(had) != {"dense"} or set(had["dense"]) != {"kernel", "bias"} or had["dense"]["kernel"].shape[0] != width:
        raise InputError(f"the head of {type(checkpoint.model).__name__} is more than a linear map; use finetune")
    kernel, bias = _fit(features, source.labels, classes, head, penalty, standardise)
    scaling = task.fit_scaling(source.labels)
    if scaling is not None:
        kernel, bias = kernel / scaling[1], (bias - scaling[0]) / scaling[1]
    dtype = np.asarray(had["dense"]["kernel"]).dtype
    fresh = {"params": {"head": {"dense": {"kernel": kernel.astype(dtype), "bias": bias.astype(dtype)}}}}
    preprocessing = choose_preprocessing(checkpoint, source, image_size)
    variables = variables_for(checkpoint, preprocessing.input_shape)
    _, body = split_variables(variables, ("head",))
    card = dataclasses.replace(
        checkpoint.card,
        preprocessing=preprocessing,
        class_names=tuple(source.class_names),
        parent=checkpoint.path or checkpoint.card.parent,
        data=source.name,
        split=hash_indices([np.arange(len(source))]),
        plan={"head": head, "penalty": float(penalty), "standardise": standardise},
        scaling=None if scaling is None else tuple(map(float, scaling)),
        columns=columns_of(source),
    ).with_seen(hash_examples(source))
    model = checkpoint.model.clone(num_outputs=task.num_outputs)
    return Checkpoint(model, jax.tree.map(np.asarray, join_variables(body, fresh)), card)


def _fit(
    features: np.ndarray, labels: np.ndarray, classes: int, head: str, penalty: float, scaled: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel ``[columns, classes or 1]`` and bias of the features as they are."""
    rows, penalties = np.arange(len(labels)), np.array([float(penalty)])
    with jax.enable_x64(True):
        standard = standardise(jnp.asarray(features), rows, jnp.ones(len(rows)), rows[:1], scaled=scaled)
        if head == "ridge":
            path = fit_ridge(standard, ridge_targets(labels, classes), penalties)
        else:
            path = {"logistic": fit_logistic, "svm": fit_svm}[head](standard, labels, classes, penalties)
        kernel, bias = np.asarray(path.kernel[0]), np.asarray(path.bias[0])
        scale, mean = np.asarray(standard.scale), np.asarray(standard.mean)
    kernel = kernel / scale[:, None]
    bias = bias - mean @ kernel
    return (as_logits(kernel), as_logits(bias)) if classes else (kernel, bias)
