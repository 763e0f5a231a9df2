"""A run that was interrupted ends as one that was not, bit for bit."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from interruptions import Stop, run_to_the_end

import jaxdl
from jaxdl import data
from jaxdl.training import progress
from jaxdl.training.execution import Execution
from jaxdl.training.resume import AlreadyFinished, Interrupted, RunFolder, set_aside
from jaxdl.training.transfer import LAST_GOOD, train

SOURCE = data.subset(data.digits(range(3)), np.arange(0, 500, 6))
PLAN = jaxdl.Plan(epochs=3, batch_size=16, warmup_epochs=1, ema=0.9)


def kept_in(folder, **options):
    """An execution whose state is kept in `folder`."""
    return Execution(work=RunFolder(folder, **options))


def models():
    return {
        "mlp": jaxdl.create("mlp", 3, hidden=(8,), dropout=0.3),
        "cnn": jaxdl.create("cnn", 3, features=(4,), hidden=(8,), dropout=0.3),
    }


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


OPTIONS = {
    "plain": {},
    "augmented, in parts": dict(augment=("crop",), accumulate=2),
    "early stopping": dict(early_stopping=2, inner_fraction=0.3, learning_rate=0.05, epochs=5),
    "sgd, balanced": dict(optimizer="sgd", class_weights="balanced", eval_every=2),
}


# Steps of an MLP run in programs of at most 200: of so many examples an epoch takes two, and is saved between them.
MANY = data.digits(range(3))
CASES = {
    "mlp": (data.subset(MANY, np.arange(420)), data.subset(MANY, np.arange(420, len(MANY))), 2),
    "cnn": (data.subset(SOURCE, np.arange(60)), data.subset(SOURCE, np.arange(60, len(SOURCE))), 16),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("option", OPTIONS)
def test_training_goes_on_bit_for_bit(name, option, tmp_path):
    options = OPTIONS[option]
    source, validation, batch_size = CASES[name]
    plan = jaxdl.Plan(**{**vars(PLAN), "batch_size": batch_size, **options})
    model, taken = models()[name], []
    whole = train(model, source, plan, validation=validation, execution=Execution(on_steps=taken.append))
    assert max(taken) < len(source) / batch_size  # or nothing would be saved within an epoch
    again, stops = run_to_the_end(
        lambda how: train(model, source, plan, validation=validation, execution=how), tmp_path / "run", 4
    )
    assert stops >= 3
    same(whole.checkpoint.variables, again.checkpoint.variables)
    same(whole.best.variables, again.best.variables)
    assert whole.best_epoch == again.best_epoch
    assert whole.checkpoint.history == again.checkpoint.history


@pytest.mark.parametrize(
    ("strategy", "option"),
    [
        ("vmap", "early stopping"),
        pytest.param("loop", "plain", marks=pytest.mark.slow),
        pytest.param("loop", "early stopping", marks=pytest.mark.slow),
        pytest.param("vmap", "plain", marks=pytest.mark.slow),
    ],
)
def test_cross_validation_goes_on_bit_for_bit(strategy, option, tmp_path):
    plan, model = jaxdl.Plan(**{**vars(PLAN), **OPTIONS[option]}), models()["mlp"]

    def call(how):
        how = how.replace(fold_strategy=strategy, keep_models=True)
        return jaxdl.cross_validate(model, SOURCE, plan, folds=3, execution=how)

    whole = call(Execution())
    again, stops = run_to_the_end(call, tmp_path / "run", 3)
    assert stops >= 3
    same(whole.out_of_fold.kept, again.out_of_fold.kept)
    assert whole.curves == again.curves
    for one, other in zip(whole.models, again.models, strict=True):
        same(one.variables, other.variables)
    timeless = [[{k: v for k, v in fold.items() if k != "seconds"} for fold in r.folds] for r in (whole, again)]
    assert timeless[0] == timeless[1]


@pytest.mark.slow
def test_gradual_unfreezing_goes_on_bit_for_bit(tmp_path):
    parent = jaxdl.pretrain(models()["cnn"], SOURCE, jaxdl.Plan(epochs=1))
    plan = jaxdl.Plan(epochs=4, freeze_through="body", unfreeze_every=1)
    whole = train(parent, SOURCE, plan)
    again, stops = run_to_the_end(lambda how: train(parent, SOURCE, plan, execution=how), tmp_path / "run", 4)
    assert stops >= 2
    same(whole.checkpoint.variables, again.checkpoint.variables)
    assert whole.checkpoint.history == again.checkpoint.history


@pytest.mark.parametrize(
    "name", ["run [1]", *(pytest.param(name, marks=pytest.mark.slow) for name in ("r*n?", "lauf ünï, два"))]
)
def test_any_name_of_a_folder_will_do(name, tmp_path):
    """Orbax alone loses what it writes below a folder with brackets."""
    whole = train(models()["mlp"], SOURCE, PLAN)
    again, _ = run_to_the_end(lambda how: train(models()["mlp"], SOURCE, PLAN, execution=how), tmp_path / name, 3)
    same(whole.checkpoint.variables, again.checkpoint.variables)


def test_finished_folds_are_not_run_again(tmp_path):
    model, taken = models()["mlp"], []
    how = Execution(fold_strategy="loop", on_steps=taken.append)
    jaxdl.cross_validate(model, SOURCE, PLAN, folds=3, execution=how)
    steps = sum(taken)
    taken.clear()
    stop = Stop(9)  # it is asked twice an epoch
    work = RunFolder(tmp_path, save_every=1e9, should_stop=stop)
    with pytest.raises(Interrupted):
        jaxdl.cross_validate(model, SOURCE, PLAN, folds=3, execution=how.replace(work=work))
    done = sum(taken)
    assert 0 < done < steps
    jaxdl.cross_validate(model, SOURCE, PLAN, folds=3, execution=how.replace(work=tmp_path))
    assert sum(taken) == steps


def test_other_settings_are_refused_and_listed(tmp_path):
    model = models()["mlp"]
    with pytest.raises(Interrupted):
        train(model, SOURCE, PLAN, execution=kept_in(tmp_path, save_every=0, should_stop=Stop(2)))
    before = {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}
    other = jaxdl.Plan(**{**vars(PLAN), "epochs": 9, "seed": 4})
    with pytest.raises(jaxdl.InputError) as refused:
        train(model, data.subset(SOURCE, np.arange(70)), other, execution=kept_in(tmp_path))
    for said in (
        "plan.epochs: 3 then, 9 now",
        "plan.seed: 0 then, 4 now",
        "data.examples: 84 then, 70 now",
        "data.sha256",
    ):
        assert said in str(refused.value)
    assert "learning_rate" not in str(refused.value)
    assert before == {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}


def test_a_run_begun_before_a_field_was_there_goes_on(tmp_path):
    model = models()["mlp"]
    whole = train(model, SOURCE, PLAN)
    with pytest.raises(Interrupted):
        train(model, SOURCE, PLAN, execution=kept_in(tmp_path, save_every=0, should_stop=Stop(2)))
    noted = json.loads((tmp_path / "run.json").read_text())["settings"]["plan"]
    assert {"epochs", "stage_lr"} < noted.keys()
    assert not {"train", "adapter"} & noted.keys()  # it is as an earlier release wrote it
    for other in ({"train": "biases"}, {"adapter": "lora:2"}):
        name, value = next(iter(other.items()))
        with pytest.raises(jaxdl.InputError, match=f"plan.{name}: .* then, {value} now"):
            train(model, SOURCE, dataclasses.replace(PLAN, **other), execution=kept_in(tmp_path))
    same(whole.checkpoint.variables, train(model, SOURCE, PLAN, execution=kept_in(tmp_path)).checkpoint.variables)


def test_another_choice_of_the_best_epoch_is_refused(tmp_path):
    """By accuracy rather than by loss: the metric is the same, but now it was asked for."""
    model, plan = models()["mlp"], dataclasses.replace(PLAN, early_stopping=2)
    with pytest.raises(Interrupted):
        train(model, SOURCE, plan, execution=kept_in(tmp_path, save_every=0, should_stop=Stop(2)))
    with pytest.raises(jaxdl.InputError, match="chooses_by: log_loss then, accuracy now"):
        train(model, SOURCE, plan, metrics="accuracy", execution=kept_in(tmp_path))


@pytest.mark.parametrize("call", [pytest.param(train, marks=pytest.mark.slow), jaxdl.cross_validate])
def test_other_data_of_the_same_name_and_number_is_refused(call, tmp_path):
    model, x, labels = models()["mlp"], SOURCE.x.copy(), SOURCE.labels.copy()
    x[5, 0, 0] += 1
    labels[5] = (labels[5] + 1) % 3
    changes = [
        {"x": x},
        {"labels": labels},
        {"class_names": ("zero", "one", "two")},
        {"groups": np.arange(len(x)) // 2},
    ]
    with pytest.raises(Interrupted):
        call(model, SOURCE, PLAN, execution=kept_in(tmp_path, save_every=0, should_stop=Stop(2)))
    for changed in changes:
        with pytest.raises(jaxdl.InputError, match=r"data\.sha256") as refused:
            call(model, dataclasses.replace(SOURCE, **changed), PLAN, execution=kept_in(tmp_path))
        assert "data.examples" not in str(refused.value)
    call(model, dataclasses.replace(SOURCE, x=SOURCE.x.copy()), PLAN, execution=kept_in(tmp_path))


def test_a_run_without_a_save_does_not_bind_to_its_settings(tmp_path):
    model = models()["mlp"]
    work = RunFolder(tmp_path / "run")
    work.claim({"plan": {"epochs": 1}}, {})
    train(model, SOURCE, PLAN, execution=kept_in(tmp_path / "run"))


def test_a_finished_run_says_so(tmp_path):
    model, work = models()["mlp"], RunFolder(tmp_path)
    train(model, SOURCE, PLAN, execution=Execution(work=work))
    work.finish()
    assert json.loads((tmp_path / "run.json").read_text())["finished"]
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    with pytest.raises(AlreadyFinished):
        train(model, SOURCE, PLAN, execution=kept_in(tmp_path))


def test_set_aside_finds_a_free_name(tmp_path):
    assert set_aside(tmp_path / "run") is None
    for number in (1, 2):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "it").write_text(str(number))
        assert set_aside(tmp_path / "run") == tmp_path / f"run.old-{number}"
    assert [(tmp_path / f"run.old-{n}" / "it").read_text() for n in (1, 2)] == ["1", "2"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 2, "finished": false}', "null"])
def test_a_damaged_run_file_is_named(content, tmp_path):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(jaxdl.InputError, match=r"run\.json|format 2"):
        RunFolder(tmp_path)


def test_divergence_keeps_the_last_good_state(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 5)).astype(np.float32)
    source = data.Arrays(x, (x @ random.normal(size=5)).astype(np.float32))
    plan = jaxdl.Plan(epochs=20, batch_size=16, optimizer="sgd", learning_rate=0.5, schedule="constant", weight_decay=0)
    model = jaxdl.create("mlp", 1, hidden=(8,), activation="leaky_relu")
    with pytest.raises(progress.Diverged, match=r"step \d+ of epoch \d+") as error:
        train(model, source, plan, execution=kept_in(tmp_path))
    assert str(tmp_path / LAST_GOOD) in str(error.value)
    kept = jaxdl.restore(tmp_path / LAST_GOOD)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept.variables))
    assert kept.history
    assert np.isfinite([row["train_loss"] for row in kept.history]).all()


def test_the_stage_whose_gradient_broke_first_is_named():
    def explain(losses, **norms):
        made = progress.TrainingProgress(epoch=1, stages=("stem", "block", "head"))
        made.metrics = {"loss": np.array(losses), "stage_grad_norms": {k: np.array(v) for k, v in norms.items()}}
        return progress.explain(made, "the loss is")

    nan, inf = np.nan, np.inf
    said = explain([1.0, 1.0, nan], stem=[1, nan, nan], block=[1, inf, nan], head=[1, 1, nan])
    assert "gradient of stage 'block' is the first that is not finite, at step 2 of epoch 2" in said
    said = explain([1.0, nan], stem=[9, nan], block=[1, nan], head=[1, nan])
    assert "the loss is not finite at step 2 of epoch 2" in said
    assert "stage 'stem' had the largest gradient, of norm 9" in said


def test_a_save_that_cannot_be_written_leaves_the_one_before_whole(tmp_path):
    """A full disk, as a limit on the size of files: writing then fails in the middle."""
    import resource

    model = jaxdl.create("mlp", 3, hidden=(300, 300))
    whole = train(model, SOURCE, PLAN)
    with pytest.raises(Interrupted):
        train(model, SOURCE, PLAN, execution=kept_in(tmp_path, save_every=0, should_stop=Stop(1)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(jaxdl.InputError, match=f"{tmp_path}.*written"):
            train(model, SOURCE, PLAN, execution=kept_in(tmp_path, save_every=0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    again = train(model, SOURCE, PLAN, execution=kept_in(tmp_path))
    same(whole.checkpoint.variables, again.checkpoint.variables)


def test_what_streamed_stays_so(tmp_path):
    work = RunFolder(Path(tmp_path))
    work.claim({}, {})
    work.note("streaming", True)
    assert Execution(work=work).remembering().streaming is True
    assert Execution(streaming=False).remembering().streaming is False
    Execution(work=work).remember(False)  # the first start's counts
    assert Execution(work=work).remembering().streaming is True
