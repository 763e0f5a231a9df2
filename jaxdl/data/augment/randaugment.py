"""RandAugment (Cubuk et al. 2020, arXiv:1909.13719): a few of 14 operations, drawn for each image."""

import math

import jax
import jax.numpy as jnp

from jaxdl.data.augment.images import black, blend, grey, mean_grey, smooth

MOVES = ("rotate", "shear-x", "shear-y", "translate-x", "translate-y")
ENHANCES = ("brightness", "contrast", "colour", "sharpness")
OPERATIONS = ("identity", "autocontrast", "equalize", "posterize", "solarize", *MOVES, *ENHANCES)
LAYERS = 2  # N of the paper
LARGEST = 10.0  # the strength at which the following are reached
DEGREES, SHEAR, TRANSLATION, FACTOR, BITS = 30.0, 0.3, 0.45, 0.9, 4
NUDGE = 1e-3  # pixels
OUTSIDE = 0.5  # mid-grey comes in from beyond the border


def randaugment(image: jax.Array, key: jax.Array, strength: float) -> jax.Array:
    """`LAYERS` of the `OPERATIONS`, each as likely as the others, of magnitude `strength` of 10 (M of the paper)."""

    def one(layer: jax.Array, image: jax.Array) -> jax.Array:
        return apply_operation(image, *_drawn(layer, key, strength))

    # a loop, not because there are many: XLA would fuse the layers and compute the first again for each use (CPU: twice
    # the time)
    return jax.lax.fori_loop(0, LAYERS, one, image)


def move_as_randaugment(places: jax.Array, key: jax.Array, strength: float) -> jax.Array:
    """Places ``float32[height, width, 2]`` moved as `randaugment` moves an image; -1 where nothing comes from."""

    def one(layer: jax.Array, places: jax.Array) -> jax.Array:
        operation, level = _drawn(layer, key, strength)
        moves = jnp.isin(operation, jnp.array([OPERATIONS.index(name) for name in MOVES]))
        return jnp.where(moves, _moved(places, operation, level, outside=-1.0), places)

    return jax.lax.fori_loop(0, LAYERS, one, places)


def _drawn(layer: jax.Array, key: jax.Array, strength: float) -> tuple[jax.Array, jax.Array]:
    """The operation of a layer, and its level."""
    draw = jax.random.fold_in(key, layer)
    operation = jax.random.randint(jax.random.fold_in(draw, 0), (), 0, len(OPERATIONS))
    backwards = jax.random.bernoulli(jax.random.fold_in(draw, 1))
    return operation, jnp.where(backwards, -1, 1) * (strength / LARGEST)


def apply_operation(image: jax.Array, operation: jax.Array, level: jax.Array) -> jax.Array:
    """One operation of `OPERATIONS` by its number, at a level of -1 to 1.

    At a level of 1: 30 degrees anticlockwise; a shear of 0.3 or a shift by 0.45 of the side, about the image's middle,
    with the nearest pixel taken; factors of 1.9 (0.1 at -1); 4 bits left of 8; everything inverted by solarize.
    Posterize and solarize take the level without its sign. What needs colours leaves an image of other than 3 channels
    as it is.

    Under vmap all branches of a switch are computed for every image, so these are few: one gather serves the five that
    move pixels, and one line from a plain image through the image the four that enhance.
    """
    size = jnp.abs(level)
    made = {
        **dict.fromkeys(MOVES, _moved(image, operation, level)),
        **dict.fromkeys(ENHANCES, _enhanced(image, operation, level)),
        "autocontrast": _autocontrast(image),
        "equalize": _equalize(image),
        "posterize": _posterize(image, size),
        "solarize": _solarize(image, 1 - size),
    }
    return jnp.select([operation == OPERATIONS.index(name) for name in made], list(made.values()), image)


def _enhanced(image: jax.Array, operation: jax.Array, level: jax.Array) -> jax.Array:
    """A factor applied to brightness, contrast, colour or sharpness."""
    plains = {
        "brightness": black(image),
        "contrast": mean_grey(image),
        "colour": grey(image),
        "sharpness": smooth(image),
    }
    chosen = [operation == OPERATIONS.index(name) for name in plains]
    return blend(jnp.select(chosen, list(plains.values()), image), image, 1 + FACTOR * level)


def _moved(image: jax.Array, operation: jax.Array, level: jax.Array, outside: float = OUTSIDE) -> jax.Array:
    """Rotated, sheared or translated. Each pixel looks up where it came from, by one affine map."""
    height, width, channels = image.shape

    def amount(name: str, most: float) -> jax.Array:
        return jnp.where(operation == OPERATIONS.index(name), level * most, 0)

    angle = amount("rotate", math.radians(DEGREES))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y, x = jnp.arange(height)[:, None] + 0.5 - height / 2, jnp.arange(width)[None, :] + 0.5 - width / 2
    from_x = cos * x + (amount("shear-x", SHEAR) - sin) * y + amount("translate-x", TRANSLATION * width)
    from_y = cos * y + (amount("shear-y", SHEAR) + sin) * x + amount("translate-y", TRANSLATION * height)
    # where rounding would decide between two pixels, the nudge does: the same alone, under vmap and on each device
    column = jnp.floor(from_x + width / 2 + NUDGE).astype(jnp.int32)
    row = jnp.floor(from_y + height / 2 + NUDGE).astype(jnp.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
    return jnp.where(inside[..., None], image.reshape(-1, channels)[place], outside)


def _levels(image: jax.Array) -> jax.Array:
    """The 256 levels in which images are stored."""
    return jnp.round(jnp.clip(image, 0, 1) * 255).astype(jnp.int32)


def _solarize(image: jax.Array, threshold: jax.Array) -> jax.Array:
    import dm_pix

    return dm_pix.solarize(image, threshold)


def _posterize(image: jax.Array, size: jax.Array) -> jax.Array:
    """The highest bits of each level alone, 8 less up to `BITS` of them."""
    step = 2 ** jnp.round(BITS * size).astype(jnp.int32)
    return (_levels(image) // step * step) / 255


def _autocontrast(image: jax.Array) -> jax.Array:
    """The darkest value of each channel to 0, the lightest to 1; a channel of one value stays."""
    low, high = image.min((0, 1)), image.max((0, 1))
    return jnp.where(high > low, (image - low) / jnp.where(high > low, high - low, 1), image)


def _equalize(image: jax.Array) -> jax.Array:
    """Every channel with its levels about equally frequent, by the integer formula of Pillow's ImageOps.equalize.

    A level becomes the number of darker pixels, divided by a 255th of those that are not of the lightest level.
    """
    levels, channel = _levels(image), jnp.arange(image.shape[-1])
    histogram = jnp.zeros((image.shape[-1], 256), jnp.int32).at[channel, levels].add(1)
    darker = jnp.cumsum(histogram, axis=1) - histogram
    lightest = histogram[channel, levels.max((0, 1))]
    step = ((image.shape[0] * image.shape[1] - lightest) // 255)[:, None]
    table = jnp.clip((darker + step // 2) // jnp.maximum(step, 1), 0, 255) / 255
    return jnp.where(step[:, 0] > 0, table[channel, levels], image)
