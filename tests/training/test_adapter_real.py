"""Adapters on a published network and real images."""

import jax
import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.weights.stablehlo import to_program


@pytest.mark.slow
def test_an_adapter_teaches_a_published_network_to_read_worn_images(real_data):
    """ResNet-20 lost ten points to these images' JPEG compression; a few matrices of rank 4 win some of them back."""
    start = jaxdl.convert(real_data / "weights" / "cifar10_resnet20-12fca82f.npz", "resnet20_cifar").checkpoint
    images = data.subset(data.npz(real_data / "cifar10_train_part1of4.npz"), np.arange(2000))
    new = data.subset(data.npz(real_data / "cifar10_test.npz"), np.arange(2000))
    before = jaxdl.predict(start, new)
    plan = jaxdl.Plan(epochs=2, learning_rate=1e-3, adapter="lora:4")
    tuned = jaxdl.finetune(start, images, plan, head="keep")
    found = jaxdl.predict(tuned, new)
    assert found.scores["accuracy"] > before.scores["accuracy"] + 0.005

    kept, held = tuned.variables["params"], start.variables["params"]
    flat = dict(jax.tree_util.tree_leaves_with_path(kept))
    for path, leaf in jax.tree_util.tree_leaves_with_path(held):
        if path[0].key != "head":
            np.testing.assert_array_equal(leaf, flat[path])  # the published numbers lie beside the adapter

    merged = jaxdl.predict(jaxdl.merge_adapter(tuned), new)
    np.testing.assert_allclose(merged.outputs, found.outputs, atol=2e-3)
    program = to_program(tuned)
    np.testing.assert_allclose(program.call(new.x[:100]), found.outputs[:100], atol=1e-4)
