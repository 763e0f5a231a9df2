"""What the compiled step of every way holds: which collectives, of how many bytes, and what each device keeps."""

import re

import jax
import numpy as np
import pytest
from lowered import collectives, compiled_step, lowered_step
from test_ways import WAYS, executor_of, setup_of, small_arrays_are_divided_too  # noqa: F401 (a fixture)

import jaxdl
from jaxdl import Layout
from jaxdl.parallel import fsdp
from jaxdl.parallel.memory import bytes_of

SCALARS = 64  # bytes of sums of losses, scores and counts, at most


def held(name, way):
    """Collectives of the step, bytes of the trained parameters, and of the pixels of a batch as they are stored."""
    layout, count = WAYS[way]
    setup = setup_of(name)
    compiled, state = compiled_step(setup, executor_of(layout, count), count)
    params = bytes_of(jax.eval_shape(lambda: setup.states([0])).params)
    return collectives(compiled), params, 32 * 64, compiled, state


def sums_of_batch_norm(name):
    """Of every channel mean and variance forward, and two sums backward."""
    channels = sum(np.size(leaf) for leaf in jax.tree.leaves(setup_of(name).states([0]).batch_stats)) // 2
    return 4 * 4 * channels


@pytest.mark.parametrize(
    ("way", "name"),
    [
        pytest.param("data", "vit", marks=pytest.mark.slow),
        ("data", "cnn with batch norm"),
        pytest.param("pmap", "cnn with batch norm", marks=pytest.mark.slow),
        pytest.param("folds × data", "cnn with batch norm", marks=pytest.mark.slow),
        pytest.param("folds × data", "vit", marks=pytest.mark.slow),
        pytest.param("pmap", "vit", marks=pytest.mark.slow),
    ],
)
def test_data_parallel_adds_up_the_gradients_once_and_gathers_no_parameters(way, name):
    found, params, rows, *_ = held(name, way)
    rows = rows if way == "data" else 0  # the rows of a batch are fetched from the devices that have them
    print(way, name, params, found)
    reduced = found["all-reduce"][1]
    assert params + rows + sums_of_batch_norm(name) <= reduced <= params + rows + sums_of_batch_norm(name) + SCALARS
    gathered = found.pop("all-gather", (0, 0))[1]
    assert gathered <= (512 if way == "data" else 0)  # indices and labels
    assert found.keys() == {"all-reduce"}


@pytest.mark.parametrize("name", ["cnn with batch norm", pytest.param("vit", marks=pytest.mark.slow)])
def test_fsdp_gathers_every_divided_weight_once_and_exchanges_nothing_else(name):
    found, params, rows, *_ = held(name, "fsdp")
    shapes = jax.eval_shape(lambda: setup_of(name).states([0])).params
    divided = [leaf for leaf in jax.tree.leaves(shapes) if fsdp.axis_to_divide(leaf.shape[1:], 8)[0] is not None]
    print(name, params, found)
    assert found.keys() == {"all-gather", "all-reduce"}  # no all-to-all; the CPU has no reduce-scatter
    assert bytes_of(divided) <= found["all-gather"][1] <= bytes_of(divided) + 512
    assert found["all-reduce"][1] <= params + rows + sums_of_batch_norm(name) + 4 * SCALARS


WHOLE = re.compile(r"sdy\.sharding_constraint %\d+ <@mesh, \[(?:\{\}(?:, )?)+\]> : tensor<([\dx]+)x(f32|bf16)>")


@pytest.mark.parametrize("name", ["mlp", pytest.param("vit", marks=pytest.mark.slow)])
def test_fsdp_gathers_weights_in_the_type_they_are_computed_with(name):
    """By what the compiler is given: that for CPUs makes float32 of bfloat16. A TPU's: test_programs_for_tpus.py."""
    sizes = {}
    for precision in ("float32", "bfloat16"):
        lowered, _ = lowered_step(setup_of(name, precision=precision), executor_of(*WAYS["fsdp"]))
        found = WHOLE.findall(lowered.as_text())
        assert {dtype for _, dtype in found} == {{"float32": "f32", "bfloat16": "bf16"}[precision]}
        sizes[precision] = sorted(shape for shape, _ in found)
    assert sizes["float32"] == sizes["bfloat16"]
    assert "64x32" in sizes["float32"] or name != "mlp"


def test_fsdp_holds_a_part_of_the_state_on_each_device(monkeypatch):
    """With arrays of usual size: parameters, both moments of AdamW and the running mean."""
    monkeypatch.setattr(fsdp, "LEAST", 2**14)
    source = jaxdl.data.digits(range(4))
    model, task = jaxdl.create("mlp", 4, hidden=(512, 256)), jaxdl.Classification(source.class_names)
    setup = jaxdl.training.prepare.prepare(model, source, jaxdl.Plan(ema=0.9), [np.arange(64)], task)
    state = Layout(parallel="fsdp").executor().place_state(setup.states([0]))
    kernels = [leaf for leaf in jax.tree.leaves((state.params, state.opt_state, state.ema)) if leaf.size >= 2**14]
    assert len(kernels) == 2 * 4  # 64 × 512 and 512 × 256
    for leaf in kernels:
        assert {shard.data.size for shard in leaf.addressable_shards} == {leaf.size // 8}
    here = [leaf.addressable_shards[0].data for leaf in jax.tree.leaves((state.params, state.opt_state, state.ema))]
    whole = bytes_of((state.params, state.opt_state, state.ema))
    assert bytes_of(here) < 1.1 * whole / 8
    bias = state.params["layer1"]["dense"]["bias"]
    assert {shard.data.shape for shard in bias.addressable_shards} == {bias.shape}


@pytest.mark.parametrize("name", ["mlp", pytest.param("vit", marks=pytest.mark.slow)])
def test_a_model_in_two_parts_holds_half_of_what_the_rules_name(name):
    found, params, _, _, state = held(name, "data × model")
    print(name, params, found)
    ones = [leaf for leaf in jax.tree.leaves(state.params) if "model" in leaf.sharding.spec]
    assert bytes_of(ones) > params / 2
    for leaf in ones:
        assert leaf.sharding.shard_shape(leaf.shape) != leaf.shape
    assert "all-to-all" not in found
    assert found.get("all-gather", (0, 0))[1] < 512  # no parameters


@pytest.mark.parametrize("name", ["mlp", pytest.param("cnn with batch norm", marks=pytest.mark.slow)])
def test_folds_over_devices_do_not_talk(name):
    assert held(name, "folds")[0] == {}


OTHERS = [pytest.param(way, marks=pytest.mark.slow) for way in ("data × model", "folds", "folds × data")]


@pytest.mark.parametrize("way", ["data", "fsdp", *OTHERS])
def test_the_state_goes_out_in_the_buffers_it_came_in(way):
    _, _, _, compiled, state = held("mlp", way)
    aliased = compiled.as_text().splitlines()[0].count("may-alias")
    assert aliased == len(jax.tree.leaves(state))
