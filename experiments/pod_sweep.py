"""Weak scaling of ResNet-50 and ViT-B/16 from 8 to 256 TPUs, predicted: the table of the README.

    pip install 'jax[tpu]' && JAX_PLATFORMS=cpu python experiments/pod_sweep.py [--out pod_sweep.jsonl]

No TPU is needed: each step (bfloat16, 128 images of 224 × 224 on every chip, streamed, all of the network trained) is
compiled by the TPU compiler for a slice, a minute or more each on two cores. Rows are added to the file as they are
made; those that it has are not made again, and those that the compiler cannot make are left out. The model: computing
takes the compiler's cycles at the clock of the chip, and no less than its operations at the peak; sending takes the
bytes of all collectives over the links of the chip that has the fewest, and a microsecond for each link on their way.
The efficiency is the step time on 8 chips of the same kind by that on more: once with sending after computing, once
with all of it at the same time. Reading the examples is not counted, nor is anything calibrated by a measurement.
"""

import argparse
import dataclasses
import json
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import jaxdl
from jaxdl import data
from jaxdl.parallel.chips import parse_slice
from jaxdl.training.execution import Execution
from jaxdl.validation.planning.elsewhere import Elsewhere
from jaxdl.validation.planning.planned import Asked

CLASSES, SIDE, EACH = 1000, 224, 128
MODELS = {"resnet50": {"optimizer": "sgd"}, "vit_b_16": {}}
SLICES = ("v5e:2x4", "v5e:16x16", "v5e:4x4", "v5e:8x8", "v6e:2x4", "v6e:16x16")


def row(model: str, name: str) -> dict:
    """One step of a model on a slice."""
    begin, rented = time.time(), parse_slice(name)
    source = data.arrays(np.zeros((CLASSES, 8, 8, 3), np.uint8), np.arange(CLASSES))
    task = jaxdl.Classification(tuple(map(str, range(CLASSES))))
    plan = jaxdl.Plan(precision="bfloat16", batch_size=EACH * rented.chips, **MODELS[model])
    execution = Execution(image_size=SIDE, streaming=True)
    asked = Asked(jaxdl.create(model, CLASSES), source, plan, task, execution, [np.arange(CLASSES)])
    setup, there = asked.outlined(rented), Elsewhere(rented, print)
    executor, runs = there.executor(setup, "loop", 1)
    step = there.step(setup, executor, runs, EACH * rented.chips)
    return {
        "model": model,
        "slice": name,
        "chips": rented.chips,
        "fits": step.fits,
        "bytes_per_chip": step.parts,
        "flops": step.flops,
        "collectives": {kind: dataclasses.asdict(one) for kind, one in step.collectives.items()},
        "seconds": None if step.times is None else dataclasses.asdict(step.times),
        "step": None if step.times is None else step.times.step,
        "overlapped": None if step.times is None else step.times.overlapped,
        "compile_seconds": time.time() - begin,
    }


def table(rows: list[dict]) -> str:
    """As Markdown, with the efficiency beside 8 chips of the same kind."""
    lines = [
        "| model | slice | chips | GB per chip | collectives, MB | step, ms | % of peak | efficiency | overlapped |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in sorted(rows, key=lambda r: (r["model"], r["slice"].partition(":")[0], r["chips"])):
        kind = one["slice"].partition(":")[0]
        base = next((r for r in rows if (r["model"], r["slice"]) == (one["model"], f"{kind}:2x4")), None)
        if one["step"] is None or base is None:
            continue
        sent = sum(held["bytes"] for held in one["collectives"].values()) / 1e6
        share = one["seconds"]["compute"] / one["step"]
        efficiency, overlapped = base["step"] / one["step"], base["overlapped"] / one["overlapped"]
        lines.append(
            f"| {one['model']} | {one['slice']} | {one['chips']} | {sum(one['bytes_per_chip'].values()) / 1e9:.2f} | "
            f"{sent:.0f} | {one['step'] * 1e3:.1f} | {100 * share:.0f} | {100 * efficiency:.1f} % | "
            f"{100 * overlapped:.1f} % |"
        )
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--out", type=Path, default=Path("pod_sweep.jsonl"))
    options.add_argument("--models", nargs="+", default=list(MODELS))
    options.add_argument("--slices", nargs="+", default=list(SLICES))
    asked = options.parse_args()
    rows = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.exists() else []
    for name in asked.slices:
        for model in asked.models:
            if any((held["model"], held["slice"]) == (model, name) for held in rows):
                continue
            # in a process of its own, which the compiler ends on some programs
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                try:
                    made = pool.submit(row, model, name).result()
                except BrokenProcessPool:
                    print(model, name, "left out: the compiler ended its process", flush=True)
                    continue
            rows.append(made)
            with asked.out.open("a") as file:
                file.write(json.dumps(made) + "\n")
            print(model, name, f"{made['compile_seconds']:.0f} s", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
