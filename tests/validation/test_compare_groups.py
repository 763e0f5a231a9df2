"""Comparisons of results whose examples come in groups: groups are taken whole, or chance looks like a difference."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import stats
from test_statistics import _result

import jaxdl
from jaxdl.data import digits, subset
from jaxdl.errors import InputError
from jaxdl.validation.statistics.compare import compare
from jaxdl.validation.statistics.intervals import interval
from jaxdl.validation.statistics.pair_tests import sign_test


def _pair(rng, groups=24, each=10):
    """Two equally good results; which of them is right goes by the group."""
    n = groups * each
    group = np.arange(n) % groups
    label = rng.integers(2, size=n)
    made = []
    for _ in range(2):
        easy = 0.7 + 1.5 * rng.normal(size=groups)  # of a group, for this model
        right = easy[group] + rng.normal(size=n) > 0
        made.append(np.eye(2)[np.where(right, label, 1 - label)])
    results = [_result(label, logits, names=("a", "b")) for logits in made]
    held = [dataclasses.replace(r.out_of_fold, group=r.out_of_fold.index % groups) for r in results]
    return [dataclasses.replace(r, out_of_fold=h) for r, h in zip(results, held, strict=True)], results


def test_cross_validate_keeps_the_groups_of_its_source(tmp_path):
    source = subset(digits(range(2)), np.arange(60))
    source = dataclasses.replace(source, groups=np.array([f"writer {i % 6}" for i in range(60)]))
    result = jaxdl.cross_validate(jaxdl.create("mlp", 2, hidden=(4,)), source, jaxdl.Plan(epochs=1), splitter="group")
    assert len(np.unique(result.out_of_fold.group)) == 6
    np.testing.assert_array_equal(result.out_of_fold.group, result.out_of_fold.index % 6)
    loaded = jaxdl.load_result(result.save(tmp_path / "run"))
    np.testing.assert_array_equal(loaded.out_of_fold.group, result.out_of_fold.group)
    assert result.interval == dataclasses.asdict(interval(loaded))  # it is that of whole groups


@pytest.mark.parametrize("test", ["mcnemar", "bootstrap"])
def test_equal_results_seldom_differ_only_if_groups_are_whole(test, monkeypatch):
    monkeypatch.setattr("jaxdl.validation.statistics.pair_tests.DRAWS", 300)
    rng = np.random.default_rng(1)
    alarms = np.zeros(2)
    rounds = 150 if test == "mcnemar" else 60
    for _ in range(rounds):
        for place, pair in enumerate(_pair(rng)):
            found = compare(dict(zip("ab", pair, strict=True)), test=test)
            alarms[place] += found.pairs[0].p <= 0.05
            assert found.groups == (None if place else 24)
    low, high = stats.binom.ppf([0.001, 0.999], rounds, 0.05)
    assert low <= alarms[0] <= high
    assert alarms[1] > 0.2 * rounds


def test_the_sign_test_is_that_of_all_exchanges():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.integers(-4, 5, size=9)
        drawn = [abs(np.dot(signs, values)) for signs in itertools.product([-1, 1], repeat=9)]
        assert sign_test(values) == pytest.approx(np.mean(np.array(drawn) >= abs(values.sum())))
    ones = np.repeat([1, -1, 0], [13, 4, 20])
    assert sign_test(ones) == pytest.approx(stats.binomtest(13, 17).pvalue)
    assert sign_test(np.zeros(5, int)) == 1.0


def test_with_many_groups_it_comes_to_obuchowskis_statistic():
    rng = np.random.default_rng(2)
    values = rng.integers(-5, 6, size=600) + (rng.random(600) < 0.3)
    statistic = values.sum() ** 2 / np.square(values).sum()  # his, times K/(K - 1)
    assert sign_test(values) == pytest.approx(stats.chi2.sf(statistic, 1), rel=0.03)


def test_an_older_result_without_groups_takes_those_of_the_other():
    (one, two), (plain, _) = _pair(np.random.default_rng(3))
    assert compare({"one": plain, "two": two}, test="mcnemar").groups == 24
    moved = dataclasses.replace(two, out_of_fold=dataclasses.replace(two.out_of_fold, group=one.out_of_fold.group + 1))
    with pytest.raises(InputError, match="other groups"):
        compare({"one": one, "two": moved})


def test_a_score_that_chose_is_told_of_where_it_is_compared(tmp_path):
    (one, two), _ = _pair(np.random.default_rng(4))
    chosen = dataclasses.replace(two, selected={"configurations": 12, "nested": False})
    found = compare({"one": one, "two": chosen})
    assert list(found.cautions) == ["two"]
    assert "too good" in found.cautions["two"]
    assert "too good" in str(jaxdl.load_result(chosen.save(tmp_path / "run")))
    for honest in ({"configurations": 12, "nested": True}, {"configurations": 1, "nested": False}, None):
        assert dataclasses.replace(two, selected=honest).caution is None
