"""What a prompt and a notebook show: one line, a table without markup of others, and frames with the right numbers."""

import dataclasses
import importlib
import pkgutil
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

import jaxdl
from jaxdl import data
from jaxdl.shown import ROWS, Shown
from jaxdl.tasks import Classification
from jaxdl.training.predict import Predictions
from jaxdl.validation.ensemble import EnsembleCheckpoint, EnsemblePredictions
from jaxdl.validation.probes.probe import Probing
from jaxdl.validation.splits import split_source
from jaxdl.weights.checkpoint import Checkpoint, from_model

EVIL = "<script>alert(1)</script>\x1b[2J\n&"
NAMES = (EVIL, "bee")
RANDOM = np.random.default_rng(0)
TARGETS = RANDOM.integers(0, 2, 40)
FEATURES = np.float32(RANDOM.normal(size=(40, 6)) + TARGETS[:, None])


@pytest.fixture(scope="module")
def table():
    return dataclasses.replace(
        data.arrays(FEATURES, TARGETS, class_names=NAMES),
        name=EVIL,
        columns=tuple("abcdef"),
        groups=np.arange(40) % 10,
        times=np.arange(40),
        names=[f"{EVIL}{i}" for i in range(40)],
    )


@pytest.fixture(scope="module")
def probed(table):
    return jaxdl.probe(FEATURES, TARGETS, class_names=NAMES, probing=Probing(("ridge", "knn"), (1.0,)), folds=4)


@pytest.fixture(scope="module")
def checkpoint(table):
    preprocessing = dataclasses.replace(data.preprocessing.TablePreprocessing((6,)), mean=(0.0,) * 6, std=(1.0,) * 6)
    made = from_model(jaxdl.create("mlp", 2, hidden=(3,)), preprocessing, NAMES)
    return dataclasses.replace(made, history=({"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 0.25}))


@pytest.fixture(scope="module")
def shown(table, probed, checkpoint):
    """A value of most kinds, by its kind."""
    two = {name: probed.result(name) for name in probed.heads}
    said = Predictions(RANDOM.normal(size=(40, 2)), Classification(NAMES), TARGETS, tuple(table.names))
    stacked = {"params": {}, "batch_stats": {}}
    values = [
        table,
        data.subset(table, [3, 1, 2]),
        checkpoint,
        EnsembleCheckpoint(checkpoint.model, stacked, [checkpoint.card] * 2, EVIL),
        probed,
        probed.heads["knn"],
        two["knn"],
        two["knn"].out_of_fold,
        said,
        EnsemblePredictions(said.outputs, said.task, TARGETS, refusal=EVIL),
        jaxdl.compare(two),
        split_source(table, "group", 4, 0),
    ]
    return {type(value).__name__: value for value in values}


class Read(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = set(), ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


def test_a_line_and_a_table_show_names_as_text_and_no_array(shown, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", None)
    for value in shown.values():
        line = repr(value)
        assert line.isprintable()
        assert type(value).__name__ in line
        assert len(line) < 600
        assert "array(" not in line
        page = Read()
        page.feed(value._repr_html_())
        assert page.tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
        assert page.text.replace("\n", " ").isprintable()
        assert len(page.text) < 4000
    assert "<script>" in repr(shown["Arrays"])  # a prompt shows text


def test_every_class_that_shows_itself_does_so_by_its_facts():
    """`dataclass` writes a repr with all arrays unless it is told not to."""
    for module in pkgutil.walk_packages(jaxdl.__path__, "jaxdl."):
        importlib.import_module(module.name)
    found, left = [], [Shown]
    while left:
        found += (below := left.pop().__subclasses__())
        left += below
    ours = [one for one in found if one.__module__.startswith("jaxdl.")]
    assert {Checkpoint, EnsembleCheckpoint, data.Source, Predictions} <= set(ours)
    assert [one for one in ours if one.__repr__ is not Shown.__repr__] == []


def test_a_card_shows_no_lists_of_hashes(checkpoint):
    card = dataclasses.replace(checkpoint.card, trained_on=bytes(8000), tested=bytes(8000))
    assert len(repr(card)) < 1000


def test_a_source_says_what_it_holds(table):
    line = repr(data.subset(table, [3, 1, 2]))
    for word in ("examples 3", "float32[6]", "bee", "groups 3", "1 to 3"):
        assert word in line


def test_the_frame_of_a_source_has_what_is_known_of_each_example(table):
    frame = table.to_frame()
    assert frame.target.tolist() == [NAMES[i] for i in TARGETS]
    np.testing.assert_array_equal(frame[list("abcdef")], FEATURES)
    np.testing.assert_array_equal(frame[["group", "time"]], np.stack([table.groups, table.times], 1))
    pictures = data.arrays(np.zeros((3, 4, 4, 1), np.uint8))
    assert pictures.to_frame().shape == (3, 0)
    several = data.arrays(FEATURES, np.eye(2, dtype=np.uint8)[TARGETS], class_names=NAMES).to_frame()
    np.testing.assert_array_equal(several["target:bee"], TARGETS)


def test_the_frame_of_a_table_has_the_texts_of_categories(tmp_path):
    (tmp_path / "t.csv").write_text("colour,size,target\n" + "red,1,a\nblue,2.5,b\n,3,a\n" * 4)
    frame = data.csv(tmp_path / "t.csv").to_frame()
    assert frame.colour[:2].tolist() == ["red", "blue"]
    assert frame.colour.isna()[:3].tolist() == [False, False, True]
    assert frame["size"][:3].tolist() == [1, 2.5, 3]
    assert frame.target[:3].tolist() == ["a", "b", "a"]


def test_the_frame_of_a_result_gives_its_score(shown):
    result = shown["Result"]
    frame = result.to_frame()
    by_fold = [metrics.accuracy_score(fold.target, fold.predicted) for _, fold in frame.groupby("fold")]
    assert np.mean(by_fold) == pytest.approx(result.mean)
    assert sorted(frame.example) == list(range(40))
    np.testing.assert_allclose(frame[[f"p:{name}" for name in NAMES]], softmax(result.out_of_fold.kept, 1), rtol=1e-6)
    decisions = shown["ProbeResult"].result("ridge").to_frame()
    assert not [name for name in decisions if name.startswith("p:") or name == "confidence"]


def test_the_frame_of_predictions_has_their_names_answers_and_probabilities(shown):
    said = shown["Predictions"]
    frame = said.to_frame()
    assert list(frame.index) == list(said.names)
    np.testing.assert_allclose(frame["p:bee"], softmax(said.outputs, 1)[:, 1])
    assert metrics.accuracy_score(frame.target, frame.predicted) == pytest.approx(said.accuracy)
    assert said._repr_html_().count("<tr") < 2 * ROWS


def test_the_other_frames_have_a_row_for_each_thing(shown):
    checkpoint, probed, split = shown["Checkpoint"], shown["ProbeResult"], shown["Split"]
    assert checkpoint.to_frame().train_loss.tolist() == [0.5, 0.25]
    assert len(shown["EnsembleCheckpoint"].to_frame()) == 2
    assert probed.to_frame().accuracy.tolist() == [probed.result(name).mean for name in probed.heads]
    assert shown["Comparison"].to_frame().difference.tolist() == [pair.difference for pair in shown["Comparison"].pairs]
    held = split.to_frame()
    for fold, (train, test) in enumerate(zip(split.train, split.test, strict=True)):
        parts = held[held.fold == fold]
        assert parts[parts.part == "train"].example.tolist() == train.tolist()
        assert parts[parts.part == "test"].example.tolist() == test.tolist()
