"""Networks whose predictions are averaged, and what they may be scored on."""

import dataclasses
import hashlib
import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.validation.splits import Splitting, split_source
from jaxdl.validation.time_splits import PurgedKFold

DIGITS = data.digits(range(3))
ORDER = np.random.default_rng(0).permutation(len(DIGITS))
SOURCE, NEW = data.subset(DIGITS, ORDER[:60]), data.subset(DIGITS, ORDER[60:100])
PLAN = jaxdl.Plan(epochs=3, batch_size=16, learning_rate=1e-2)
KEEPING = jaxdl.Execution(fold_strategy="vmap", keep_models=True)
OPTIONS = {"folds": 3, "execution": KEEPING}
MLP = jaxdl.create("mlp", 3, hidden=(8,))


@pytest.fixture(scope="module")
def result():
    return jaxdl.cross_validate(MLP, SOURCE, PLAN, **OPTIONS)


@pytest.fixture(scope="module")
def made(result):
    return jaxdl.ensemble(result)


@pytest.fixture(scope="module")
def saved(made, tmp_path_factory):
    return jaxdl.save_ensemble(made, tmp_path_factory.mktemp("ensemble") / "made")


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def test_probabilities_are_the_mean_of_the_members(result, made):
    """Each fold has a normalisation of its own."""
    assert len({card.preprocessing.mean for card in made.cards}) == 3
    alone = np.mean([jaxdl.predict(model, NEW).probabilities for model in result.models], axis=0)
    together = made.predict(NEW, batch_size=7)
    np.testing.assert_allclose(together.probabilities, alone, atol=1e-6)
    assert together.scores["accuracy"] == accuracy_score(NEW.labels, alone.argmax(1)) == together.accuracy
    assert together.scores["loss"] == pytest.approx(-np.log(alone[np.arange(40), NEW.labels]).mean(), abs=1e-5)


@pytest.mark.slow
def test_convolutions_give_the_mean_of_the_members_too():
    cnn = jaxdl.create("cnn", 3, features=(4,), hidden=(4,))
    result = jaxdl.cross_validate(
        cnn, SOURCE, jaxdl.Plan(epochs=1, batch_size=32), folds=2, execution=jaxdl.Execution(keep_models=True)
    )
    alone = np.mean([jaxdl.predict(model, NEW).probabilities for model in result.models], axis=0)
    np.testing.assert_allclose(jaxdl.ensemble(result).predict(NEW).probabilities, alone, atol=1e-6)


def test_numbers_are_the_mean_of_the_members(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 4)).astype(np.float32)
    source = data.arrays(x, (1000 + 50 * x[:, 0]).astype(np.float32))
    model = jaxdl.create("mlp", 1, hidden=(8,))
    result = jaxdl.cross_validate(model, source, PLAN, **OPTIONS)
    new = data.arrays(random.normal(size=(9, 4)).astype(np.float32))
    alone = np.mean([jaxdl.predict(one, new).predicted for one in result.models], axis=0)
    together = jaxdl.load_ensemble(jaxdl.save_ensemble(jaxdl.ensemble(result), tmp_path / "e"))
    np.testing.assert_allclose(together.predict(new).predicted, alone, rtol=1e-6)
    held = result.out_of_fold
    np.testing.assert_allclose(together.out_of_fold(source).logits[held.index], held.kept, rtol=1e-5)


def test_it_is_not_scored_on_what_a_member_was_trained_on(result, made):
    predictions = made.predict(SOURCE)  # predictions are no score
    for ask in (lambda: predictions.scores, lambda: predictions.accuracy, lambda: made.check_unseen(SOURCE)):
        with pytest.raises(InputError, match="60 of the 60 examples of digits:0,1,2 were trained on"):
            ask()
    mixed = data.subset(DIGITS, np.concatenate([ORDER[57:100]]))
    with pytest.raises(InputError, match="3 of the 43 examples"):
        _ = made.predict(mixed).scores
    made.check_unseen(NEW)
    # the number that it would have given is too good: each example was learned by two members of three
    fooled = dataclasses.replace(predictions, refusal="").scores
    assert fooled["loss"] < made.out_of_fold(SOURCE).scores["loss"]


def test_out_of_fold_each_example_is_predicted_by_those_that_have_not_seen_it(result, made):
    held, found = result.out_of_fold, made.out_of_fold(SOURCE)
    np.testing.assert_array_equal(made.seen(SOURCE)[held.fold, held.index], False)
    assert made.seen(SOURCE).sum() == 120
    log_p = held.kept - np.log(np.exp(held.kept).sum(1, keepdims=True))
    np.testing.assert_allclose(found.logits[held.index], log_p, atol=1e-5)
    assert found.accuracy == accuracy_score(held.target, result.predicted)
    both = jaxdl.ensemble([jaxdl.finetune(MLP, SOURCE, dataclasses.replace(PLAN, seed=s)) for s in (0, 1)])
    with pytest.raises(InputError, match=r"60 of the 60 .* by every member"):
        both.out_of_fold(SOURCE)


def without_tested(member):
    """A network of no fold, as those of older releases are."""
    return dataclasses.replace(member, card=dataclasses.replace(member.card, tested=None))


@pytest.mark.slow
def test_out_of_fold_is_chance_where_labels_overlap_and_nothing_predicts_them():
    """Labels are signs of moving sums of noise, over 16 steps; features move smoothly, and know nothing of the noise.

    A fold that purged an example trained on others whose windows overlap its own, and with features like its own.
    1600 labels are about 100 independent ones: the standard error of an accuracy at chance is 0.05.
    """
    random, count, horizon = np.random.default_rng(0), 1600, 16
    waves = np.arange(count) / random.uniform(40, 200, (24, 1)) + random.random((24, 1))
    noise = random.normal(size=count + horizon - 1)
    labels = (np.convolve(noise, np.ones(horizon), "valid") > 0).astype(int)
    source = data.arrays(np.sin(2 * np.pi * waves).T.astype(np.float32), labels, times=np.arange(count))
    splitter = PurgedKFold(100, times=np.arange(count), horizon=horizon)
    plan = jaxdl.Plan(epochs=15, batch_size=64, learning_rate=1e-2)
    options = {"splitter": splitter, "execution": KEEPING}
    result = jaxdl.cross_validate(jaxdl.create("mlp", 2, hidden=(32,)), source, plan, **options)
    fair = jaxdl.ensemble(result).out_of_fold(source).accuracy
    assert fair == accuracy_score(result.out_of_fold.target, result.predicted)
    assert abs(fair - 0.5) < 0.1
    leaking = jaxdl.ensemble([without_tested(member) for member in result.models]).out_of_fold(source).accuracy
    assert leaking > fair + 0.05


TIMED = dataclasses.replace(SOURCE, times=np.random.default_rng(0).permutation(60))
GROUPED = dataclasses.replace(SOURCE, groups=np.arange(60) // 4)


@pytest.mark.parametrize(
    ("source", "splitter"),
    [
        (TIMED, Splitting("purged", horizon=6, embargo=3)),
        pytest.param(TIMED, Splitting("combinatorial-purged", horizon=4), marks=pytest.mark.slow),
        pytest.param(GROUPED, Splitting("group"), marks=pytest.mark.slow),
        pytest.param(SOURCE, Splitting("repeated-kfold", repeats=2), marks=pytest.mark.slow),
    ],
    ids=lambda given: getattr(given, "splitter", ""),
)
def test_out_of_fold_each_example_is_predicted_by_the_folds_that_tested_it(source, splitter, tmp_path):
    split = split_source(source, splitter, 4, 0)
    options = {"splitter": split, "execution": KEEPING}
    result = jaxdl.cross_validate(MLP, source, PLAN, **options)
    held = result.out_of_fold
    p = np.exp(held.kept - np.log(np.exp(held.kept).sum(1, keepdims=True)))
    expected = [p[held.index == example].mean(0) for example in range(60)]
    tested = np.stack([np.isin(np.arange(60), part) for part in split.test])
    path = jaxdl.save_ensemble(jaxdl.ensemble(result), tmp_path / "made")
    for member, name in zip(result.models, "abcdefgh", strict=False):
        jaxdl.save(member, tmp_path / name)
    folders = [tmp_path / name for name, _ in zip("abcdefgh", result.models, strict=False)]
    for made in (jaxdl.ensemble(result), jaxdl.load_ensemble(path), jaxdl.ensemble(folders)):
        np.testing.assert_array_equal(made.unseen(source), tested)
        np.testing.assert_allclose(made.out_of_fold(source).probabilities, expected, atol=1e-6)
        turned = data.subset(source, [5, 2, 9])  # examples are known by their content
        np.testing.assert_allclose(made.out_of_fold(turned).probabilities, np.take(expected, [5, 2, 9], 0), atol=1e-6)
        assert made.unseen(NEW).all()


def test_what_no_fold_tested_is_not_predicted_out_of_fold():
    """The first examples of a series, and a gap: some folds trained on none of them."""
    splitter = Splitting("time-series", gap=8)
    result = jaxdl.cross_validate(
        MLP, TIMED, PLAN, splitter=splitter, folds=3, execution=jaxdl.Execution(keep_models=True)
    )
    made, tested = jaxdl.ensemble(result), np.unique(result.out_of_fold.index)
    with pytest.raises(InputError, match=f"{60 - len(tested)} of the 60 examples"):
        made.out_of_fold(TIMED)
    assert made.out_of_fold(data.subset(TIMED, tested)).accuracy == accuracy_score(
        result.out_of_fold.target, result.predicted
    )


def test_more_training_ends_what_a_fold_tested(result):
    further = jaxdl.finetune(result.models[0], NEW, jaxdl.Plan(epochs=1))
    assert result.models[0].card.tested is not None
    assert further.card.tested is None


def test_ensembles_of_older_releases_are_read(made, copy):
    """They list nothing that was tested; their folds predict what they were not trained on."""
    with np.load(copy / "trained_on.npz") as file:
        held = {name: file[name] for name in file.files if "tested" not in name}
    np.savez(copy / "trained_on.npz", **held)
    card = json.loads((copy / "ensemble.json").read_text())
    card["trained_on"] = hashlib.sha256((copy / "trained_on.npz").read_bytes()).hexdigest()
    for member in card["members"]:
        del member["tested"]
    (copy / "ensemble.json").write_text(json.dumps(card))
    old = jaxdl.load_ensemble(copy)
    assert [card.tested for card in old.cards] == [None] * 3
    np.testing.assert_array_equal(old.unseen(SOURCE), ~old.seen(SOURCE))
    np.testing.assert_array_equal(old.seen(SOURCE), made.seen(SOURCE))


def test_it_is_saved_whole_and_read_again(made, saved, copy):
    assert sorted(p.name for p in saved.iterdir()) == [
        "ensemble.json",
        "held_out.npz",
        "trained_on.npz",
        "variables",
    ]
    again = jaxdl.load_ensemble(saved)
    np.testing.assert_array_equal(again.predict(NEW).logits, made.predict(NEW).logits)
    assert again.cards == made.cards
    with pytest.raises(InputError, match="it was left as it is"):
        jaxdl.save_ensemble(made, saved)
    with pytest.raises(InputError, match="is an ensemble of several networks"):
        jaxdl.restore(saved)
    with pytest.raises(InputError, match=r"^checkpoint is .*ensemble"):
        jaxdl.predict(again, NEW)


def test_damaged_folders_are_refused(copy, tmp_path):
    with pytest.raises(InputError, match="not an ensemble"):
        jaxdl.load_ensemble(tmp_path)
    listed = (copy / "trained_on.npz").read_bytes()
    (copy / "trained_on.npz").write_bytes(listed[:-9])
    with pytest.raises(InputError, match="missing or not that of its card"):
        jaxdl.load_ensemble(copy)
    (copy / "trained_on.npz").write_bytes(listed)
    card = (copy / "ensemble.json").read_text()
    for change, said in (
        (lambda c: c.update(members=c["members"][:2]), "damaged|mismatches"),
        (lambda c: c.update(model="cnn"), "damaged|mismatches"),
        (lambda c: c.update(format=9), "update jaxdl"),
        (lambda c: c.pop("members"), "damaged"),
        (lambda c: c.update(fingerprint="0"), "exchanged"),
    ):
        held = json.loads(card)
        change(held)
        (copy / "ensemble.json").write_text(json.dumps(held))
        with pytest.raises(InputError, match=said):
            jaxdl.load_ensemble(copy)
    (copy / "ensemble.json").write_text(card[:100])
    with pytest.raises(InputError, match="damaged"):
        jaxdl.load_ensemble(copy)
    (copy / "ensemble.json").write_text(card)
    shutil.rmtree(copy / "variables")
    with pytest.raises(InputError, match="arrays of the checkpoint"):
        jaxdl.load_ensemble(copy)


def test_members_are_of_one_kind(result, tmp_path):
    one = result.models[0]
    wider = jaxdl.pretrain(jaxdl.create("mlp", 3, hidden=(9,)), SOURCE, jaxdl.Plan(epochs=1))
    other = dataclasses.replace(one, card=dataclasses.replace(one.card, task=jaxdl.Classification(("a", "b", "c"))))
    for members, said in (
        ([one], "at least two networks; there is one"),
        ([one, wider], r"member 0 and member 1 differ: model .*hidden"),
        ([one, other], "differ: task"),
        ([one, 3], "members is a list"),
        (dataclasses.replace(result, models=None), "keep_models=True"),
        (tmp_path, "holds no folds' networks"),
        (
            [jaxdl.from_model(MLP, dataclasses.replace(one.card.preprocessing, mean=None, std=None))] * 2,
            "never trained",
        ),
    ):
        with pytest.raises(InputError, match=said):
            jaxdl.ensemble(members)


def test_without_a_list_of_what_was_trained_on_there_is_no_score(result):
    old = [dataclasses.replace(m, card=dataclasses.replace(m.card, trained_on=None)) for m in result.models]
    made = jaxdl.ensemble(old)
    with pytest.raises(InputError, match="members 0, 1, 2 do not list"):
        _ = made.predict(NEW).scores
    unlabelled = data.arrays(NEW.x)
    assert made.predict(unlabelled).scores is None
    with pytest.raises(InputError, match="do not list"):
        made.out_of_fold(unlabelled)


@pytest.mark.slow
def test_the_commands(tmp_path, monkeypatch):
    from command_line import jaxdl_command, read_csv, refused

    monkeypatch.chdir(tmp_path)
    for name, source in (("d.npz", SOURCE), ("new.npz", NEW)):
        np.savez(name, x=source.x, y=source.labels, class_names=list(source.class_names))
    jaxdl_command(
        "cross-validate --model mlp --data d.npz --epochs 2 --folds 2 --fold-strategy vmap --out run "
        "--model-arguments hidden=[8]"
    )
    assert "2 networks in" in jaxdl_command("ensemble run --out both")
    assert "40 predictions" in (said := jaxdl_command("predict --checkpoint both --data new.npz --out new.csv"))
    rows = read_csv("new.csv")
    right = np.mean([row["predicted"] == row["label"] for row in rows])
    assert f"accuracy {right:.4f}, loss" in said
    assert "60 of the 60 examples" in refused("predict --checkpoint both --data d.npz --out d.csv")
    said = jaxdl_command("predict --checkpoint both --data d.npz --out d.csv --out-of-fold")
    held = jaxdl.load_result("run")
    assert f"accuracy {accuracy_score(held.out_of_fold.target, held.predicted):.4f}" in said
    assert "is a single network" in refused("predict --checkpoint run/folds/0 --data d.npz --out e.csv --out-of-fold")
    assert "2 networks in" in jaxdl_command("ensemble run/folds/0 run/folds/1 --out again")
    assert "which only predicts" in refused("finetune --init both --data d.npz --out tuned")
    assert "holds no folds' networks" in refused("ensemble run/folds/0 --out no")
