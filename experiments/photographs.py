"""Transfer on photographs: what each use of a network that knows ImageNet is worth on ants against bees.

    python experiments/photographs.py --data hymenoptera_s160.zip --weights mobilenet_v2_imagenet.safetensors \\
        --model mobilenet_v2 --out photographs

The data are a folder with train/ and val/, each of class folders, or a zip file of one: the PyTorch tutorial's set has
244 and 153 photographs. Each use of the network is cross-validated on train/ (with 95 % intervals, which are about
networks trained on four fifths of it), then trained on all of train/ and held against val/, which no fold has seen.
The learning curve is of a linear head on frozen features, on train/ and val/ together, so that it reaches 120
photographs a class.

Writes report.html, table.csv, a checkpoint of the best network, the runs, and learning-curve/report.html.
"""

import argparse
import csv
import dataclasses
import tempfile
import zipfile
from pathlib import Path

from rich.console import Console

import jaxdl
from jaxdl import data
from jaxdl.demo import Demo, PhotoTour, photo_methods, tell
from jaxdl.errors import check_choice
from jaxdl.report.learning_curve import outlook, print_curve
from jaxdl.report.table import print_table, results_table
from jaxdl.validation.recommend.methods import Method

A_CLASS = (5, 10, 20, 40, 80, 120)  # photographs, along the learning curve
AUGMENTED = ("last stages", "full fine-tuning")
EPOCHS = 15
QUICK = ("logistic head", "frozen features", "last stages")


def all_methods(parent: jaxdl.Checkpoint, epochs: int = EPOCHS, *, quick: bool) -> dict[str, Method]:
    """Those of the demo, another head, and what augmentation brings."""
    methods = photo_methods(parent, epochs=1 if quick else epochs)
    if quick:
        return {name: method for name, method in methods.items() if name in QUICK}
    augmented = {f"augmented {name}": methods[name] for name in AUGMENTED if name in methods}
    return {
        "ridge head": jaxdl.Probing(heads=("ridge",)),
        **methods,
        **{name: dataclasses.replace(plan, augment=("standard",)) for name, plan in augmented.items()},
    }


def write_table(found: Demo, path: Path) -> None:
    """A line for each method: mean over folds, its interval, and what is true of it."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "accuracy", "std", "low", "high", "unseen", "seconds"])
        for name, result in found.results.items():
            reach = jaxdl.interval(result)
            numbers = (result.mean, result.std, reach.low, reach.high, found.truth[name])
            writer.writerow([name, *(f"{value:.4f}" for value in numbers), f"{result.seconds:.1f}"])
            low, high, truth = (f"{100 * value:.1f}" for value in (reach.low, reach.high, found.truth[name]))
            print(f"{name}: 95 % interval {low} to {high} %, on val/ {truth} %")


def load_network(options: argparse.Namespace) -> jaxdl.Checkpoint:
    """A checkpoint's folder, or a file of published weights."""
    if options.weights.is_dir():
        return jaxdl.restore(options.weights)
    size = {} if options.side is None else {"image_size": options.side}
    return jaxdl.convert(options.weights, options.model, preprocessing=size).checkpoint


def named(source: data.Source, name: str, part: str) -> data.Source:
    """As the data are called, wherever they were unpacked."""
    return dataclasses.replace(source, name=f"{name}:{part}")


def measure_curve(parent: jaxdl.Checkpoint, whole: data.Source, plan: jaxdl.Plan, out: Path) -> None:
    """The learning curve of a linear head on frozen features, over sizes that the folds can hold."""
    most = len(whole) * 4 // 5  # that a fold trains on
    sizes = [each * len(whole.class_names) for each in A_CLASS if each * len(whole.class_names) <= most]
    curve = jaxdl.learning_curve(parent, whole, plan, sizes=sizes, folds=5)
    curve.save(out)
    jaxdl.write_run_report(out)
    print_curve(Console(), curve)
    print(outlook(curve))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/, or a zip file of one")
    parser.add_argument("--weights", type=Path, required=True, help="file of published weights, or a checkpoint")
    parser.add_argument("--model", help="name of the model, where the file's own name does not tell it")
    parser.add_argument("--side", type=int, help="of the images in pixels; by default as published")
    parser.add_argument("--out", type=Path, required=True, help="new folder for all that is written")
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="methods to try; by default all")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of methods that train more than a head")
    parser.add_argument("--quick", action="store_true", help="few methods and epochs, to see that it runs")
    options = parser.parse_args()
    parent = load_network(options)
    methods = all_methods(parent, options.epochs, quick=options.quick)
    for name in options.only or ():
        check_choice("method", name, methods)
    chosen = {name: methods[name] for name in options.only or methods}
    with tempfile.TemporaryDirectory() as unpacked:
        root = options.data
        if root.is_file():
            zipfile.ZipFile(root).extractall(unpacked)
            root = next(path.parent for path in Path(unpacked).rglob("train"))
        train, val, whole = (
            named(data.folder(root, part), options.data.stem, part) for part in ("train", "val", "all")
        )
        found = tell(options.out, PhotoTour(parent, train, val, chosen, left_out={}), say=print)
        print_table(Console(), results_table(found.results, found.truth))
        write_table(found, options.out / "table.csv")
        measure_curve(parent, whole, methods["frozen features"], options.out / "learning-curve")


if __name__ == "__main__":
    main()
