"""Large images tile by tile: against networks whose answer for a pixel does not depend on the tile."""

import itertools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.training.tiles import OVERLAP, corners

RANDOM = np.random.default_rng(0)


class ByPixel(nn.Module):
    """Looks at one pixel alone."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(jnp.tanh(nn.Dense(4)(x)))


class Images(data.Source):
    """Images of any sizes."""

    name = "images"

    def __init__(self, *sizes):
        self.x = [RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index]}


@pytest.fixture(scope="module")
def trained():
    x = RANDOM.integers(0, 256, (8, 12, 16, 3), dtype=np.uint8)
    source = data.Arrays(x, x.argmax(-1).astype(np.uint8), ("red", "green", "blue"))
    return jaxdl.pretrain(jaxdl.wrap(ByPixel(), head="Dense_0"), source, jaxdl.Plan(epochs=30, learning_rate=0.03))


def whole(trained, image):
    """The answer for an image at once."""
    task, x = trained.task, trained.card.preprocessing.network_input(image[None])
    return {k: np.asarray(v[0]) for k, v in task.predict(trained.model.apply(trained.variables, x), {}).items()}


@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.slow), 64])
def test_images_of_any_size_get_a_map_of_their_own_size(trained, batch_size):
    images = Images((12, 16), (30, 41), (12, 17), (5, 60), (9, 4))
    found = jaxdl.predict(trained, images, batch_size=batch_size)
    for i, image in enumerate(images.x):
        expected = whole(trained, image)
        assert found.outputs["classes"][i].shape == image.shape[:2]
        assert (found.outputs["classes"][i] != expected["classes"]).mean() < 0.01  # rounding may turn a tie
        np.testing.assert_allclose(found.outputs["confidence"][i].astype(int), expected["confidence"], atol=1)
    assert len(found.predicted) == 5
    assert len(found.task.columns(found.outputs)["share:red"]) == 5


def test_images_of_one_other_size_come_as_arrays_and_are_scored(trained):
    x = RANDOM.integers(0, 256, (3, 20, 21, 3), dtype=np.uint8)
    source = data.Arrays(x, x.argmax(-1).astype(np.uint8), ("red", "green", "blue"))
    found = jaxdl.predict(trained, source)
    assert found.outputs["classes"].shape == (3, 20, 21)
    assert found.scores["pixel_accuracy"] == (found.outputs["classes"] == source.labels).mean() > 0.8


@pytest.mark.parametrize("side", [16, 17, 25, 64, 100, 333])
def test_tiles_cover_everything_and_overlap(side):
    tile = 16
    begins = corners(side, tile)
    assert (begins[0], begins[-1]) == (0, side - tile)
    assert all(0 < b - a <= tile * (1 - OVERLAP) for a, b in itertools.pairwise(begins))
    assert len(begins) <= (side - tile) / (tile * (1 - OVERLAP)) + 2


def test_a_constant_network_stays_constant_where_tiles_overlap(trained):
    """Whatever the weights of blending are, they sum to one."""
    flat = Images((40, 50))
    flat.x[0][:] = 77
    kept = jaxdl.predict(trained, flat).outputs
    assert np.ptp(kept["confidence"][0].astype(int)) <= 1


def test_grey_images_become_colours_as_those_of_the_networks_size_do(trained):
    grey = Images((12, 16), (40, 40))
    grey.x = [image[..., :1] for image in grey.x]
    colour = Images((12, 16), (40, 40))
    colour.x = [image.repeat(3, -1) for image in grey.x]
    one, two = (jaxdl.predict(trained, source).outputs["classes"] for source in (grey, colour))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_number_of_channels_is_refused(trained):
    bands = data.Arrays(np.zeros((1, 40, 40, 4), np.uint8))
    with pytest.raises(InputError, match="4 channels"):
        jaxdl.predict(trained, bands)


def test_members_of_an_ensemble_are_combined_image_by_image(trained):
    source = data.Arrays(RANDOM.integers(0, 256, (6, 12, 16, 3), dtype=np.uint8))
    source = data.Arrays(source.x, source.x.argmax(-1).astype(np.uint8), ("red", "green", "blue"))
    others = [jaxdl.finetune(trained, source, jaxdl.Plan(epochs=1, seed=seed)) for seed in (1, 2)]
    together = jaxdl.ensemble([trained, *others])
    images = Images((12, 16), (30, 41))
    found = together.predict(images).outputs
    for i in range(2):
        alone = [jaxdl.predict(one, images).outputs for one in (trained, *others)]
        kept = {key: jnp.stack([one[key][i] for one in alone])[:, None] for key in ("classes", "confidence")}
        expected = trained.task.combine(kept, jnp.ones((3, 1)))
        np.testing.assert_array_equal(found["classes"][i], expected["classes"][0])
