"""The step compiled for a slice of TPUs that is not here, by their own compiler."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxdl.parallel.topology import ENVIRONMENT

COMPILE = """
import dataclasses, json, sys
import jax, numpy as np
from jax.experimental import topologies
import jaxdl
from jaxdl import Layout, data
from jaxdl.parallel.executor import Executor
from jaxdl.parallel.memory import bytes_of
from jaxdl.tasks import Classification
from jaxdl.training.prepare import prepare
sys.path.insert(0, {folder!r})
from lowered import collectives, compiled_step
devices = tuple(topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4").devices)
pixels = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
source = data.arrays(pixels, np.arange(64) % 4)

def setup_of(name, **fields):
    plan, model = jaxdl.Plan(batch_size=64, precision="bfloat16"), jaxdl.create(name, 4, **fields)
    return prepare(model, source, plan, [np.arange(64)], Classification(source.class_names))

def told(setup, executor):
    compiled, _ = compiled_step(setup, executor)
    memory = compiled.memory_analysis()
    return {{"collectives": collectives(compiled), "state": memory.alias_size_in_bytes,
             "temporaries": memory.temp_size_in_bytes,
             "parameters": bytes_of(jax.eval_shape(lambda: setup.states([0])).params)}}

{body}
"""
DIVIDED = """
setup = setup_of({model})
print(json.dumps({{way: told(setup, Layout(parallel=way).executor(devices)) for way in ("data", "fsdp")}}))
"""
AGAIN = """
setup = setup_of("vit", width=128, depth=6, num_heads=4)
one = Executor(devices[:1])
print(json.dumps([told(dataclasses.replace(setup, remat=remat), one)["temporaries"] for remat in (False, True)]))
"""


def compiled(body):
    pytest.importorskip("libtpu", reason="the compiler for TPUs is in libtpu: pip install 'jax[tpu]'")
    program = COMPILE.format(folder=str(Path(__file__).parent), body=body)
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    ['"vit", width=128, depth=1, num_heads=4', '"resnet20_cifar", depths=(1, 1, 1), width=32'],
    ids=["vit", "resnet"],
)
def test_fsdp_scatters_the_gradients_and_holds_a_part_of_the_state(model):
    made = compiled(DIVIDED.format(model=model))
    print(json.dumps(made))
    data, fsdp = made["data"], made["fsdp"]
    reduced = {way: told["collectives"]["all-reduce"][1] for way, told in made.items()}
    params = data["parameters"]
    # gradients are computed, and added up, in bfloat16
    assert params / 2 < reduced["data"] < 1.2 * params
    assert "reduce-scatter" not in data["collectives"]
    assert "reduce-scatter" in fsdp["collectives"]
    assert reduced["fsdp"] < reduced["data"] / 4  # of small arrays, and what batch normalisation adds up
    # Of a convolution (or a large product) the compiler may scatter the gradient in a ring, beside what makes it: loops
    # of collective permutes that it calls windowed_dot_general_body_rs. They send what a reduce-scatter would, and
    # nothing lies otherwise for them; another axis to divide changes nothing.
    ring = fsdp["collectives"].get("collective-permute", (0, 0))[1]
    assert reduced["data"] < (ring + fsdp["collectives"]["reduce-scatter"][1]) * 1.3 + reduced["fsdp"]
    assert "all-to-all" not in fsdp["collectives"]
    assert fsdp["state"] < data["state"] / 2.5  # small arrays are whole
    # weights are cast before they are gathered: half of their bytes, and the pixels of a batch
    assert fsdp["collectives"]["all-gather"][1] < params / 2 + 64 * 32 * 32 * 3 + 1024


@pytest.mark.slow
def test_rematerialisation_takes_less_memory():
    kept, again = compiled(AGAIN)
    print(f"6 blocks of a ViT on a v5e: {kept:,} bytes of temporaries, {again:,} with remat")
    assert again < kept / 2
