"""A class for every pixel: losses, predictions and metrics against slow loops, scikit-learn and SciPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import accuracy_score, f1_score, jaccard_score

from jaxdl.data.masks import VOID
from jaxdl.errors import InputError
from jaxdl.tasks import Classification, Segmentation, choose_task
from jaxdl.tasks.boundaries import boundary_counts, tolerance
from jaxdl.tasks.metric import Sums
from jaxdl.tasks.segmentation import LOSSES, METRICS, _iou, palette

NAMES = ("ground", "bright", "dark", "absent")
TASK = Segmentation(NAMES)
RANDOM = np.random.default_rng(0)
N, H, W, C = 5, 9, 7, len(NAMES)
TARGETS = RANDOM.integers(0, 3, (N, H, W)).astype(np.uint8)
TARGETS[RANDOM.random((N, H, W)) < 0.2] = VOID
LOGITS = RANDOM.normal(size=(N, H, W, C)).astype(np.float32)
LOGITS[..., 3] -= 20  # never said, and nothing is of it


def kept_of(logits, targets=TARGETS, task=TASK):
    return jax.tree.map(np.asarray, task.keep(jnp.asarray(logits), jnp.asarray(targets), {}))


RECORD = TASK.host_record(kept_of(LOGITS), TARGETS)
KNOWN = TARGETS != VOID
TRUE, SAID = TARGETS[KNOWN], LOGITS.argmax(-1)[KNOWN]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean_iou", jaccard_score(TRUE, SAID, average="macro")),
        ("mean_dice", f1_score(TRUE, SAID, average="macro")),
        ("pixel_accuracy", accuracy_score(TRUE, SAID)),
        ("pixel_error", 1 - accuracy_score(TRUE, SAID)),
        *((f"iou:{NAMES[i]}", jaccard_score(TRUE, SAID, labels=[i], average="macro")) for i in range(3)),
        *((f"dice:{NAMES[i]}", f1_score(TRUE, SAID, labels=[i], average="macro")) for i in range(3)),
    ],
)
def test_scores_are_those_of_scikit_learn_on_all_known_pixels(name, expected):
    assert TASK.metrics[name].score(RECORD) == pytest.approx(expected, rel=1e-12)


def test_a_class_that_nowhere_occurs_has_no_score_and_does_not_count():
    assert np.isnan(TASK.metrics["iou:absent"].score(RECORD))
    three = Segmentation(NAMES[:3])
    record = three.host_record(kept_of(LOGITS[..., :3], task=three), TARGETS)
    assert TASK.metrics["mean_iou"].score(RECORD) == three.metrics["mean_iou"].score(record)


def test_it_is_one_confusion_matrix_and_no_mean_over_images():
    """A class that fills one image and is missed by a pixel in another: the mean over images would be 0.5."""
    targets, logits = np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4, 2), np.float32)
    targets[0], targets[1, 0, 0] = 1, 1
    logits[0, ..., 1] = 1
    task = Segmentation(("a", "b"))
    assert task.metrics["iou:b"].score(task.host_record(kept_of(logits, targets, task), targets)) == 16 / 17


def test_cross_entropy_is_the_mean_over_pixels_and_needs_the_targets():
    log_p = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    nats = [-log_p[i, r, c, TARGETS[i, r, c]] for i, r, c in np.argwhere(KNOWN)]
    assert TASK.metrics["cross_entropy"].score(RECORD) == pytest.approx(np.mean(nats), rel=1e-5)
    without = TASK.predict(jnp.asarray(LOGITS), {})
    scores = TASK.evaluate(without, TARGETS)
    assert scores == {"mean_iou": TASK.score.score(RECORD), "pixel_accuracy": accuracy_score(TRUE, SAID)}
    assert TASK.evaluate(kept_of(LOGITS), TARGETS)["loss"] == pytest.approx(np.mean(nats), rel=1e-5)


def test_records_on_the_device_are_those_on_the_host():
    device = jax.jit(TASK.record)(jax.tree.map(jnp.asarray, kept_of(LOGITS)), jnp.asarray(TARGETS))
    assert device.keys() == RECORD.keys()
    for name, value in RECORD.items():
        np.testing.assert_allclose(device[name], value, rtol=1e-6)


def slow_boundary_counts(said, targets, classes):
    """With distances to the nearest boundary pixel, by SciPy."""
    within = tolerance(*targets.shape)

    def boundary(one):
        made = np.zeros(one.shape, bool)
        for (r, c), value in np.ndenumerate(one):
            for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                a, b = r + dr, c + dc
                if 0 <= a < one.shape[0] and 0 <= b < one.shape[1] and VOID not in (targets[r, c], targets[a, b]):
                    made[r, c] |= one[a, b] != value
        return made

    rows = np.zeros((4, classes), int)
    for i in range(classes):
        p, t = boundary(said) & (said == i), boundary(targets) & (targets == i)
        near = [distance_transform_edt(~one) <= within if one.any() else np.zeros(one.shape, bool) for one in (t, p)]
        rows[:, i] = (p & near[0]).sum(), p.sum(), (t & near[1]).sum(), t.sum()
    return rows


@pytest.mark.parametrize("size", [(24, 20), (150, 210)])
def test_boundaries_are_met_within_a_distance(size):
    assert tolerance(*size) == {24: 1, 150: 2}[size[0]]
    rows, columns = np.meshgrid(*map(np.arange, size), indexing="ij")
    targets = (np.hypot(rows - 10, columns - 9) < 7).astype(np.uint8) + (rows > 18) * np.uint8(2)
    targets = np.minimum(targets, 2).astype(np.uint8)
    said = np.roll(targets, (1, 2), (0, 1))
    targets[:3, :4] = VOID
    found = boundary_counts(said[None], targets[None], 4)
    np.testing.assert_array_equal(found[0], slow_boundary_counts(said, targets, 4))
    np.testing.assert_array_equal(boundary_counts(jnp.asarray(said)[None], jnp.asarray(targets)[None], 4), found)
    task = Segmentation(NAMES)
    found, all_said, met, true = found[0][:, :3].astype(float)
    precision, recall = found / all_said, met / true
    expected = np.mean(2 * precision * recall / (precision + recall))
    kept = {"classes": said[None], "confidence": said[None]}
    assert task.metrics["boundary_f1"].score(task.host_record(kept, targets[None])) == pytest.approx(expected)
    perfect = task.host_record({"classes": targets[None], "confidence": said[None]}, targets[None])
    assert task.metrics["boundary_f1"].score(perfect) == 1
    flat = task.host_record({"classes": 0 * said[None], "confidence": said[None]}, targets[None])
    assert task.metrics["boundary_f1"].score(flat) == 0


def slow_loss(kind, weights):
    """Of each image, and what it is divided by."""
    made = []
    for logits, targets in zip(LOGITS.astype(np.float64), TARGETS, strict=True):
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        total = count = 0.0
        both, either, here = np.zeros(C), np.zeros(C), np.zeros(C)
        for r in range(H):
            for c in range(W):
                if (t := targets[r, c]) == VOID:
                    continue
                q = p[r, c, t]
                total += weights[t] * -np.log(q) * ((1 - q) ** 2 if kind == "focal" else 1)
                count += weights[t]
                both[t] += q
                either += p[r, c]
                either[t] += 1
                here[t] = 1
        dice = 1 - (weights * here * 2 * both / np.maximum(either, 1e-9)).sum() / (weights * here).sum()
        pairs = {"dice": (dice, 1), "cross_entropy+dice": (dice + total / count, 1)}
        made.append(pairs.get(kind, (total, count)))
    return np.array(made).T


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", LOSSES)
def test_losses_are_those_of_a_slow_loop(kind, weighted):
    task = TASK.with_options(loss_function=kind, class_weights={"dark": 5.0} if weighted else None)
    constants = task.fit(TARGETS)
    weights = np.array([1, 1, 5, 1]) if weighted else np.ones(C)
    found = task.loss(jnp.asarray(LOGITS), jnp.asarray(TARGETS), constants)
    np.testing.assert_allclose(found, slow_loss(kind, weights), rtol=2e-5)


@pytest.mark.parametrize("kind", LOSSES)
def test_void_pixels_and_images_teach_nothing(kind):
    task, targets = TASK.with_options(loss_function=kind), TARGETS.copy()
    targets[2] = VOID
    total, count = task.loss(jnp.asarray(LOGITS), jnp.asarray(targets), {})
    assert (total[2], count[2]) == (0, 0)
    slope = jax.grad(lambda z: task.loss(z, jnp.asarray(targets), {})[0].sum())(jnp.asarray(LOGITS))
    slope = np.asarray(slope)
    assert np.isfinite(slope).all()
    assert (slope[targets == VOID] == 0).all()
    assert (np.abs(slope[targets != VOID]).max(-1) > 0).all()


def test_balanced_weights_give_every_class_the_same_sum():
    task = TASK.with_options(class_weights="balanced")
    weights = task.fit(TARGETS)["class_weights"]
    sums = [weights[i] * (i == TARGETS).sum() for i in range(3)]
    np.testing.assert_allclose(sums, KNOWN.sum() / 3, rtol=1e-6)


def test_predictions_are_the_likeliest_classes_with_their_probability():
    kept = TASK.predict(jnp.asarray(LOGITS), {})
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    np.testing.assert_array_equal(kept["classes"], LOGITS.argmax(-1))
    np.testing.assert_allclose(kept["confidence"], 255 * p.max(-1), atol=0.51)
    assert all(leaf.dtype == np.uint8 for leaf in kept.values())  # no more leaves the device
    columns = TASK.columns(jax.tree.map(np.asarray, kept))
    shares = np.array([columns[f"share:{name}"] for name in NAMES], float)
    np.testing.assert_allclose(shares[1], (LOGITS.argmax(-1) == 1).mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-5)


def test_networks_vote_as_strongly_as_they_are_sure():
    classes = np.array([0, 1, 1], np.uint8).reshape(3, 1, 1, 1)
    sure = np.array([255, 102, 102], np.uint8).reshape(3, 1, 1, 1)
    kept = jax.tree.map(jnp.asarray, {"classes": classes, "confidence": sure})
    found = TASK.combine(kept, jnp.ones((3, 1)))
    assert (int(found["classes"][0, 0, 0]), int(found["confidence"][0, 0, 0])) == (0, 85)  # 255 against 204
    weighed = TASK.combine(kept, jnp.array([[0.5], [1.0], [1.0]]))
    assert int(weighed["classes"][0, 0, 0]) == 1


def test_the_baseline_says_the_most_frequent_class():
    said = TASK.baseline(TARGETS, 2)
    common = np.bincount(TRUE).argmax()
    assert said["classes"].shape == (2, H, W)
    assert (said["classes"] == common).all()
    assert said["confidence"][0, 0, 0] == round(255 * (common == TRUE).mean())


def test_targets_are_matched_by_name():
    other = Segmentation(("dark", "ground", "sky"))
    matched = other.match(TARGETS, NAMES)
    np.testing.assert_array_equal(matched == 0, TARGETS == 2)
    np.testing.assert_array_equal(matched == 1, TARGETS == 0)
    np.testing.assert_array_equal(matched == VOID, (TARGETS == 1) | (TARGETS == VOID))


def test_pictures_open_again_with_their_classes(tmp_path):
    (picture, *_) = TASK.pictures(kept_of(LOGITS))
    picture.save(tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as again:
        assert again.mode == "P"
        np.testing.assert_array_equal(np.asarray(again), LOGITS[0].argmax(-1))
        np.testing.assert_array_equal(np.asarray(again.convert("RGB")), palette(256)[LOGITS[0].argmax(-1)])


def test_colours_are_those_of_pascal_voc():
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        5: (128, 0, 128),
        15: (192, 128, 128),
        20: (0, 64, 128),
        VOID: (224, 224, 192),
    }
    assert {i: tuple(palette(256)[i].tolist()) for i in known} == known
    assert len(np.unique(palette(256), axis=0)) == 256


class Masks:
    name = "masks"
    class_names = NAMES

    def __init__(self, targets):
        self.y = targets

    def __len__(self):
        return len(self.y)

    def targets(self):
        return self.y


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (np.full((2, 3, 3), 4, np.uint8), "hold 4"),
        (np.full((2, 3, 3), VOID, np.uint8), "void pixels alone"),
        (np.full((2, 3, 3), 2, np.uint8), "'dark'"),
        (np.zeros((2, 3, 3), np.int32), r"uint8\[n, height, width\]"),
        (np.zeros((2, 3), np.uint8), r"uint8\[n, height, width\]"),
    ],
)
def test_targets_that_teach_nothing_are_refused(targets, said):
    with pytest.raises(InputError, match=said):
        choose_task(Masks(targets), "segmentation", purpose="a test")


def test_masks_ask_for_segmentation_by_themselves():
    assert choose_task(Masks(TARGETS), purpose="a test") == TASK
    assert TASK.same_question(Segmentation(NAMES))
    assert not TASK.same_question(Classification(NAMES))


def test_a_class_that_is_in_no_training_part_is_named_with_where_it_is():
    whole = TARGETS.copy()
    whole[4, 0, 0] = 3
    TASK.check_parts(whole, [np.arange(5)], "a test")
    with pytest.raises(InputError, match=r"'absent' \(in 1 of 5\)"):
        TASK.check_parts(whole, [np.arange(5), np.arange(4)], "a test")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(class_weights={"darkk": 2.0}), "'darkk'"),
        (dict(loss_function="dise"), "'dise'"),
        (dict(label_smoothing=0.1), "label_smoothing is 0.1"),
    ],
)
def test_options_it_does_not_have_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        TASK.with_options(**options)


def test_a_byte_does_not_hold_more_classes():
    dataclasses.replace(TASK, names=tuple(map(str, range(255))))
    with pytest.raises(InputError, match="256 classes"):
        dataclasses.replace(TASK, names=tuple(map(str, range(256))))


@pytest.mark.parametrize("given", ["accuracy", "jaccard_macro", {"mine": accuracy_score}, accuracy_score])
def test_functions_of_targets_and_predictions_are_refused_before_anything_is_trained(given):
    """A record has sums over pixels: whoever needs another score writes one of them."""
    with pytest.raises(InputError, match=r"mean_iou.*hits"):
        TASK.scored_by(given)
    own = Sums("worst_iou", columns=METRICS["mean_iou"].columns, combine=lambda sums: np.nanmin(_iou(sums), -1))
    scored = TASK.scored_by(own)
    assert scored.score.score(RECORD) == min(TASK.metrics[f"iou:{name}"].score(RECORD) for name in NAMES[:3])


def test_large_images_are_counted_in_little_time_and_memory():
    targets = np.kron(RANDOM.integers(0, 19, (8, 16)), np.ones((64, 64))).astype(np.uint8)
    said = np.roll(targets, 5, 1)
    counts = boundary_counts(said[None], targets[None], 19)
    assert tolerance(*targets.shape) == 9
    np.testing.assert_array_equal(counts[0, 0] > 0, counts[0, 1] > 0)
