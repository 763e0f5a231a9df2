"""Random changes to training images, on the device and inside the train step."""

import dataclasses
from collections.abc import Callable, Sequence

import flax.struct
import jax
import jax.numpy as jnp

from jaxdl.data.augment.images import colour, crop, erase, flip, flip_vertical, hue
from jaxdl.data.augment.mixing import mix
from jaxdl.data.augment.randaugment import move_as_randaugment, randaugment
from jaxdl.data.masks_classes import VOID
from jaxdl.errors import InputError, check_choice

# What changes one image by itself: in this order, each with the number that is folded into an example's key. Numbers
# stay as they are, so that an operation that comes to be does not change the draws of the others; mixing has 100.
PER_IMAGE: dict[str, tuple[int, Callable[[jax.Array, jax.Array, float], jax.Array]]] = {
    "crop": (1, crop),
    "flip": (2, flip),
    "flip-vertical": (7, flip_vertical),
    "colour": (3, colour),
    "hue": (4, hue),
    "randaugment": (5, randaugment),
    "erasing": (6, erase),
}
# Of these, what moves pixels, and so what belongs to them. Nothing comes in from beyond the border but by RandAugment.
MOVES = {"crop": crop, "flip": flip, "flip-vertical": flip_vertical, "randaugment": move_as_randaugment}
MIXING = 100
MIXES = ("mixup", "cutmix")  # these mix two examples

# What each name stands for: operations and their strengths, whose meaning the operations' docstrings say.
NAMES: dict[str, dict[str, float]] = {
    "none": {},
    "light": {"crop": 0.2, "flip": 0.5},
    "standard": {"crop": 0.65, "flip": 0.5, "colour": 0.2},
    "strong": {"crop": 0.65, "flip": 0.5, "randaugment": 9.0, "erasing": 0.5, "mixup": 0.2, "cutmix": 1.0},
    "crop": {"crop": 0.65},
    "flip": {"flip": 0.5},
    "flip-vertical": {"flip-vertical": 0.5},
    "colour": {"colour": 0.4, "hue": 0.1},
    "randaugment": {"randaugment": 9.0},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "erasing": {"erasing": 0.5},
}


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to training images: ``operations`` are pairs of a name and its strength. Static under jit."""

    operations: tuple[tuple[str, float], ...] = ()


@flax.struct.dataclass
class Augmented:
    """A batch after augmentation, whose loss is ``share * loss(labels) + (1 - share) * loss(labels[partner])``.

    Attributes:
      images: ``float32[batch, height, width, channels]`` in 0 to 1.
      partner: ``int32[batch]``, the row of the example that was mixed in; the row itself where none was.
      share: ``float32[batch]``, the share of the image, and of the label, that is the example's own.
      maps: what belongs to the pixels, ``[batch, height, width, …]``, moved as the image was; None without.
    """

    images: jax.Array
    partner: jax.Array
    share: jax.Array
    maps: jax.Array | None = None


def make_augmentation(names: str | Sequence[str]) -> Augmentation:
    """The augmentation that names stand for; the order in which they are given does not matter.

    - ``none``.
    - ``light``: small random crops and flips.
    - ``standard``: random crops, flips, and a little brightness, contrast and saturation.
    - ``strong``: random crops, flips, RandAugment, random erasing, and for each example MixUp or CutMix.
    - Single operations: ``crop``, ``flip``, ``flip-vertical`` (upside down), ``colour`` (brightness, contrast,
      saturation and hue), ``randaugment``, ``mixup``, ``cutmix``, ``erasing``. They can be joined with each other and
      with a preset, whose strength is then kept where it is the larger one.

    The three presets flip left and right. **Digits, letters and whatever else differs from its mirror image want
    single operations instead**, such as ``crop erasing``. RandAugment turns by up to 27 degrees but never flips.

    Raises:
      InputError: for an unknown name, and for ``none`` beside another one.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        check_choice("augmentation", name, NAMES)
    if "none" in names and set(names) != {"none"}:
        others = ", ".join(name for name in names if name != "none")
        raise InputError(f"the augmentations are 'none' and {others}; expected none alone, or the others without it")
    strengths: dict[str, float] = {}
    for name in names:
        for operation, strength in NAMES[name].items():
            strengths[operation] = max(strength, strengths.get(operation, 0))
    return Augmentation(tuple((name, strengths[name]) for name in (*PER_IMAGE, *MIXES) if name in strengths))


def augment(
    augmentation: Augmentation,
    images: jax.Array,
    key: jax.Array,
    weights: jax.Array,
    maps: jax.Array | None = None,
) -> Augmented:
    """A batch with each image changed at random; a pure function, to be used under jit and vmap.

    All draws of an example come from `key`, its row and the operation: they are the same however far the batch is
    padded and whichever other operations there are. (Which example is mixed in depends on how many real ones there
    are.)

    Args:
      augmentation: what to do.
      images: ``float32[batch, height, width, channels]`` in 0 to 1, not yet normalised. Saturation and hue are changed
        where there are 3 channels, everything else with any number of them.
      key: of this step, and under pmap of this device.
      weights: ``float32[batch]``, 0 for the rows that only pad; the real rows come first.
      maps: ``[batch, height, width, …]``, what belongs to the pixels, such as their classes: it moves as they do, with
        the nearest value taken where images are interpolated, and `VOID` from beyond the border.

    Returns:
      The changed images, clipped to 0 to 1, and what was mixed into each.
    """
    rows = jnp.arange(len(images), dtype=jnp.int32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
    strengths = dict(augmentation.operations)
    for name, (purpose, operation) in PER_IMAGE.items():
        if name in strengths:
            images = _each(operation, purpose, strengths[name])(images, keys)
    if maps is not None:
        maps = _moved(maps, keys, strengths)
    partner, share = rows, jnp.ones(len(images), jnp.float32)
    if alphas := {name: strengths[name] for name in MIXES if name in strengths}:
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, MIXING)
        images, partner, share = mix(images, keys, weights > 0, **alphas)
    return Augmented(jnp.clip(images, 0, 1) if strengths else images, partner, share, maps)


def _moved(maps: jax.Array, keys: jax.Array, strengths: dict[str, float]) -> jax.Array:
    """`maps` moved as images are with these keys: an image of places goes through the same, and says what to take."""
    height, width = maps.shape[1:3]
    rows, columns = jnp.meshgrid(jnp.arange(height, dtype=jnp.float32), jnp.arange(width), indexing="ij")
    places = jnp.broadcast_to(jnp.stack([rows, columns], -1), (*maps.shape[:3], 2))
    for name, (purpose, _) in PER_IMAGE.items():
        if name in strengths and name in MOVES:
            places = _each(MOVES[name], purpose, strengths[name])(places, keys)
    row, column = (jnp.floor(places[..., i] + 0.5).astype(jnp.int32) for i in (0, 1))
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
    moved = jax.vmap(lambda one, at: one.reshape(height * width, *one.shape[2:])[at])(maps, place)
    return jnp.where(inside.reshape(*inside.shape, *(1,) * (maps.ndim - 3)), moved, jnp.asarray(VOID, maps.dtype))


def _each(
    operation: Callable[[jax.Array, jax.Array, float], jax.Array], purpose: int, strength: float
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`operation` for every image of a batch with a key of its own."""
    return jax.vmap(lambda image, key: operation(image, jax.random.fold_in(key, purpose), strength))
