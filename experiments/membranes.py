"""Membranes in electron microscopy (ISBI 2012's challenge), 5 folds: a U-Net on 30 slices, with intervals.

    JAXDL_REAL_DATA=FOLDER python experiments/membranes.py --out DIR [--epochs 30] [--width 16]

FOLDER holds isbi_membrane_train_256.npz, the 30 slices that have masks, at half their resolution. The slices lie above
one another, so neighbours are alike: blocks of 3 are the units of folds and intervals. All come from one stack of one
animal; nothing is claimed over animals.

Published: the U-Net of Ronneberger et al. (2015, arXiv:1505.04597, table 1) has a pixel error of 0.0611 on the
challenge's 30 hidden slices, at full resolution, trained on all 30 of these and averaged over 7 rotations of the image;
IDSIA's network (Ciresan et al. 2012) 0.0600. The challenge computes the error from thresholded probabilities at the
threshold that suits them best. Numbers here are of other slices, at half the resolution, of networks trained on 24
slices, at the threshold 0.5: they stand beside the published ones, not against them.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np

import jaxdl
from jaxdl import data
from jaxdl.report.markup import document
from jaxdl.report.pixels import show_overlays, show_pixel_classes

BLOCK = 3  # slices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="new folder for the result and its page")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--width", type=int, default=16)
    options = parser.parse_args()
    file = Path(os.environ["JAXDL_REAL_DATA"]) / "isbi_membrane_train_256.npz"
    slices = data.npz(file, task="segmentation", classes=("membrane", "cell"))
    slices = data.with_groups(slices, np.arange(len(slices)) // BLOCK)
    plan = jaxdl.Plan(
        epochs=options.epochs,
        batch_size=4,
        learning_rate=3e-3,
        warmup_epochs=1,
        augment=("flip", "flip-vertical", "crop"),
        eval_every=options.epochs,
    )
    begin = time.perf_counter()
    result = jaxdl.cross_validate(
        jaxdl.create("unet", 2, width=options.width, depth=4),
        slices,
        plan,
        splitter="group",
        execution=jaxdl.Execution(allow=("frames", "near-duplicates")),
    )
    result.save(options.out)
    for metric in ("pixel_error", "mean_iou", "iou:membrane", "iou:cell", "boundary_f1"):
        found, score = jaxdl.interval(result, metric=metric), result.sample(metric).pooled_score
        print(f"{metric}: {score:.4f} ({found.low:.4f} to {found.high:.4f}, {found.method})")
    print(f"pixel error by fold: {[round(row, 4) for row in result.metrics['folds']['pixel_error']]}")
    print(f"baseline: {result.baseline}; {time.perf_counter() - begin:.0f} s")
    sections = [show_pixel_classes(result), show_overlays("U-Net", result, slices)]
    page = document("Membranes: 30 slices, 5 folds", f"<p>{__doc__.split(chr(10) * 2)[3]}</p>", sections)
    (options.out / "report.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
