"""Images with masks on the command line: from folders to folds, a checkpoint, masks of new images, pages."""

import csv
import json
import shlex

import command_line
import numpy as np
import pytest
from PIL import Image

from jaxdl import data
from jaxdl.data.masks import VOID
from jaxdl.tasks.segmentation import palette

SIDE = 16
MODEL = ["--model", "unet", "--model-arguments", "width=4", "depth=1"]
PLAN = ["--epochs", "6", "--batch-size", "4", "--learning-rate", "0.03"]


def run(*arguments):
    """What a command prints."""
    return command_line.jaxdl_command(shlex.join(map(str, arguments)))


def write(folder, count, seed=0, size=(SIDE, SIDE), void=9):
    """Bright and dark blocks on grey ground, with a frame that nobody knows."""
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for i in range(count):
        y = np.zeros(size, np.uint8)
        for label in (1, 2):
            top, left = (random.integers(1, side - 6) for side in size)
            y[top : top + 5, left : left + 5] = label
        x = (np.array([120, 220, 20])[y] + random.normal(0, 8, y.shape)).clip(0, 255).astype(np.uint8)
        y[0] = void
        Image.fromarray(x).save(folder / "images" / f"{'abcdefghij'[i % 10]}{i * 37 % 100:02}x.png")
        Image.fromarray(y).save(folder / "masks" / f"{'abcdefghij'[i % 10]}{i * 37 % 100:02}x.png")
    (folder / "classes.txt").write_text("ground\nbright\ndark\n")


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    write(folder / "train", 12)
    write(folder / "new", 3, 1)
    return folder


@pytest.fixture(scope="module")
def checkpoint(here):
    told = run("finetune", "--data", here / "train", "--void", 9, *MODEL, *PLAN, "--out", here / "net")
    assert "pixel_accuracy" in told
    return here / "net"


def test_masks_are_written_in_palette_colours_with_a_table_and_scored(here, checkpoint):
    out = here / "told.csv"
    told = run("predict", "--checkpoint", checkpoint, "--data", here / "new", "--void", 9, "--out", out)
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == 3
    right = known = 0
    for row in rows:
        name = row["example"].rsplit("/", 1)[-1]
        with Image.open(here / "told-masks" / name) as picture:
            said = np.asarray(picture)
            np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), palette(256)[said])
        true = np.asarray(Image.open(here / "new" / "masks" / name))
        right += ((said == true) & (true != 9)).sum()
        known += (true != 9).sum()
        assert float(row["share:dark"]) == pytest.approx((said == 2).mean(), abs=1e-6)
        assert row["mostly"] == "ground"
    assert f"pixel_accuracy {right / known:.4f}" in told
    assert (here / "told-masks" / "classes.txt").read_text().split() == ["ground", "bright", "dark"]
    # what was written is read again as masks
    again = data.masks((here / "new" / "images", here / "told-masks"), classes=("ground", "bright", "dark"))
    assert (again.targets() != VOID).all()


def test_images_of_any_size_without_masks_get_masks_of_their_size(here, checkpoint):
    folder = here / "loose"
    folder.mkdir()
    sizes = {"one.png": (40, 23), "two.png": (9, 31), "three.png": (16, 16)}
    for name, size in sizes.items():
        Image.fromarray(np.full(size, 120, np.uint8)).save(folder / name)
    run("predict", "--checkpoint", checkpoint, "--data", folder, "--out", here / "loose.csv")
    for name, size in sizes.items():
        with Image.open(here / "loose-masks" / name) as picture:
            assert picture.size == size[::-1]


def test_images_of_one_name_get_masks_of_different_names(here, checkpoint):
    for name in ("d1/x-2", "d1/x", "d2/x"):
        file = here / "several" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((SIDE, SIDE), 120, np.uint8)).save(file)
    run("predict", "--checkpoint", checkpoint, "--data", here / "several", "--out", here / "several.csv")
    rows = list(csv.DictReader((here / "several.csv").open()))
    assert len({row["mask"] for row in rows}) == 3
    assert all((here / "several-masks" / row["mask"]).is_file() for row in rows)


def test_masks_that_some_images_lack_are_left_unread_where_they_are_not_needed(here, checkpoint):
    write(here / "partly", 3, 5)
    next((here / "partly" / "masks").iterdir()).unlink()
    said = command_line.refused(shlex.join(["finetune", "--data", str(here / "partly"), *MODEL, "--out", "none"]))
    assert "1 of 3 images have no mask" in said
    for spec in (here / "partly", said.split("alone: '")[1].split("'")[0]):  # as the message advises
        told = run("predict", "--checkpoint", checkpoint, "--data", spec, "--out", here / f"{len(str(spec))}.csv")
        assert "3 masks in" in told
        assert "mean_iou" not in told


@pytest.mark.slow
def test_scaled_images_get_masks_in_their_own_size(here):
    write(here / "large", 6, 2, (24, 30))
    out = here / "small"
    run("finetune", "--data", here / "large", "--image-size", 12, "--void", 9, *MODEL, *PLAN[:1], 1, "--out", out)
    run("predict", "--checkpoint", out, "--data", here / "large", "--void", 9, "--out", here / "large.csv")
    for file in (here / "large-masks").glob("*.png"):
        assert Image.open(file).size == (30, 24)


@pytest.mark.slow
def test_folds_of_tiles_are_grouped_by_image_and_the_page_shows_them(here):
    out = here / "cv"
    arguments = ["--data", here / "train", "--void", 9, "--tile", 8, "--task", "segmentation", *MODEL, *PLAN]
    run("cross-validate", *arguments, "--folds", 3, "--allow", "near-duplicates", "--out", out)
    held = np.load(out / "out_of_fold.npz")
    assert held["kept/classes"].shape == (48, 8, 8)
    assert len(np.unique(held["group"])) == 12
    for group in range(12):
        assert len(np.unique(held["fold"][held["group"] == group])) == 1
    result = json.loads((out / "result.json").read_text())
    assert result["interval"]["low"] < result["metrics"]["pooled"]["mean_iou"] < result["interval"]["high"]
    page = (out / "report.html").read_text()
    for said in ("Class by class", "Predictions on images", "Least certain", "iou:bright"):
        assert said in page
    (out / "report.html").unlink()
    run("report", out)  # the masks are found again, and cut as they were
    assert "Predictions on images" in (out / "report.html").read_text()
    assert "cannot be shown" not in (out / "report.html").read_text()


@pytest.mark.slow
def test_val_is_measured_and_any_command_takes_masks(here):
    write(here / "both" / "train", 8, 3)
    write(here / "both" / "val", 4, 4)
    (here / "both" / "classes.txt").write_text("ground\nbright\ndark\n")
    arguments = ["--data", here / "both", "--void", 9, *MODEL, *PLAN]
    told = run("pretrain", *arguments, "--out", here / "with_val")
    assert "held out: loss" in told
    run("report", here / "with_val")
    told = run("split", "--data", here / "both:all", "--void", 9, "--group", "^(.)", "--folds", 2)
    assert "12 examples" in told or "6" in told
    run("find-lr", *arguments, "--steps", 10, "--out", here / "lr.png")
    run("export", here / "with_val", "--format", "stablehlo", "--out", here / "program")
    told = json.loads((here / "program" / "model.json").read_text())
    assert {one["place"] for one in told["output"]} == {"classes", "confidence"}


def test_heads_are_fitted_to_places_of_feature_maps(here, checkpoint):
    """The bright and the dark blocks are told by their grey level alone, which a linear head reads."""
    line = [
        "probe",
        "--init",
        checkpoint,
        "--data",
        here / "train",
        "--void",
        9,
        "--stage",
        "down1",
        "--folds",
        3,
        "--allow",
        "parent",
    ]
    told = run(*line, "--heads", "ridge", "logistic", "--out", here / "probe")
    result = json.loads((here / "probe" / "logistic" / "result.json").read_text())
    assert result["metric"] == "macro_f1"
    assert result["mean"] > 0.9
    assert "ridge" in told
    held = np.load(here / "probe" / "logistic" / "out_of_fold.npz")
    assert len(np.unique(held["group"])) == 12  # images stay whole
    del line[line.index("--stage") : line.index("--stage") + 2]  # then the last stage with maps is taken
    run(*line, "--heads", "ridge", "--out", here / "last")
    refusal = command_line.refused(shlex.join(map(str, [*line, "--out", here / "none", "--save-best", here / "best"])))
    assert "--save-best" in refusal


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "digits", "--void", "9"], "--void 9"),
        (["--data", "digits", "--tile", "8"], "--tile 8"),
        (["--data", "{train}", "--void", "9", "--augment", "mixup"], "mixup"),
        (["--data", "{train}", "--void", "9", "--label-smoothing", "0.1"], "label_smoothing"),
        (["--data", "{train}", "--void", "9", "--loss-function", "dise"], "'dice'"),
        (["--data", "{train}", "--void", "9", "--metric", "accuracy"], "mean_iou"),
        (["--data", "{train}"], "9"),  # the void number is no class
        (["--data", "{train}", "--void", "9", "--tile", "8", "--image-size", "8"], "size"),
        (["--data", "{train}", "--void", "9", "--group", "(z)"], "(z)"),
    ],
)
def test_what_does_not_fit_is_named(here, arguments, said):
    given = [one.format(train=here / "train") for one in arguments]
    line = ["finetune", *given, *MODEL, *PLAN, "--out", here / "none"]
    assert said in command_line.refused(shlex.join(map(str, line)))


def test_a_vision_transformer_is_no_encoder(here):
    line = ["finetune", "--data", here / "train", "--void", 9, "--model", "vit", "--out", here / "none"]
    assert "ViT" in command_line.refused(shlex.join(map(str, line)))
