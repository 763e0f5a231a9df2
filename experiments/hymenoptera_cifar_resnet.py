"""Published CIFAR-10 ResNets on ants against bees, and on CIFAR-10 itself: what each mode of transfer is worth.

    JAXDL_REAL_DATA=FOLDER python experiments/hymenoptera_cifar_resnet.py [--depth 20] [--out DIR]

FOLDER holds hymenoptera_s160.zip (397 photographs, the PyTorch tutorial's set), cifar10_train_part1of4.npz,
cifar10_test.npz and weights/cifar10_resnet20-12fca82f.npz.

The CIFAR-10 subset comes with a warning: the network was trained on the very images of the training set (here in
lossy copies), so its frozen features already know them; 1,000 of the *test* images are therefore taken.
"""

import argparse
import os
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from rich.console import Console

import jaxdl
from jaxdl import data
from jaxdl.report.table import print_table, results_table

WEIGHTS = {20: "cifar10_resnet20-12fca82f.npz", 56: "cifar10_resnet56-4bfd9763.npz"}


def plans(epochs: int) -> dict[str, jaxdl.Plan]:
    """One plan a mode; SGD for the body, as it was trained, with a warm-up because the head starts at random."""
    tuned = dict(epochs=epochs, optimizer="sgd", warmup_epochs=1, weight_decay=5e-4)
    return {
        "frozen features": jaxdl.Plan(epochs=60, learning_rate=1e-2, freeze_through="body"),
        "stage3 and head": jaxdl.Plan(learning_rate=0.01, freeze_through="stage2", **tuned),
        "everything": jaxdl.Plan(learning_rate=0.01, **tuned),
        "from scratch": jaxdl.Plan(epochs=epochs, learning_rate=3e-3, warmup_epochs=1, weight_decay=5e-4),
    }


def cifar_test_subset(folder: Path, examples: int) -> data.Source:
    """A stratified random part of the test images."""
    whole = data.npz(folder / "cifar10_test.npz")
    random = np.random.default_rng(0)
    each = examples // len(whole.class_names)
    chosen = [random.permutation(np.flatnonzero(whole.labels == c))[:each] for c in range(len(whole.class_names))]
    return data.subset(whole, np.sort(np.concatenate(chosen)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, choices=WEIGHTS, default=20)
    parser.add_argument("--epochs", type=int, default=15, help="of the modes that train more than the head")
    parser.add_argument("--out", type=Path, help="folder for the runs and a report of each data set")
    options = parser.parse_args()
    if "JAXDL_REAL_DATA" not in os.environ:
        parser.error("set JAXDL_REAL_DATA to the folder that holds the data; see the top of this file")
    folder = Path(os.environ["JAXDL_REAL_DATA"])

    published = jaxdl.convert(folder / "weights" / WEIGHTS[options.depth], f"resnet{options.depth}_cifar").checkpoint
    with tempfile.TemporaryDirectory() as unpacked:
        zipfile.ZipFile(folder / "hymenoptera_s160.zip").extractall(unpacked)
        root = next(path.parent for path in Path(unpacked).rglob("train"))
        sources = {"hymenoptera": data.folder(root, "all"), "cifar10": cifar_test_subset(folder, 1000)}
        for name, source in sources.items():
            results = {}
            for mode, plan in plans(options.epochs).items():
                begin = time.perf_counter()
                init = published.model if mode == "from scratch" else published
                results[mode] = jaxdl.cross_validate(init, source, plan, execution=jaxdl.Execution(image_size=32))
                print(f"{name}, {mode}: {results[mode].mean:.3f} in {time.perf_counter() - begin:.0f} s", flush=True)
            Console().print(f"\nresnet{options.depth}_cifar on {len(source)} images of {name}, 5 folds")
            print_table(Console(), results_table(results))
            if options.out:
                for mode, result in results.items():
                    result.save(options.out / name / mode.replace(" ", "-"))
                title = f"ResNet-{options.depth} on {name}"
                jaxdl.write_page(options.out / name / "report.html", title, results, source=source)


if __name__ == "__main__":
    main()
