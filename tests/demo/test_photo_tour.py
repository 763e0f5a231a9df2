"""The tour on photographs of one's own, with small images and a small network."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from command_line import jaxdl_command, refused
from PIL import Image
from sklearn.linear_model import LogisticRegression

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.demo import PhotoTour, photo_methods, photo_tour, tell
from jaxdl.errors import InputError
from jaxdl.models.initialise import variable_shapes
from jaxdl.training.features import DataStore
from jaxdl.training.plan import Plan
from jaxdl.validation.probes.probe import Probing
from jaxdl.validation.recommend.methods import fit_method, score_method
from jaxdl.weights.card import Card

CLASSES = ("ants", "bees")
IMAGES = ImagePreprocessing((32, 32, 3), (0.5,) * 3, (0.2,) * 3)
FULL = ("logistic head", "frozen features", "last stages", "full fine-tuning", "from scratch")
TOLD = ("logistic head", "last stages", "from scratch")


def draw(folder, count, seed, classes=CLASSES):
    """Dark ants and bright bees, of several sizes."""
    random = np.random.default_rng(seed)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.clip(random.normal(70 + 110 * (label % 2), 40, (*random.integers(9, 14, 2), 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")


def with_methods(tour, *names):
    return dataclasses.replace(tour, methods={name: tour.methods[name] for name in names})


def of_side(side, hidden=(8, 6), names=("a", "b", "c")):
    images = ImagePreprocessing((side, side, 3), (0.5,) * 3, (0.2,) * 3)
    return jaxdl.from_model(jaxdl.create("mlp", len(names), hidden=hidden), images, names, seed=7)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    draw(home / "split" / "train", 10, seed=0)
    draw(home / "split" / "val", 4, seed=1)
    draw(home / "whole", 12, seed=2)
    draw(home / "few", 7, seed=3)
    draw(home / "single", 12, seed=4, classes=CLASSES[:1])
    draw(home / "lone" / "train", 6, seed=7)
    draw(home / "lone" / "val", 1, seed=8, classes=CLASSES[:1])
    draw(home / "copied" / "train", 6, seed=5)
    draw(home / "copied" / "val", 2, seed=6)
    shutil.copy(home / "copied" / "train" / "ants" / "0.png", home / "copied" / "val" / "ants" / "0.png")
    for name, checkpoint in (("small", of_side(8)), ("large", of_side(65)), ("short", of_side(8, hidden=(6,)))):
        jaxdl.save(checkpoint, home / name)
    random = np.random.default_rng(0)
    np.savez(home / "numbers.npz", x=random.normal(size=(20, 4)).astype(np.float32), y=np.arange(20) % 2)
    numbers = jaxdl.pretrain(jaxdl.create("mlp", 2, hidden=(4,)), data.npz(home / "numbers.npz"), Plan(epochs=1))
    jaxdl.save(numbers, home / "table")
    return home


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


@pytest.fixture(scope="module")
def told(home, tmp_path_factory):
    """The folder that a short tour of ``split`` made, and what it found."""
    out, tour = tmp_path_factory.mktemp("told") / "demo", photo_tour(home / "split", home / "small", epochs=1)
    assert tuple(tour.methods) == FULL
    return out, tell(out, with_methods(tour, *TOLD))


def test_every_method_is_held_against_photographs_that_no_fold_saw(told):
    out, found = told
    assert tuple(found.results) == tuple(found.truth) == TOLD
    assert {p.name for p in out.iterdir()} == {"summary.json", "report.html", "runs", "best"}
    train, val = data.folder("split", "train"), data.folder("split", "val")
    assert (len(found.labelled), len(found.unseen)) == (len(train), len(val)) == (20, 8)
    for result in found.results.values():
        np.testing.assert_array_equal(np.sort(result.out_of_fold.index), np.arange(20))
    assert len({result.split["sha256"] for result in found.results.values()}) == 1  # all on the same folds
    assert found.results["from scratch"].init["kind"] == "scratch"
    best = jaxdl.restore(out / "best")
    assert best.card.class_names == CLASSES
    right = jaxdl.predict(best, val).predicted == val.targets()
    assert right.mean() == found.truth[found.best]
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["methods"]) == list(TOLD)
    page = (out / "report.html").read_text()
    assert all(name in page for name in (*TOLD, "8 images that no fold has seen"))


def test_a_head_is_refitted_on_all_labelled_photographs():
    """Against scikit-learn on features computed by hand."""
    parent, source, unseen = jaxdl.restore("small"), data.folder("split", "train"), data.folder("split", "val")
    method = Probing(heads=("logistic",), penalties=(10.0,), standardise=False)
    execution = jaxdl.Execution(store=DataStore(batch_size=8))
    result = score_method(parent, source, method, execution=execution)
    assert len(result.folds) == 5
    made = fit_method(parent, source, method, result.plan, execution=execution)
    features, others = (
        np.asarray(parent.model.apply(parent.variables, parent.card.preprocessing.network_input(x), stop="head"))
        for x in (parent.card.preprocessing.load(source), parent.card.preprocessing.load(unseen))
    )
    fitted = LogisticRegression(C=1 / 10.0, tol=1e-8, max_iter=10_000).fit(features, source.targets())
    np.testing.assert_allclose(jaxdl.predict(made, unseen).probabilities, fitted.predict_proba(others), atol=2e-3)


def test_the_head_is_fresh_as_in_the_folds_also_for_classes_that_the_network_knows():
    parent, source = of_side(8, names=CLASSES), data.folder("split", "train")
    still = Plan(epochs=1, learning_rate=1e-9, freeze_through="body", weight_decay=0.0)
    made = fit_method(parent, source, still, still.as_dict())
    head, had = (np.asarray(c.variables["params"]["head"]["dense"]["kernel"]) for c in (made, parent))
    assert head.shape == had.shape
    assert np.abs(head - had).max() > 0.1


def test_without_val_a_quarter_of_each_class_is_held_out():
    tour = photo_tour("whole", "small")
    np.testing.assert_array_equal(np.bincount(tour.labelled.targets()), [9, 9])
    np.testing.assert_array_equal(np.bincount(tour.unseen.targets()), [3, 3])
    assert not set(tour.labelled.names) & set(tour.unseen.names)


def test_what_is_dear_or_cannot_be_is_left_out_by_name():
    large, short = photo_tour("split", "large"), photo_tour("split", "short")
    assert tuple(large.methods) == FULL[:-1]
    assert list(large.left_out) == ["from scratch"]
    assert "65 × 65" in large.left_out["from scratch"]
    assert "last stages" not in short.methods
    assert list(short.left_out) == ["last stages"]
    assert photo_tour("split", "small").left_out == {}


@pytest.mark.parametrize(
    ("model", "arguments", "frozen"),
    [
        ("resnet20_cifar", {}, ("stem", "stage1", "stage2")),
        ("vgg11", {}, ("block1", "block2", "block3", "block4", "block5")),
        ("mlp", {"hidden": (4, 4)}, ("layer1",)),
    ],
)
def test_the_last_third_of_the_stages_that_have_parameters_is_trained(model, arguments, frozen):
    made = jaxdl.create(model, 2, **arguments)
    params = variable_shapes(made, IMAGES.spec())["params"]
    methods = photo_methods(jaxdl.Checkpoint(made, {"params": params}, Card(IMAGES)))
    boundary = {name: m.boundary(made) for name, m in methods.items() if isinstance(m, Plan)}
    last = len(made.stage_names) - 1
    expected = {"frozen features": last, "last stages": len(frozen), "full fine-tuning": 0, "from scratch": 0}
    assert boundary == expected
    assert made.stage_names[: len(frozen)] == frozen


def test_the_command_tells_what_it_left_out(monkeypatch, tmp_path):
    def short(photos, init, *, allow):
        return with_methods(photo_tour(photos, init, epochs=1, allow=allow), "frozen features")

    monkeypatch.setattr("jaxdl.commands.demo.photo_tour", short)
    said = jaxdl_command(f"demo --photos split --init short --out {tmp_path / 'demo'}")
    assert "Left out, last stages: " in said
    assert "transferred to the 2 classes of split:train" in " ".join(said.split())
    assert (tmp_path / "demo" / "report.html").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--photos split", "--init"),
        ("--init small", "--photos"),
        ("--photos few --init small", "'ants' of 'few' has 7 photographs"),
        ("--photos single --init small", "'single'"),
        ("--photos lone --init small", "'lone:val' has a single photograph"),
        ("--photos nowhere --init small", "'nowhere'"),
        ("--photos split --init nowhere", "nowhere"),
        ("--photos split --init table", "split:train"),
        ("--photos copied --init small", "duplicates"),
        ("--photos split --init small --out small", "'small'"),
        ("--photos split --init small --out .", "small"),
        ("--photos split --init small --allow copies", "'copies'"),
    ],
)
def test_mistakes_end_in_one_line(home, tmp_path, options, message):
    before = sorted(home.rglob("*"))
    out = "" if "--out" in options else f"--out {tmp_path / 'demo'}"
    assert message in refused(f"demo {options} {out}")
    assert sorted(home.rglob("*")) == before
    assert not (tmp_path / "demo").exists()


def test_a_leak_that_is_allowed_is_gone_on_with():
    with pytest.raises(InputError, match="duplicates"):
        photo_tour("copied", "small")
    assert isinstance(photo_tour("copied", "small", allow=("duplicates", "near-duplicates")), PhotoTour)
