"""Predictions of test examples that are not finite end a cross-validation, with the fold and how many there are."""

import contextlib

import numpy as np
import pytest
from command_line import call

import jaxdl
from jaxdl import data
from jaxdl.training.progress import Diverged, not_finite

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
X[[37, 39]] = 3e38  # which only the second fold tests, and neither trains on
FOLDS = [(np.arange(20), np.arange(20, 30)), (np.arange(20), np.arange(30, 40))]
PLAN = jaxdl.Plan(epochs=2, batch_size=8)


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_the_fold_and_the_count_are_named(strategy):
    source = data.arrays(X, np.arange(40) % 2)
    execution = jaxdl.Execution(fold_strategy=strategy)
    with pytest.raises(Diverged, match=r"fold 1: 2 of the 10 predictions"):
        jaxdl.cross_validate(jaxdl.create("mlp", 2, hidden=(4,)), source, PLAN, splitter=FOLDS, execution=execution)


def test_rows_with_any_number_that_is_none_are_found():
    held = {"kept": np.zeros((2, 3, 4)), "right": np.ones((2, 3))}
    held["kept"][1, 2, 3] = np.inf
    held["right"][0, 1] = np.nan
    np.testing.assert_array_equal(not_finite(held), [[False, True, False], [False, False, True]])
    assert not not_finite({"target": np.arange(6).reshape(2, 3)}).any()


def test_the_command_does_not_end_well(tmp_path):
    jaxdl_split = data.arrays(X, np.arange(40) % 2)
    from jaxdl.validation.splits import SPLIT, split_source

    with contextlib.chdir(tmp_path):
        np.savez("huge.npz", x=X, y=np.arange(40) % 2)
        split_source(jaxdl_split, FOLDS, 2, 0).save(SPLIT, data.npz("huge.npz"))
        line = f"cross-validate --model mlp --data huge.npz --splitter {SPLIT} --epochs 1 --batch-size 8 --out run"
        code, _, said = call(line)
        assert (code, "fold 1: 2 of the 10 predictions" in said) == (2, True), said
