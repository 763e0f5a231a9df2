"""What a parameter is for is read from its name, and whether a program convolves from the program."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jaxdl
from jaxdl.models.initialise import batch_of, init_variables
from jaxdl.models.roles import decayed
from jaxdl.models.variables import modules_of, nest, partition, pick, union, walk_shapes
from jaxdl.training.runners import prefers_scan

SMALL = {
    "mlp": dict(hidden=(4,)),
    "cnn": dict(features=(2,), hidden=(4,)),
    "vit": dict(width=8, depth=1, num_heads=2),
    "resnet20_cifar": dict(depths=(1, 1, 1), width=2),
    "convnext_tiny": dict(depths=(1, 1), widths=(2, 4)),
    "bit_r50x1": dict(depths=(1,), width=32),
    "efficientnet_b0": dict(depths=(1, 1), width=0.25),
}


def shapes_of(name):
    model = jaxdl.create(name, 3, **SMALL[name])
    spec = (16, 16, 3)
    return model, jax.eval_shape(lambda: init_variables(model, jax.random.key(0), spec)), batch_of(spec)


@pytest.mark.parametrize("name", SMALL)
def test_kernels_decay_and_nothing_else(name):
    _, variables, _ = shapes_of(name)
    for path, pulled in walk_shapes(decayed(variables["params"])):
        assert pulled == path.endswith("/kernel"), path


def test_class_token_and_positions_do_not_decay_for_all_their_axes():
    _, variables, _ = shapes_of("vit")
    embed = variables["params"]["embed"]
    assert embed["class_token"].ndim == embed["position"].ndim == 3
    pulled = decayed(variables["params"])["embed"]
    assert (pulled["class_token"], pulled["position"], pulled["patch"]["kernel"]) == (False, False, True)
    assert decayed({"embed": {"tokens": {"embedding": jnp.zeros((3, 2))}}})["embed"]["tokens"]["embedding"]


def test_a_convolution_is_found_in_the_program_whatever_the_axes_of_its_kernel():
    """On the CPU, where convolutions in a loop are slow; a patch kernel of five axes is a product."""
    for name in SMALL:
        model, variables, x = shapes_of(name)
        assert prefers_scan(model.apply, variables, x) == (name in ("mlp", "vit")), name

    class Sounds(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.RNN(nn.SimpleCell(2))(nn.Conv(2, (3,))(x))

    x = jax.ShapeDtypeStruct((1, 9, 2), "float32")
    variables = jax.eval_shape(Sounds().init, jax.random.key(0), x)
    assert max(leaf.ndim for leaf in jax.tree.leaves(variables)) == 3
    assert not prefers_scan(Sounds().apply, variables, x)


def test_partition_and_union_undo_each_other():
    tree = {"a": {"kernel": 1, "bias": 2}, "b": {"c": {"bias": 3}}, "d": {"kernel": 4}}
    some, others = partition(tree, lambda path, siblings: path[-1] == "bias")
    assert some == {"a": {"bias": 2}, "b": {"c": {"bias": 3}}}
    assert others == {"a": {"kernel": 1}, "d": {"kernel": 4}}
    assert union(some, others) == union(others, some) == tree
    assert pick(tree, some) == some
    assert modules_of(some) == {("a",), ("b", "c")}
    assert nest(dict(walk_shapes(tree))) == tree
    with pytest.raises(ValueError, match="a/bias"):
        union(tree, some)
