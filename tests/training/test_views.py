"""Test-time augmentation, against predictions of mirror images that are averaged by hand."""

import dataclasses

import numpy as np
import pytest
from scipy.special import softmax

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.tasks import Segmentation, Task
from jaxdl.training.views import check_views, over_views
from jaxdl.weights.checkpoint import from_model

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


def test_an_ensemble_averages_over_members_and_mirror_images(checkpoint):
    other = from_model(checkpoint.model, checkpoint.card.preprocessing, ("a", "b", "c"), seed=1)
    members = [checkpoint, other]
    expected = np.mean([[probabilities(one, x) for x in (IMAGES, MIRRORED["flip"])] for one in members], (0, 1))
    said = jaxdl.ensemble(members).predict(data.arrays(IMAGES), tta="flip", batch_size=4)
    np.testing.assert_allclose(said.probabilities, expected, atol=1e-6)


def test_the_surer_view_names_the_class_of_a_pixel():
    """What is said of a mirror image is mirrored back; an ensemble of one network twice says the same."""
    images = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 1)).astype(np.uint8)
    preprocessing = data.ImagePreprocessing((16, 16, 1), mean=(0.5,), std=(0.25,))
    made = from_model(jaxdl.create("unet", 3, depth=1, width=4), preprocessing, ("a", "b", "c"))
    card = dataclasses.replace(made.card, task=Segmentation(("a", "b", "c")))
    checkpoint = dataclasses.replace(made, card=card)
    one, two = (jaxdl.predict(checkpoint, data.arrays(x)).outputs for x in (images, images[:, :, ::-1]))
    two = {name: maps[:, :, ::-1] for name, maps in two.items()}
    confidences = np.stack([one["confidence"], two["confidence"]]).astype(int)
    surer = np.where(confidences[0] >= confidences[1], one["classes"], two["classes"])
    told = (one["classes"] == two["classes"]) | (confidences[0] != confidences[1])
    assert (surer != one["classes"]).any()
    for network in (checkpoint, None):
        if network is None:
            said = jaxdl.ensemble([checkpoint, checkpoint]).predict(data.arrays(images), tta="flip").outputs
        else:
            said = jaxdl.predict(network, data.arrays(images), tta="flip").outputs
        np.testing.assert_array_equal(said["classes"][told], surer[told])
        same = one["classes"] == two["classes"]
        np.testing.assert_allclose(said["confidence"][same], confidences.mean(0)[same], atol=0.5)


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
    said = over_views(Places(), lambda _, x: (x, np.ones(len(x), bool)), ["flip"])
    with pytest.raises(InputError, match="cannot be turned back for places"):
        said({}, IMAGES)
    with pytest.raises(InputError, match="tile by tile"):
        check_views(checkpoint.card.preprocessing, "flip", tiled=True)
    assert check_views(table.card.preprocessing, (), tiled=True) == ()
