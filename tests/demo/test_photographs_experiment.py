"""The experiment on photographs runs from a zip file and a file of weights, on small images and in few epochs."""

import contextlib
import importlib.util
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command_line import read_csv
from PIL import Image

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import ImagePreprocessing

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "photographs.py"


def load():
    spec = importlib.util.spec_from_file_location("photographs_experiment", EXPERIMENT)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def of_16_pixels(seed=0):
    images = ImagePreprocessing((16, 16, 3), (0.5,) * 3, (0.2,) * 3)
    return jaxdl.from_model(jaxdl.create("resnet20_cifar", 10), images, [f"kind {i}" for i in range(10)], seed)


def test_all_methods_compare_training_with_and_without_augmentation():
    methods = load().all_methods(of_16_pixels(), quick=False)
    for name in ("last stages", "full fine-tuning"):
        plain, augmented = methods[name].as_dict(), methods[f"augmented {name}"].as_dict()
        assert (plain.pop("augment"), augmented.pop("augment")) == ([], ["standard"])
        assert plain == augmented
    assert {"logistic head", "ridge head", "frozen features", "from scratch"} < set(methods)


@pytest.mark.slow
def test_it_runs_from_a_zip_file_and_a_file_of_weights(tmp_path, monkeypatch):
    random, folder = np.random.default_rng(0), tmp_path / "photos"
    for split, count in (("train", 8), ("val", 4)):
        for label, name in enumerate(("ants", "bees")):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(random.normal(80 + 80 * label, 40, (20, 24, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{i}.png")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        for path in folder.rglob("*.png"):
            file.write(path, path.relative_to(tmp_path))
    weights = jaxdl.export(of_16_pixels(), tmp_path / "weights")
    out = tmp_path / "out"
    line = f"photographs.py --data {tmp_path}/photos.zip --weights {weights} --model resnet20_cifar --side 16 --quick"
    tried = ["last stages", "logistic head"]
    monkeypatch.setattr(sys, "argv", [*line.split(), "--out", str(out), "--only", *tried])
    with contextlib.redirect_stdout(io.StringIO()) as said:
        load().main()
    rows = read_csv(out / "table.csv")
    assert [row["method"] for row in rows] == tried
    val = data.folder(folder, "val")
    for row in rows:
        result = jaxdl.load_result(out / "runs" / row["method"].replace(" ", "-"))
        assert (result.data["name"], result.data["examples"]) == ("photos:train", 16)
        assert float(row["accuracy"]) == pytest.approx(result.mean, abs=1e-4)
        assert 0 <= float(row["low"]) <= float(row["high"]) <= 1
        assert f"{row['method']}: 95 % interval" in said.getvalue()
    best = max(rows, key=lambda row: float(row["accuracy"]))
    assert float(best["unseen"]) == pytest.approx(jaxdl.predict(jaxdl.restore(out / "best"), val).accuracy, abs=1e-4)
    curve = jaxdl.load_learning_curve(out / "learning-curve")
    assert [point["size"] for point in curve.points] == [10]  # of both classes, out of 19 that a fold trains on
    assert (curve.data["name"], curve.data["examples"]) == ("photos:all", 24)
    assert all((out / page).is_file() for page in ("report.html", "learning-curve/report.html"))
