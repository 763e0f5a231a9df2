"""Several labels per example: loss, gradient and answers, against torch, closed forms and loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk

from jaxdl.errors import InputError
from jaxdl.tasks.multilabel import MultiLabel

NAMES = ("sand", "sea", "sky")
TASK = MultiLabel(NAMES)


@pytest.fixture(scope="module")
def answers():
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, (40, 3)).astype(np.uint8)
    return (random.normal(0, 3, (40, 3)) + targets).astype(np.float32), targets


def test_loss_and_gradient_are_the_closed_forms(answers):
    logits, targets = answers
    loss, count = TASK.loss(jnp.asarray(logits), jnp.asarray(targets), {})
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = -np.where(targets == 1, np.log(p), np.log1p(-p)).mean(1)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(count, np.ones(40, np.float32))
    slope = jax.grad(lambda z: TASK.loss(z, jnp.asarray(targets), {})[0].sum())(jnp.asarray(logits))
    np.testing.assert_allclose(slope, (p - targets) / 3, atol=1e-6)


def test_loss_and_gradient_are_torchs(answers):
    torch = pytest.importorskip("torch")
    logits, targets = answers
    theirs = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(theirs, torch.tensor(targets, dtype=torch.float32))
    loss.backward()
    ours, slope = jax.value_and_grad(lambda z: TASK.loss(z, jnp.asarray(targets), {})[0].mean())(jnp.asarray(logits))
    assert float(ours) == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(slope, theirs.grad.numpy(), atol=1e-7)


def test_loss_is_finite_and_float32_however_large_the_logits():
    logits = jnp.asarray([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], "bfloat16")
    loss, _ = TASK.loss(logits, jnp.asarray([[1, 0, 1], [1, 0, 1]], jnp.uint8), {})
    size = float(jnp.asarray(1e4, "bfloat16"))
    assert loss.dtype == np.float32
    np.testing.assert_allclose(loss, [np.log(2) / 3, (2 * size + np.log(2)) / 3], rtol=1e-6)


def test_scores_are_scikit_learns(answers):
    logits, targets = answers
    found = TASK.scored_by(["macro_f1", "micro_f1", "subset_accuracy", "mean_auc"])
    record = found.host_record(logits, targets)
    said = (logits > 0).astype(int)
    expected = {
        "macro_f1": sk.f1_score(targets, said, average="macro"),
        "micro_f1": sk.f1_score(targets, said, average="micro"),
        "label_accuracy": 1 - sk.hamming_loss(targets, said),
        "subset_accuracy": sk.accuracy_score(targets, said),
        "mean_auc": sk.roc_auc_score(targets, logits, average="macro"),
        "log_loss": np.mean([sk.log_loss(t, p) for t, p in zip(targets.T, TASK.probabilities(logits).T, strict=True)]),
    }
    for label, name in enumerate(NAMES):
        expected[f"f1:{name}"] = sk.f1_score(targets[:, label], said[:, label])
        expected[f"auc:{name}"] = sk.roc_auc_score(targets[:, label], logits[:, label])
    assert set(expected) == set(found.metrics)
    for name, value in expected.items():
        assert found.metrics[name].score(record) == pytest.approx(value, rel=1e-9), name
    evaluated = found.evaluate(logits, targets)
    assert evaluated["loss"] == pytest.approx(expected["log_loss"])
    each = found.train_scores(jax.jit(found.record)(logits, targets))
    assert float(each["label_accuracy"].mean()) == pytest.approx(expected["label_accuracy"], rel=1e-6)


def test_the_baseline_is_the_share_of_each_label_with_an_example_more_on_either_side():
    targets = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 0]], np.uint8)
    found = TASK.probabilities(TASK.baseline(targets, 2))
    np.testing.assert_allclose(found, np.tile([4 / 5, 1 / 5, 2 / 5], (2, 1)), rtol=1e-6)


def test_several_networks_say_the_mean_of_their_probabilities(answers):
    logits, _ = answers
    members = np.stack([logits, logits[::-1]])
    weights = np.random.default_rng(1).uniform(0.1, 1, (2, 40)).astype(np.float32)
    found = TASK.probabilities(np.asarray(TASK.combine(jnp.asarray(members), jnp.asarray(weights))))
    expected = (TASK.probabilities(members) * weights[..., None]).sum(0) / weights.sum(0)[:, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_labels_are_matched_by_name(answers):
    _, targets = answers
    np.testing.assert_array_equal(TASK.match(targets, ("sky", "sand", "sea")), targets[:, [1, 2, 0]])
    with pytest.raises(InputError, match="sea"):
        TASK.match(targets[:, :2], ("sky", "sand"))
    assert TASK.columns(np.array([[1.0, -1.0, 2.0]]))["predicted"] == ["sand sky"]


@pytest.mark.parametrize(
    ("targets", "named"),
    [
        (np.full((4, 3), 2, np.uint8), "2"),
        (np.zeros((4, 2), np.uint8), "3 labels"),
        (np.zeros((4, 3), np.uint8), "every label"),
        (np.zeros((4, 3), np.float32), "0 and 1"),
    ],
)
def test_what_are_no_labels_is_refused(targets, named):
    with pytest.raises(InputError, match=f"the beach.*{named}|{named}.*the beach"):
        TASK.check(targets, 4, "the beach", "training")
