"""Saves that are written beside the training: one that fails is an error, and the one before it is whole."""

import contextlib
import resource

import numpy as np
import pytest

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.training.resume import RunFolder
from jaxdl.training.saves import Saves

LARGE = 1_000_000
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Orbax's own threads


@contextlib.contextmanager
def full_disk():
    """No file may grow past some bytes: writing fails in the middle, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGE // 10, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def save(folder, number, arrays):
    saves = Saves(folder, 0, lambda: False)
    saves.save(number, arrays, {"step": number})
    return saves


def test_a_save_that_fails_in_the_background_is_an_error(tmp_path):
    draw, folder = np.random.default_rng(0), tmp_path / "state"
    first, second = ({"a": draw.normal(size=LARGE).astype(np.float32)} for _ in range(2))
    save(folder, 2, first).close()
    with full_disk():
        saves = save(folder, 4, second)  # it is written beside what comes next, and says nothing yet
        with pytest.raises(InputError, match="is the disk full") as error:
            saves.save(6, second, {"step": 6})
        assert f"'{folder}'" in str(error.value)
        assert "Earlier saves are whole" in str(error.value)
        saves = save(folder, 8, second)
        with pytest.raises(InputError, match="cannot be written"):
            saves.close()  # the last save of a training, too
    latest = Saves(folder, 0, lambda: False).latest()
    np.testing.assert_array_equal(latest.arrays["a"], first["a"])
    assert latest.progress == {"step": 2}


@pytest.mark.slow
def test_a_training_ends_with_an_error_that_names_the_folder(tmp_path):
    draw = np.random.default_rng(0)
    source = data.arrays(draw.normal(size=(32, 16)).astype(np.float32), np.arange(32) % 2)
    model, plan = jaxdl.create("mlp", 2, hidden=(600, 600)), jaxdl.Plan(epochs=6, batch_size=16)
    rows, disk = [], contextlib.ExitStack()

    def note(row):
        rows.append(row)
        if len(rows) == 2:
            disk.enter_context(full_disk())

    how = jaxdl.Execution(work=RunFolder(tmp_path / "run", save_every=0), progress=note)
    with disk, pytest.raises(InputError, match="cannot be written") as error:
        jaxdl.pretrain(model, source, plan, execution=how)
    assert str(tmp_path / "run") in str(error.value)
    assert len(rows) < plan.epochs
