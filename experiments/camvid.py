"""Street scenes, pixel by pixel (CamVid, 11 classes): U-Nets from scratch, on CIFAR-10's and on ImageNet's weights.

    JAXDL_REAL_DATA=FOLDER python experiments/camvid.py --out DIR [--methods scratch resnet20 mobilenet] [--epochs 40]

FOLDER holds camvid_160x120.zip and weights/. Trained on the published train part (367 frames), scored on the published
test part (233). A result that lies in DIR is not made again.

That division shares drives: 0001TP stands in train and test (and 0016E5 in train and val), with frames a second apart
on both sides. So the drive Seq05VD, of which nothing is in train, is reported apart. Neighbouring frames are no
independent examples: the units of the intervals are blocks of 10 consecutive frames. Two drives were tested, and
nothing is claimed over drives.
"""

import argparse
import dataclasses
import os
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import jaxdl
from jaxdl import data
from jaxdl.report.markup import Section, document, in_scroll, make_table
from jaxdl.report.pixels import show_overlays, show_pixel_classes
from jaxdl.validation.result import Result
from jaxdl.validation.splits import Split

# in the order of their numbers; 11 is void (Badrinarayanan et al. 2017, arXiv:1511.00561)
CLASSES = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
VOID, BLOCK, UNSHARED = 11, 10, "Seq05VD"
WEIGHTS = {
    "resnet20": ("cifar10_resnet20-12fca82f.npz", "resnet20_cifar"),
    "mobilenet": ("mobilenet_v2_imagenet.safetensors", "mobilenet_v2"),
}
NAMES = {
    "scratch": "U-Net from scratch",
    "resnet20": "on CIFAR-10's ResNet-20",
    "mobilenet": "on ImageNet's MobileNetV2",
}


def read(folder: Path) -> tuple[data.Source, Split]:
    """Frames of train, then of test, and the published division as one fold."""
    with tempfile.TemporaryDirectory() as unpacked:
        zipfile.ZipFile(folder / "camvid_160x120.zip").extractall(unpacked)
        parts = [
            data.masks(unpacked, split, classes=CLASSES, void=VOID, group=f"frames:{BLOCK}")
            for split in ("train", "test")
        ]
        x = np.concatenate([[part[i]["x"] for i in range(len(part))] for part in parts])
    y = np.concatenate([part.targets() for part in parts])
    # a block that the division cuts in two is two units: each stands on its own side
    groups = np.array([f"{side}/{group}" for side, part in zip("ab", parts, strict=True) for group in part.groups])
    names = [Path(name).stem for part in parts for name in part.names]
    source = data.Arrays(x, y, parts[0].class_names, groups=groups, names=names, name="CamVid 160×120")
    train = np.arange(len(parts[0]))
    test = np.arange(len(parts[0]), len(source))
    return source, Split("published division", None, [train], [test], len(source))


def init_of(method: str, folder: Path, width: int) -> jaxdl.Checkpoint | jaxdl.Staged:
    if method == "scratch":
        return jaxdl.create("unet", len(CLASSES), width=width, depth=4)
    file, model = WEIGHTS[method]
    return jaxdl.convert(folder / "weights" / file, model).checkpoint


def on_drive(result: Result, source: data.Source, drive: str) -> Result:
    """The same networks on one drive alone."""
    rows = np.array([source.names[i].startswith(drive) for i in result.out_of_fold.index])
    held = result.out_of_fold.take(rows)
    folds = [{**result.folds[0], "test": int(rows.sum())}]
    part = dataclasses.replace(result, out_of_fold=held, folds=folds, own=result.asked)
    return part.scored_by(result.metric)


def row(result: Result, metric: str = "mean_iou") -> list[str]:
    found = jaxdl.interval(result, metric=metric)
    score = result.sample(metric).pooled_score
    return [f"{100 * score:.1f} %", f"{100 * found.low:.1f} to {100 * found.high:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for results and the page")
    parser.add_argument("--methods", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--width", type=int, default=16, help="channels of the U-Net at the size of the image")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    options = parser.parse_args()
    folder = Path(os.environ["JAXDL_REAL_DATA"])
    source, split = read(folder)
    plan = jaxdl.Plan(
        epochs=options.epochs,
        batch_size=8,
        learning_rate=options.learning_rate,
        warmup_epochs=1,
        augment=("flip", "colour"),
        eval_every=10,
    )
    results = {}
    for method in options.methods:
        if not (options.out / method / "result.json").exists():
            begin = time.perf_counter()
            # blocks are whole on each side; frames next to them are not: that is what this division is
            how = jaxdl.Execution(allow=("frames", "near-duplicates"))
            init = init_of(method, folder, options.width)
            jaxdl.cross_validate(init, source, plan, splitter=split, execution=how).save(options.out / method)
            print(f"{method}: {time.perf_counter() - begin:.0f} s", flush=True)
        results[NAMES[method]] = jaxdl.load_result(options.out / method)
    table = Table("U-Net", "mean IoU", "95 %", UNSHARED, "95 %", "pixels right", "boundary F1", "seconds")
    for name, result in results.items():
        apart = on_drive(result, source, UNSHARED)
        others = [f"{100 * result.sample(metric).pooled_score:.1f} %" for metric in ("pixel_accuracy", "boundary_f1")]
        table.add_row(name, *row(result), *row(apart), *others, f"{result.seconds:.0f}")
    Console().print(table)
    sections = [Section(f"Which differ ({name})", compared(parts)) for name, parts in sides(results, source).items()]
    for name, result in results.items():
        for shown in (show_pixel_classes(result), show_overlays(name, result, source)):
            sections.append(Section(f"{name}: {shown.title[0].lower()}{shown.title[1:]}", shown.body))
    page = document("CamVid: street scenes pixel by pixel", f"<p>{__doc__.split(chr(10) * 2)[-1]}</p>", sections)
    (options.out / "report.html").write_text(page, encoding="utf-8")
    print(f"page: {options.out / 'report.html'}")


def sides(results: dict[str, Result], source: data.Source) -> dict[str, dict[str, Result]]:
    apart = {name: on_drive(result, source, UNSHARED) for name, result in results.items()}
    return {"all test frames": results, f"{UNSHARED} alone": apart}


def compared(results: dict[str, Result]) -> str:
    """Differences of mean IoU with their intervals, blocks of frames drawn again in pairs."""
    if len(results) < 2:
        return "<p>One network alone.</p>"
    lines = []
    for pair in jaxdl.compare(results, test="bootstrap").pairs:
        lines.append(
            [
                pair.first,
                pair.second,
                f"{100 * pair.difference:+.1f}",
                f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}",
            ]
        )
        print(f"{pair.first} − {pair.second}: {lines[-1][2]} points ({lines[-1][3]})")
    heads = ["network", "against", "points of mean IoU", "95 % interval"]
    return in_scroll(make_table(heads, lines, "numbers"), "Differences")


if __name__ == "__main__":
    main()
