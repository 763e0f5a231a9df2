"""``jaxdl predict --coverage``: sets of classes and intervals of numbers in the table, and what is said of them."""

import re

import numpy as np
import pytest
from command_line import jaxdl_command, read_csv, refused

import jaxdl
from jaxdl import data

PLAN = jaxdl.Plan(epochs=3, batch_size=16, learning_rate=1e-2)
KEEPING = jaxdl.Execution(fold_strategy="vmap", keep_models=True)
NAMES = ("a|b", "c", "d")  # a name that holds the separator


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Ensembles of classes and of numbers, a single network, and new examples."""
    home, random = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    x = random.normal(size=(160, 4)).astype(np.float32)
    numbers = (5 * x[:, 0] + random.normal(size=160)).astype(np.float32)
    classes = np.digitize(numbers, (-2, 2)).astype(np.int32)
    sources = {
        "classes": data.arrays(x[:90], classes[:90], class_names=NAMES),
        "numbers": data.arrays(x[:90], numbers[:90]),
    }
    for name, source in sources.items():
        model = jaxdl.create("mlp", 3 if name == "classes" else 1, hidden=(8,))
        result = jaxdl.cross_validate(model, source, PLAN, folds=3, execution=KEEPING)
        jaxdl.save_ensemble(jaxdl.ensemble(result), home / name)
        if name == "classes":
            jaxdl.save(result.models[0], home / "single")
            jaxdl.save_ensemble(jaxdl.ensemble(list(result.models)), home / "checkpoints")
    np.savez(home / "new.npz", x=x[90:])
    np.savez(home / "numbers.npz", x=x[90:], y=numbers[90:])
    np.savez(home / "mixed.npz", x=x[80:])
    return home


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


def test_sets_in_the_table(tmp_path):
    said = jaxdl_command(f"predict --checkpoint classes --data new.npz --out {tmp_path / 'p.csv'} --coverage 0.8")
    rows = read_csv(tmp_path / "p.csv")
    made = jaxdl.load_ensemble("classes").predict(data.npz("new.npz")).sets(0.8)
    assert list(rows[0])[:5] == ["example", "predicted", "confidence", "set", "set_size"]
    for row, holds in zip(rows, made.holds, strict=True):
        names = set(filter(None, row["set"].split("||")))
        assert names == {word for word, there in zip(NAMES, holds, strict=True) if there}
        assert int(row["set_size"]) == len(names)
    assert f"sets at coverage 80 %: {made.size.mean():.2f} of 3 classes" in said
    assert f"three or more {100 * (made.size == 3).mean():.1f} % ({(made.size == 3).sum()})" in said
    assert "coverage:" not in said  # without labels it is not known
    assert "90 calibration examples in 3 folds" in said


def test_intervals_in_the_table_and_their_coverage(tmp_path):
    said = jaxdl_command(f"predict --checkpoint numbers --data numbers.npz --out {tmp_path / 'p.csv'} --coverage 0.9")
    rows = read_csv(tmp_path / "p.csv")
    low, high, label = (np.array([float(row[name]) for row in rows]) for name in ("low", "high", "label"))
    held = ((low <= label) & (label <= high)).sum()
    assert f"coverage: {100 * held / 70:.1f} % of 70 examples" in said
    assert f"{(high - low).mean():.3g}" in re.search(r"intervals at coverage 90 %: (\S+) wide", said)[1]
    predicted = np.array([float(row["predicted"]) for row in rows])
    assert ((low < predicted) & (predicted < high)).all()


def test_options_reach_the_sets(tmp_path):
    options = "--coverage 0.8 --coverage-by class --coverage-score adaptive"
    said = jaxdl_command(f"predict --checkpoint classes --data new.npz --out {tmp_path / 'p.csv'} {options}")
    assert "Of each class about 80 %" in said
    made = jaxdl.load_ensemble("classes").predict(data.npz("new.npz")).sets(0.8, "class", "adaptive")
    assert [int(row["set_size"]) for row in read_csv(tmp_path / "p.csv")] == made.size.tolist()


def test_examples_of_the_training_are_cautioned(tmp_path):
    said = jaxdl_command(f"predict --checkpoint classes --data mixed.npz --out {tmp_path / 'p.csv'} --coverage 0.8")
    assert "Caution: 10 of the 80 examples were trained on" in said


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--checkpoint single --coverage 0.9", "a single network keeps no held-out"),
        ("--checkpoint checkpoints --coverage 0.9", "jaxdl ensemble RUN"),
        ("--checkpoint classes --coverage 90", "coverage is 90"),
        ("--checkpoint classes --coverage 0.999", "at most 0.989"),
        ("--checkpoint classes --coverage 0.9 --coverage-by group", "no groups"),
        ("--checkpoint classes --coverage 0.9 --coverage-score aps", "probability, adaptive"),
        ("--checkpoint classes --coverage-by class", "--coverage"),
        ("--checkpoint classes --coverage 0.9 --out-of-fold", "jaxdl report RUN"),
        ("--checkpoint numbers --coverage 0.9 --coverage-by class", "no classes"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, line, message):
    assert message in refused(f"predict {line} --data new.npz --out {tmp_path / 'p.csv'}")
    assert not list(tmp_path.iterdir())
