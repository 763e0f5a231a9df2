"""Cross-validation as a whole."""

import dataclasses
import json
import time

import jax
import numpy as np
import pytest
from sklearn import model_selection as sk
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.models.initialise import init_variables
from jaxdl.parallel.layout import Layout
from jaxdl.tasks import choose_task
from jaxdl.training.prepare import prepare
from jaxdl.validation import strategy
from jaxdl.validation.crossval import Folds, run_folds
from jaxdl.validation.splits import split_source
from jaxdl.validation.strategy import pad_runs

DIGITS = data.digits(range(4))
SOURCE = data.subset(DIGITS, np.random.default_rng(0).permutation(len(DIGITS))[:100])
PLAN = jaxdl.Plan(epochs=3, batch_size=32, learning_rate=5e-3)
MLP = jaxdl.create("mlp", 4, hidden=(32,))
TASK = choose_task(SOURCE, purpose="a test")


@pytest.fixture(scope="module")
def result():
    return jaxdl.cross_validate(MLP, SOURCE, PLAN, execution=jaxdl.Execution(fold_strategy="vmap"))


def test_scores_are_those_of_the_out_of_fold_predictions(result):
    found = result.out_of_fold
    assert sorted(found.index) == list(range(100))
    np.testing.assert_array_equal(found.target, SOURCE.labels[found.index])
    for row in result.folds:
        mine = found.fold == row["fold"]
        assert row["test"] == mine.sum()
        assert row["train"] == 100 - mine.sum()
        assert row["accuracy"] == pytest.approx(accuracy_score(found.target[mine], result.predicted[mine]))
        logits = found.kept[mine].astype(np.float64)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        assert row["loss"] == pytest.approx(log_loss(found.target[mine], p, labels=range(4)), rel=1e-5)
    scores = [row["accuracy"] for row in result.folds]
    assert result.mean == pytest.approx(np.mean(scores))
    assert result.std == pytest.approx(np.std(scores, ddof=1))
    np.testing.assert_array_equal(result.confusion_matrix(), confusion_matrix(found.target, result.predicted))


def test_a_fold_is_what_fine_tuning_on_its_training_part_gives():
    """Against the loop that a person would write: subset, fine-tune, predict."""
    splitter = sk.StratifiedKFold(5, shuffle=True, random_state=0)
    result = jaxdl.cross_validate(MLP, SOURCE, PLAN, splitter=splitter, execution=jaxdl.Execution(fold_strategy="vmap"))
    train, test = next(iter(splitter.split(SOURCE.x, SOURCE.labels)))
    tuned = jaxdl.finetune(MLP, data.subset(SOURCE, train), PLAN)
    by_hand = jaxdl.predict(tuned, data.subset(SOURCE, test)).logits
    np.testing.assert_allclose(result.out_of_fold.kept[result.out_of_fold.fold == 0], by_hand, atol=1e-4)


@pytest.mark.parametrize("strategy", [pytest.param("loop", marks=pytest.mark.slow), "vmap"])
def test_test_examples_influence_nothing_but_their_own_predictions(strategy):
    """Normalisation, batches and training of fold 0 stay as they are if its first test example is replaced."""
    split = sk.StratifiedKFold(5, shuffle=True, random_state=0)
    _, test = next(iter(split.split(SOURCE.x, SOURCE.labels)))
    x = SOURCE.x.copy()
    x[test[0]] = 255
    poisoned = dataclasses.replace(SOURCE, x=x)
    clean, dirty = (
        jaxdl.cross_validate(
            MLP, s, PLAN, splitter=split, execution=jaxdl.Execution(fold_strategy=strategy)
        ).out_of_fold
        for s in (SOURCE, poisoned)
    )
    fold = clean.fold == 0
    np.testing.assert_array_equal(clean.kept[fold][1:], dirty.kept[fold][1:])
    assert (clean.kept[fold][0] != dirty.kept[fold][0]).any()
    assert (clean.kept[~fold] != dirty.kept[~fold]).any()  # the others train on it


def test_folds_take_the_same_number_of_steps_with_parts_of_different_size():
    source = dataclasses.replace(SOURCE, times=np.arange(100))
    result = jaxdl.cross_validate(MLP, source, PLAN, splitter="time-series", folds=4)
    assert len({row["train"] for row in result.folds}) == 4
    assert {row["step"] for row in result.curves if row["epoch"] == 3} == {9}


@pytest.mark.parametrize(
    "splitter", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("leave-one-out", "monte-carlo")), "holdout"]
)
def test_other_splitters_run(splitter):
    source = data.subset(SOURCE, np.arange(30))
    result = jaxdl.cross_validate(
        MLP, source, jaxdl.Plan(epochs=1), splitter=splitter, folds=3, execution=jaxdl.Execution(fold_strategy="vmap")
    )
    assert len(result.folds) == {"leave-one-out": 30, "monte-carlo": 3, "holdout": 1}[splitter]
    assert (result.std is None) == (splitter == "holdout")
    assert len(result.out_of_fold.index) == sum(row["test"] for row in result.folds)


def test_a_result_is_saved_whole_and_read_again(result, tmp_path):
    path = result.save(tmp_path / "run")
    assert sorted(p.name for p in path.iterdir()) == ["metrics.jsonl", "out_of_fold.npz", "result.json"]
    held = json.loads((path / "result.json").read_text())
    for key in ("task", "metric", "mean", "std", "folds", "fold_strategy", "split", "init", "plan", "environment"):
        assert key in held
    assert set(held["folds"][0]) == {"fold", "train", "test", "accuracy", "loss", "seconds"}
    assert {"kind", "k", "seed", "sha256", "options", "groups_sha256"} < set(held["split"])
    assert held["plan"] == PLAN.as_dict()
    again = jaxdl.load_result(path)
    np.testing.assert_array_equal(again.out_of_fold.kept, result.out_of_fold.kept)
    assert again.as_dict() == json.loads(json.dumps(result.as_dict()))
    with pytest.raises(InputError, match="it was left as it is"):
        result.save(path)
    (path / "result.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        jaxdl.load_result(path)
    with pytest.raises(InputError, match="not a result"):
        jaxdl.load_result(tmp_path)


def test_curves_have_a_row_for_each_fold_and_epoch(result):
    assert sorted((r["fold"], r["epoch"]) for r in result.curves) == [(f, e) for f in range(5) for e in (1, 2, 3)]
    last = {r["fold"]: r for r in result.curves if r["epoch"] == 3}
    for row in result.folds:  # what is counted is the last epoch's, whatever came before
        assert last[row["fold"]]["test_accuracy"] == pytest.approx(row["accuracy"])


def test_progress_hears_of_every_row():
    heard = []
    result = jaxdl.cross_validate(
        MLP, SOURCE, jaxdl.Plan(epochs=2), execution=jaxdl.Execution(fold_strategy="loop", progress=heard.append)
    )
    assert heard == list(result.curves)


def test_auto_says_why():
    one = jaxdl.cross_validate(MLP, SOURCE, jaxdl.Plan(epochs=1), splitter="holdout").fold_strategy
    assert one == {"name": "loop", "reason": "there is one fold"}
    cnn = jaxdl.create("cnn", 4, features=(4,), hidden=(8,))
    setup = prepare(cnn, SOURCE, PLAN, [np.arange(50), np.arange(50, 100)], TASK)
    choice, runners = strategy.choose_strategy(setup, [0, 1])
    assert (choice["name"], "rule" in choice["reason"], runners) == ("loop", True, {})


@pytest.mark.parametrize(
    ("seconds", "chosen", "said"),
    [
        ({"vmap": 1e-4, "loop": 0.0}, "vmap", "too little to be worth trying another way"),
        ({"vmap": 9.0, "loop": 3.0}, "loop", "vmap 9e+03 ms, loop 3e+03 ms"),
        ({"vmap": 2.0, "loop": 3.0}, "vmap", "vmap 2e+03 ms, loop 3e+03 ms"),
    ],
)
def test_auto_tries_another_way_only_where_that_can_pay(seconds, chosen, said, monkeypatch):
    class Timed:
        """A trial that compiles for a moment and takes as long as is said."""

        def __init__(self, setup, runs, name):
            time.sleep(0.02)
            compiled.append(name)
            self.first, self.runner = seconds[name], name

        def seconds(self):
            return self.first

        def whole(self):
            return 10 * self.first

    compiled = []
    monkeypatch.setattr(strategy, "Trial", Timed)
    setup = prepare(MLP, SOURCE, PLAN, [np.arange(50), np.arange(50, 100)], TASK)
    choice, runners = strategy.choose_strategy(setup, [0, 1])
    assert choice["name"] == chosen
    assert said in choice["reason"]
    assert choice["trial"] == {name: seconds[name] for name in compiled}
    assert runners[chosen] == chosen
    assert compiled == (["vmap"] if seconds["loop"] == 0 else ["vmap", "loop"])
    # as often as would be worth it
    assert strategy.choose_strategy(setup, [0, 1], turns=1000)[0]["trial"].keys() == {"vmap", "loop"}


def test_folds_start_with_different_heads_on_the_same_body():
    parent = jaxdl.pretrain(MLP, SOURCE, jaxdl.Plan(epochs=1))
    setup = prepare(parent, SOURCE, PLAN, [np.arange(50), np.arange(50, 100)], TASK)
    params = setup.states([setup.run(0), setup.run(1)]).params
    for fold in (0, 1):
        np.testing.assert_array_equal(
            params["layer1"]["dense"]["kernel"][fold], parent.variables["params"]["layer1"]["dense"]["kernel"]
        )
        assert (params["head"]["dense"]["kernel"][fold] != parent.variables["params"]["head"]["dense"]["kernel"]).any()
    one, two = params["head"]["dense"]["kernel"]
    assert (one != two).any()


def test_mistakes_are_named():
    with pytest.raises(InputError, match="single class"):
        jaxdl.cross_validate(MLP, data.digits([1]), PLAN)
    with pytest.raises(InputError, match="no labels"):
        jaxdl.cross_validate(MLP, data.arrays(SOURCE.x), PLAN)
    with pytest.raises(InputError, match="Did you mean 'vmap'"):
        jaxdl.cross_validate(MLP, SOURCE, PLAN, execution=jaxdl.Execution(fold_strategy="vmpa"))
    split = split_source(SOURCE, "stratified", 3, 0)
    for chosen in ([7], [], [1, 1]):
        with pytest.raises(InputError, match="folds to train"):
            run_folds(Folds(MLP, SOURCE, PLAN, TASK, split, only=chosen), jaxdl.Execution())


def test_runs_are_padded_to_the_devices(monkeypatch):
    monkeypatch.setattr("jax.local_devices", lambda: [None] * 4)
    assert pad_runs([0, 1, 2, 3, 4], "shard", Layout()) == [0, 1, 2, 3, 4, 0, 1, 2]
    assert pad_runs([0, 1, 2, 3, 4], "vmap", Layout()) == [0, 1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"), [("hymenoptera", 0.65), pytest.param("cifar10", 0.70, marks=pytest.mark.slow)]
)
def test_published_weights_are_worth_something_on_real_images(name, least, real_data, tmp_path):
    """Frozen features of the CIFAR-10 ResNet-20 against random ones, on ants and bees and on CIFAR-10."""
    import zipfile

    if name == "hymenoptera":
        zipfile.ZipFile(real_data / "hymenoptera_s160.zip").extractall(tmp_path)
        source = data.folder(next(p.parent for p in tmp_path.rglob("train")), "all")
        assert len(source) == 397
    else:
        whole = data.npz(real_data / "cifar10_test.npz")
        source = data.subset(whole, np.arange(400))
    published = jaxdl.convert(real_data / "weights" / "cifar10_resnet20-12fca82f.npz", "resnet20_cifar").checkpoint
    plan = jaxdl.Plan(epochs=40, learning_rate=1e-2, freeze_through="body")
    result = jaxdl.cross_validate(published, source, plan)
    assert result.cached
    assert result.mean > least
    random = jaxdl.replace_head(published, num_outputs=2)
    random = dataclasses.replace(random, variables=init_variables(random.model, jax.random.key(0), (32, 32, 3)))
    assert result.mean > jaxdl.cross_validate(random, source, plan).mean + 0.03
