"""Changes of one image ``float32[height, width, channels]`` in 0 to 1, each with a key and a strength."""

import math

import jax
import jax.numpy as jnp

SMALL = 64  # pixels of the longer side, up to which an image is shifted rather than zoomed into
CROP_ASPECT = 4 / 3
ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = 1 / 0.3


def crop(image: jax.Array, key: jax.Array, strength: float) -> jax.Array:
    """A random part of the image, in the image's size.

    Up to `SMALL` pixels: shifted by up to an eighth of each side, rounded down, with its reflection at the borders
    (the usual augmentation of CIFAR; He et al. 2016, arXiv:1512.03385, section 4.2, pad with zeros). Larger images: a
    rectangle of at least 1 - `strength` of the area and an aspect of 3/4 to 4/3, bilinearly resized (Szegedy et al.
    2015, arXiv:1409.4842, section 6, from 8 % of the area).
    """
    import dm_pix

    height, width, _ = image.shape
    if max(height, width) <= SMALL:
        pads = ((height // 8,) * 2, (width // 8,) * 2, (0, 0))
        return dm_pix.random_crop(key, jnp.pad(image, pads, mode="reflect"), image.shape)
    top, left, tall, wide = rectangle(key, height, width, (1 - strength, 1), CROP_ASPECT)
    scale = jnp.stack([height / tall, width / wide])
    # two small matrix products rather than a gather; a part is never larger than the whole, so nothing to antialias
    return jax.image.scale_and_translate(
        image, image.shape, (0, 1), scale, -scale * jnp.stack([top, left]), "linear", antialias=False
    )


def rectangle(
    key: jax.Array, height: int, width: int, area: tuple[float, float], aspect: float
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Top, left, height and width, in pixels and fractions of them, of a random rectangle within an image.

    Its share of the area is uniform in `area`. The logarithm of height / width is uniform between those of 1 / `aspect`
    and `aspect`, as far as a rectangle of that area fits: where the sources draw again until one does, a mapped
    program would wait for the slowest image. All positions within the image are equally likely.
    """
    draws = jax.random.uniform(key, (4,))
    pixels = height * width * (area[0] + (area[1] - area[0]) * draws[0])
    tallest, widest = jnp.log(height * height / pixels), jnp.log(width * width / pixels)
    low, high = (jnp.clip(bound, -widest, tallest) for bound in (-math.log(aspect), math.log(aspect)))
    stretch = jnp.exp((low + (high - low) * draws[1]) / 2)
    tall = jnp.minimum(jnp.sqrt(pixels) * stretch, height)
    wide = jnp.minimum(jnp.sqrt(pixels) / stretch, width)
    return (height - tall) * draws[2], (width - wide) * draws[3], tall, wide


def within(height: int, width: int, top: jax.Array, left: jax.Array, tall: jax.Array, wide: jax.Array) -> jax.Array:
    """``bool[height, width, 1]``: the pixels whose centres lie in a rectangle."""
    rows, columns = jnp.arange(height)[:, None, None] + 0.5, jnp.arange(width)[None, :, None] + 0.5
    return (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)


def flip(image: jax.Array, key: jax.Array, strength: float) -> jax.Array:
    """Left and right exchanged, with probability `strength`."""
    import dm_pix

    return jnp.where(jax.random.bernoulli(key, strength), dm_pix.flip_left_right(image), image)


def flip_vertical(image: jax.Array, key: jax.Array, strength: float) -> jax.Array:
    """Upside down, with probability `strength`."""
    return jnp.where(jax.random.bernoulli(key, strength), image[::-1], image)


def colour(image: jax.Array, key: jax.Array, strength: float) -> jax.Array:
    """Brightness, contrast and, with 3 channels, saturation times a factor of 1 - `strength` to 1 + `strength` each."""
    factors = jax.random.uniform(key, (3,), minval=1 - strength, maxval=1 + strength)
    image = blend(black(image), image, factors[0])
    image = blend(mean_grey(image), image, factors[1])
    return blend(grey(image), image, factors[2])


def hue(image: jax.Array, key: jax.Array, strength: float) -> jax.Array:
    """The hue of an image of 3 channels turned by up to `strength` of the circle either way; others as they are."""
    import dm_pix

    if image.shape[-1] != 3:
        return image
    return dm_pix.adjust_hue(image, jax.random.uniform(key, (), minval=-strength, maxval=strength))


def erase(image: jax.Array, key: jax.Array, strength: float) -> jax.Array:
    """With probability `strength` a random rectangle becomes noise.

    Its area is 2 to 40 % of the image, its aspect 0.3 to 1 / 0.3; every value in it is one of the 256 levels, each as
    likely (Zhong et al. 2020, arXiv:1708.04896: better than a constant).
    """
    height, width, _ = image.shape
    erased = within(height, width, *rectangle(jax.random.fold_in(key, 0), height, width, ERASED_AREA, ERASED_ASPECT))
    erased &= jax.random.bernoulli(jax.random.fold_in(key, 1), strength)
    noise = jax.random.bits(jax.random.fold_in(key, 2), image.shape, jnp.uint8)
    return jnp.where(erased, noise / 255, image)


# As in Pillow's ImageEnhance, an enhanced image lies on the line from a plain one through itself.


def blend(plain: jax.Array, image: jax.Array, factor: jax.Array) -> jax.Array:
    """`plain` for a `factor` of 0, `image` for 1, further away from `plain` above; within 0 to 1."""
    return jnp.clip(plain + factor * (image - plain), 0, 1)


def black(image: jax.Array) -> jax.Array:
    """The plain image of brightness."""
    return jnp.zeros_like(image)


def mean_grey(image: jax.Array) -> jax.Array:
    """The plain image of contrast: one value, the mean luminance, or without 3 channels the mean of all values."""
    return jnp.broadcast_to(grey(image).mean(), image.shape)


def grey(image: jax.Array) -> jax.Array:
    """The plain image of saturation: the luminance of ITU-R 601 in all channels; `image` if these are not 3."""
    import dm_pix

    if image.shape[-1] != 3:
        return image
    return jnp.broadcast_to(dm_pix.rgb_to_grayscale(image, keep_dims=False), image.shape)


def smooth(image: jax.Array) -> jax.Array:
    """The plain image of sharpness: means over 3×3 pixels of which the middle one counts 5 times; the border stays.

    Sums of shifted images: convolutions are slow under vmap and in loops.
    """
    height, width, _ = image.shape
    if min(height, width) < 3:
        return image
    rows = image[:-2] + image[1:-1] + image[2:]
    box = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return image.at[1:-1, 1:-1].set((box + 4 * image[1:-1, 1:-1]) / 13)
