"""A call like an earlier one compiles nothing, and says what it said."""

import dataclasses
import gc
import weakref

import flax.linen as nn
import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.models.layers import Head
from jaxdl.models.staged import Staged
from jaxdl.weights.checkpoint import from_model

traced: list[int] = []


class Body(nn.Module):
    """A linear layer that tells of each time that it is made into a program."""

    @nn.compact
    def __call__(self, x, mode):
        traced.append(1)
        return nn.Dense(8)(x.reshape(len(x), -1))


class Traced(Staged):
    def stages(self):
        return ("body", Body), ("head", lambda name: Head(self.num_outputs, name=name))


def _made(mean, seed=0):
    return from_model(Traced(5), ImagePreprocessing((8, 8, 1), (mean,), (0.3,)), seed=seed)


@pytest.fixture
def images():
    return data.subset(data.digits(range(5)), np.arange(40))


def test_features_of_the_same_network_share_a_program_and_nothing_else(images):
    first, other = _made(0.3), _made(0.3, seed=1)
    traced.clear()
    features = jaxdl.extract_features(first, images)
    assert traced
    traced.clear()
    np.testing.assert_array_equal(jaxdl.extract_features(first, images), features)
    assert np.abs(jaxdl.extract_features(other, images) - features).max() > 0.1  # other weights
    assert not traced
    brighter = dataclasses.replace(first, card=dataclasses.replace(first.card, preprocessing=_brighter(first)))
    assert np.abs(jaxdl.extract_features(brighter, images) - features).max() > 0.1


def _brighter(checkpoint):
    return dataclasses.replace(checkpoint.card.preprocessing, mean=(0.1,))


def test_a_checkpoint_predicts_again_without_compiling_and_is_let_go(images):
    checkpoint = jaxdl.finetune(_made(0.3), images, jaxdl.Plan(epochs=1))
    traced.clear()
    outputs = jaxdl.predict(checkpoint, images).outputs
    assert traced
    traced.clear()
    np.testing.assert_array_equal(jaxdl.predict(checkpoint, images).outputs, outputs)
    assert not traced
    turned = jaxdl.predict(checkpoint, images, tta="flip").outputs  # another program
    assert traced
    assert np.abs(turned - outputs).max() > 1e-4
    gone = weakref.ref(checkpoint)
    del checkpoint
    gc.collect()
    assert gone() is None
