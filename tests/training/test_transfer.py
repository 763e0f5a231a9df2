"""Pretrain, fine-tune and predict, as a user calls them."""

import jax
import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.training.progress import Diverged
from jaxdl.training.transfer import hold_out

FAST = jaxdl.Plan(epochs=2)


@pytest.fixture(scope="module")
def parent():
    source = data.digits(range(5))
    return jaxdl.pretrain(jaxdl.create("cnn", 5, features=(8, 16), hidden=(32,)), source, jaxdl.Plan(epochs=3))


def test_predictions_are_the_models_own(parent):
    source = data.subset(data.digits(range(5)), np.arange(70))
    found = jaxdl.predict(parent, source, batch_size=32)
    card = parent.card.preprocessing
    x = (source.x / np.float32(255) - np.float32(card.mean)) / np.float32(card.std)
    np.testing.assert_allclose(found.logits, parent.model.apply(parent.variables, x), atol=1e-4)
    np.testing.assert_allclose(found.probabilities.sum(1), 1)
    assert found.accuracy == (found.logits.argmax(1) == source.labels).mean()
    assert found.accuracy > 0.8


def test_labels_are_matched_by_name_not_by_number(parent):
    source = data.digits([3, 4])  # classes 0 and 1 of this source are 3 and 4 of the parent
    found = jaxdl.predict(parent, source)
    assert set(found.labels) == {3, 4}
    assert found.accuracy > 0.9


def test_normalisation_is_the_training_parts(parent):
    source = data.digits(range(5))
    x = source.x / 255
    np.testing.assert_allclose(parent.card.preprocessing.mean, x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(parent.card.preprocessing.std, x.std((0, 1, 2)), rtol=1e-5)
    tuned = jaxdl.finetune(parent, data.digits([7, 8]), FAST)
    assert tuned.card.preprocessing == parent.card.preprocessing


def test_validation_examples_do_not_train(parent):
    source = data.subset(data.digits(range(5)), np.arange(100))
    other = data.subset(data.digits(range(5)), np.arange(100, 150))
    plain = jaxdl.finetune(parent, source, FAST)
    watched = jaxdl.finetune(parent, source, FAST, validation=other)
    for a, b in zip(jax.tree.leaves(plain.variables), jax.tree.leaves(watched.variables), strict=True):
        np.testing.assert_array_equal(a, b)
    assert plain.card.preprocessing == watched.card.preprocessing
    expected = jaxdl.predict(watched, other).accuracy
    assert watched.history[-1]["test_accuracy"] == pytest.approx(expected)
    assert "test_accuracy" not in plain.history[-1]


def test_history_tells_steps_and_rates(parent):
    assert [row["epoch"] for row in parent.history] == [1, 2, 3]
    assert [row["step"] for row in parent.history] == [29, 58, 87]  # 901 examples, at most 32 a step
    assert parent.history[0]["learning_rate"] == pytest.approx(1e-3)


def test_the_head_is_kept_for_the_same_classes_only(parent):
    again = data.subset(data.digits(range(5)), np.arange(40))
    tiny = jaxdl.Plan(epochs=1, learning_rate=1e-9)
    kept = jaxdl.finetune(parent, again, tiny)
    fresh = jaxdl.finetune(parent, again, tiny, head="fresh")
    kernel = lambda c: np.asarray(c.variables["params"]["head"]["dense"]["kernel"])  # noqa: E731
    np.testing.assert_allclose(kernel(kept), kernel(parent), atol=1e-6)
    assert np.abs(kernel(fresh) - kernel(parent)).max() > 0.05
    with pytest.raises(InputError, match=r"head='keep'.*\(5, 6\)"):
        jaxdl.finetune(parent, data.digits([5, 6]), tiny, head="keep")


def test_a_run_is_repeatable_and_depends_on_the_seed(parent):
    source = data.subset(data.digits([5, 6]), np.arange(60))
    one, two, other = (jaxdl.finetune(parent, source, jaxdl.Plan(epochs=2, seed=s)) for s in (3, 3, 4))
    assert one.history == two.history
    assert one.history != other.history


def test_cards_tell_where_a_checkpoint_came_from(parent, tmp_path):
    restored = jaxdl.restore(jaxdl.save(parent, tmp_path / "parent"))
    tuned = jaxdl.finetune(restored, data.digits([7, 8]), FAST)
    again = jaxdl.restore(jaxdl.save(tuned, tmp_path / "tuned"))
    assert again.card.parent == str(tmp_path / "parent")
    assert again.card.class_names == ("7", "8")
    assert again.card.plan == FAST.as_dict()
    assert len(again.card.split) == 64
    assert list(again.history) == list(tuned.history)
    x = data.digits([7, 8])
    np.testing.assert_array_equal(jaxdl.predict(tuned, x).logits, jaxdl.predict(again, x).logits)


def test_hold_out_is_stratified_and_disjoint():
    source = data.digits()
    train, held = hold_out(source, 0.25, seed=0)
    assert len(train) + len(held) == len(source)
    assert np.bincount(held.labels).min() >= 43
    together = {x.tobytes() for x in train.x} | {x.tobytes() for x in held.x}
    assert len(together) == len({x.tobytes() for x in source.x})
    with pytest.raises(InputError, match=r"0\.0"):
        hold_out(source, 0.0, seed=0)


def test_pretrain_wants_a_model(parent):
    with pytest.raises(InputError, match=r"^model .*jaxdl\.create"):
        jaxdl.pretrain(parent, data.digits(), FAST)


def test_a_diverging_run_stops_and_says_what_to_try():
    with pytest.raises(Diverged, match=r"epoch 1.*learning rate"):
        jaxdl.pretrain(
            jaxdl.create("mlp", 10), data.digits(), jaxdl.Plan(optimizer="sgd", learning_rate=1e20, epochs=2)
        )


def test_validation_images_of_another_size_change_nothing():
    x = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    source, model = data.arrays(x, np.arange(20) % 2), jaxdl.create("mlp", 2)
    other = data.arrays(np.repeat(np.repeat(x, 2, axis=1), 2, axis=2).repeat(3, axis=3), np.arange(20) % 2)
    plain = jaxdl.pretrain(model, source, FAST)
    watched = jaxdl.pretrain(model, source, FAST, validation=other)
    assert plain.card.preprocessing == watched.card.preprocessing
    assert [r["train_loss"] for r in plain.history] == [r["train_loss"] for r in watched.history]


@pytest.mark.parametrize("labels", [np.array([0, 5]), np.array([0, -1]), np.array([0.0, 1.0]), np.array([0]), [0, 1]])
def test_labels_that_are_no_classes_are_refused(labels):
    source = data.Arrays(np.zeros((2, 4), np.float32), labels, ("a", "b"))
    for train in (jaxdl.pretrain, jaxdl.cross_validate):
        with pytest.raises(InputError, match="labels"):
            train(jaxdl.create("mlp", 2), source, FAST)


def test_a_last_step_that_diverges_is_not_scored():
    source = data.subset(data.digits(range(2)), np.arange(20))
    plan = jaxdl.Plan(optimizer="sgd", learning_rate=1e39, epochs=1)
    with pytest.raises(Diverged, match="parameters"):
        jaxdl.cross_validate(jaxdl.create("mlp", 2), source, plan)
    with pytest.raises(Diverged, match="parameters"):
        jaxdl.pretrain(jaxdl.create("mlp", 2), source, plan)


def test_a_checkpoint_for_one_size_only_says_so():
    source = data.subset(data.digits(range(2)), np.arange(20))
    trained = jaxdl.pretrain(jaxdl.create("cnn", 2, features=(4,)), source, jaxdl.Plan(epochs=1))
    with pytest.raises(InputError, match=r"16×16×1.*8×8×1"):
        jaxdl.finetune(trained, source, FAST, execution=jaxdl.Execution(image_size=16))


@pytest.mark.slow
def test_a_vision_transformer_goes_on_at_another_size():
    source = data.subset(data.digits(range(2)), np.arange(20))
    trained = jaxdl.pretrain(jaxdl.create("vit", 2, width=16, depth=1), source, jaxdl.Plan(epochs=1))
    tuned = jaxdl.finetune(trained, source, jaxdl.Plan(epochs=1), execution=jaxdl.Execution(image_size=16))
    assert trained.variables["params"]["embed"]["position"].shape == (1, 1 + 2**2, 16)  # patches of 4, images of 8
    assert tuned.variables["params"]["embed"]["position"].shape == (1, 1 + 4**2, 16)
    assert tuned.card.preprocessing.input_shape == (16, 16, 1)
    assert jaxdl.predict(tuned, source).probabilities.shape == (20, 2)


def test_a_parent_is_remembered_through_a_new_head(parent, tmp_path):
    restored = jaxdl.restore(jaxdl.save(parent, tmp_path / "parent"))
    tuned = jaxdl.finetune(jaxdl.replace_head(restored, num_outputs=2), data.digits([7, 8]), FAST)
    assert tuned.card.parent == str(tmp_path / "parent")
