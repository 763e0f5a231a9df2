"""What every task, source and preprocessing promise, pair by pair: all of training and validation goes through."""

import dataclasses
import itertools
import json
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.models import MODELS, Entry
from jaxdl.models.layers import Head
from jaxdl.models.staged import Staged
from jaxdl.tasks import TASKS
from jaxdl.tasks.metric import Mean
from jaxdl.training.resume import Interrupted

COUNT = 48
PLAN = jaxdl.Plan(epochs=2, batch_size=16, learning_rate=1e-2)
DIGITS = data.digits(range(3))
CHOSEN = np.random.default_rng(0).permutation(len(DIGITS))[:COUNT]
IMAGES, DIGIT = DIGITS.x[CHOSEN], DIGITS.labels[CHOSEN]
ROWS = IMAGES.reshape(COUNT, 8, 8)[:, 2:6, 2:6].reshape(COUNT, -1).astype(np.float32) / 16
RAW = {"rows": IMAGES[..., 0].astype(np.float32), "there": np.arange(8) < 4 + np.arange(COUNT)[:, None] % 5}


# A task of nobody's but this test's

CLOSENESS = {
    "closeness": Mean("closeness", value="closeness", bounds=(-1.0, 1.0)),
    "distance": Mean("distance", value="distance", higher_is_better=False, best=0.0, bounds=(0.0, 2.0)),
}


@dataclasses.dataclass(frozen=True)
class Clock(jaxdl.Task):
    """The hour of a clock of so many `hours`; what is kept is a dict, and 11 is as near to 0 as to 10."""

    hours: float = 3.0

    name = "clock"
    METRICS = CLOSENESS
    LOSS = "distance"
    SHOWN = ("closeness",)

    @property
    def num_outputs(self):
        return 2

    @classmethod
    def of(cls, targets, names):
        return cls()

    def takes(self, targets, names):
        return isinstance(targets, np.ndarray) and targets.ndim == 1

    def check(self, targets, count, data, purpose):
        if not self.takes(targets, ()) or len(targets) != count:
            raise InputError(f"the labels of {data} are no hours")

    def baseline(self, targets, count):
        turn = 2 * np.pi * np.asarray(targets) / self.hours
        angle = np.arctan2(np.sin(turn).mean(), np.cos(turn).mean())
        return {
            "hour": np.full(count, angle * self.hours / (2 * np.pi), np.float32),
            "sure": np.ones(count, np.float32),
        }

    def loss(self, outputs, targets, constants):
        turn = 2 * jnp.pi * targets / self.hours
        length = jnp.sqrt(jnp.square(outputs).sum(-1) + 1e-6)
        each = 1 - (outputs[:, 0] * jnp.cos(turn) + outputs[:, 1] * jnp.sin(turn)) / length
        return each, jnp.ones_like(each)

    def predict(self, outputs, constants):
        angle = jnp.arctan2(outputs[:, 1], outputs[:, 0])
        return {"hour": angle * self.hours / (2 * jnp.pi), "sure": jnp.sqrt(jnp.square(outputs).sum(-1))}

    def record(self, kept, targets):
        xp = np if isinstance(kept["hour"], np.ndarray) else jnp
        closeness = xp.cos(2 * np.pi * (kept["hour"] - targets) / self.hours)
        return {"closeness": closeness, "distance": 1 - closeness}

    def predicted(self, kept):
        return np.asarray(kept["hour"]) % self.hours

    def columns(self, kept):
        return {"predicted": self.predicted(kept).tolist()}


class Middle(nn.Module):
    """The mean of the rows that are there, and a linear map."""

    dtype: str
    param_dtype: str

    @nn.compact
    def __call__(self, x, mode):
        weights = x["there"].astype(self.dtype)
        mean = (x["rows"] * weights[..., None]).sum(1) / weights.sum(1)[:, None]
        return nn.relu(nn.Dense(8, dtype=self.dtype, param_dtype=self.param_dtype, name="dense")(mean / 16))


class Masked(Staged):
    """Of padded rows with their mask."""

    def stages(self):
        dtypes = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        return ("middle", partial(Middle, **dtypes)), ("head", partial(Head, self.num_outputs, **dtypes))


@pytest.fixture(scope="module", autouse=True)
def known():
    with pytest.MonkeyPatch.context() as patch:  # both are tables that a user adds to
        patch.setitem(TASKS, "clock", Clock)
        patch.setitem(MODELS, "masked", Entry(Masked, parameters=0))
        yield


# What is asked, of which examples

NAMES = ("none", "one", "two")
LABELS = np.stack([DIGIT > 0, IMAGES.mean((1, 2, 3)) > np.median(IMAGES.mean((1, 2, 3)))], 1).astype(np.uint8)
MEANS = np.stack([100 + IMAGES.mean((1, 2, 3)), 0.01 * IMAGES[:, 2:5].mean((1, 2, 3))], 1)
TARGETS = {
    "classification": (DIGIT.astype(np.int32), NAMES),
    "multilabel": (LABELS, ("some", "dark")),
    "regression": ((100 + IMAGES.mean((1, 2, 3))).astype(np.float32), ()),
    "multitarget": (MEANS.astype(np.float32), ("all", "middle")),
    "clock": (DIGIT.astype(np.float32), ()),
}
INPUTS = {"image": IMAGES, "table": ROWS, "raw": RAW}


class Own(data.Source):
    """The least that a source of a user's own says."""

    name = "own"

    def __init__(self, x, y, class_names):
        self.x, self.y, self.class_names = x, y, class_names

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return {"x": jax.tree.map(lambda array: array[index], self.x), "y": self.y[index]}


def in_words(task):
    """Columns of a table with the targets, and those columns' names."""
    y, names = TARGETS[task]
    if task == "classification":
        return ["target"], [[names[k]] for k in y]
    return (["target"], [[f"{value}"] for value in y]) if y.ndim == 1 else (list(names), y.tolist())


def write_table(path, first, rows, task):
    columns, words = in_words(task)
    lines = [",".join(map(str, [*row, *said])) for row, said in zip(rows, words, strict=True)]
    path.write_text("\n".join([",".join([*first, *columns]), *lines]))
    kind = "regression" if task == "clock" else task
    known = first if first != ["file"] else ()  # some pixels alone nearly tell a label
    return data.csv(path, columns if len(columns) > 1 else None, task=kind, feature=known)


def make_source(task, kind, modality, folder):
    y, names = TARGETS[task]
    if kind == "arrays":
        return data.Arrays(INPUTS[modality], y, names)
    if kind == "own":
        return Own(INPUTS[modality], y, names)
    if kind == "table":
        return write_table(folder / "t.csv", [f"x{i}" for i in range(ROWS.shape[1])], ROWS.tolist(), task)
    for i in range(COUNT):
        place = folder / NAMES[DIGIT[i]]
        place.mkdir(exist_ok=True)
        Image.fromarray(IMAGES[i, ..., 0]).save(place / f"{i:02}.png")
    if task in ("classification", "clock"):
        return data.folder(folder)
    return write_table(folder / "t.csv", ["file"], [[f"{NAMES[DIGIT[i]]}/{i:02}.png"] for i in range(COUNT)], task)


# every task with every source and every preprocessing, and every source with every preprocessing that it can have
CASES = [
    ("classification", "folder", "image"),
    ("multilabel", "table", "table"),
    ("regression", "arrays", "table"),
    ("clock", "own", "raw"),
    ("multitarget", "table", "table"),
    ("classification", "arrays", "image"),
    ("classification", "table", "table"),
    ("classification", "own", "raw"),
    ("multilabel", "folder", "image"),
    ("multilabel", "arrays", "raw"),
    ("multilabel", "own", "table"),
    ("regression", "folder", "image"),
    ("regression", "table", "table"),
    ("regression", "own", "raw"),
    ("multitarget", "folder", "image"),
    ("multitarget", "arrays", "raw"),
    ("multitarget", "own", "table"),
    ("clock", "folder", "image"),
    ("clock", "arrays", "table"),
    ("clock", "table", "table"),
    ("clock", "own", "image"),
]
QUICK = 5  # one of each task, source and preprocessing


def test_the_cases_are_all_pairs():
    for places, missing in (((0, 1), set()), ((0, 2), set()), ((1, 2), {("folder", "table"), ("folder", "raw")})):
        every = set(itertools.product(*({case[place] for case in CASES} for place in places)))
        absent = every - {tuple(case[place] for place in places) for case in CASES}
        # a folder holds images, a table numbers
        assert absent == missing | ({("table", "image"), ("table", "raw")} if missing else set())
    for place in range(3):
        assert {case[place] for case in CASES[:QUICK]} == {case[place] for case in CASES}


@pytest.fixture(
    scope="module",
    params=[pytest.param(case, marks=[] if k < QUICK else pytest.mark.slow) for k, case in enumerate(CASES)],
    ids=lambda case: "-".join(case),
)
def case(request, tmp_path_factory):
    """The source, the task, and a network for both."""
    task, kind, modality = request.param
    source = make_source(task, kind, modality, tmp_path_factory.mktemp("data"))
    outputs = TASKS[task].of(source.targets(), source.class_names).num_outputs
    model = jaxdl.create("masked", outputs) if modality == "raw" else jaxdl.create("mlp", outputs, hidden=(8,))
    return source, task, model


@pytest.fixture(scope="module")
def tuned(case):
    source, task, model = case
    return jaxdl.finetune(model, source, PLAN, task=task)


def test_a_network_learns_and_predicts(case, tuned):
    source, task, _ = case
    said = jaxdl.predict(tuned, source, batch_size=20)
    assert (said.task.name, {len(leaf) for leaf in jax.tree.leaves(said.outputs)}) == (task, {COUNT})
    assert len(said.predicted) == len(said.task.columns(said.outputs)["predicted"]) == COUNT
    np.testing.assert_array_equal(said.targets, source.targets())
    assert said.scores == said.task.evaluate(said.outputs, source.targets())
    assert np.isfinite(list(said.scores.values())).all()
    longer = jaxdl.finetune(tuned, source, dataclasses.replace(PLAN, epochs=6), task=task)
    assert jaxdl.predict(longer, source).scores["loss"] < said.scores["loss"]


def test_a_card_comes_back(case, tuned, tmp_path):
    source, _, _ = case
    again = jaxdl.restore(jaxdl.save(tuned, tmp_path / "made"))
    assert again.card == tuned.card
    assert again.history == tuned.history
    one, other = (jaxdl.predict(made, source) for made in (tuned, again))
    jax.tree.map(np.testing.assert_array_equal, one.outputs, other.outputs)
    assert one.task == other.task


def test_a_training_goes_on_after_an_interruption(case, tuned, tmp_path):
    source, task, model = case
    asked = itertools.count()
    stopping = jaxdl.RunFolder(tmp_path / "run", save_every=0, should_stop=lambda: next(asked) > 1)
    with pytest.raises(Interrupted):
        jaxdl.finetune(model, source, PLAN, task=task, execution=jaxdl.Execution(work=stopping))
    again = jaxdl.finetune(model, source, PLAN, task=task, execution=jaxdl.Execution(work=tmp_path / "run"))
    jax.tree.map(np.testing.assert_array_equal, again.variables, tuned.variables)


@pytest.fixture(scope="module")
def result(case):
    source, task, model = case
    how = jaxdl.Execution(fold_strategy="vmap")
    return jaxdl.cross_validate(model, source, PLAN, task=task, folds=3, execution=how)


# folds over devices join where there are several, as when tests/parallel runs
OTHERS = ("loop", *(["shard"] if jax.local_device_count() > 1 else []))


@pytest.mark.parametrize("strategy", OTHERS)
def test_folds_come_out_alike_however_they_are_run(case, result, strategy):
    source, task, model = case
    how = jaxdl.Execution(fold_strategy=strategy)
    other = jaxdl.cross_validate(model, source, PLAN, task=task, folds=3, execution=how)
    one, two = result.out_of_fold, other.out_of_fold
    np.testing.assert_array_equal(one.index, two.index)
    for name, array in one.arrays().items():
        np.testing.assert_allclose(two.arrays()[name], array, rtol=1e-4, atol=1e-4)
    assert other.mean == pytest.approx(result.mean, abs=1e-4)


def test_what_a_result_tells_follows_from_its_rows(case, result):
    source, task, _ = case
    held = result.out_of_fold
    np.testing.assert_array_equal(held.target, source.targets()[held.index])
    assert sorted(held.index) == list(range(COUNT))
    asked = result.asked
    assert (asked.name, result.metric) == (task, next(iter(TASKS[task].METRICS)))
    for row in result.folds:
        mine = held.take(held.fold == row["fold"])
        found = asked.evaluate(mine.kept, mine.target)
        assert {name: row[name] for name in found} == pytest.approx(found, rel=1e-5, abs=1e-6)
    assert set(result.baseline) == {result.metric, asked.LOSS}
    assert result.interval["low"] <= result.interval["estimate"] <= result.interval["high"]
    assert result.metrics["folds"][result.metric] == pytest.approx([row[result.metric] for row in result.folds])


def test_a_result_comes_back(result, tmp_path):
    again = jaxdl.load_result(result.save(tmp_path / "run"))
    assert again.as_dict() == json.loads(json.dumps(result.as_dict()))
    assert again.asked == result.asked
    assert jax.tree.structure(again.out_of_fold) == jax.tree.structure(result.out_of_fold)
    jax.tree.map(np.testing.assert_array_equal, again.out_of_fold, result.out_of_fold)
    assert again.sample().pooled_score == result.sample().pooled_score
    assert jaxdl.interval(again).low == result.interval["low"]


def test_a_result_has_a_page(case, result, tmp_path):
    source, _, _ = case
    page = jaxdl.write_run_report(result.save(tmp_path / "run"), source)
    assert result.metric.replace("_", " ") in page.read_text().lower().replace("_", " ")


def test_a_task_of_nobodys_is_named_when_it_is_not_registered():
    held = {"name": "somebodys", "names": []}
    with pytest.raises(InputError, match=r"'somebodys'.*register"):
        jaxdl.tasks.parse_task(held)
