"""From naming ten digits to telling even from odd ones with 30 labelled images of each: the demo as a script.

    python experiments/digits_transfer.py [--seeds 10]

Prints for each way of using the pretrained network what cross-validation says of it and what is true of it, on images
that no fold has seen. With several seeds, which draw other images, networks and batches: how far transfer helps in each
(cross-validation is left out then).
"""

import argparse
import dataclasses

import numpy as np

import jaxdl
from jaxdl.demo import few_shots, two_tasks

PLANS = {
    "from scratch": jaxdl.Plan(epochs=30, learning_rate=2e-3),
    "frozen features": jaxdl.Plan(epochs=60, learning_rate=2e-2, freeze_through="body"),
    "partial fine-tuning": jaxdl.Plan(epochs=30, learning_rate=2e-3, freeze_through="conv1"),
    "full fine-tuning": jaxdl.Plan(epochs=30, learning_rate=1e-3, stage_lr={"head": 3.0}),
}


def scores(seed: int, *, validated: bool) -> dict[str, float]:
    """Accuracy of each method on unseen images; prints what cross-validation says of it, too."""
    old_task, new_task = two_tasks(seed)
    labelled, unseen = few_shots(new_task, shots=30, seed=seed)
    model = jaxdl.create("cnn", num_outputs=10)
    pretrained = jaxdl.pretrain(model, old_task, jaxdl.Plan(epochs=12, learning_rate=2e-3, seed=seed))
    found = {}
    for name, plan in PLANS.items():
        init, plan = model if name == "from scratch" else pretrained, dataclasses.replace(plan, seed=seed)
        found[name] = jaxdl.predict(jaxdl.finetune(init, labelled, plan), unseen).accuracy
        if validated:
            print(f"{name}: unseen {found[name]:.3f}; {jaxdl.cross_validate(init, labelled, plan, folds=5)}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    seeds = parser.parse_args().seeds
    every = [scores(seed, validated=seeds == 1) for seed in range(seeds)]
    for name in PLANS if seeds > 1 else ():
        values = 100 * np.array([[found[name], found[name] - found["from scratch"]] for found in every])
        (mean, gain), (std, _), lowest = values.mean(0), values.std(0, ddof=1), values[:, 1].min()
        print(f"{name:20}  {mean:.1f} ± {std:.1f} %, {gain:+.1f} against from scratch, {lowest:+.1f} at least")


if __name__ == "__main__":
    main()
