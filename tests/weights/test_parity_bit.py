"""Big Transfer against timm's networks, and google's names against timm's reading of them."""

from functools import partial

import jax
import numpy as np
import pytest
from family_checks import all_models, assert_complete, assert_trains_alike, shapes_of, without_values
from parity import assert_parity, calibrated, library, tensors_of

from jaxdl.errors import InputError
from jaxdl.models import MODELS, create, describe
from jaxdl.models.bit import BiT
from jaxdl.weights.bit import KEYS
from jaxdl.weights.keys import rename, to_tensors

pytestmark = pytest.mark.slow  # a plain run has this family in test_every_model.py
NAMES = [name for name, entry in MODELS.items() if entry.family is BiT]
STAGES = {"stem": "stem", "stage1": "stages.0", "stage2": "stages.1"}
SMALL = {"depths": (2, 1), "width": 32}


def _made(name):
    # timm starts each block's last kernel at zero, which standardisation would leave there: nothing would be compared
    return library("timm").create_model(f"resnetv2_{name.removeprefix('bit_r')}_bit", zero_init_last=False)


def _small(outputs=10):
    resnetv2, standardised = library("timm.models.resnetv2"), library("timm.layers").StdConv2d
    network = resnetv2.ResNetV2(
        layers=SMALL["depths"],
        channels=(128, 256),
        stem_chs=SMALL["width"],
        stem_type="fixed",
        conv_layer=partial(standardised, eps=1e-8),
        num_classes=outputs,
        zero_init_last=False,
    )
    library("torch").nn.init.normal_(network.head.fc.weight)  # so small at timm that images would hardly differ
    return network


def test_answers_are_timms():
    network = calibrated(_small(), 96)
    assert_parity("bit_r50x1", network, KEYS, "timm", side=96, stages=STAGES, arguments=SMALL)


def test_it_trains_as_timms_does():
    network = calibrated(_small(), 96)
    assert_trains_alike("bit_r50x1", network, KEYS, "timm", side=75, arguments=SMALL, wide=True)


def test_timm_reads_what_is_written_as_googles(tmp_path):
    network = calibrated(_small(), 32)
    model = create("bit_r50x1", 10, **SMALL)
    leaves = rename(tensors_of(network), KEYS.layouts["timm"](model)).leaves
    google = dict(to_tensors(leaves, KEYS.layouts["google"](model)))
    assert len(google) == len(network.state_dict())
    assert google["resnet/block1/unit02/a/standardized_conv2d/kernel"].shape == (1, 1, 128, 32)
    np.savez(tmp_path / "BiT.npz", **google)
    other = _small()
    other.load_pretrained(tmp_path / "BiT.npz")
    for name, tensor in tensors_of(other).items():
        np.testing.assert_array_equal(tensor, tensors_of(network)[name], err_msg=name)
    again = rename(google, KEYS.layouts["google"](model))
    assert not again.problems
    assert again.leaves.keys() == leaves.keys()
    for leaf, value in again.leaves.items():
        np.testing.assert_array_equal(value, leaves[leaf], err_msg=leaf)


def _asked_for(name, monkeypatch):
    """The names that timm looks for in one of google's files."""
    asked = set()

    class File(dict):
        def __missing__(self, key):
            asked.add(key)
            shape = {"kernel": (1, 1, 1, 1000 if "head" in key else 1)}.get(key.rpartition("/")[2], (1,))
            return np.zeros(shape, np.float32)

    monkeypatch.setattr(library("timm.models.resnetv2"), "_load_npz_checkpoint", lambda *_, **__: File())
    without_values(_made, name).load_pretrained("")
    return asked


@pytest.mark.parametrize("name", NAMES)
def test_key_tables_are_complete(name, monkeypatch):
    network = without_values(_made, name)
    assert_complete(name, network, KEYS, "timm")
    assert MODELS[name].parameters == sum(parameter.numel() for parameter in network.parameters())
    table = KEYS.layouts["google"](create(name, 1000))
    rows = {leaf: [there for row in table if (there := row.tensor_of(leaf))] for leaf in shapes_of(name)}
    assert {there: (leaf,) for leaf, found in rows.items() for there, _ in found} == {
        tensor: leaves for tensor in _asked_for(name, monkeypatch) for row in table if (leaves := row.leaves_of(tensor))
    }
    assert all(len(found) == 1 for found in rows.values())


@all_models
@pytest.mark.parametrize("name", NAMES)
def test_every_network_is_timms(name, record_property):
    network = calibrated(_made(name), 224)
    for side in (224, 160):
        _, _, off = assert_parity(name, network, KEYS, "timm", side=side, stages={**STAGES, "stage3": "stages.2"})
        record_property(f"{side}", {stage: float(f"{value:.2g}") for stage, value in off.items()})


def test_a_narrow_one_is_described_and_made_again():
    model = create("bit_r152x2", 5, **SMALL)
    name, arguments = describe(model)
    assert create(name, 5, **arguments) == model
    assert describe(create("bit_r50x1", 5, width=192)) == ("bit_r50x3", {})
    x = jax.ShapeDtypeStruct((2, 33, 47, 3), "float32")
    features, _ = jax.eval_shape(partial(model.init_with_output, stop="head"), jax.random.key(0), x)
    assert features.shape == (2, 256)


def test_what_cannot_be_is_refused():
    for width in (0, 48):
        with pytest.raises(InputError, match=f"width {width} of a bit network; expected a multiple of its 32 groups"):
            create("bit_r50x1", 3, width=width)
    with pytest.raises(InputError, match=r"a bit network needs \[batch, height, width, channels\], got \(1, 5\)"):
        jax.eval_shape(create("bit_r50x1", 3, **SMALL).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 5), "float32"))
