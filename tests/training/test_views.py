"""Test-time augmentation, against predictions of mirror images that are averaged by hand."""

import dataclasses

import numpy as np
import pytest
from scipy.special import softmax

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.tasks import Task
from jaxdl.training.views import check_views
from jaxdl.weights.checkpoint import Checkpoint, from_model

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 6, 6, 1)).astype(np.uint8)
MIRRORED = {"flip": IMAGES[:, :, ::-1], "flip-vertical": IMAGES[:, ::-1], "both": IMAGES[:, ::-1, ::-1]}


@pytest.fixture(scope="module")
def checkpoint():
    preprocessing = data.ImagePreprocessing((6, 6, 1), mean=(0.5,), std=(0.25,))
    return from_model(jaxdl.create("mlp", 3, hidden=(8,)), preprocessing, ("a", "b", "c"))


def probabilities(checkpoint, images):
    logits = checkpoint.model.apply(checkpoint.variables, checkpoint.card.preprocessing.network_input(images))
    return softmax(np.asarray(logits, np.float64), 1)


@pytest.mark.parametrize(
    ("tta", "views"),
    [("flip", ["flip"]), (("flip-vertical", "flip"), ["flip", "flip-vertical", "both"]), (("flip", "flip"), ["flip"])],
)
def test_the_answer_is_the_mean_over_mirror_images(checkpoint, tta, views):
    expected = np.mean([probabilities(checkpoint, x) for x in (IMAGES, *(MIRRORED[view] for view in views))], 0)
    for batch_size in (64, 3):
        said = jaxdl.predict(checkpoint, data.arrays(IMAGES), tta=tta, batch_size=batch_size)
        np.testing.assert_allclose(said.probabilities, expected, atol=1e-6)
    plain = jaxdl.predict(checkpoint, data.arrays(IMAGES))
    np.testing.assert_allclose(plain.probabilities, probabilities(checkpoint, IMAGES), atol=1e-6)
    assert np.abs(plain.probabilities - expected).max() > 1e-3


class Places(Task):
    """What of an image lies where."""

    name = "places"
    METRICS = jaxdl.Classification.METRICS
    num_outputs = 3


def test_what_has_no_mirror_image_is_refused(checkpoint):
    with pytest.raises(InputError, match="Did you mean 'flip'"):
        jaxdl.predict(checkpoint, data.arrays(IMAGES), tta="flipp")
    table = from_model(jaxdl.create("mlp", 3, hidden=(2,)), data.TablePreprocessing((4,), (0.0,) * 4, (1.0,) * 4))
    with pytest.raises(InputError, match="no images"):
        jaxdl.predict(table, data.arrays(np.zeros((3, 4), np.float32)), tta="flip")
    maps = Checkpoint(checkpoint.model, checkpoint.variables, dataclasses.replace(checkpoint.card, task=Places()))
    with pytest.raises(InputError, match="belong to places"):
        check_views(maps, "flip")
    assert check_views(maps, ()) == ()
