"""NaN and infinity are never handed on as an answer: every way to predict says how many examples, and why."""

import jax
import numpy as np
import pytest
from command_line import call, refused

import jaxdl
from jaxdl.data.preprocessing import ImagePreprocessing, TablePreprocessing
from jaxdl.errors import InputError
from jaxdl.models.variables import walk_shapes
from jaxdl.validation.ensemble import ensemble


def checkpoint(preprocessing, name="mlp", factor=1.0, names="ab", **arguments):
    made = jaxdl.from_model(jaxdl.create(name, 2, **arguments), preprocessing, tuple(names))
    variables = jax.tree.map(lambda leaf: leaf * np.float32(factor), made.variables)
    return jaxdl.Checkpoint(made.model, variables, made.card)


TABLE = TablePreprocessing((3,), (0.0,) * 3, (1e-3,) * 3)
MLP = {"hidden": (4,)}
LARGE = np.ones((5, 3), np.float32)
LARGE[[1, 3]] = 1e37  # divided by the standard deviation it is no float32


def table(x):
    return jaxdl.data.arrays(x, np.array([0, 1, 0, 1, 0]), class_names=["a", "b"])


def test_examples_whose_outputs_overflow_are_counted_and_named():
    with pytest.raises(InputError, match=r"5 examples .* for 2 .* 1, 3\..*1e\+37"):
        jaxdl.predict(checkpoint(TABLE, **MLP), table(LARGE))
    fine = jaxdl.predict(checkpoint(TABLE, **MLP), table(np.ones((5, 3), np.float32)))
    assert np.isfinite(fine.logits).all()


def test_weights_that_are_too_large_are_the_cause_where_the_examples_are_not():
    huge = checkpoint(TABLE, factor=1e30, **MLP)
    assert all(np.isfinite(leaf).all() for _, leaf in walk_shapes(huge.variables))
    with pytest.raises(InputError, match=r"for 5 .*weights are too large"):
        jaxdl.predict(huge, table(np.ones((5, 3), np.float32)))


def test_an_ensemble_with_one_such_member(tmp_path):
    one, other = checkpoint(TABLE, **MLP), checkpoint(TABLE, factor=1e30, **MLP)
    together = ensemble([one, other])
    with pytest.raises(InputError, match=r"for 5 .*weights are too large"):
        together.predict(table(np.ones((5, 3), np.float32)))
    with pytest.raises(InputError, match=r"for 2 "):
        ensemble([one, one]).predict(table(LARGE))


@pytest.mark.parametrize("side", [8, 12])
def test_a_map_of_classes_hides_nothing(side):
    """The class of a pixel is a number whatever the logits are; in one pass, and tile by tile."""
    taken = ImagePreprocessing((8, 8, 1), (0.5,), (0.2,), crop_mode="tile")
    unet = checkpoint(taken, "unet", factor=1e30, width=2, depth=1, norm="none")
    images = np.full((2, side, side, 1), 200, np.uint8)
    with pytest.raises(InputError, match=r"2 examples .* for 2 "):
        jaxdl.predict(unet, jaxdl.data.arrays(images))


def test_the_command_ends_with_an_error_and_writes_nothing(tmp_path):
    jaxdl.save(checkpoint(TABLE, factor=1e30, **MLP), tmp_path / "c")
    np.savez(tmp_path / "d.npz", x=np.ones((5, 3), np.float32), y=np.array([0, 1, 0, 1, 0]))
    said = refused(f"predict --checkpoint {tmp_path / 'c'} --data {tmp_path / 'd.npz'} --out {tmp_path / 'p.csv'}")
    assert "not finite" in said
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize("heads", ["ridge", "logistic", "knn"])
def test_a_probe_of_features_beyond_float32(heads, tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32) * np.float32(1e38)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(20) % 2)
    code, _, said = call(f"probe --data {tmp_path / 'd.npz'} --heads {heads} --folds 2 --out {tmp_path / 'p'}")
    if code == 0:
        held = jaxdl.load_result(tmp_path / "p" / heads)
        assert np.isfinite(held.out_of_fold.kept).all()
    else:
        assert code == 2, said
