"""Each leak planted: it is found, and the number that it would have given is too good."""

import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from sklearn import model_selection as sk
from sklearn.datasets import load_iris

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.validation.leakage import check_leaks, check_validation, checks, duplicate_groups
from jaxdl.validation.leakage.duplicates import find_copies
from jaxdl.validation.leakage.near_duplicate_images import find_near_duplicate_images, thumbnails
from jaxdl.validation.splits import split_source

RNG = np.random.default_rng(0)
MLP = jaxdl.create("mlp", 2, hidden=(64,))
MEMORISE = jaxdl.Plan(epochs=40, learning_rate=5e-3)
COIN = RNG.permutation(np.repeat(["heads", "tails"], 40))  # labels that nothing can predict
PICTURES = np.stack(  # coarse random patterns, as smooth as photographs
    [
        np.asarray(Image.fromarray(patch).resize((16, 16), Image.Resampling.BICUBIC))
        for patch in RNG.integers(0, 256, (80, 6, 6, 3), np.uint8)
    ]
)


def score(source, *, allow=(), init=MLP, plan=MEMORISE, **options):
    return jaxdl.cross_validate(
        init, source, plan, execution=jaxdl.Execution(fold_strategy="vmap", allow=allow), **options
    ).mean


def refusal(source, *, init=MLP, allow=(), **options):
    with pytest.raises(InputError) as caught:
        jaxdl.cross_validate(init, source, MEMORISE, execution=jaxdl.Execution(allow=allow), **options)
    return str(caught.value)


@pytest.mark.slow
def test_copies_of_an_example_on_both_sides():
    source = data.arrays(np.concatenate([PICTURES, PICTURES]), np.concatenate([COIN, COIN]))
    said = refusal(source)
    folds = sk.StratifiedKFold(5, shuffle=True, random_state=0).split(source.x, source.labels)
    concerned = sum(np.isin(test % 80, train % 80).sum() for train, test in folds)
    assert f"duplicates: {concerned} examples are tested that are exact copies" in said
    assert "allow=('duplicates',)" in said
    assert "near-duplicates" not in said
    assert score(source, allow=["duplicates"]) > 0.85
    grouped = duplicate_groups(source)
    np.testing.assert_array_equal(grouped.groups[:80], grouped.groups[80:])
    assert len(np.unique(grouped.groups)) == 80
    assert score(grouped, splitter="stratified-group") < 0.65


def test_copies_on_one_side_are_no_leak():
    """The first two in the training part, the last two in the test part, and plain images wherever they are."""
    x = np.concatenate([PICTURES[[0, 0]], PICTURES[1:40], np.full((20, 16, 16, 3), 7, np.uint8), PICTURES[[50, 50]]])
    y = np.arange(len(x)) % 2
    y[[1, -1]] = y[[0, -2]]
    source = data.arrays(x, y)
    split = split_source(source, sk.PredefinedSplit([*[-1] * 50, *[0] * (len(x) - 50)]), 1, 0)
    assert check_leaks(MLP, source, split) == []
    x[0] = PICTURES[50]
    with pytest.raises(InputError, match=r"duplicates: 2 examples are tested.*numbers 61 and 0, 62 and 0"):
        check_leaks(MLP, data.arrays(x, source.labels), split)


@pytest.mark.slow
def test_the_same_picture_stored_in_another_way():
    darker = (PICTURES * 0.7 + 20).astype(np.uint8)
    source = data.arrays(np.concatenate([PICTURES, darker]), np.concatenate([COIN, COIN]))
    said = refusal(source)
    assert "near-duplicates: " in said
    assert " duplicates" not in said
    assert score(source, allow=("near-duplicates",)) > 0.8
    assert score(duplicate_groups(source), splitter="stratified-group") < 0.65
    with pytest.raises(InputError, match="near-duplicates"):  # exact ones alone do not help
        score(duplicate_groups(source, near=False), splitter="stratified-group")


def test_a_group_on_both_sides():
    """20 people, each with a face of his own and a label by lot."""
    rng = np.random.default_rng(1)
    faces = rng.normal(size=(20, 10)).astype(np.float32)
    person = np.repeat(np.arange(20), 8)
    x = faces[person] + 0.3 * rng.normal(size=(160, 10)).astype(np.float32)
    labels = rng.permutation(np.repeat([0, 1], 10))[person]
    source = data.arrays(x, labels, groups=person)
    assert "groups: 160 examples are tested of a group that the same fold trains on (of 20 groups: " in refusal(
        source, splitter="stratified"
    )
    own = sk.StratifiedKFold(5, shuffle=True, random_state=0)  # ignores the groups that it is given
    assert "allow=('groups',)" in refusal(source, splitter=own)
    assert score(source, allow="groups", splitter=own) > 0.9
    assert score(source) < 0.7  # auto heeds groups


@pytest.mark.slow
def test_time_order_broken_by_shuffling():
    """A regime that lasts ten days and then changes by lot, seen through curves of time."""
    rng = np.random.default_rng(1)
    days = np.arange(200)
    x = np.stack([np.sin(days / scale + shift) for scale in (2, 3, 5, 9, 20, 60) for shift in (0, 1.5)], axis=1)
    labels = np.repeat(rng.permutation(np.repeat([0, 1], 10)), 10)
    shuffled = rng.permutation(200)
    source = data.arrays(x[shuffled], labels[shuffled], times=days[shuffled])
    assert "allow=('times',)" in refusal(source, splitter=sk.KFold(5))
    assert "times: 1" in refusal(source)
    by_heart = {"init": jaxdl.create("mlp", 2, hidden=(128,)), "plan": dataclasses.replace(MEMORISE, epochs=60)}
    assert score(source, allow="times", **by_heart) > 0.85
    assert score(source, splitter="time-series", **by_heart) < 0.7
    check_leaks(MLP, source, split_source(source, "purged", 5, 0))  # made for training on both sides


@pytest.mark.slow
def test_examples_that_the_parent_was_trained_on():
    source = data.arrays(PICTURES, COIN)
    parent = jaxdl.pretrain(MLP, source, jaxdl.Plan(epochs=100, learning_rate=5e-3))
    plan = jaxdl.Plan(epochs=60, learning_rate=1e-2, freeze_through="body")
    said = refusal(source, init=parent)
    assert "parent: 80 examples are tested that the checkpoint was trained on" in said
    assert score(source, init=parent, plan=plan, allow="parent") > 0.85
    assert score(source) < 0.65  # what is true of such labels
    one = np.arange(80) < 40
    halfway = jaxdl.pretrain(MLP, data.subset(source, np.flatnonzero(one)), jaxdl.Plan(epochs=1))
    others = data.arrays(np.random.default_rng(1).integers(0, 256, (20, 16, 16, 3), np.uint8), np.arange(20) % 2)
    child = jaxdl.finetune(halfway, others, PLAN)
    assert "parent: 40 examples" in refusal(source, init=child)  # the grandchild knows of them, too
    fresh = jaxdl.cross_validate(child, data.subset(source, np.flatnonzero(~one)), PLAN, folds=2)
    assert fresh.leaks == []


PLAN = jaxdl.Plan(epochs=2)


@pytest.mark.parametrize("strategy", ["loop", pytest.param("vmap", marks=pytest.mark.slow)])
def test_test_examples_move_nothing_of_the_training(strategy):
    """Normalisation, class weights, early stopping with its inner part: whatever the test part holds, they stay."""
    rng = np.random.default_rng(1)
    plan = jaxdl.Plan(epochs=30, early_stopping=3, class_weights="balanced", learning_rate=2e-2)
    source = data.arrays(PICTURES, COIN)
    split = split_source(source, "stratified", 2, 0)
    x, labels = source.x.copy(), source.labels.copy()
    x[split.test[0]] = rng.integers(0, 40, x[split.test[0]].shape, np.uint8)
    labels[split.test[0]] = 1
    other = dataclasses.replace(source, x=x, labels=labels)
    how = jaxdl.Execution(fold_strategy=strategy, keep_models=True)

    def run(source):
        return jaxdl.cross_validate(MLP, source, plan, splitter=split, execution=how)

    clean, planted = run(source), run(other)
    assert clean.folds[0]["best_epoch"] == planted.folds[0]["best_epoch"] < 30
    for one, two in zip(*(_leaves(r.models[0].variables) for r in (clean, planted)), strict=True):
        np.testing.assert_array_equal(one, two)
    assert clean.models[0].card.preprocessing == planted.models[0].card.preprocessing
    assert clean.folds[0]["loss"] != planted.folds[0]["loss"]
    assert clean.models[1].card.preprocessing != planted.models[1].card.preprocessing  # that fold trains on them


def test_stopping_by_the_test_examples_would_have_flattered():
    source = data.arrays(PICTURES, COIN)
    split = split_source(source, "holdout", 1, 0)
    train, test = data.subset(source, split.train[0]), data.subset(source, split.test[0])
    chosen = jaxdl.train(MLP, train, MEMORISE, validation=test)
    by_test = jaxdl.predict(chosen.best, test).scores["loss"]
    stopping = dataclasses.replace(MEMORISE, early_stopping=10)
    honest = jaxdl.cross_validate(MLP, source, stopping, splitter=split).folds[0]["loss"]
    assert by_test < honest - 0.02
    # and that such a checkpoint was chosen by them is on its card, not on that of the last epoch
    assert set(test.hashes()) <= set(chosen.best.card.seen)
    assert not set(test.hashes()) & set(chosen.checkpoint.card.seen)


def _leaves(tree):
    import jax

    return jax.tree.leaves(tree)


def test_a_checkpoint_keeps_the_list(tmp_path):
    source = data.arrays(PICTURES, COIN)
    parent = jaxdl.pretrain(MLP, source, jaxdl.Plan(epochs=1, early_stopping=1))
    np.testing.assert_array_equal(parent.card.seen, np.unique(source.hashes()))  # the inner part, too
    path = jaxdl.save(parent, tmp_path / "parent")
    assert (path / "trained_on.u64").stat().st_size == 8 * 80
    assert jaxdl.restore(path).card == parent.card
    held = json.loads((path / "card.json").read_text())
    assert held["trained_on"]["examples"] == 80
    (path / "trained_on.u64").write_bytes(bytes(8 * 80))
    with pytest.raises(InputError, match="missing or not that of its card"):
        jaxdl.restore(path)
    (path / "trained_on.u64").unlink()
    with pytest.raises(InputError, match="missing or not that of its card"):
        jaxdl.restore(path)
    del held["trained_on"]
    (path / "card.json").write_text(json.dumps(held))  # as an older jaxdl wrote it
    old = jaxdl.restore(path)
    assert old.card.trained_on is None
    assert jaxdl.cross_validate(old, source, PLAN, folds=2).leaks == []  # nothing is known of it


def test_several_leaks_are_named_at_once_and_allowed_by_name():
    x = np.concatenate([PICTURES, PICTURES, (PICTURES * 0.7 + 20).astype(np.uint8)])
    source = data.arrays(x, np.tile(COIN, 3), groups=np.arange(240) // 2, times=np.arange(240))
    said = refusal(source, splitter="stratified")
    assert all(f"\n  {name}: " in said for name in ("groups", "times", "duplicates", "near-duplicates"))
    assert "--allow groups times duplicates near-duplicates" in said
    assert "times: " not in refusal(source, splitter="stratified", allow=["times"])
    result = jaxdl.cross_validate(
        MLP, source, PLAN, splitter="stratified", execution=jaxdl.Execution(allow=jaxdl.validation.leakage.LEAKS)
    )
    assert [leak["name"] for leak in result.leaks] == ["groups", "times", "duplicates", "near-duplicates"]
    assert result.leaks[-1]["examples"] is None  # what is allowed is not looked for
    with pytest.raises(InputError, match="Did you mean 'duplicates'"):
        jaxdl.cross_validate(MLP, source, PLAN, execution=jaxdl.Execution(allow=["duplicate"]))


def test_a_result_and_its_run_remember_what_was_allowed(tmp_path):
    source = data.arrays(np.concatenate([PICTURES, PICTURES]), np.concatenate([COIN, COIN]))
    result = jaxdl.cross_validate(
        MLP, source, PLAN, folds=2, execution=jaxdl.Execution(allow=["duplicates"], work=tmp_path / "work")
    )
    assert json.loads((tmp_path / "work" / "run.json").read_text())["settings"]["allow"] == ["duplicates"]
    again = jaxdl.load_result(result.save(tmp_path / "result"))
    assert again.leaks == result.leaks
    assert again.leaks[0]["examples"] > 0
    with pytest.raises(InputError, match="allow: \\['duplicates'\\] then, None now"):
        jaxdl.cross_validate(MLP, source, PLAN, folds=2, execution=jaxdl.Execution(work=tmp_path / "work"))


def test_only_the_folds_that_are_trained_are_looked_at():
    x = np.concatenate([PICTURES[:40], PICTURES[:2]])
    source = data.arrays(x, np.arange(42) % 2)
    split = split_source(source, sk.PredefinedSplit([*[0] * 20, *[1] * 20, 1, 2]), 3, 0)
    assert "numbers 0 and 40, 1 and 41" in refusal(source, splitter=split)
    with pytest.raises(InputError, match=r"duplicates: 1 example is tested .*numbers 41 and 1"):
        check_leaks(MLP, source, split, folds=[2])


def test_equal_rows_of_a_table_count_where_they_are_no_coincidence():
    rng = np.random.default_rng(1)
    x, y = load_iris(return_X_y=True)
    assert len(np.unique(x, axis=0)) == 149  # two flowers measure the same to a tenth of a centimetre
    iris = data.arrays(x, y)
    assert check_leaks(MLP, iris, split_source(iris, "stratified", 5, 0)) == []
    x = np.round(rng.normal(size=(60, 5)), 3)
    table = data.arrays(np.concatenate([x, x[:10]]), np.arange(70) % 2)
    with pytest.raises(InputError, match="duplicates: 20 examples"):
        check_leaks(MLP, table, split_source(table, "leave-one-out", 5, 0))
    dice = data.arrays(rng.integers(1, 7, (300, 3)).astype(float), np.arange(300) % 2)
    assert check_leaks(MLP, dice, split_source(dice, "stratified", 5, 0)) == []


def test_groups_of_a_source_and_copies_are_joined():
    x = np.concatenate([PICTURES[:4], PICTURES[:1], PICTURES[4:6]])
    source = data.arrays(x, np.arange(7) % 2, groups=["a", "a", "b", "b", "c", "c", "d"])
    found = duplicate_groups(source).groups  # the copy ties a to c
    assert [len(set(found[list(part)])) for part in ((0, 1, 4, 5), (2, 3), (6,))] == [1, 1, 1]
    assert len(set(found)) == 3
    part = duplicate_groups(data.subset(source, [0, 4, 6])).groups
    assert part[0] == part[1] != part[2]


def test_digits_give_no_alarm():
    """Simple pictures, most of which correlate: none is a copy of another, whichever classes are taken."""
    for classes in (range(10), range(5), range(5, 10), (0, 1), (1, 8), (3, 5)):
        copies = find_copies(data.digits(classes))
        assert len(copies.alike) == 0
        assert len(set(copies.content)) == len(copies.content)


def test_thumbnails_are_area_means():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (3, 32, 48, 3), np.uint8)
    expected = [np.asarray(Image.fromarray(i).resize((16, 16), Image.Resampling.BOX), np.float32) for i in images]
    found = thumbnails(data.arrays(images), np.arange(3))
    np.testing.assert_allclose(found, expected, atol=1.01)  # Pillow rounds twice
    uneven = thumbnails(data.arrays(images[:, :19, :23]), np.arange(3))
    np.testing.assert_allclose(uneven.mean((1, 2)), images[:, :19, :23].mean((1, 2)), rtol=1e-5)


def test_pairs_are_those_of_a_comparison_one_by_one():
    rng = np.random.default_rng(1)
    small = np.tile(rng.uniform(0, 255, (80, 16, 16, 3)).astype(np.float32), (2, 1, 1, 1))
    small[80:] = small[80:] * 0.5 + rng.normal(scale=4, size=small[80:].shape)
    small[3] = 100  # plain: like nothing
    edges = [np.concatenate([np.diff(g, axis=0).ravel(), np.diff(g, axis=1).ravel()]) for g in small.mean(-1)]
    alike = [
        (i, j)
        for i in range(160)
        for j in range(i + 1, 160)
        if i != 3 and edges[i] @ edges[j] > 0.85 * np.linalg.norm(edges[i]) * np.linalg.norm(edges[j])
    ]
    assert [tuple(pair) for pair in find_near_duplicate_images(small)] == alike
    assert len(alike) == 79


def test_files_are_read_as_they_are_stored(tmp_path):
    """A JPEG of a photograph in a folder, a copy of the file, and a PNG at half its size."""
    shapes = np.random.default_rng(1).integers(0, 256, (8, 9, 12, 3), np.uint8)
    for k, image in enumerate(shapes):
        folder = tmp_path / str(k % 2)
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).resize((240, 180), Image.Resampling.BICUBIC).save(folder / f"{k}.jpg", quality=90)
    (tmp_path / "0" / "copy.jpg").write_bytes((tmp_path / "0" / "0.jpg").read_bytes())
    Image.open(tmp_path / "1" / "1.jpg").resize((120, 90)).save(tmp_path / "1" / "half.png")
    source = data.folder(tmp_path)
    copies = find_copies(source)
    names = [path.name for path in source.paths]
    assert copies.content[names.index("copy.jpg")] == copies.content[names.index("0.jpg")]
    assert len(set(copies.content)) == 9
    assert {names[list(copies.content).index(c)] for c in copies.alike[0]} == {"1.jpg", "half.png"}
    assert len(copies.alike) == 1
    with pytest.raises(InputError, match=r"copy\.jpg"):
        check_leaks(MLP, source, split_source(source, "leave-one-out", 5, 0))


def test_a_validation_part_is_held_against_the_training_part():
    train, held = data.arrays(PICTURES[:40], COIN[:40]), data.arrays(PICTURES[40:], COIN[40:])
    assert check_validation(MLP, train, held) == []
    with pytest.raises(InputError, match="duplicates: 1 example is tested"):
        check_validation(MLP, train, data.arrays(PICTURES[39:], COIN[39:]))
    grouped = [dataclasses.replace(part, groups=np.arange(40) + 39 * k) for k, part in enumerate((train, held))]
    with pytest.raises(InputError, match="groups: 1 example is tested"):
        check_validation(MLP, *grouped)


def _as_jpeg(image, quality=75):
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)


def _scaled(image):
    small = Image.fromarray(image.squeeze())
    return np.asarray(small.resize((small.width * 3 // 4, small.height * 3 // 4), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("hymenoptera", 0),
        ("faces", 0),
        pytest.param("cifar10", 20, marks=pytest.mark.slow),
        pytest.param("cells", 1, marks=pytest.mark.slow),
    ],
)
def test_alarms_on_real_images(name, pairs, real_data, tmp_path):
    """How many pairs of a data set are taken for copies, and how many of 100 planted copies are found.

    The thresholds were chosen with the first three in view. The cells had no part in it; their pair is one field of a
    microscope at two settings of its focus.
    """
    if name in ("hymenoptera", "cells"):
        zipfile.ZipFile(real_data / {"cells": "bccd_320x240.zip"}.get(name, "hymenoptera_s160.zip")).extractall(
            tmp_path
        )
    if name == "hymenoptera":
        source = data.folder(next(p.parent for p in tmp_path.rglob("train")), "all")
    elif name == "cells":
        source = data.arrays(np.stack([np.asarray(Image.open(p)) for p in sorted(tmp_path.rglob("*.jpg"))]))
    else:
        x = np.load(real_data / {"faces": "orl_faces.npz", "cifar10": "cifar10_test.npz"}[name])["x"]
        source = data.arrays(x)
    small = thumbnails(source, np.arange(len(source)))
    assert len(find_near_duplicate_images(small)) == pairs
    chosen = np.random.default_rng(0).permutation(len(source))[:100]
    changes = (_as_jpeg, _scaled, lambda image: (image * 0.8 + 30).astype(np.uint8))
    made = [change(source[int(i)]["x"]) for change in changes for i in chosen]
    copies = np.concatenate([thumbnails(data.arrays(one[None]), np.arange(1)) for one in made])
    found = {tuple(pair) for pair in find_near_duplicate_images(np.concatenate([small, copies]))}
    for k in range(len(changes)):
        assert sum((int(i), len(small) + 100 * k + j) in found for j, i in enumerate(chosen)) >= 97


@pytest.mark.slow
def test_copies_are_looked_for_once_in_a_search_and_a_learning_curve(monkeypatch):
    looked = []
    find = checks.find_copies
    monkeypatch.setattr(checks, "find_copies", lambda source, **options: looked.append(1) or find(source, **options))
    source, plan = data.arrays(PICTURES, COIN), jaxdl.Plan(epochs=1)
    jaxdl.search(MLP, source, plan, {"batch_size": [16, 32]}, jaxdl.Searching(inner_folds=2), folds=2)
    assert len(looked) == 1
    jaxdl.learning_curve(MLP, source, plan, sizes=["50%", "100%"], folds=2)
    assert len(looked) == 2
