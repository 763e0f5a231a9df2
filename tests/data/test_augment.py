"""Augmentation is checked against numpy, Pillow and colorsys, and against what an image must become in theory."""

import colorsys
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from jaxdl.data.augment import MIXING, NAMES, PER_IMAGE, Augmentation, augment, make_augmentation
from jaxdl.data.augment.images import black, blend, grey, mean_grey, rectangle, smooth
from jaxdl.data.augment.randaugment import OPERATIONS, apply_operation
from jaxdl.data.preprocessing import ImagePreprocessing, RawPreprocessing, TablePreprocessing
from jaxdl.errors import InputError


def stored(seed, *shape):
    """Images as files hold them: multiples of 1/255, smooth enough to be looked at, with all of the range."""
    random = np.random.default_rng(seed)
    levels = random.integers(0, 256, shape)
    return (levels / 255).astype(np.float32)


jitted = jax.jit(augment, static_argnums=0)


def run(names, images, seed=0, weights=None):
    weights = np.ones(len(images), np.float32) if weights is None else np.asarray(weights, np.float32)
    return jax.tree.map(np.asarray, jitted(make_augmentation(names), images, jax.random.key(seed), weights))


def likely(count, total, probability):
    """Whether a count lies within 5 standard deviations of the binomial distribution."""
    return abs(count - total * probability) < 5 * np.sqrt(total * probability * (1 - probability))


def to_pillow(image):
    return Image.fromarray(np.round(np.asarray(image) * 255).astype(np.uint8))


def from_pillow(image):
    return np.asarray(image, np.float32) / 255


# Names


def test_names_make_hashable_augmentations():
    assert make_augmentation("none") == make_augmentation(()) == Augmentation()
    assert make_augmentation(["flip", "crop"]) == make_augmentation(("crop", "flip", "crop"))
    assert len({make_augmentation(name) for name in NAMES}) == len(NAMES)
    assert dict(make_augmentation(("standard", "mixup")).operations) == {**NAMES["standard"], "mixup": 0.2}
    assert dict(make_augmentation(("light", "crop")).operations)["crop"] == 0.65
    assert dict(make_augmentation("standard").operations).keys() == {"crop", "flip", "colour"}
    strong = {"crop", "flip", "randaugment", "mixup", "cutmix", "erasing"}
    assert dict(make_augmentation("strong").operations).keys() == strong


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("standart", "'standart'.*'standard'"),
        (("flip", "color"), "'color'.*'colour'"),
        (("none", "flip"), "'none' and flip"),
    ],
)
def test_unknown_names_are_refused(names, said):
    with pytest.raises(InputError, match=said):
        make_augmentation(names)


def test_only_images_are_augmented():
    ImagePreprocessing((8, 8, 1)).check_augmentation(make_augmentation("strong"))
    others = TablePreprocessing((4,)), TablePreprocessing((8, 8, 3)), RawPreprocessing((("ids", (12,), "uint8"),))
    for preprocessing in others:
        preprocessing.check_augmentation(make_augmentation("none"))
        with pytest.raises(InputError, match=f"{preprocessing.describe()}; --augment"):
            preprocessing.check_augmentation(make_augmentation("flip"))


def test_dm_pix_is_not_needed_to_import():
    code = "import sys; sys.modules['dm_pix'] = None; import jaxdl, jaxdl.data.augment"
    subprocess.run([sys.executable, "-c", code], check=True)


# What holds for all of them


def test_none_changes_nothing():
    images = stored(0, 5, 8, 8, 3) * 2 - 0.5  # not even clipped
    found = run("none", images)
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.partner, np.arange(5))
    np.testing.assert_array_equal(found.share, 1)


@pytest.mark.parametrize(
    "shape", [(24, 40, 4), *(pytest.param(s, marks=pytest.mark.slow) for s in ((8, 8, 1), (96, 72, 3), (1, 1, 3)))]
)
def test_everything_stays_an_image(shape):
    images = stored(1, 12, *shape)
    found = run("strong", images)
    assert found.images.shape == images.shape
    assert found.images.dtype == found.share.dtype == np.float32
    assert found.partner.dtype == np.int32
    assert np.isfinite(found.images).all()
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    assert (found.share >= 0).all()
    assert (found.share <= 1).all()
    if min(shape[:2]) > 3:
        assert (found.images != images).any((1, 2, 3)).all()


@pytest.mark.parametrize("names", ["standard", pytest.param("strong", marks=pytest.mark.slow)])
def test_alone_jitted_and_mapped_over_folds_agree(names):
    folds, chosen = 3, make_augmentation(names)
    images, weights = stored(2, folds, 6, 16, 16, 3), np.ones((folds, 6), np.float32)
    weights[1, 4:] = 0
    keys = jax.random.split(jax.random.key(7), folds)
    call = lambda images, key, weights: augment(chosen, images, key, weights)  # noqa: E731
    mapped = jax.jit(jax.vmap(call))(images, keys, weights)
    for fold in range(folds):
        alone = call(jnp.asarray(images[fold]), keys[fold], jnp.asarray(weights[fold]))
        for one in (alone, jitted(chosen, images[fold], keys[fold], weights[fold])):
            np.testing.assert_allclose(one.images, mapped.images[fold], atol=2e-6)
            np.testing.assert_array_equal(one.partner, mapped.partner[fold])
            np.testing.assert_allclose(one.share, mapped.share[fold], atol=1e-6)
    assert not np.allclose(mapped.images[0] - images[0], mapped.images[2] - images[2])


@pytest.mark.slow
@pytest.mark.parametrize("real", [0, 1, 5])
def test_padding_changes_no_real_example(real):
    images = stored(3, 8, 16, 16, 3)
    images[real:] = np.nan
    padded = run("strong", images, weights=np.arange(8) < real)
    other = run("strong", np.concatenate([images[:real], stored(4, 2, 16, 16, 3)]), weights=np.arange(real + 2) < real)
    np.testing.assert_allclose(padded.images[:real], other.images[:real], atol=1e-6)
    assert np.isfinite(padded.images[:real]).all()
    np.testing.assert_array_equal(padded.partner[:real], other.partner[:real])
    assert (padded.partner[:real] < max(real, 1)).all()
    np.testing.assert_array_equal(padded.share[:real], other.share[:real])
    np.testing.assert_array_equal(padded.share[real:], 1)
    np.testing.assert_array_equal(padded.partner[real:], np.arange(real, 8))


@pytest.mark.slow
def test_an_operation_does_not_change_the_draws_of_another():
    assert len({MIXING, *(purpose for purpose, _ in PER_IMAGE.values())}) == len(PER_IMAGE) + 1
    images = stored(5, 40, 16, 16, 3)
    cropped, erased = run(("crop", "flip"), images), run(("crop", "flip", "erasing"), images)
    same = (cropped.images == erased.images).all(-1)
    assert 0.6 < same.mean() < 1
    assert 5 < same.all((1, 2)).sum() < 35
    mixed, both = run("mixup", images), run(("flip", "mixup"), images)
    np.testing.assert_array_equal(mixed.share, both.share)
    np.testing.assert_array_equal(mixed.partner, both.partner)


def test_rows_steps_and_seeds_draw_anew():
    images = np.repeat(stored(6, 1, 32, 32, 3), 20, axis=0)
    one, two = run("crop", images, seed=0).images, run("crop", images, seed=1).images
    assert len({image.tobytes() for image in one}) > 10
    assert not np.array_equal(one, two)


# One image at a time


def test_flips_are_numpys_and_half_of_the_images():
    images = stored(7, 2000, 3, 4, 2)
    found = run("flip", images).images
    flipped = (found == images[:, :, ::-1]).all((1, 2, 3))
    assert (flipped | (found == images).all((1, 2, 3))).all()
    assert likely(flipped.sum(), 2000, 0.5)
    over_keys = jax.vmap(lambda key: augment(make_augmentation("flip"), images[:1], key, jnp.ones(1)).images[0])
    found = np.asarray(over_keys(jax.random.split(jax.random.key(3), 1000)))
    assert likely((found != images[0]).any((1, 2, 3)).sum(), 1000, 0.5)


@pytest.mark.parametrize("shape", [(8, 8, 1), (16, 24, 3)])
def test_small_images_are_shifted_with_their_reflection(shape):
    height, width, _ = shape
    images = stored(8, 200, *shape)
    pads = [(0, 0), (height // 8,) * 2, (width // 8,) * 2, (0, 0)]
    padded, found = np.pad(images, pads, mode="reflect"), run("crop", images).images
    offsets = [(y, x) for y in range(2 * (height // 8) + 1) for x in range(2 * (width // 8) + 1)]
    fits = np.array([(padded[:, y : y + height, x : x + width] == found).all((1, 2, 3)) for y, x in offsets])
    assert (fits.sum(0) == 1).all()
    for count in fits.sum(1):
        assert likely(count, 200, 1 / len(offsets))


def test_large_images_are_resized_from_a_rectangle():
    number, height, width = 40, 72, 96
    rows, columns = np.mgrid[:height, :width] + 0.5
    # a ramp says where each pixel came from
    ramps = np.repeat(np.stack([rows / height, columns / width], -1)[None].astype(np.float32), number, 0)
    textures = stored(9, number, height, width, 2)
    where, found = run("crop", ramps, seed=5).images, run("crop", textures, seed=5).images
    middle = where[:, height // 2, width // 2] * (height, width)
    tall = (where[:, 3 * height // 4, 0, 0] - where[:, height // 4, 0, 0]) * 2 * height
    wide = (where[:, 0, 3 * width // 4, 1] - where[:, 0, width // 4, 1]) * 2 * width
    top = middle[:, 0] - tall * (0.5 + 0.5 / height)
    left = middle[:, 1] - wide * (0.5 + 0.5 / width)
    share, aspect = tall * wide / (height * width), tall / wide
    assert (share > 0.349).all()
    assert (share < 1.001).all()
    assert share.min() < 0.45
    assert share.max() > 0.9
    assert (aspect > 0.749).all()
    assert (aspect < 1.334).all()
    assert np.ptp(top) > 10
    assert np.ptp(left) > 10
    for i in range(number):
        box = np.clip((left[i], top[i], left[i] + wide[i], top[i] + tall[i]), 0, (width, height) * 2)
        for channel in range(2):
            plane = Image.fromarray(textures[i, ..., channel])
            expected = plane.resize((width, height), Image.Resampling.BILINEAR, box=tuple(box))
            np.testing.assert_allclose(found[i, ..., channel], expected, atol=2e-3)


@pytest.mark.parametrize("shape", [(50, 50), (100, 10), (10, 400)])
def test_rectangles_lie_within(shape):
    height, width = shape
    draw = jax.vmap(lambda key: rectangle(key, height, width, (0.1, 0.9), 2.0))
    top, left, tall, wide = map(np.asarray, draw(jax.random.split(jax.random.key(0), 2000)))
    assert min(top.min(), left.min()) >= 0
    assert (top + tall).max() <= height + 1e-3
    assert (left + wide).max() <= width + 1e-3
    area = tall * wide / (height * width)
    np.testing.assert_allclose(
        np.quantile(area, [0.01, 0.25, 0.5, 0.75, 0.99]), [0.108, 0.3, 0.5, 0.7, 0.892], atol=0.04
    )
    if height == width:
        assert np.abs(np.log(tall / wide)).max() < np.log(2) + 1e-3
        assert abs(np.log(tall / wide).mean()) < 0.03


def test_erasing_fills_rectangles_with_noise():
    images = np.full((400, 40, 50, 3), 2.0, np.float32) * 0.25
    found = run("erasing", images).images
    changed = (found != 0.5).any(-1)
    erased = changed.any((1, 2))
    assert likely(erased.sum(), 400, 0.5)
    values = []
    for mask, image in zip(changed[erased], found[erased], strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 0.01 < mask.mean() < 0.43
        values.append(image[mask].ravel())
    assert changed[erased].mean() == pytest.approx(0.21, abs=0.05)
    values = np.concatenate(values)
    assert values.mean() == pytest.approx(0.5, abs=0.01)
    assert values.std() == pytest.approx(12**-0.5, abs=0.01)


# Colours


@pytest.mark.parametrize(
    ("plain", "enhance"),
    [
        (black, ImageEnhance.Brightness),
        (mean_grey, ImageEnhance.Contrast),
        (grey, ImageEnhance.Color),
        (smooth, ImageEnhance.Sharpness),
    ],
)
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
def test_enhancements_are_pillows(plain, enhance, factor):
    image = jnp.asarray(stored(10, 20, 30, 3))
    expected = from_pillow(enhance(to_pillow(image)).enhance(factor))
    np.testing.assert_allclose(blend(plain(image), image, factor), expected, atol=2.01 / 255)


def test_colour_draws_three_factors():
    number = 300

    def applied(*pixels):
        images = np.tile(np.array(pixels, np.float32)[None, None], (number, 2, 1, 1))
        return run("colour", images, seed=4).images[:, 0]

    # the hue does not change the grey, and a factor is read off where the others do nothing
    brightness = applied((0.4,) * 3)[:, 0, 0] / 0.4
    two = applied((0.3,) * 3, (0.5,) * 3)
    contrast = (two[:, 1, 0] - two[:, 0, 0]) / 0.2 / brightness
    coloured = applied((0.5, 0.4, 0.4))[:, 0]
    saturation = np.ptp(coloured, -1) / 0.1 / brightness / contrast  # which spreads colours too
    for factor in (brightness, contrast, saturation):
        assert 0.599 < factor.min() < 0.63
        assert 1.37 < factor.max() < 1.401
        assert factor.mean() == pytest.approx(1, abs=0.07)
    assert abs(np.corrcoef([brightness, contrast, saturation])[np.triu_indices(3, 1)]).max() < 0.25


def test_hue_turns_as_colorsys_says():
    texture = stored(11, 1, 6, 6, 3)
    images = np.concatenate([texture, np.broadcast_to(np.float32([1, 0, 0]), texture.shape)], axis=2)
    chosen = Augmentation((("hue", 0.1),))
    deltas = []
    for seed in range(30):
        found = np.asarray(jitted(chosen, images, jax.random.key(seed), jnp.ones(1)).images[0])
        delta = (colorsys.rgb_to_hsv(*found[0, -1])[0] + 0.5) % 1 - 0.5  # what was red
        for before, after in zip(texture[0].reshape(-1, 3), found[:, :6].reshape(-1, 3), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*before)
            np.testing.assert_allclose(after, colorsys.hsv_to_rgb((hue + delta) % 1, saturation, value), atol=1e-4)
        deltas.append(delta)
    assert -0.1 <= min(deltas) < -0.05
    assert 0.05 < max(deltas) <= 0.1


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_without_three_channels_keep_their_colours(channels):
    images = stored(12, 30, 4, 4, channels) * 0.3 + 0.3
    found = run("colour", images).images
    # brightness and contrast are one straight line for all values of an image
    for before, after in zip(images, found, strict=True):
        slope, offset = np.polyfit(before.ravel(), after.ravel(), 1)
        np.testing.assert_allclose(slope * before + offset, after, atol=1e-4)


# RandAugment


def shear(x=0.0, y=0.0, right=0.0, down=0.0):
    """Pillow's affine map for a shear about the middle, or a shift in shares of the side."""

    def transform(image):
        width, height = image.size
        matrix = (1, x, right * width - x * height / 2, y, 1, down * height - y * width / 2)
        return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=GREY)

    return transform


GREY = (128, 128, 128)
AT = {
    "identity": lambda level: lambda image: image,
    "autocontrast": lambda level: ImageOps.autocontrast,
    "equalize": lambda level: ImageOps.equalize,
    "posterize": lambda level: lambda image: ImageOps.posterize(image, 8 - round(4 * abs(level))),
    "solarize": lambda level: lambda image: ImageOps.solarize(image, int(np.ceil(255 * (1 - abs(level)) - 1e-6))),
    "rotate": lambda level: lambda image: image.rotate(30 * level, Image.Resampling.NEAREST, fillcolor=GREY),
    "shear-x": lambda level: shear(x=0.3 * level),
    "shear-y": lambda level: shear(y=0.3 * level),
    "translate-x": lambda level: shear(right=0.45 * level),
    "translate-y": lambda level: shear(down=0.45 * level),
    "brightness": lambda level: lambda image: ImageEnhance.Brightness(image).enhance(1 + 0.9 * level),
    "contrast": lambda level: lambda image: ImageEnhance.Contrast(image).enhance(1 + 0.9 * level),
    "colour": lambda level: lambda image: ImageEnhance.Color(image).enhance(1 + 0.9 * level),
    "sharpness": lambda level: lambda image: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * level),
}
EXACT = ("identity", "equalize", "posterize", "solarize")


def test_all_operations_have_a_pillow_equivalent():
    assert set(AT) == set(OPERATIONS)
    assert len(OPERATIONS) == 14


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("level", [0.9, -0.9, 0.35])
def test_randaugment_operations_are_pillows(operation, level):
    image = stored(13, 33, 46, 3) ** 1.5 * 0.7 + 0.1  # of uneven histogram
    image = (np.round(image * 255) / 255).astype(np.float32)
    expected = from_pillow(AT[operation](level)(to_pillow(image)))
    found = np.asarray(jax.jit(apply_operation)(image, OPERATIONS.index(operation), level))
    if operation not in ("identity", "posterize", "solarize") or abs(level) > 0.5:
        assert operation == "identity" or np.abs(expected - image).max() > 0.02
    tolerance = 1e-5 if operation in EXACT else 2.01 / 255
    differ = (np.abs(found - expected) > tolerance).any(-1)
    # of moved images, those pixels may differ whose origin lies between two: Pillow counts in 65536ths
    assert differ.mean() <= (0.01 if operation in ("rotate", "shear-x", "shear-y") else 0)


def test_randaugment_draws_all_operations():
    images = np.repeat(stored(14, 1, 24, 24, 3), 600, axis=0)
    found = run("randaugment", images).images
    results = {image.tobytes() for image in found}
    assert len(results) > 80  # of 14 x 14 pairs, most with two signs each
    # unchanged by two of the same kind: identity twice is 1 in 196
    assert likely((found == images).all((1, 2, 3)).sum(), 600, 1 / 196)


@pytest.mark.slow
def test_tone_operations_leave_a_plain_image_alone():
    image = jnp.full((20, 20, 3), 0.6)
    for operation in ("autocontrast", "equalize", "contrast", "colour", "sharpness"):
        # the weights of luminance add up to 0.9999
        np.testing.assert_allclose(apply_operation(image, OPERATIONS.index(operation), 0.9), image, atol=1e-4)


# Mixing


@pytest.mark.parametrize(
    "names", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("mixup", "cutmix")), ("mixup", "cutmix")]
)
def test_partners_are_the_other_real_examples(names):
    weights = np.arange(9) < 6
    reached = np.zeros((9, 9), int)
    for seed in range(100):
        found = run(names, stored(15, 9, 4, 4, 1), seed=seed, weights=weights)
        mixed = found.share < 1
        assert (found.partner[~mixed] == np.arange(9)[~mixed]).all()
        np.add.at(reached, (np.flatnonzero(mixed), found.partner[mixed]), 1)
    others = ~np.eye(6, dtype=bool)
    assert (reached[:6, :6][others] > 3).all()
    assert reached.sum() == reached[:6, :6][others].sum()


def test_mixup_is_a_convex_combination():
    images = stored(16, 1000, 3, 3, 3)
    found = run("mixup", images)
    share = found.share[:, None, None, None]
    np.testing.assert_allclose(found.images, share * images + (1 - share) * images[found.partner], atol=1e-6)
    # Beta(0.2, 0.2): mean 1/2, variance 1 / (4 (2 × 0.2 + 1))
    assert found.share.mean() == pytest.approx(0.5, abs=0.06)
    assert found.share.var() == pytest.approx(1 / 5.6, abs=0.02)


def test_cutmix_shares_are_counted_pixels_of_a_rectangle():
    number, height, width = 500, 20, 28
    images = np.broadcast_to(
        (np.arange(number) / number).astype(np.float32)[:, None, None, None], (number, height, width, 1)
    )
    found = run("cutmix", images)
    share, areas = [], []
    for i in range(number):
        pasted = found.images[i, ..., 0] != images[i, ..., 0]
        share.append(1 - pasted.mean())
        np.testing.assert_array_equal(found.images[i, ..., 0][pasted], images[found.partner[i]][0, 0, 0])
        rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
        if pasted.any():
            assert pasted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            if min(rows[0], columns[0]) > 0 and rows[-1] < height - 1 and columns[-1] < width - 1:
                areas.append(len(rows) / height - len(columns) / width)  # the image's own aspect
    np.testing.assert_allclose(found.share, share, atol=1e-6)
    assert len(areas) > 30
    assert np.abs(areas).max() < 0.09
    # half the side and a uniform centre: the expected area left after cutting, integrated numerically
    side = np.sqrt((np.arange(1000) + 0.5) / 1000)[:, None]
    centre = ((np.arange(1000) + 0.5) / 1000)[None]
    kept = (np.minimum(centre + side / 2, 1) - np.maximum(centre - side / 2, 0)).mean(1)
    assert found.share.mean() == pytest.approx(1 - np.square(kept).mean(), abs=0.04)


@pytest.mark.slow
def test_each_example_takes_mixup_or_cutmix():
    number = 600
    images = np.broadcast_to((np.arange(number) / number).astype(np.float32)[:, None, None, None], (number, 10, 10, 1))
    found = run(("mixup", "cutmix"), images)
    alone = {name: run(name, images) for name in ("mixup", "cutmix")}
    is_one = {name: (found.images == one.images).all((1, 2, 3)) for name, one in alone.items()}
    assert (is_one["mixup"] | is_one["cutmix"]).all()
    np.testing.assert_allclose(found.share[is_one["mixup"]], alone["mixup"].share[is_one["mixup"]], atol=1e-6)
    differing = is_one["mixup"] != is_one["cutmix"]
    assert likely(is_one["mixup"][differing].sum(), differing.sum(), 0.5)


# what belongs to pixels moves as they do


def _ramps(height, width):
    """An image of 4 channels: row, column, and what a pixel alone holds; and the same as maps."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.stack([rows, columns], -1).astype(np.uint8)


@pytest.mark.parametrize("names", ["flip", "flip-vertical", ("flip", "flip-vertical", "crop"), "randaugment", "light"])
def test_maps_move_as_their_images_do(names):
    """Up to 64 pixels every move takes whole pixels, so that the image itself says where each came from."""
    height, width, count = 13, 17, 64
    places = _ramps(height, width)
    maps = jnp.asarray(np.broadcast_to(places, (count, height, width, 2)))
    images = maps / jnp.float32(255)
    moves = make_augmentation(names)
    if names == "randaugment":  # its colours would change what a pixel says
        images = images.at[..., 0].set(0.25)
        marks = np.random.default_rng(0).random((height, width)) < 0.5
        images = jnp.broadcast_to(
            jnp.asarray(np.where(marks, 0.2, 0.8), jnp.float32)[..., None], (count, height, width, 1)
        )
        maps = jnp.broadcast_to(jnp.asarray(marks.astype(np.uint8)), (count, height, width))
    found = augment(moves, images, jax.random.key(3), jnp.ones(count), maps)
    alone = augment(moves, images, jax.random.key(3), jnp.ones(count))
    np.testing.assert_array_equal(found.images, alone.images)
    if names != "randaugment":
        np.testing.assert_array_equal(found.maps, np.round(np.asarray(found.images) * 255))
        assert (np.asarray(found.maps) != np.asarray(maps)).any((1, 2, 3)).mean() > 0.3
        return
    moved, image = np.asarray(found.maps), np.asarray(found.images)[..., 0]
    agree = 0
    for one, marked in zip(image, moved, strict=True):
        inside = marked != 255
        values = [np.unique(np.round(one[inside & (marked == mark)], 3)) for mark in (0, 1)]
        agree += all(len(v) <= 1 for v in values)  # sharpness alone mixes neighbours
    assert agree >= 0.7 * count
    assert (moved != np.asarray(maps)).any((1, 2)).mean() > 0.2


def test_maps_of_large_images_are_cut_out_where_the_image_is():
    height, width, count = 80, 100, 16
    columns = np.broadcast_to(np.arange(width), (height, width))
    maps = jnp.asarray(np.broadcast_to(columns.astype(np.uint8), (count, height, width)))
    images = jnp.asarray(np.broadcast_to((columns / 255).astype(np.float32)[..., None], (count, height, width, 1)))
    found = augment(make_augmentation("crop"), images, jax.random.key(0), jnp.ones(count), maps)
    off = np.abs(np.asarray(found.images)[..., 0] * 255 - np.asarray(found.maps))
    assert off[:, 2:-2, 2:-2].max() <= 0.51  # the nearest whole pixel
    assert (np.asarray(found.maps) != np.asarray(maps)).mean() > 0.5
