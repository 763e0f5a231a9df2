"""Columns that look like an identity, a time or the target: refused until they are declared."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import r2_score, roc_auc_score

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.training.features import DataStore
from jaxdl.validation.leakage import check_leaks, checks
from jaxdl.validation.leakage.columns import find_suspects, score_alone
from jaxdl.validation.splits import split_source

COUNT = 120
RNG = np.random.default_rng(0)
MODEL = jaxdl.create("mlp", 1, hidden=(4,))


def written(path, **columns):
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def names(found):
    return [one.name for one in found]


GROUPED = RNG.permutation(np.arange(COUNT) // 6)


@pytest.mark.parametrize(
    "name",
    ["subject#", "subject", "Patient_ID", "patientId", "user no", "SITE", "site code", "batch", "plate_nr", "ids"],
)
def test_a_column_called_like_an_identity_is_found(tmp_path, name):
    table = {name: GROUPED, "a": RNG.normal(size=COUNT), "y": RNG.normal(size=COUNT)}
    source = data.csv(written(tmp_path / "t.csv", **table))
    assert names(find_suspects(source)["identity-columns"]) == [name]
    split = split_source(source, "kfold", 3, 0)
    with pytest.raises(InputError) as refused:
        check_leaks(MODEL, source, split)
    said = [f"'{name}'", "20 values", "--group", "--feature", "--drop", "--allow identity-columns"]
    assert [one for one in said if one not in str(refused.value)] == []
    (leak,) = check_leaks(MODEL, source, split, allow="identity-columns")
    tested = [np.isin(GROUPED[test], GROUPED[train]).sum() for train, test in zip(split.train, split.test, strict=True)]
    assert (leak.name, leak.examples) == ("identity-columns", sum(tested))
    for options in ({"feature": name}, {"drop": name}, {"group": name}):
        declared = data.csv(tmp_path / "t.csv", **options)
        assert check_leaks(MODEL, declared, split_source(declared, "auto", 3, 0)) == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("patient age", GROUPED),
        ("family_size", GROUPED),
        ("grid", GROUPED),
        ("valid", GROUPED),
        ("subject", GROUPED + 0.5),
        ("subject", RNG.normal(size=COUNT)),
        ("site", np.arange(COUNT) // 1.1 // 1),  # hardly any value twice
        ("user", np.zeros(COUNT)),
    ],
)
def test_other_columns_are_no_identities(tmp_path, name, values):
    source = data.csv(
        written(tmp_path / "t.csv", **{name: values, "a": RNG.normal(size=COUNT), "y": RNG.normal(size=COUNT)})
    )
    assert names(find_suspects(source)["identity-columns"]) == []


def test_words_can_be_identities_and_so_can_a_number_for_each_row(tmp_path):
    table = {
        "hospital": np.array(["north", "south", "west"])[np.arange(COUNT) % 3],
        "id": RNG.permutation(COUNT),
        "y": RNG.normal(size=COUNT),
    }
    source = data.csv(written(tmp_path / "t.csv", **table))
    assert names(find_suspects(source)["identity-columns"]) == ["hospital", "id"]
    apart = (np.flatnonzero(source.x[:, 0] != 0), np.flatnonzero(source.x[:, 0] == 0))
    with pytest.raises(InputError) as refused:
        check_leaks(MODEL, source, split_source(source, Once(apart), 2, 0))
    assert "'id'" in str(refused.value)
    assert "'hospital'" not in str(refused.value)  # the division keeps them apart


def test_suspects_are_kept_for_other_splits(tmp_path, monkeypatch):
    table = {"patient": GROUPED, "age": RNG.normal(size=COUNT), "y": RNG.normal(size=COUNT)}
    source, store, asked = data.csv(written(tmp_path / "t.csv", **table)), DataStore(8), []
    monkeypatch.setattr(checks, "find_suspects", lambda source: asked.append(1) or find_suspects(source))
    for folds in (2, 3):
        with pytest.raises(InputError, match="'patient'"):
            check_leaks(MODEL, source, split_source(source, "kfold", folds, 0), store=store)
    assert asked == [1]
    declared = data.csv(tmp_path / "t.csv", feature="patient")
    assert check_leaks(MODEL, declared, split_source(source, "kfold", 2, 0), store=store) == []


class Once:
    def __init__(self, pair):
        self.pair = pair

    def split(self, x, y=None, groups=None):
        yield self.pair


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        ("time", RNG.normal(size=COUNT), True),
        ("test_time", RNG.normal(size=COUNT), True),
        ("Year", 2000 + np.arange(COUNT) % 9, True),
        ("day", np.arange(COUNT) // 3, True),
        ("day", np.arange(COUNT) % 7, False),
        ("lifetime", RNG.normal(size=COUNT), False),
        ("time of flight", RNG.normal(size=COUNT), False),
        ("year", np.arange(COUNT) % 2, False),
    ],
)
def test_columns_that_look_like_times(tmp_path, name, values, found):
    table = {name: values, "a": RNG.normal(size=COUNT), "y": RNG.normal(size=COUNT)}
    asked = {"feature": name} if name == "time" else {}
    source = data.csv(written(tmp_path / "t.csv", **table), **asked)
    assert names(find_suspects(source)["time-columns"]) == ([name] if found and not asked else [])
    if found and not asked:
        split = split_source(source, "kfold", 3, 0)
        with pytest.raises(InputError, match=r"(?s)time-columns.*" + name + ".*--time"):
            check_leaks(MODEL, source, split)
        assert [leak.name for leak in check_leaks(MODEL, source, split, allow=["time-columns"])] == ["time-columns"]
        declared = data.csv(tmp_path / "t.csv", feature=name)
        assert check_leaks(MODEL, declared, split) == []


def test_the_score_of_a_feature_alone_is_scikit_learns():
    x, y = RNG.normal(size=(2, 200))
    together = x + 0.3 * y
    kind, score = score_alone(x, together)
    line = np.polyval(np.polyfit(x, together, 1), x)
    assert kind == "R²"
    assert score == pytest.approx(max(r2_score(together, line), spearmanr(x, together).statistic ** 2))
    assert score_alone(np.exp(3 * x), x)[1] == pytest.approx(1.0)  # by ranks
    classes = (together > 0.2).astype(int)
    for sign in (1, -1):
        assert score_alone(sign * x, classes) == ("AUC", pytest.approx(roc_auc_score(classes, x)))
    three = np.digitize(together, [-0.5, 0.5])
    pairs = [roc_auc_score(three[rows] == top, x[rows]) for rows, top in ((three < 2, 1), (three > 0, 2))]
    assert score_alone(x, three) == ("AUC", pytest.approx(min(pairs)))
    assert score_alone(np.digitize(x, [0.0]).astype(float), RNG.normal(size=200), categories=True)[1] < 0.1
    assert score_alone(x[:5], y[:5]) is None
    assert score_alone(np.zeros(50), y[:50]) is None
    # as many levels as rows fit the target in sample, and say nothing of other rows
    assert score_alone(np.arange(200.0), classes, categories=True)[1] == pytest.approx(0.5)


def test_a_feature_that_nearly_is_the_target_is_refused(tmp_path):
    y = RNG.normal(size=COUNT)
    table = {
        "a": RNG.normal(size=COUNT),
        "half": y + RNG.normal(size=COUNT),
        "copy": y + 0.05 * RNG.normal(size=COUNT),
        "y": y,
    }
    source = data.csv(written(tmp_path / "t.csv", **table))
    assert names(find_suspects(source)["target-columns"]) == ["copy"]
    split = split_source(source, "kfold", 3, 0)
    with pytest.raises(InputError, match=r"target-columns.*'copy' alone gives R² 0\.99.*--allow target-columns"):
        check_leaks(MODEL, source, split)
    (leak,) = check_leaks(MODEL, source, split, allow=["target-columns"])
    assert leak.examples == COUNT
    for options in ({"drop": "copy"}, {"feature": "copy"}):
        assert check_leaks(MODEL, data.csv(tmp_path / "t.csv", **options), split) == []


def test_categories_and_gaps_may_tell_the_target(tmp_path):
    kind = np.arange(COUNT) % 2
    table = {
        "word": np.where(kind, "treated", "control"),
        "seen": [float(v) if k else None for v, k in zip(RNG.normal(size=COUNT), kind, strict=True)],
        "other": RNG.choice(["u", "v"], COUNT),
        "holes": [None if RNG.random() < 0.3 else 1.5 + RNG.random() for _ in range(COUNT)],
        "class": np.where(kind, "ill", "well"),
    }
    assert names(find_suspects(data.csv(written(tmp_path / "t.csv", **table)))["target-columns"]) == ["word", "seen"]


# 42 patients of many visits each, as in the Parkinson's telemonitoring data: the number of a patient tells the target


def visits(path, seed=0):
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(42), 20)
    of_patient = random.normal(size=(42, 4))  # features that are a patient's own: age, voice
    severity = 0.6 * of_patient[:, 0] + random.normal(size=42)
    x = of_patient[patient] + 0.05 * random.normal(size=(840, 4))
    y = severity[patient] + 0.1 * random.normal(size=840)
    table = pd.DataFrame(x, columns=["age", "jitter", "shimmer", "pitch"])
    table.insert(0, "subject#", patient + 1)
    table.assign(score=y).to_csv(path, index=False)
    return path


@pytest.mark.slow
def test_patients_apart_give_the_score_that_new_patients_get(tmp_path):
    path = visits(tmp_path / "t.csv")
    plan = jaxdl.Plan(epochs=60, learning_rate=0.01, batch_size=64, weight_decay=0.0)
    model = jaxdl.create("mlp", 1, hidden=(64,))
    with pytest.raises(InputError, match=r"identity-columns.*'subject#' has 42 values, each in 20 of 840 rows"):
        jaxdl.cross_validate(model, data.csv(path, "score"), plan, folds=3)
    mixed = jaxdl.cross_validate(model, data.csv(path, "score", feature="subject#"), plan, folds=3)
    apart = jaxdl.cross_validate(model, data.csv(path, "score", group="subject#"), plan, folds=3)
    assert mixed.mean > 0.9
    assert apart.mean < 0.5
    low, high = apart.interval["low"], apart.interval["high"]
    assert low < apart.mean < high
    assert high - low > 3 * (mixed.interval["high"] - mixed.interval["low"])
