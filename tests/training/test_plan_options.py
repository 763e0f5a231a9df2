"""What the options of a plan do to a training: each against what it should come to, computed otherwise."""

import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interruptions import run_to_the_end
from PIL import Image
from sklearn.linear_model import LinearRegression
from sklearn.utils.class_weight import compute_class_weight

import jaxdl
from jaxdl import data
from jaxdl.data import augment
from jaxdl.data.batches import training_batches
from jaxdl.tasks import Classification
from jaxdl.training.execution import Execution
from jaxdl.training.inner import divide_inner
from jaxdl.training.prepare import prepare
from jaxdl.training.range_test import find_learning_rate, smooth
from jaxdl.training.step import AUGMENT, Batch
from jaxdl.training.transfer import of_run, train

SOURCE = data.subset(data.digits(range(4)), np.arange(0, 700, 10))
PART = np.arange(len(SOURCE))
TASK = Classification(SOURCE.class_names)
CNN = dict(features=(4, 6), hidden=(8,), dropout=0.0)


def cnn(**arguments):
    return jaxdl.create("cnn", 4, **{**CNN, "norm": "group", **arguments})


def setup_of(model=None, source=SOURCE, **options):
    options = {"epochs": 2, "batch_size": 16, "optimizer": "sgd", **options}
    return prepare(model or cnn(), source, jaxdl.Plan(**options), [np.arange(len(source))], TASK)


def first_state(setup):
    """Of the only run: the step is written for one."""
    return of_run(setup.states([0]), 0)


def batch_of(setup, step=0):
    made = training_batches([PART], setup.plan.batch_size, 0, [0], 0)[0]
    return Batch(made.indices[step], made.weights[step])


def largest(one, other):
    return max(
        float(np.abs(np.asarray(a) - np.asarray(b)).max())
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mlp", 2),
        ("mlp", 16),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("cnn", 2), ("cnn", 3), ("cnn", 16), ("mlp", 3))),
    ],
)
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(name, parts):
    model = cnn() if name == "cnn" else jaxdl.create("mlp", 4, hidden=(8,), dropout=0.0)
    whole, divided = setup_of(model), setup_of(model, accumulate=parts)
    state = first_state(whole)
    batch = batch_of(whole)
    a, metrics_a = jax.jit(whole.make_step())(state, batch, whole.shared)
    b, metrics_b = jax.jit(divided.make_step())(state, batch, divided.shared)
    assert largest(a.params, b.params) < 1e-6
    assert largest(state.params, a.params) > 1e-4
    assert largest(metrics_a, metrics_b) < 1e-5


def test_parts_with_batch_norm_hold_evenly_many_real_rows():
    """15 real rows of 16 in 4 parts: none is empty, and the running mean has moved four times."""
    setup = setup_of(cnn(norm="batch"), accumulate=4)
    state = first_state(setup)
    batch = Batch(np.arange(16), np.r_[np.ones(5), np.zeros(11)].astype(np.float32))
    after, _ = jax.jit(setup.make_step())(state, batch, setup.shared)
    mean = jax.tree.leaves(after.batch_stats)
    assert all(np.isfinite(leaf).all() for leaf in mean)
    variances = [np.asarray(v) for p, v in jax.tree_util.tree_leaves_with_path(after.batch_stats) if "var" in str(p)]
    assert all((v <= 1).any() for v in variances)


def test_the_running_mean_of_parameters():
    setup = setup_of(ema=0.5)
    state, step = first_state(setup), jax.jit(setup.make_step())
    mean = jax.tree.map(np.asarray, state.params)
    for taken in range(4):
        state, _ = step(state, batch_of(setup, taken), setup.shared)
        decay = min(0.5, (1 + taken) / (10 + taken))
        mean = jax.tree.map(lambda m, p, d=decay: d * m + (1 - d) * np.asarray(p), mean, state.params)
    assert largest(mean, state.ema) < 1e-6
    predict, batch = jax.jit(setup.make_predict()), batch_of(setup)
    plain = predict(state.replace(params=state.ema, ema=None), batch, setup.shared)
    assert largest(predict(state, batch, setup.shared), plain) == 0
    np.testing.assert_array_equal(predict(state, batch, setup.shared)["kept"], plain["kept"])
    assert largest(setup.variables(state)["params"], state.ema) == 0


def test_balanced_class_weights_are_scikit_learns_and_weigh_the_loss():
    uneven = data.subset(SOURCE, np.r_[np.flatnonzero(SOURCE.labels == 0)[:3], np.flatnonzero(SOURCE.labels > 0)])
    setup = setup_of(source=uneven, class_weights="balanced")
    expected = compute_class_weight("balanced", classes=np.arange(4), y=uneven.labels)
    state = first_state(setup)
    np.testing.assert_allclose(state.targets["class_weights"], expected, rtol=1e-6)
    batch = Batch(np.arange(16), np.ones(16, np.float32))
    logits = jax.jit(setup.make_predict())(state, batch, setup.shared)["kept"]
    labels = uneven.labels[:16]
    each = np.asarray(TASK.loss(logits, jnp.asarray(labels), {})[0])
    _, metrics = jax.jit(setup.make_step())(state, batch, setup.shared)
    assert float(metrics["loss"]) == pytest.approx(np.average(each, weights=expected[labels]), rel=1e-5)
    assert float(metrics["weight"]) == pytest.approx(expected[labels].sum(), rel=1e-5)
    assert float(metrics["count"]) == 16


def test_named_class_weights_and_their_mistakes():
    assert setup_of(class_weights={"3": 4.0}).target_constants(0)["class_weights"].tolist() == [1, 1, 1, 4]
    with pytest.raises(jaxdl.InputError, match=r"class_weights.*'five'"):
        setup_of(class_weights={"five": 4.0})


def test_each_fold_balances_its_own_training_part():
    parts = [np.flatnonzero(SOURCE.labels != 0), PART]
    setup = prepare(cnn(), SOURCE, jaxdl.Plan(class_weights="balanced"), parts, TASK)
    factors = [setup.target_constants(fold)["class_weights"] for fold in range(2)]
    assert np.abs(factors[0] - factors[1]).max() > 0.1
    one = prepare(cnn(), SOURCE, jaxdl.Plan(class_weights="balanced"), parts[1:], TASK)
    np.testing.assert_array_equal(factors[1], one.target_constants(0)["class_weights"])
    both = setup.states([0, 1]).targets["class_weights"]
    np.testing.assert_array_equal(both, factors)


@pytest.mark.slow
def test_augmentation_happens_in_the_step_from_the_steps_key():
    setup, plain = setup_of(augment=("crop", "mixup")), setup_of()
    state, batch = first_state(setup), Batch(np.arange(16), np.ones(16, np.float32))
    step = jax.jit(setup.make_step())
    _, metrics = step(state, batch, setup.shared)
    key = jax.random.fold_in(jax.random.fold_in(state.key, AUGMENT), 0)
    images = jnp.asarray(SOURCE.x[:16] / np.float32(255))
    augmented = jax.jit(augment.augment, static_argnums=0)
    changed = augmented(augment.make_augmentation(("crop", "mixup")), images, key, batch.weights)
    logits = jax.jit(setup.model.apply)(
        setup.variables(state), (changed.images - state.inputs["mean"]) / state.inputs["std"]
    )
    labels = jnp.asarray(SOURCE.labels[:16])
    own, partners = (TASK.loss(logits, of, {})[0] for of in (labels, labels[changed.partner]))
    expected = float((changed.share * own + (1 - changed.share) * partners).mean())
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(jax.jit(plain.make_step())(state, batch, plain.shared)[1]["loss"]) != pytest.approx(expected, rel=1e-3)
    # another step draws anew, prediction never does
    assert float(step(state.replace(step=state.step + 1), batch, setup.shared)[1]["loss"]) != pytest.approx(expected)
    same = [jax.jit(s.make_predict())(state, batch, s.shared) for s in (setup, plain)]
    np.testing.assert_array_equal(*(one["kept"] for one in same))


def test_mixed_and_weighted_losses_are_those_of_a_slow_loop():
    """MixUp's partners count with their own class's weight, rows of padding not at all."""
    factors = {"0": 3.0, "2": 0.5, "3": 0.0}
    setup = setup_of(augment=("mixup",), class_weights=factors, label_smoothing=0.2)
    state = first_state(setup)
    batch = Batch(np.r_[np.arange(13), 0, 0, 0], np.r_[np.ones(13), np.zeros(3)].astype(np.float32))
    _, metrics = jax.jit(setup.make_step())(state, batch, setup.shared)
    key = jax.random.fold_in(jax.random.fold_in(state.key, AUGMENT), 0)
    images = jnp.asarray(SOURCE.x[batch.indices] / np.float32(255))
    changed = augment.augment(augment.make_augmentation("mixup"), images, key, batch.weights)
    x = (changed.images - state.inputs["mean"]) / state.inputs["std"]
    log_p = np.asarray(jax.nn.log_softmax(setup.model.apply(setup.variables(state), x)), np.float64)
    total = count = 0.0
    for row in range(13):
        share, partner = float(changed.share[row]), int(changed.partner[row])
        for part, other in ((share, row), (1 - share, partner)):
            label = SOURCE.labels[batch.indices[other]]
            factor = factors.get(str(label), 1.0)
            nats = -sum((0.8 * (k == label) + 0.2 / 4) * log_p[row, k] for k in range(4))
            total, count = total + part * factor * nats, count + part * factor
    assert len({round(float(share), 3) for share in changed.share[:13]}) > 5  # or nothing would be mixed
    assert float(metrics["weight"]) == pytest.approx(count, rel=1e-5)
    assert float(metrics["loss"]) == pytest.approx(total / count, rel=1e-4)
    assert float(metrics["count"]) == 13


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 5])
def test_mixed_and_weighted_batches_in_parts_are_those_of_the_whole(parts):
    options = dict(augment=("mixup",), class_weights={"0": 3.0, "3": 0.0}, label_smoothing=0.2)
    whole, divided = setup_of(**options), setup_of(**options, accumulate=parts)
    state, batch = first_state(whole), batch_of(whole)
    a, metrics_a = jax.jit(whole.make_step())(state, batch, whole.shared)
    b, metrics_b = jax.jit(divided.make_step())(state, batch, divided.shared)
    assert largest(a.params, b.params) < 1e-6
    assert largest(metrics_a, metrics_b) < 1e-4


def test_augmented_examples_are_not_cached():
    parent = jaxdl.pretrain(cnn(), SOURCE, jaxdl.Plan(epochs=1))
    assert prepare(parent, SOURCE, jaxdl.Plan(freeze_through="body"), [PART], TASK).start
    assert not prepare(parent, SOURCE, jaxdl.Plan(freeze_through="body", augment=("flip",)), [PART], TASK).start


def test_unfreezing_moves_one_more_stage_at_a_time():
    parent = jaxdl.pretrain(cnn(norm="batch"), SOURCE, jaxdl.Plan(epochs=1))
    names = parent.model.stage_names
    held = prepare(parent, SOURCE, jaxdl.Plan(epochs=6, freeze_through="body", unfreeze_every=2), [PART], TASK).held
    assert held == sorted(held, reverse=True)
    assert held[0] == held[1] > held[2] == held[3] > held[4]
    for epochs in (1, 2, 3):
        plan = jaxdl.Plan(epochs=epochs, freeze_through="body", unfreeze_every=1, schedule="constant")
        setup = prepare(parent, SOURCE, plan, [PART], TASK)
        trained = jaxdl.finetune(parent, SOURCE, plan)
        moved = [
            largest({c: t.get(s, {}) for c, t in trained.variables.items()},
                    {c: t.get(s, {}) for c, t in parent.variables.items()}) > 0
            if any(s in t for t in parent.variables.values()) else None
            for s in names[:-1]
        ]  # fmt: skip
        expected = [None if m is None else index >= setup.held[-1] for index, m in enumerate(moved)]
        assert moved == expected
    norms = jaxdl.finetune(parent, SOURCE, jaxdl.Plan(epochs=3, freeze_through="body", unfreeze_every=1)).history
    assert [len(row["stage_grad_norms"]) for row in norms] == [1, 2, 3]


def test_unfreezing_a_stage_gives_it_a_fresh_adam():
    """Its first step is as long as the learning rate, however many steps the head has taken: Adam's own property."""
    parent = jaxdl.pretrain(cnn(), SOURCE, jaxdl.Plan(epochs=1))
    plan = jaxdl.Plan(
        epochs=2,
        batch_size=len(SOURCE),
        freeze_through="body",
        unfreeze_every=1,
        schedule="constant",
        optimizer="adam",
        weight_decay=0.0,
    )
    trained = jaxdl.finetune(parent, SOURCE, plan)
    last = [s for s in parent.model.stage_names[:-1] if s in parent.variables["params"]][-1]
    before, after = (v.variables["params"][last] for v in (parent, trained))
    steps = np.concatenate([np.abs(a - b).ravel() for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True)])
    assert np.median(steps[steps > 0]) == pytest.approx(1e-3, rel=0.02)


def test_early_stopping_keeps_the_best_epoch_of_the_inner_part():
    random = np.random.default_rng(0)  # labels that cannot be predicted, so that learning them by heart does harm
    labels = np.where(random.random(len(SOURCE)) < 0.4, random.integers(0, 4, len(SOURCE)), SOURCE.labels)
    noisy = dataclasses.replace(SOURCE, labels=labels.astype(np.int32))
    plan = jaxdl.Plan(epochs=30, batch_size=16, learning_rate=0.03, early_stopping=3, inner_fraction=0.4)
    model = jaxdl.create("mlp", 4, hidden=(16,), dropout=0.0)
    stopped = train(model, noisy, plan)
    epochs = len(stopped.checkpoint.history)
    assert stopped.best_epoch == epochs - 3 < 27
    # by hand: train on the rest for each number of epochs, measure on the inner part
    learned, inner = divide_inner(noisy, TASK, PART, 0.4, 0)
    losses = []

    def record(row):
        losses.append(row["test_loss"])

    train(
        model,
        data.subset(noisy, learned),
        dataclasses.replace(plan, early_stopping=None),
        validation=data.subset(noisy, inner),
        execution=Execution(progress=record),
    )
    best = int(np.argmin(losses[:epochs]))
    assert best + 1 == stopped.best_epoch
    measured = jaxdl.predict(stopped.checkpoint, data.subset(noisy, inner)).scores["loss"]
    assert measured == pytest.approx(losses[best], rel=1e-4)


def test_an_epoch_whose_score_is_not_defined_is_never_the_best():
    """A metric that is NaN until the second epoch; then all are alike, and the first of these counts."""
    asked = []

    def late(targets, predictions):
        asked.append(len(targets))
        return float("nan") if len(asked) == 1 else 0.5

    plan = jaxdl.Plan(epochs=6, batch_size=16, early_stopping=2)
    stopped = train(jaxdl.create("mlp", 4, hidden=(4,)), SOURCE, plan, metrics=late)
    assert stopped.best_epoch == 2
    assert len(stopped.checkpoint.history) == 4


@pytest.mark.parametrize("options", [pytest.param({}, marks=pytest.mark.slow), {"ema": 0.8}])
def test_folds_that_stop_early_are_the_same_one_by_one_and_at_once(options):
    plan = jaxdl.Plan(epochs=20, batch_size=8, learning_rate=0.05, early_stopping=2, optimizer="sgd", **options)
    model = jaxdl.create("mlp", 4, hidden=(8,), dropout=0.2)
    loop, vmap = (
        jaxdl.cross_validate(model, SOURCE, plan, folds=3, execution=Execution(fold_strategy=s))
        for s in ("loop", "vmap")
    )
    assert [f["best_epoch"] for f in loop.folds] == [f["best_epoch"] for f in vmap.folds]
    assert len({f["best_epoch"] for f in loop.folds}) > 1  # or little would be shown
    np.testing.assert_allclose(loop.out_of_fold.kept, vmap.out_of_fold.kept, atol=1e-5)
    keys = [sorted((row["fold"], row["epoch"]) for row in r.curves) for r in (loop, vmap)]
    assert keys[0] == keys[1]


def test_the_inner_part_is_of_the_training_part_and_keeps_groups_whole():
    part = PART[::2]
    learned, inner = divide_inner(SOURCE, TASK, part, 0.25, 3)
    assert sorted([*learned, *inner]) == part.tolist()
    assert np.bincount(SOURCE.labels[inner], minlength=4).min() >= 1
    grouped = dataclasses.replace(SOURCE, groups=np.arange(len(SOURCE)) // 5)
    learned, inner = divide_inner(grouped, TASK, PART, 0.25, 3)
    assert not set(grouped.groups[learned]) & set(grouped.groups[inner])
    with pytest.raises(jaxdl.InputError, match=r"early_stopping.*0\.25"):
        divide_inner(SOURCE, TASK, PART[:1], 0.25, 0)


def test_held_out_examples_are_measured_every_so_often():
    plan = jaxdl.Plan(epochs=5, eval_every=2)
    trained = train(cnn(), data.subset(SOURCE, PART[:50]), plan, validation=data.subset(SOURCE, PART[50:]))
    assert ["test_loss" in row for row in trained.checkpoint.history] == [False, True, False, True, True]
    assert trained.best_epoch in (2, 4, 5)


SMALL = Execution(image_size=8, workers=0)


def draw_folder(folder, number):
    random = np.random.default_rng(1)
    for label in range(2):
        (folder / str(label)).mkdir(parents=True)
        for i in range(number):
            pixels = random.normal(70 + 100 * label, 30, (*random.integers(8, 14, 2), 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / str(label) / f"{i}.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"freeze_through": "conv1"}, {"augment": ("crop",), "early_stopping": 2}],
)
def test_streamed_and_in_memory_give_the_same_numbers(options, tmp_path):
    draw_folder(tmp_path, 15)
    source = data.folder(tmp_path)
    model = jaxdl.create("cnn", 2, features=(4, 6), hidden=(8,))
    plan = jaxdl.Plan(epochs=3, batch_size=8, **options)
    init = (
        jaxdl.pretrain(model, source, jaxdl.Plan(epochs=1), execution=SMALL) if "freeze_through" in options else model
    )
    how = SMALL.replace(fold_strategy="loop", allow="parent")
    made = [
        jaxdl.cross_validate(init, source, plan, folds=2, execution=how.replace(streaming=s)) for s in (False, True)
    ]
    assert made[0].streamed is None
    assert made[1].streamed == ("asked for" if "freeze_through" not in options else None)  # then activations are kept
    np.testing.assert_allclose(made[0].out_of_fold.kept, made[1].out_of_fold.kept, atol=1e-6)
    assert made[0].mean == made[1].mean


class Stopped(Exception):
    """What stops a run in these tests."""


def stop(steps):
    raise Stopped


ENDS_EARLY = {  # a streamed run, and what it raises long before its examples are read
    "train": (train, {}, Stopped),
    "cross_validate": (jaxdl.cross_validate, {}, Stopped),
    "find_learning_rate": (find_learning_rate, dict(lowest=1e15, highest=1e30, steps=200), jaxdl.InputError),
}


@pytest.mark.parametrize("name", ENDS_EARLY)
def test_a_streamed_run_that_is_stopped_ends_what_reads(name, tmp_path):
    run, options, error = ENDS_EARLY[name]
    draw_folder(tmp_path, 15)
    model, plan = jaxdl.create("cnn", 2, features=(4, 6), hidden=(8,)), jaxdl.Plan(epochs=60, batch_size=8)
    how = SMALL.replace(streaming=True, on_steps=stop, fold_strategy="loop")
    before = set(threading.enumerate())
    with pytest.raises(error) as stopped:
        run(model, data.folder(tmp_path), plan, execution=how, **options)
    # the error holds the frames of the run with all that they hold: a reader that were only dropped would go on
    reading = [thread.name for thread in set(threading.enumerate()) - before if "_serve" in thread.name]
    assert stopped.value.__traceback__ is not None
    assert not reading


@pytest.mark.slow
def test_a_streamed_run_goes_on_bit_for_bit(tmp_path):
    draw_folder(tmp_path / "images", 15)
    source = data.folder(tmp_path / "images")
    model, plan = jaxdl.create("cnn", 2, features=(4,), hidden=(8,)), jaxdl.Plan(epochs=3, batch_size=8)
    how = SMALL.replace(streaming=True)
    whole = jaxdl.pretrain(model, source, plan, execution=how)
    again, stops = run_to_the_end(
        lambda how: jaxdl.pretrain(model, source, plan, execution=how), tmp_path / "run", 4, how
    )
    assert stops >= 2
    assert largest(whole.variables, again.variables) == 0
    assert whole.history == again.history


def regression(count=80, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 4)).astype(np.float32)
    y = 1e4 + 3e3 * (x @ [1, -2, 0.5, 0]) + random.normal(size=count) * 500
    return data.Arrays(x, y.astype(np.float32))


@pytest.mark.slow
def test_a_head_on_frozen_features_finds_the_least_squares_plane():
    source, new = regression(), regression(seed=1)
    parent = jaxdl.pretrain(jaxdl.create("mlp", 1, hidden=(6,), activation="tanh"), source, jaxdl.Plan(epochs=20))
    plan = jaxdl.Plan(epochs=1500, batch_size=80, learning_rate=0.1, weight_decay=0.0, freeze_through="body")
    tuned = jaxdl.finetune(parent, source, plan, head="fresh")
    features = [
        parent.model.apply(parent.variables, parent.card.preprocessing.network_input(s.x), stop="head")
        for s in (source, new)
    ]
    expected = LinearRegression().fit(features[0], source.labels)
    found = jaxdl.predict(tuned, new)
    np.testing.assert_allclose(found.predicted, expected.predict(features[1]), atol=0.01 * source.labels.std())
    assert found.scores["r2"] == pytest.approx(expected.score(features[1], new.labels), abs=0.01)
    assert found.scores["mae"] == pytest.approx(np.abs(found.predicted - new.labels).mean(), rel=1e-5)
    assert found.accuracy is None


@pytest.mark.slow
def test_regression_is_cross_validated_and_its_head_kept(tmp_path):
    source = regression()
    plan = jaxdl.Plan(epochs=60, batch_size=32, learning_rate=0.02)
    model = jaxdl.create("mlp", 1, hidden=(16,), dropout=0.0)
    loop, vmap = (
        jaxdl.cross_validate(model, source, plan, folds=4, execution=Execution(fold_strategy=s))
        for s in ("loop", "vmap")
    )
    assert loop.split["kind"] == "kfold"
    assert (loop.task, loop.metric) == ("regression", "r2")
    assert loop.mean > 0.8
    np.testing.assert_allclose(loop.out_of_fold.kept, vmap.out_of_fold.kept, rtol=1e-3)
    parent = jaxdl.restore(jaxdl.save(jaxdl.pretrain(model, source, plan), tmp_path / "parent"))
    kept = jaxdl.finetune(parent, source, dataclasses.replace(plan, epochs=1, learning_rate=1e-6), head="keep")
    assert kept.history[-1]["train_loss"] == pytest.approx(jaxdl.predict(parent, source).scores["mse"], rel=1e-3)
    assert kept.history[-1]["train_mae"] == pytest.approx(jaxdl.predict(parent, source).scores["mae"], rel=1e-3)
    np.testing.assert_allclose(
        jaxdl.predict(kept, source).predicted, jaxdl.predict(parent, source).predicted, rtol=1e-3
    )
    assert kept.card.targets == parent.card.targets
    assert kept.card.targets["scaling"] == pytest.approx((source.labels.mean(), source.labels.std()), rel=1e-5)
    with pytest.raises(jaxdl.InputError, match="head='keep'"):
        jaxdl.finetune(parent, data.arrays(source.x, (source.x[:, 0] > 0).astype(int)), plan, head="keep")
    with pytest.raises(jaxdl.InputError, match=r"class_weights.*regression"):
        jaxdl.pretrain(model, source, jaxdl.Plan(class_weights="balanced"))
    with pytest.raises(jaxdl.InputError, match="R²"):
        jaxdl.cross_validate(model, source, plan, splitter="leave-one-out")


def test_the_range_test_suggests_a_rate_that_learns():
    model = jaxdl.create("mlp", 4, hidden=(16,), dropout=0.0)
    found = find_learning_rate(model, SOURCE, jaxdl.Plan(optimizer="sgd", batch_size=16), highest=1000.0, steps=60)
    assert len(found.rates) < 60  # it stopped when the loss grew
    np.testing.assert_allclose(found.rates[1:] / found.rates[:-1], (1000 / 1e-6) ** (1 / 59), rtol=1e-6)
    assert found.smoothed.argmin() == np.abs(found.rates / 10 - found.suggestion).argmin()

    def loss(rate):
        plan = jaxdl.Plan(optimizer="sgd", batch_size=16, epochs=10, learning_rate=rate, schedule="constant")
        return jaxdl.pretrain(model, SOURCE, plan).history[-1]["train_loss"]

    assert loss(found.suggestion) < 0.5 * loss(found.suggestion / 100)


def test_the_smoothed_loss_of_a_constant_is_that_constant():
    np.testing.assert_allclose(smooth(np.full(5, 3.0)), 3.0)
    np.testing.assert_allclose(smooth(np.array([1.0, 2.0])), [1.0, (0.09 * 1 + 0.1 * 2) / 0.19])
