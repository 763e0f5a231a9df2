"""A checkpoint made over: for another number of channels or another size of images, or without its adapter."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from jaxdl.data.preprocessing import ImagePreprocessing, Preprocessing, TextPreprocessing
from jaxdl.errors import InputError, check_choice
from jaxdl.models.adapters import check_mergeable, layers_of, merge, ranks_of
from jaxdl.models.initialise import batch_of, init_variables
from jaxdl.models.staged import HEAD, Staged
from jaxdl.models.variables import Variables, walk_shapes
from jaxdl.models.vit import ViT
from jaxdl.tasks import Task
from jaxdl.weights.checkpoint import Checkpoint, check_fits
from jaxdl.weights.families import KEYS
from jaxdl.weights.vit import resample_positions

CHANNEL_MODES = ("sum", "repeat")


def with_channels(checkpoint: Checkpoint, channels: int, mode: str = "sum") -> Checkpoint:
    """The network for images with another number of channels; only the kernel that sees the image changes, as in timm.

    Args:
      checkpoint: of a family with published weights.
      channels: of the images: 1 for grey ones, or the number of bands.
      mode: ``"sum"`` (one channel only) adds the kernel's channels up: a grey image gives what it would give in every
        channel of the old network. ``"repeat"`` repeats them in turn and scales by old ÷ new number, so that what comes
        out keeps its size.

    Raises:
      InputError: for another family or number.
    """
    check_choice("channel_mode", mode, CHANNEL_MODES)
    if type(checkpoint.model) not in KEYS:
        raise InputError(f"the channels of a {type(checkpoint.model).__name__} cannot be changed; train a new one")
    own = checkpoint.card.preprocessing
    if not isinstance(own, ImagePreprocessing):
        raise InputError(f"the network takes no images ({type(own).__name__}), and so has no channels to change")
    old = own.input_shape[-1]
    if channels < 1:
        raise InputError(f"channels is {channels}; expected at least 1")
    if channels == old:
        return checkpoint
    if mode == "sum" and channels != 1:
        raise InputError(f"channel_mode 'sum' makes 1 channel, not {channels}; expected 'repeat'")

    def adapted(kernel: np.ndarray) -> np.ndarray:  # [height, width, channels, features]
        if mode == "sum":
            return kernel.sum(2, keepdims=True)
        return kernel[:, :, np.arange(channels) % old] * np.float32(old / channels)

    variables = change_leaf(checkpoint.variables, KEYS[type(checkpoint.model)].stem, adapted)
    preprocessing = _with_channels(own, channels, mode)
    card = dataclasses.replace(checkpoint.card, preprocessing=preprocessing)
    return dataclasses.replace(checkpoint, variables=variables, card=card)


def _with_channels(own: ImagePreprocessing, channels: int, mode: str) -> ImagePreprocessing:
    """The mean over the old channels for a grey image; of repeated ones each its own."""
    shape = (*own.input_shape[:-1], channels)
    if not own.fitted:
        return dataclasses.replace(own, input_shape=shape)
    pick = lambda values: (  # noqa: E731
        (float(np.mean(values)),) if mode == "sum" else tuple(values[i % len(values)] for i in range(channels))
    )
    return dataclasses.replace(own, input_shape=shape, mean=pick(own.mean), std=pick(own.std))


def with_length(checkpoint: Checkpoint, length: int) -> Checkpoint:
    """A network of texts that reads so many tokens of each; its parameters stay as they are.

    Raises:
      InputError: for a network of something else, or more tokens than it knows positions.
    """
    own = checkpoint.card.preprocessing
    if not isinstance(own, TextPreprocessing):
        raise InputError(f"the network takes {own.describe()}, no texts; leave out the length, a number of tokens")
    made = dataclasses.replace(own, length=length)
    made.check_model(checkpoint.model)
    return dataclasses.replace(checkpoint, card=dataclasses.replace(checkpoint.card, preprocessing=made))


def reverse_channels(checkpoint: Checkpoint) -> Checkpoint:
    """A network for images with blue first, made to take them with red first. Raises InputError for no images."""
    own = checkpoint.card.preprocessing
    if not isinstance(own, ImagePreprocessing):
        raise InputError(f"the network takes no images ({type(own).__name__}); leave channel_order at 'rgb'")
    preprocessing = dataclasses.replace(own, mean=own.mean[::-1], std=own.std[::-1]) if own.fitted else own
    return dataclasses.replace(
        checkpoint,
        variables=change_leaf(checkpoint.variables, KEYS[type(checkpoint.model)].stem, lambda k: k[:, :, ::-1]),
        card=dataclasses.replace(checkpoint.card, preprocessing=preprocessing),
    )


def has_adapter(checkpoint: Checkpoint) -> bool:
    """Whether some layer has a low-rank addition beside its kernel."""
    return bool(ranks_of(checkpoint.variables["params"]))


def merge_adapter(checkpoint: Checkpoint) -> Checkpoint:
    """The same network without its adapter, whose products are added to the kernels; see `models.adapters`.

    Raises:
      InputError: if it has none, or one on a layer that uses its kernel in another way than by multiplying with it.
    """
    params = checkpoint.variables["params"]
    if not has_adapter(checkpoint):
        raise InputError("the checkpoint has no adapter to merge: it was not trained with adapter='lora:RANK'")
    example = batch_of(checkpoint.card.preprocessing.spec())
    check_mergeable(params, layers_of(checkpoint.model, checkpoint.variables, example))
    variables = {**checkpoint.variables, "params": merge(params)}
    return dataclasses.replace(checkpoint, variables=jax.tree.map(np.asarray, variables), path=None)


def change_leaf(variables: Variables, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Variables:
    """`variables` with the leaf `name` changed."""
    leaves = dict(walk_shapes(variables))
    leaves[name] = np.ascontiguousarray(change(np.asarray(leaves[name])))
    return jax.tree.unflatten(jax.tree.structure(variables), leaves.values())


def for_task(init: Checkpoint | Staged, task: Task, preprocessing: Preprocessing, seed: int) -> Checkpoint | Staged:
    """A network whose outputs have the form that `task` needs, see `Task.fit_model`; mostly `init` itself.

    Of a checkpoint the stages that go on keep their arrays. The others are drawn from `seed`, the same for all folds.

    Raises:
      InputError: if it cannot be made to answer the task.
    """
    given = init.model if isinstance(init, Checkpoint) else init
    model = task.fit_model(given, preprocessing.spec())
    if model is given or not isinstance(init, Checkpoint):
        return init if model is given else model
    fresh = init_variables(model, jax.random.key(seed), preprocessing.spec())
    going_on = set(model.stage_names) & set(given.stage_names) - {HEAD}
    variables = {
        kind: {name: held[name] if name in going_on else leaf for name, leaf in fresh[kind].items()}
        for kind, held in init.variables.items()
    }
    return dataclasses.replace(init, model=model, variables=jax.tree.map(np.asarray, variables))


def variables_for(checkpoint: Checkpoint, preprocessing: Preprocessing) -> Variables:
    """The checkpoint's arrays for inputs of another shape: a vision transformer's position embeddings are resampled.

    Raises:
      InputError: if the network cannot take such inputs.
    """
    variables, own = checkpoint.variables, checkpoint.card.preprocessing
    if preprocessing.spec() == own.spec():
        return variables
    if isinstance(checkpoint.model, ViT):
        patch = checkpoint.model.patch_size
        shapes = [one.spec().shape for one in (own, preprocessing)]
        old, new = ((shape[0] // patch, shape[1] // patch) for shape in shapes)

        def resampled(position: np.ndarray) -> np.ndarray:
            prefix = position.shape[1] - old[0] * old[1]  # tokens that stand nowhere in the image
            return np.asarray(resample_positions(position, old, new, prefix))

        if old != new:
            variables = change_leaf(variables, "params/embed/position", resampled)
    check_fits(dataclasses.replace(checkpoint, variables=variables), preprocessing)
    return variables
