"""A task of somebody's own, a class for every pixel, through everything that trains and measures."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interruptions import run_to_the_end

import jaxdl
from jaxdl import data
from jaxdl.data.batches import training_batches
from jaxdl.models import Entry
from jaxdl.models.staged import Staged
from jaxdl.tasks import TASKS
from jaxdl.tasks.metric import Sums
from jaxdl.training.execution import Execution
from jaxdl.training.inner import divide_inner
from jaxdl.training.prepare import prepare
from jaxdl.training.step import Batch
from jaxdl.training.transfer import of_run, train

VOID, SIDE = 255, 8


def _share(of, name, **about):
    """Of the known pixels, those that `of` counts."""
    return Sums(
        name,
        columns=lambda record: np.stack([record[of], record["hits"] + record["misses"]], 1).astype(np.float64),
        combine=lambda sums: sums[..., 0] / sums[..., 1],
        bounds=(0.0, 1.0),
        reads=("hits", "misses"),
        **about,
    )


@dataclasses.dataclass(frozen=True)
class PerPixel(jaxdl.Task):
    """A class for every pixel; targets are ``uint8[n, height, width]``, `VOID` where nobody knows it."""

    name = "per-pixel"
    METRICS: ClassVar = {
        "pixel_accuracy": _share("hits", "pixel_accuracy", scale="share"),
        "pixel_error": _share("misses", "pixel_error", higher_is_better=False, best=0.0, scale="distance"),
    }
    LOSS = "pixel_error"
    SHOWN = ("pixel_accuracy",)

    @property
    def num_outputs(self):
        return len(self.names)

    def check(self, targets, count, data, purpose):
        if targets.ndim != 3 or targets.shape[0] != count or targets.dtype != np.uint8:
            raise jaxdl.InputError(f"the labels of {data} are no {count} maps of classes")

    def baseline(self, targets, count):
        common = np.bincount(targets[targets != VOID]).argmax()
        return np.full((count, *targets.shape[1:]), common, np.uint8)

    def loss(self, outputs, targets, constants):
        known = targets != VOID
        log_p = jax.nn.log_softmax(outputs.astype(jnp.float32))
        nats = -jnp.take_along_axis(log_p, jnp.where(known, targets, 0)[..., None].astype(jnp.int32), -1)[..., 0]
        return jnp.where(known, nats, 0).sum((1, 2)), known.sum((1, 2)).astype(jnp.float32)

    def train_scores(self, record):
        return {"pixel_accuracy": record["hits"] / jnp.maximum(record["hits"] + record["misses"], 1)}

    def predict(self, outputs, constants):
        return outputs.argmax(-1).astype(jnp.uint8)

    def record(self, kept, targets):
        known, right = targets != VOID, kept == targets
        return {"hits": (known & right).sum((1, 2)), "misses": (known & ~right).sum((1, 2))}


class Blocks(data.Source):
    """Noisy pictures of a bright block and a dark one on grey ground, with a frame and spots that nobody labelled."""

    class_names = ("ground", "bright", "dark")

    def __init__(self, count, seed=0, name="blocks"):
        random, self.name = np.random.default_rng(seed), name
        self.y = np.zeros((count, SIDE, SIDE), np.uint8)
        for picture in self.y:
            for label in (1, 2):
                top, left = random.integers(0, SIDE - 3, 2)
                picture[top : top + random.integers(2, 4), left : left + random.integers(2, 4)] = label
        light = np.array([120, 210, 30])[self.y] + random.normal(0, 12, self.y.shape)
        self.x = light.clip(0, 255).astype(np.uint8)[..., None]
        self.y[:, 0], self.y[:, :, 0] = VOID, VOID
        self.y[random.random(self.y.shape) < random.uniform(0, 0.4, (count, 1, 1))] = VOID  # some have few known pixels

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index], "y": self.y[index]}


class Body(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, mode):
        return nn.relu(nn.Conv(self.width, (3, 3), name="conv")(x))


class PixelHead(nn.Module):
    num_outputs: int

    @nn.compact
    def __call__(self, x, mode):
        return nn.Conv(self.num_outputs, (1, 1), name="conv")(x)


class Segmenter(Staged):
    width: int = 8

    def stages(self):
        return (
            ("body", lambda name: Body(self.width, name=name)),
            ("head", lambda name: PixelHead(self.num_outputs, name=name)),
        )


@pytest.fixture(autouse=True, scope="module")
def known_here():
    """The model and the task are in the tables while these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(jaxdl.MODELS, "segmenter", Entry(Segmenter))
        jaxdl.register_task(PerPixel)
        yield
        del TASKS["per-pixel"]


TASK = PerPixel(Blocks.class_names)
SOURCE, NEW = Blocks(30), Blocks(20, seed=1, name="new blocks")
PLAN = jaxdl.Plan(epochs=25, batch_size=8, learning_rate=0.03)


@pytest.fixture(scope="module")
def trained():
    return jaxdl.pretrain(Segmenter(3), SOURCE, PLAN, task=TASK, validation=NEW)


def accuracy_of(maps, targets):
    """By a slow loop over pixels."""
    hits = known = 0
    for one, target in zip(maps, targets, strict=True):
        for row in range(SIDE):
            for column in range(SIDE):
                if target[row, column] != VOID:
                    known += 1
                    hits += one[row, column] == target[row, column]
    return hits / known


def test_training_beats_the_baseline_by_far_and_predicts_maps(trained):
    found = jaxdl.predict(trained, NEW)
    assert found.outputs.dtype == np.uint8
    assert found.outputs.shape == (20, SIDE, SIDE)
    accuracy = accuracy_of(found.outputs, NEW.y)
    assert found.scores["pixel_accuracy"] == pytest.approx(accuracy, rel=1e-12)
    assert found.scores["loss"] == pytest.approx(1 - accuracy)
    assert accuracy > 0.93 > 0.85 > accuracy_of(TASK.baseline(SOURCE.y, 20), NEW.y)
    assert trained.history[-1]["test_pixel_accuracy"] == pytest.approx(accuracy)
    assert trained.history[-1]["train_pixel_accuracy"] > 0.9
    unlabelled = jaxdl.predict(trained, data.Arrays(NEW.x))
    np.testing.assert_array_equal(unlabelled.outputs, found.outputs)
    assert unlabelled.scores is None
    classes = jaxdl.predict(trained, data.Arrays(NEW.x, np.zeros(20, np.int32), ("a", "b")))
    assert classes.targets is None  # which are no targets of this task


def test_an_epoch_in_which_nothing_is_known_has_no_loss():
    nowhere = data.Arrays(SOURCE.x[:4], np.full((4, SIDE, SIDE), VOID, np.uint8), TASK.names)
    with_some = jaxdl.pretrain(Segmenter(3), SOURCE, jaxdl.Plan(epochs=1), task=TASK)
    trained = jaxdl.finetune(with_some, nowhere, jaxdl.Plan(epochs=1), task=TASK, head="keep")
    assert np.isnan(trained.history[-1]["train_loss"])


@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_loss_is_the_mean_over_known_pixels_however_they_are_spread(parts):
    plan = jaxdl.Plan(epochs=1, batch_size=8, optimizer="sgd", learning_rate=1.0, weight_decay=0.0, accumulate=parts)
    setup = prepare(Segmenter(3), SOURCE, plan, [np.arange(30)], TASK)
    state = of_run(setup.states([0]), 0)
    made = training_batches([np.arange(30)], 8, 0, [0], 0)[0]
    batch = Batch(made.indices[0], made.weights[0])
    after, metrics = jax.jit(setup.make_step())(state, batch, setup.shared)

    rows = made.indices[0][made.weights[0] > 0]
    x = jnp.asarray((SOURCE.x[rows] / np.float32(255) - state.inputs["mean"]) / state.inputs["std"])

    known = [(i, *place) for i, row in enumerate(rows) for place in np.argwhere(SOURCE.y[row] != VOID)]
    assert np.ptp(np.bincount([i for i, *_ in known])) > 5  # or a mean of means would be the same
    labels = [SOURCE.y[rows[i], r, c] for i, r, c in known]
    places = (*np.array(known).T, np.array(labels))

    def by_hand(params):
        return -jax.nn.log_softmax(setup.model.apply({"params": params}, x))[places].mean()

    loss, gradient = jax.value_and_grad(by_hand)(state.params)
    assert float(metrics["weight"]) == len(known)
    assert float(metrics["count"]) == len(rows)
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
    for before, now, slope in zip(*map(jax.tree.leaves, (state.params, after.params, gradient)), strict=True):
        np.testing.assert_allclose(before - now, slope, atol=1e-6)


def test_void_pixels_teach_nothing():
    """Whatever the picture's labels are where nobody knows them; a picture without any known pixel counts nothing."""
    some = Blocks(10)
    some.y[3] = VOID
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(10, SIDE, SIDE, 3)), jnp.float32)
    total, count = TASK.loss(outputs, jnp.asarray(some.y), {})
    np.testing.assert_array_equal(count, (some.y != VOID).sum((1, 2)))
    assert (total[3], count[3]) == (0, 0)
    slope = np.asarray(jax.grad(lambda z: TASK.loss(z, jnp.asarray(some.y), {})[0].sum())(outputs))
    assert (slope[some.y == VOID] == 0).all()
    assert (np.abs(slope[some.y != VOID]).max(-1) > 0).all()
    history = jaxdl.pretrain(Segmenter(3), some, jaxdl.Plan(epochs=2, batch_size=1), task=TASK).history
    assert np.isfinite([row["train_loss"] for row in history]).all()  # a step on that picture alone changes nothing


def test_no_more_than_maps_and_counts_leave_the_device():
    setup = prepare(Segmenter(3), SOURCE, PLAN, [np.arange(30)], TASK)
    batch = Batch(np.arange(8), np.ones(8, np.float32))
    found = jax.eval_shape(setup.make_predict(), of_run(setup.states([0]), 0), batch, setup.shared)
    assert found["kept"].dtype == np.uint8
    assert set(found["record"]) == {"hits", "misses"}
    assert {leaf.shape for leaf in found["record"].values()} == {(8,)}


@pytest.mark.slow
def test_cross_validation_is_the_same_by_every_strategy(tmp_path):
    plan = dataclasses.replace(PLAN, epochs=15)
    loop, *others = (
        jaxdl.cross_validate(Segmenter(3), SOURCE, plan, task=TASK, folds=3, execution=Execution(fold_strategy=name))
        for name in ("loop", "vmap", "shard")
    )
    assert loop.mean > 0.93 > 0.85 > loop.baseline["pixel_accuracy"]
    assert loop.interval["low"] < loop.mean < loop.interval["high"]
    held = loop.out_of_fold
    assert held.kept.dtype == np.uint8
    assert held.kept.shape == (30, SIDE, SIDE)
    for row in loop.folds:
        mine = held.fold == row["fold"]
        assert row["pixel_accuracy"] == pytest.approx(accuracy_of(held.kept[mine], SOURCE.y[held.index[mine]]))
    for other in others:
        assert (other.out_of_fold.kept != held.kept).mean() < 1e-3  # rounding may turn a pixel that is on the edge
        assert other.mean == pytest.approx(loop.mean, abs=1e-3)
        losses = [sorted((r["epoch"], r["fold"], r["train_loss"]) for r in one.curves) for one in (loop, other)]
        np.testing.assert_allclose(*losses, rtol=1e-4)
    again = jaxdl.load_result(loop.save(tmp_path / "result"))
    np.testing.assert_array_equal(again.out_of_fold.kept, held.kept)
    assert again.sample().pooled_score == pytest.approx(accuracy_of(held.kept, SOURCE.y[held.index]))


def test_early_stopping_keeps_the_epoch_with_the_fewest_wrong_pixels():
    plan = jaxdl.Plan(epochs=20, batch_size=8, learning_rate=0.1, early_stopping=3, inner_fraction=0.3)
    stopped = train(Segmenter(3), SOURCE, plan, task=TASK)
    learned, inner = divide_inner(SOURCE, TASK, np.arange(30), 0.3, 0)
    rows = []
    train(
        Segmenter(3),
        data.subset(SOURCE, learned),
        dataclasses.replace(plan, early_stopping=None),
        task=TASK,
        validation=data.subset(SOURCE, inner),
        execution=Execution(progress=rows.append),
    )
    errors = [row["test_loss"] for row in rows][: len(stopped.checkpoint.history)]
    assert int(np.argmin(errors)) + 1 == stopped.best_epoch
    assert len(errors) == min(stopped.best_epoch + 3, 20)
    measured = 1 - accuracy_of(jaxdl.predict(stopped.checkpoint, data.subset(SOURCE, inner)).outputs, SOURCE.y[inner])
    assert measured == pytest.approx(min(errors), abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_a_killed_run_goes_on_bit_for_bit(streaming, tmp_path):
    plan, how = dataclasses.replace(PLAN, epochs=3), Execution(streaming=streaming, workers=0)
    whole = jaxdl.pretrain(Segmenter(3), SOURCE, plan, task=TASK, execution=how)
    again, stops = run_to_the_end(
        lambda how: jaxdl.pretrain(Segmenter(3), SOURCE, plan, task=TASK, execution=how), tmp_path / "run", 8, how
    )
    assert stops >= 2
    for a, b in zip(jax.tree.leaves(whole.variables), jax.tree.leaves(again.variables), strict=True):
        np.testing.assert_array_equal(a, b)
    assert whole.history == again.history


def test_streamed_and_in_memory_give_the_same_maps(trained):
    plan = dataclasses.replace(PLAN, epochs=2)
    made = [
        jaxdl.pretrain(Segmenter(3), SOURCE, plan, task=TASK, execution=Execution(streaming=s, workers=0))
        for s in (False, True)
    ]
    for a, b in zip(*(jax.tree.leaves(one.variables) for one in made), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    maps = [jaxdl.predict(trained, NEW, execution=Execution(streaming=s, workers=0)).outputs for s in (False, True)]
    np.testing.assert_array_equal(*maps)


def test_a_card_brings_the_task_back(trained, tmp_path):
    again = jaxdl.restore(jaxdl.save(trained, tmp_path / "segmenter"))
    assert again.card.task == TASK
    np.testing.assert_array_equal(jaxdl.predict(again, NEW).outputs, jaxdl.predict(trained, NEW).outputs)
    kept = jaxdl.finetune(again, SOURCE, jaxdl.Plan(epochs=1, learning_rate=1e-9), task=TASK, head="keep")
    assert (jaxdl.predict(kept, NEW).outputs == jaxdl.predict(trained, NEW).outputs).mean() > 0.999


def test_a_card_of_a_task_that_is_not_registered_names_it(trained, tmp_path, monkeypatch):
    folder = jaxdl.save(trained, tmp_path / "segmenter")
    monkeypatch.delitem(TASKS, "per-pixel")
    with pytest.raises(jaxdl.InputError, match=r"per-pixel.*register_task"):
        jaxdl.restore(folder)
    with pytest.raises(jaxdl.InputError, match="'classification'"):

        @jaxdl.register_task
        class Classes(PerPixel):
            name = "classification"


def test_what_the_task_cannot_do_is_refused(trained):
    with pytest.raises(jaxdl.InputError, match=r"label_smoothing.*per-pixel"):
        jaxdl.pretrain(Segmenter(3), SOURCE, jaxdl.Plan(label_smoothing=0.1), task=TASK)
    with pytest.raises(jaxdl.InputError, match=r"mixup.*per-pixel"):
        jaxdl.pretrain(Segmenter(3), SOURCE, jaxdl.Plan(augment="mixup"), task=TASK)
    with pytest.raises(jaxdl.InputError, match=r"loss_function.*per-pixel"):
        jaxdl.pretrain(Segmenter(3), SOURCE, jaxdl.Plan(loss_function="dice"), task=TASK)
    with pytest.raises(jaxdl.InputError, match="name the task"):
        jaxdl.pretrain(Segmenter(3), data.Arrays(SOURCE.x, SOURCE.y.astype(np.int64), TASK.names), PLAN)
    with pytest.raises(jaxdl.InputError, match="probabilities"):
        _ = jaxdl.predict(trained, NEW).probabilities
