"""Categories and missing values of a table, against scikit-learn's transformers fitted to the same rows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import ColumnsPreprocessing, choose_preprocessing, parse_preprocessing
from jaxdl.errors import InputError

COUNT = 80
RNG = np.random.default_rng(0)


def gaps(values, share=0.2):
    return [None if RNG.random() < share else value for value in values]


TABLE = pd.DataFrame(
    {
        "a": gaps(RNG.normal(5, 3, COUNT)),
        "size": gaps(RNG.choice(["S", "M", "L"], COUNT, p=[0.2, 0.5, 0.3])),
        "b": RNG.integers(0, 7, COUNT),
        "city": [*RNG.choice(["Rome", "Oslo"], COUNT - 2), "Bern", "Bern"],  # in the last rows alone
        "y": RNG.choice(["no", "yes"], COUNT),
    }
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("columns") / "t.csv"
    TABLE.to_csv(path, index=False)
    return path


def theirs(train):
    """Scikit-learn's transformers in our order, fitted to the rows `train`, for all rows."""
    levels = [sorted(TABLE[name].dropna().unique()) for name in ("size", "city")]
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    made = ColumnTransformer(
        [
            ("numbers", numbers, ["a", "b"]),
            ("missing", MissingIndicator(features="missing-only"), ["a"]),
            ("missing text", MissingIndicator(features="missing-only"), ["size"]),
            (
                "words",
                make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
                ["size", "city"],
            ),
        ],
        sparse_threshold=0,
    )
    frame = TABLE.astype({"size": object, "city": object}).where(TABLE.notna(), np.nan)
    found = made.fit(frame.iloc[train]).transform(frame)
    seen = made.named_transformers_["words"][-1].categories_
    wide = np.zeros((COUNT, 4 + sum(map(len, levels))))  # with a column for levels that the part lacks
    wide[:, :4] = found[:, :4]
    places = [levels[i].index(text) for i, texts in enumerate(seen) for text in texts]
    shift = [4 + i * len(levels[0]) for i, texts in enumerate(seen) for _ in texts]
    wide[:, np.add(places, shift)] = found[:, 4:]
    return wide


@pytest.mark.parametrize("part", [np.arange(COUNT), np.arange(0, 60, 2), np.arange(COUNT - 30, COUNT)])
def test_the_network_is_fed_as_scikit_learn_transforms(table, part):
    source = data.csv(table)
    preprocessing = choose_preprocessing(source, None, 224)
    x = preprocessing.load(source)
    ready = preprocessing.with_constants(preprocessing.fit(preprocessing.measure(x), part))
    np.testing.assert_allclose(ready.network_input(x), theirs(part), rtol=1e-5, atol=1e-6)
    assert len(ready.inputs) == ready.spec().shape[0]
    assert ready.inputs[2:4] == ("a is missing", "size is missing")
    rest = np.setdiff1d(np.arange(COUNT), part)
    poisoned = x.copy()
    poisoned[rest] = 1
    for name, value in preprocessing.fit(preprocessing.measure(poisoned), part).items():
        np.testing.assert_array_equal(value, ready.constants[name])


def test_levels_that_a_training_part_may_lack_are_said(table):
    (_, rare) = data.csv(table).notes
    assert "city Bern" in rare
    assert "Rome" not in rare
    assert len(data.csv(table, drop="city").notes) == 1


def test_a_weight_of_two_is_a_row_twice(table):
    source = data.csv(table)
    preprocessing, x = choose_preprocessing(source, None, 224), source.stacked()
    weights = RNG.integers(0, 4, COUNT)
    weighted = preprocessing.fit_weighted(preprocessing.measure(x), np.arange(COUNT), weights)
    repeated = np.repeat(x, weights, axis=0)
    for name, value in preprocessing.fit(preprocessing.measure(repeated), np.arange(len(repeated))).items():
        np.testing.assert_allclose(weighted[name], value, rtol=1e-6)


def test_examples_are_known_by_their_texts_not_by_their_codes(table, tmp_path):
    source = data.csv(table)
    TABLE.iloc[[3, COUNT - 1]].to_csv(tmp_path / "two.csv", index=False)
    two = data.csv(tmp_path / "two.csv", like=source)
    np.testing.assert_array_equal(two.hashes(), source.hashes()[[3, COUNT - 1]])
    only = data.csv(tmp_path / "two.csv", feature=["size", "city"])  # levels of its own
    np.testing.assert_array_equal(only.hashes(), source.hashes()[[3, COUNT - 1]])
    assert only.levels != source.levels


def test_a_checkpoint_knows_levels_gaps_and_target(table, tmp_path):
    source = data.csv(table)
    model = jaxdl.create("mlp", 2, hidden=(8,))
    trained = jaxdl.restore(jaxdl.save(jaxdl.pretrain(model, source, jaxdl.Plan(epochs=2)), tmp_path / "c"))
    card = trained.card
    assert (card.columns, card.target) == (("a", "size", "b", "city"), ("y",))
    assert isinstance(card.preprocessing, ColumnsPreprocessing)
    outputs = jaxdl.predict(trained, source).outputs
    # a new file: other order, a column more, no target, of each category some levels, one of them unknown
    new = TABLE.iloc[[5, 9, COUNT - 1]].drop(columns="y")[["city", "b", "size", "a"]]
    new.insert(1, "remark", ["x", "y", "z"])
    new.to_csv(tmp_path / "new.csv", index=False)
    read = data.load(tmp_path / "new.csv", labelled=False, like=card)
    np.testing.assert_allclose(jaxdl.predict(trained, read).outputs, outputs[[5, 9, COUNT - 1]], atol=1e-6)
    np.testing.assert_array_equal(
        jaxdl.predict(trained, tmp_path / "new.csv").outputs, jaxdl.predict(trained, read).outputs
    )
    TABLE.iloc[:20].to_csv(tmp_path / "part.csv", index=False)  # read without knowing the checkpoint
    part = data.csv(tmp_path / "part.csv")
    assert part.levels != source.levels
    np.testing.assert_allclose(jaxdl.predict(trained, part).outputs, outputs[:20], atol=1e-6)
    np.testing.assert_allclose(jaxdl.predict(trained, data.subset(part, [7])).outputs, outputs[[7]], atol=1e-6)
    streamed = jaxdl.predict(trained, part, execution=jaxdl.Execution(streaming=True))
    np.testing.assert_allclose(streamed.outputs, outputs[:20], atol=1e-6)
    new.assign(b="many").to_csv(tmp_path / "words.csv", index=False)
    with pytest.raises(InputError, match=r"'b'.*many"):
        data.csv(tmp_path / "words.csv", like=card)


def test_what_is_missing_is_refused_where_nothing_was_missing_in_training(tmp_path):
    whole = pd.DataFrame({"a": RNG.normal(size=20), "b": RNG.normal(size=20), "y": RNG.normal(size=20)})
    whole.to_csv(tmp_path / "t.csv", index=False)
    whole.assign(b=whole["b"].where(whole.index != 7)).to_csv(tmp_path / "gap.csv", index=False)
    trained = jaxdl.pretrain(jaxdl.create("mlp", 1, hidden=(4,)), data.csv(tmp_path / "t.csv"), jaxdl.Plan(epochs=1))
    for streaming in (False, True):
        with pytest.raises(InputError, match=r"missing|no value"):
            jaxdl.predict(trained, data.csv(tmp_path / "gap.csv"), execution=jaxdl.Execution(streaming=streaming))


@pytest.mark.parametrize(
    "change",
    [
        {"levels": [[], ["S", "S"]]},
        {"levels": [[]]},
        {"gaps": [True]},
        {"fill": [0.0]},
        {"std": [0.0, 1.0]},
        {"std": None},
        {"mean": [float("nan"), 0.0]},
        {"known": [1.0]},
    ],
)
def test_a_damaged_card_is_refused(change):
    whole = ColumnsPreprocessing(("a", "b"), ((), ("S", "M")), (True, False), (0, 1), (2, 0), (3, 1), (1, 1))
    assert parse_preprocessing(whole.plain()) == whole
    with pytest.raises(InputError):
        parse_preprocessing(whole.plain() | change)
