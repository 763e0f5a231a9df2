"""Images that are larger than what a network was trained on: predicted tile by tile, blended where tiles overlap."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.preprocessing import ImagePreprocessing, Preprocessing
from jaxdl.data.preprocessing.image import in_channels
from jaxdl.data.source import Source
from jaxdl.errors import InputError
from jaxdl.parallel.hosts import beat
from jaxdl.parallel.layout import Layout
from jaxdl.training.finite import check_outputs
from jaxdl.weights.checkpoint import Checkpoint

OVERLAP = 0.25  # of a tile's side, that neighbours have in common at least
PIXELS = 2**20  # of the tiles that go through the network at once, at most
LEAST = 1e-3  # weight of a pixel in the corner of a tile, which nothing else may cover


def needs_tiles(preprocessing: Preprocessing, source: Source) -> bool:
    """Whether some image of `source` has another size than the network's, which leaves images as they are."""
    if not isinstance(preprocessing, ImagePreprocessing) or preprocessing.crop_mode != "tile":
        return False
    return {shape[:2] for shape in source.shapes()} != {preprocessing.input_shape[:2]}


def predict_tiled(
    checkpoint: Checkpoint,
    source: Source,
    batch_size: int,
    layout: Layout = Layout(),  # noqa: B008
) -> Any:
    """What the task keeps of every image, each in its own size: arrays ``[n, …]`` where all have one, else lists.

    Probabilities are averaged where tiles overlap, with weights that fall linearly from a tile's middle to its border.

    Raises:
      InputError: if an image has another number of channels, or the network's outputs are no maps, or not finite.
    """
    card, executor = checkpoint.card, layout.executor()
    height, width, channels = card.preprocessing.input_shape
    probabilities = executor.forward(checkpoint.prediction(_probabilities))
    batch_size = max(1, min(batch_size, PIXELS // (height * width)))
    variables = executor.place_variables(checkpoint.variables)
    constants = card.target_constants()
    finish = jax.jit(lambda total: checkpoint.task.predict(jnp.log(total[..., :-1] / total[..., -1:])[None], constants))
    made, finite = [], []
    for i in range(len(source)):
        beat(f"predicting image {i + 1}", slow=True)  # of any size
        image = np.asarray(source[i]["x"])
        if image.ndim != 3 or image.dtype != np.uint8:
            raise InputError(
                f"example {i} of {source.name} is {image.dtype}{list(image.shape)}; the network takes uint8 images "
                f"with {channels} channels"
            )
        image = in_channels(image, channels)
        total = None
        padded = _at_least(image, height, width)
        for corners, tiles in _batches(padded, height, width, batch_size):
            found = probabilities(variables, tiles)
            if found.ndim != 4:
                raise InputError(f"the network gives {list(found.shape[1:])} for an image, no map; it needs no tiles")
            if total is None:
                total = jnp.zeros((*padded.shape[:2], found.shape[-1] + 1))
            for corner, one in zip(corners, found, strict=False):
                total = _added(total, one, jnp.asarray(corner))
        kept = jax.tree.map(lambda leaf: np.asarray(leaf)[0], finish(total[: image.shape[0], : image.shape[1]]))
        made.append(kept)
        finite.append(bool(jnp.isfinite(total).all()))
    check_outputs(np.array(finite), source)
    return together(made)


def together(made: list[Any]) -> Any:
    """What is kept of each image as arrays ``[n, …]`` where all have one size, else as lists."""
    same = len({np.shape(jax.tree.leaves(one)[0]) for one in made}) == 1
    return jax.tree.map(lambda *leaves: np.stack(leaves) if same else list(leaves), *made)


def _probabilities(task: Any, outputs: Any, constants: Any) -> jax.Array:
    finite = jnp.isfinite(outputs).all(-1, keepdims=True)  # else an infinite logit may become a probability of 1
    return jnp.where(finite, jax.nn.softmax(outputs.astype(jnp.float32)), jnp.nan)


def corners(side: int, tile: int) -> list[int]:
    """Where tiles begin along one side: evenly spaced, from border to border, overlapping by `OVERLAP` or more."""
    step = max(1, int(tile * (1 - OVERLAP)))
    count = -(-(side - tile) // step) + 1
    return [round(i * (side - tile) / max(count - 1, 1)) for i in range(count)]


def _at_least(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image, mirrored beyond its lower and right border where it is smaller than a tile."""
    down, across = (max(0, tile - side) for tile, side in zip((height, width), image.shape[:2], strict=True))
    return np.pad(image, ((0, down), (0, across), (0, 0)), mode="symmetric")


def _batches(image: np.ndarray, height: int, width: int, size: int) -> Iterator[tuple[Any, np.ndarray]]:
    """Corners and tiles, `size` tiles at a time; the last tile is repeated to fill the last batch."""
    places = [(top, left) for top in corners(image.shape[0], height) for left in corners(image.shape[1], width)]
    for begin in range(0, len(places), size):
        some = places[begin : begin + size]
        filled = some + [some[-1]] * (size - len(some))
        yield some, np.stack([image[top : top + height, left : left + width] for top, left in filled])


@partial(jax.jit, donate_argnums=0)
def _added(total: jax.Array, one: jax.Array, corner: jax.Array) -> jax.Array:
    """The weighted probabilities of a tile added, and in the last channel the weights."""
    rows, columns = (jnp.arange(side) for side in one.shape[:2])
    falls = [1 - jnp.abs(2 * (i + 0.5) / len(i) - 1) for i in (rows, columns)]
    weight = jnp.maximum(falls[0][:, None] * falls[1], LEAST)[..., None]
    part = jnp.concatenate([one * weight, weight], -1)
    begin = (corner[0], corner[1], 0)
    return jax.lax.dynamic_update_slice(total, jax.lax.dynamic_slice(total, begin, part.shape) + part, begin)
