"""Which examples make up each batch, as properties of any division."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.data.batches import evaluation_batches, spread, steps_per_epoch, training_batches

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=5)


def _parts(sizes):
    """Training indices of each fold: different examples, in no order."""
    rng = np.random.default_rng(len(sizes))
    return [rng.permutation(200)[:size] for size in sizes]


def _seen(batches):
    return batches.indices[batches.weights == 1]


@given(lengths, st.integers(1, 25), st.integers(0, 3))
def test_an_epoch_visits_each_example_once(sizes, batch_size, epoch):
    parts = _parts(sizes)
    folds = list(range(len(parts)))
    made = training_batches(parts, batch_size, 0, folds, epoch)
    steps = -(-max(sizes) // batch_size)
    for part, batches in zip(parts, made, strict=True):
        assert batches.indices.shape == batches.weights.shape == made[0].indices.shape
        assert batches.indices.shape[0] == steps
        assert batches.indices.shape[1] <= batch_size
        assert set(np.unique(batches.weights)) <= {0, 1}
        seen = _seen(batches)
        if len(part) >= steps:
            assert sorted(seen) == sorted(part)
        else:  # gone through repeatedly, so that every fold takes as many steps
            assert set(seen) == set(part)
            counts = np.unique(seen, return_counts=True)[1]
            assert counts.max() - counts.min() <= 1
            assert len(seen) == steps
        per_batch = batches.weights.sum(1)
        assert per_batch.max() - per_batch.min() <= 1
        assert per_batch.min() >= 1


@given(lengths, st.integers(1, 25))
def test_evaluation_keeps_the_order(sizes, batch_size):
    parts = _parts(sizes)
    made = evaluation_batches(parts, batch_size, list(range(len(parts))))
    for part, batches in zip(parts, made, strict=True):
        assert batches.indices.shape == batches.weights.shape == made[0].indices.shape
        assert batches.indices.shape[1] <= batch_size
        np.testing.assert_array_equal(_seen(batches), part)
        flat = batches.weights.reshape(-1)
        np.testing.assert_array_equal(flat, np.arange(flat.size) < len(part))  # padding stands at the end


@settings(max_examples=30)
@given(st.integers(0, 5), st.integers(0, 3), st.integers(0, 5))
def test_the_order_depends_on_seed_fold_and_epoch_alone(seed, fold, epoch):
    parts = _parts([40, 40, 30, 40])

    def order(seed, fold, epoch, folds=None, used=parts):
        folds = [fold] if folds is None else folds
        return training_batches(used, 8, seed, folds, epoch)[folds.index(fold)]

    one = order(seed, fold, epoch)
    np.testing.assert_array_equal(one.indices, order(seed, fold, epoch).indices)
    np.testing.assert_array_equal(one.indices, order(seed, fold, epoch, folds=[0, 1, 2, 3]).indices)
    np.testing.assert_array_equal(one.indices, order(seed, fold, epoch, folds=[3, 2, 1, 0]).indices)
    others = [part if i == fold else part[::-1] for i, part in enumerate(parts)]
    np.testing.assert_array_equal(one.indices, order(seed, fold, epoch, used=others).indices)
    same = [parts[fold]] * len(parts)  # the same examples, so that a difference is one of order
    for other in ((seed + 1, fold, epoch), (seed, (fold + 1) % 4, epoch), (seed, fold, epoch + 1)):
        assert not np.array_equal(one.indices[:, :7], order(*other, used=same).indices[:, :7])


@pytest.mark.parametrize(
    ("sizes", "batch_size", "steps"), [([10], 10, 1), ([10], 9, 2), ([10, 21], 10, 3), ([3], 64, 1)]
)
def test_steps_see_the_largest_part_once(sizes, batch_size, steps):
    assert steps_per_epoch(sizes, batch_size) == steps


def test_spread_by_hand():
    made = spread(np.array([5, 6, 7, 8, 9]), 2, 4)
    np.testing.assert_array_equal(made.indices, [[5, 6, 0, 0], [7, 8, 9, 0]])
    np.testing.assert_array_equal(made.weights, [[1, 1, 0, 0], [1, 1, 1, 0]])
