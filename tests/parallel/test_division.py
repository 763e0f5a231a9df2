"""How parameters are divided, told before anything is trained; the devices need not be here."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from command_line import call, jaxdl_command
from jax.sharding import PartitionSpec as P

import jaxdl
from jaxdl import Layout
from jaxdl.errors import InputError
from jaxdl.models.initialise import variable_shapes
from jaxdl.parallel.fsdp import LEAST, axis_to_divide
from jaxdl.parallel.rules import RULES, spec_of
from jaxdl.report.inspect import inspect_division
from jaxdl.training.division import alike

VIT = jaxdl.create("vit", 10, width=64, depth=2, num_heads=4)  # 64 × 256 in each perceptron: 16,384


@pytest.mark.parametrize(
    ("shape", "size", "axis", "why"),
    [
        ((64, 512), 8, 1, ""),
        ((512, 64), 8, 0, ""),
        ((128, 128), 8, 0, ""),  # the first of equals
        ((3, 3, 512, 500), 8, 2, ""),  # the largest that divides
        ((LEAST,), 8, 0, ""),
        ((LEAST - 1,), 3, None, "fewer than 16,384 elements"),
        ((333, 333), 8, None, "no axis is a multiple of 8"),
    ],
)
def test_the_largest_axis_that_divides(shape, size, axis, why):
    assert axis_to_divide(shape, size) == (axis, why)


def test_rules_of_flaxs_own_attention():
    """Its kernels have an axis of heads."""

    module = nn.MultiHeadDotProductAttention(num_heads=4)
    made = jax.eval_shape(lambda: module.init(jax.random.key(0), np.zeros((1, 5, 16))))["params"]
    for name in ("query", "key", "value"):
        path = f"params/block1/MultiHeadDotProductAttention_0/{name}"
        assert spec_of(f"{path}/kernel", made[name]["kernel"].shape, RULES, 2) == P(None, "model", None)
        assert spec_of(f"{path}/bias", made[name]["bias"].shape, RULES, 2) == P("model", None)
    path = "params/block1/MultiHeadDotProductAttention_0/out"
    assert spec_of(f"{path}/kernel", made["out"]["kernel"].shape, RULES, 2) == P("model", None, None)
    assert spec_of(f"{path}/bias", made["out"]["bias"].shape, RULES, 2) == P()


def test_every_array_lies_somewhere_and_bytes_add_up():
    leaves = variable_shapes(VIT, (32, 32, 3))["params"]
    whole = sum(one.nbytes for one in inspect_division(VIT, Layout(devices=8), (32, 32, 3)))
    assert whole == 4 * sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(leaves))
    sharded = inspect_division(VIT, Layout(parallel="fsdp", mesh={"data": 8}), (32, 32, 3))
    divided = {one.path: one for one in sharded if one.axis is not None}
    assert divided.keys() == {f"block{i}/mlp{k}/kernel" for i in (1, 2) for k in (1, 2)}
    assert {one.nbytes for one in divided.values()} == {4 * 64 * 256 // 8}
    assert sum(one.nbytes for one in sharded) == whole - 4 * 7 * 64 * 256 // 8 * 4
    by_rules = inspect_division(VIT, Layout(mesh={"data": 4, "model": 2}), (32, 32, 3))
    assert {one.path: one.axis for one in by_rules if one.path.startswith("block1") and one.axis is not None} == {
        **{f"block1/attention/{name}/kernel": 1 for name in ("query", "key", "value")},
        **{f"block1/attention/{name}/bias": 0 for name in ("query", "key", "value")},
        "block1/attention/out/kernel": 0,
        "block1/mlp1/kernel": 1,
        "block1/mlp1/bias": 0,
        "block1/mlp2/kernel": 0,
    }
    rows = alike(by_rules)
    assert sum(row.count for row in rows) == len(by_rules)
    assert sum(row.nbytes for row in rows) == sum(one.nbytes for one in by_rules)
    assert [row.count for row in rows if row.path == "block*/mlp1/kernel"] == [2]


def test_heads_and_models_that_cannot_be_divided_are_refused_by_name():
    def prepared(model):
        execution = jaxdl.Execution(layout=Layout(mesh={"data": 4, "model": 2}))
        return jaxdl.pretrain(model, jaxdl.data.digits(range(4)), jaxdl.Plan(epochs=1), execution=execution)

    vit = dict(width=24, depth=1, num_heads=3, patch_size=2)
    with pytest.raises(InputError, match="3 attention heads of 'block1/attention'"):
        prepared(jaxdl.create("vit", 4, **vit))
    with pytest.raises(InputError, match=r"'block1/mlp1/.*' .* is no multiple of the 2 devices"):
        prepared(jaxdl.create("vit", 4, **vit | {"num_heads": 2, "mlp_width": 33}))
    with pytest.raises(InputError, match="divides no parameter of CNN"):
        prepared(jaxdl.create("cnn", 4))


def test_inspect_tells_what_is_divided_and_what_stays_whole():
    said = " ".join(jaxdl_command("inspect vit --mesh data=8 --parallel fsdp").replace("│", " ").split())
    assert "Over data 8" in said
    assert "block*/mlp1/kernel 4 64×256 divided along axis 32,768 1 over data" in said
    assert "whole: fewer than" in said
    said = " ".join(jaxdl_command("inspect vit --mesh data=4,model=2").replace("│", " ").split())
    assert "Over data 4 × model 2" in said
    assert "whole: no" in said
    assert "Over" not in jaxdl_command("inspect vit")
    code, _, said = call("inspect vit --mesh model=3")
    assert code == 2
    assert "choose a divisor of 4" in " ".join(said.split())
    assert "Over model 2" in jaxdl_command("inspect vit --mesh model=2")  # as the message advises
