"""Time and memory of a training step: all parameters, biases, a low-rank adapter, the head alone; beside PyTorch's.

    python experiments/benchmarks/adapters.py [--models vit_s_16 resnet50] [--batch 8] [--side 224] [--repeats 5]

Each case runs in a process of its own, whose largest resident memory is read at its end; what the same process holds
after the network was made, before the first step, is taken off. The machine may be busier in one case than in another:
quote ratios of medians, and run it twice. Frozen stages are not cached here: a step sees the whole network. PyTorch's
cases need torch, timm and, for the adapter, peft (LoRA of the same rank on the same layers: all linear maps and
convolutions but the head); what is not installed is left out with a word.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdl.parallel.memory import held_memory

WAYS: dict[str, dict[str, Any]] = {
    "all": {},
    "biases": {"train": "biases"},
    "lora:8": {"adapter": "lora:8"},
    "head": {"freeze_through": "body"},
}
TIMM = {"vit_s_16": "vit_small_patch16_224", "resnet50": "resnet50"}
CLASSES = 10


def peak() -> int:
    """Largest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def timed(step: Callable[[], Any], repeats: int) -> dict[str, float]:
    begin = held_memory()
    step()  # compiles
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds), "bytes": peak() - begin}


def with_jaxdl(model: str, way: str, batch: int, side: int, repeats: int) -> dict[str, float]:
    import jax

    import jaxdl
    from jaxdl import data
    from jaxdl.data.preprocessing import ImagePreprocessing
    from jaxdl.parallel.compiler import compiler_options
    from jaxdl.tasks import Classification
    from jaxdl.training.prepare import prepare
    from jaxdl.training.step import Batch
    from jaxdl.training.transfer import of_run

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch, side, side, 3), np.uint8)
    labels = np.arange(batch, dtype=np.int32) % CLASSES
    source = data.Arrays(images, labels, tuple(map(str, range(CLASSES))))
    seen = ImagePreprocessing((side, side, 3), (0.5,) * 3, (0.25,) * 3)
    parent = jaxdl.from_model(jaxdl.create(model, CLASSES), seen)
    plan = jaxdl.Plan(batch_size=batch, cache_features=False, **WAYS[way])
    task = Classification(source.class_names)
    setup = prepare(parent, source, plan, [np.arange(batch)], task)
    state = of_run(setup.states([0]), 0)
    run = jax.jit(setup.make_step(), donate_argnums=0, compiler_options=compiler_options())
    rows = Batch(np.arange(batch, dtype=np.int32), np.ones(batch, np.float32))
    program = run.lower(state, rows, setup.shared).compile()
    held = [state]

    def step() -> None:
        held[0], metrics = program(held[0], rows, setup.shared)
        jax.block_until_ready((held[0], metrics))

    trained = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    made = timed(step, repeats)
    return made | {"temporaries": program.memory_analysis().temp_size_in_bytes, "trained": trained}


def with_torch(model: str, way: str, batch: int, side: int, repeats: int) -> dict[str, float]:
    import contextlib

    import torch

    with contextlib.suppress(ImportError):  # a build of torchvision without its own operators needs this first
        import torchvision_cpu  # noqa: F401
    import timm

    network = timm.create_model(TIMM[model], pretrained=False, num_classes=CLASSES)
    head = network.get_classifier()
    if way == "lora:8":
        from peft import LoraConfig, get_peft_model

        kinds = (torch.nn.Linear, torch.nn.Conv2d)
        names = [name for name, module in network.named_modules() if isinstance(module, kinds) and module is not head]
        name = next(name for name, module in network.named_modules() if module is head)
        network = get_peft_model(network, LoraConfig(r=8, lora_alpha=8, target_modules=names, modules_to_save=[name]))
    elif way != "all":
        for name, parameter in network.named_parameters():
            parameter.requires_grad = way == "biases" and name.endswith("bias")
        for parameter in head.parameters():
            parameter.requires_grad = True
    network.train()
    if way in ("lora:8", "head"):  # running statistics, as jaxdl keeps them
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    moved = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(moved, 1e-3)
    x, y = torch.randn(batch, 3, side, side), torch.arange(batch) % CLASSES

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()

    return timed(step, repeats) | {"trained": sum(p.numel() for p in moved)}


def case(options: argparse.Namespace, library: str, model: str, way: str) -> dict[str, float] | str:
    """One case in a process of its own; a word where it cannot be."""
    call = [sys.executable, __file__, "--case", library, model, way]
    call += ["--batch", str(options.batch), "--side", str(options.side), "--repeats", str(options.repeats)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1][:90]
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["vit_s_16", "resnet50"], choices=TIMM)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", nargs=3)
    given = parser.parse_args()
    if given.case:
        library, model, way = given.case
        run = {"jaxdl": with_jaxdl, "torch": with_torch}[library]
        print(json.dumps(run(model, way, given.batch, given.side, given.repeats)))
        return
    for model in given.models:
        print(f"{model}, {given.batch} images of {given.side}²; of 'all' with the same library in brackets")
        whole: dict[str, dict[str, float]] = {}
        for way in WAYS:
            for library in ("jaxdl", "torch"):
                found = case(given, library, model, way)
                if isinstance(found, str):
                    print(f"  {way:8} {library:6} left out: {found}", flush=True)
                    continue
                first = whole.setdefault(library, found)
                seconds, size = (found[key] / first[key] for key in ("seconds", "bytes"))
                print(
                    f"  {way:8} {library:6} {found['seconds']:6.2f} s ({seconds:.2f})   "
                    f"{found['bytes'] / 2**20:6.0f} MiB ({size:.2f})   {found['trained']:>10,} trained",
                    flush=True,
                )


if __name__ == "__main__":
    main()
