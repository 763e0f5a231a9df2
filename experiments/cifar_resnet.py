"""Published CIFAR-10 ResNets on CIFAR-10 itself: what each use of a network is worth on images that it was made for.

    JAXDL_REAL_DATA=FOLDER python experiments/cifar_resnet.py --out DIR [--depth 20] [--shots 100]

FOLDER holds cifar10_test.npz and weights/cifar10_resnet20-12fca82f.npz. Photographs that the network was not made for
are the subject of experiments/photographs.py.

The network was trained on the very images of the training set (here in lossy copies), so that its features already know
them: the labelled images are therefore taken from the *test* set, as are 2,000 unseen ones.
"""

import argparse
import os
from pathlib import Path

from rich.console import Console

import jaxdl
from jaxdl import data
from jaxdl.demo import PhotoTour, few_shots, photo_methods, tell
from jaxdl.report.table import print_table, results_table

WEIGHTS = {20: "cifar10_resnet20-12fca82f.npz", 56: "cifar10_resnet56-4bfd9763.npz"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="new folder for the runs and the report")
    parser.add_argument("--depth", type=int, choices=WEIGHTS, default=20)
    parser.add_argument("--shots", type=int, default=100, help="labelled images of each class")
    parser.add_argument("--epochs", type=int, default=15, help="of the methods that train more than the head")
    options = parser.parse_args()
    if "JAXDL_REAL_DATA" not in os.environ:
        parser.error("set JAXDL_REAL_DATA to the folder that holds the data; see the top of this file")
    folder = Path(os.environ["JAXDL_REAL_DATA"])

    parent = jaxdl.convert(folder / "weights" / WEIGHTS[options.depth], f"resnet{options.depth}_cifar").checkpoint
    labelled, others = few_shots(data.npz(folder / "cifar10_test.npz"), options.shots, seed=0)
    unseen, _ = few_shots(others, 200, seed=1)
    methods = photo_methods(parent, options.epochs)
    found = tell(options.out, PhotoTour(parent, labelled, unseen, methods, left_out={}), say=print)
    print_table(Console(), results_table(found.results, found.truth))


if __name__ == "__main__":
    main()
