"""What pretraining and fine-tuning say of what was held out: scores of the network that is kept, and its page."""

import contextlib
import json
import re

import numpy as np
import pytest
from command_line import jaxdl_command
from report.parsed_page import read_page
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier

import jaxdl
from jaxdl import data
from jaxdl.training.transfer import hold_out
from jaxdl.validation.held_out import HELD_OUT

FRACTION = 0.3
OPTIONS = "--model mlp --model-arguments hidden=[6] --data plain.npz --learning-rate 3e-2 --batch-size 16"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two trainings of the same data and what they print: one to its last epoch, one with early stopping."""
    home, random = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    x = random.normal(size=(100, 4)).astype(np.float32)
    y = (x[:, 0] + random.normal(size=100) > 1.2).astype(int)
    np.savez(home / "plain.npz", x=x, y=y, class_names=["common", "rare"])
    with contextlib.chdir(home):
        line = f"pretrain {OPTIONS} --validation-fraction {FRACTION}"
        said = {
            "last": jaxdl_command(f"{line} --epochs 8 --out last"),
            "stopped": jaxdl_command(f"{line} --epochs 8 --early-stopping 2 --out stopped"),
        }
        train, held = hold_out(data.npz("plain.npz"), FRACTION, 0)
    return home, said, train, held


def scores(line, said):
    found = re.search(rf"^{line}: accuracy ([\d.]+), (?:log_)?loss ([\d.]+)$", said, re.MULTILINE)
    return [float(number) for number in found.groups()]


def by_hand(checkpoint, held):
    chances = jaxdl.predict(checkpoint, held).probabilities
    return [sk.accuracy_score(held.targets(), chances.argmax(1)), sk.log_loss(held.targets(), chances)]


@pytest.mark.parametrize("name", ["last", "stopped"])
def test_the_scores_are_those_of_the_checkpoint_that_is_kept(runs, name):
    home, said, _, held = runs
    assert scores("held out", said[name]) == pytest.approx(by_hand(jaxdl.restore(home / name), held), abs=2e-4)


def test_the_best_epoch_is_told_beside_the_last_one(runs):
    home, said, _, held = runs
    best = jaxdl.restore(home / "last" / "best")
    epoch = int(re.search(r"^best epoch: (\d+)", said["last"], re.MULTILINE)[1])
    logits = np.asarray(best.model.apply(best.variables, best.card.preprocessing.on_device(held.x, *_constants(best))))
    loss = sk.log_loss(held.targets(), _softmax(logits))
    losses = [row["test_loss"] for row in best.history]
    assert losses[epoch - 1] == min(losses) == pytest.approx(loss, abs=1e-4)
    assert epoch < len(losses), "the test wants a best epoch that is not the last one"
    assert scores(f"held out, epoch {epoch}", said["last"])[1] == pytest.approx(loss, abs=2e-4)
    assert json.loads((home / "last" / "run.json").read_text())["best_epoch"] == epoch


def _constants(checkpoint):
    return (checkpoint.card.preprocessing.constants,)


def _softmax(logits):
    odds = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def test_other_models_stand_beside_it(runs):
    _, said, train, held = runs
    dummy = DummyClassifier(strategy="prior").fit(train.x, train.targets())
    wanted = [dummy.score(held.x, held.targets()), sk.log_loss(held.targets(), dummy.predict_proba(held.x))]
    assert scores("most frequent class", said["last"]) == pytest.approx(wanted, abs=2e-4)
    assert "gradient-boosted trees: accuracy" in said["last"]
    assert "classes are uneven" in said["last"]


def test_the_result_is_kept_with_wilsons_interval(runs):
    from scipy.stats import binomtest

    home, said, _, held = runs
    result = jaxdl.load_result(home / "last" / HELD_OUT)
    right = round(result.mean * len(held))
    wilson = binomtest(right, len(held)).proportion_ci(method="wilson")
    # Student's quantile in place of the normal one, and units less one: a little wider
    low, high = result.interval["low"], result.interval["high"]
    assert (low, high) == pytest.approx((wilson.low, wilson.high), abs=0.02)
    assert high - low > wilson.high - wilson.low
    assert f"{100 * low:.1f} % to {100 * high:.1f} %" in said["last"]


def test_the_page_has_what_that_of_a_cross_validation_has(runs, monkeypatch):
    home, said, _, held = runs
    monkeypatch.chdir(home)
    jaxdl_command("report last")
    page = read_page(home / "last" / "report.html")
    titles = [heading["text"] for heading in page.all("h2")]
    for title in ("How sure is the number?", "Which classes are confused", "Class by class"):
        assert title in titles
    assert "Can the probabilities be believed?" in titles
    tables = [page.cells(i) for i in range(len(page.all("table")))]
    answer = {row[0]: row[1:] for row in tables[0]}
    accuracy, loss = by_hand(jaxdl.restore("last"), held)
    assert answer["held-out part"][1] == f"{100 * accuracy:.1f} %"
    assert float(answer["held-out part"][0]) == pytest.approx(loss, rel=0.01)
    assert {"most frequent class", "gradient-boosted trees"} <= set(answer)
    best = next(row for name, row in answer.items() if name.startswith("held-out part, epoch"))
    assert float(best[0]) == pytest.approx(scores("held out, epoch \\d+", said["last"])[1], rel=0.01)
    support = next(rows for rows in tables if rows[0] == ["class", "precision", "recall", "F1", "support"])
    assert [int(row[4]) for row in support[1:3]] == np.bincount(held.targets()).tolist()


def test_two_trainings_on_the_same_held_out_part_can_be_compared(runs, monkeypatch):
    home, _, _, held = runs
    monkeypatch.chdir(home)
    said = jaxdl_command(f"compare last/{HELD_OUT} stopped/{HELD_OUT} --test mcnemar")
    assert "most frequent class" in said
    for name in ("last", "stopped"):
        assert f"{by_hand(jaxdl.restore(name), held)[0]:.4f}" in said
