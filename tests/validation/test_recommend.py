"""A recommendation: every method is what its own command finds, the choice follows its rule, time is kept."""

import dataclasses

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from scipy.stats import norm, ttest_rel
from sklearn.datasets import make_classification

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import ImagePreprocessing
from jaxdl.errors import InputError
from jaxdl.models.adapters import choose_layers, layers_of
from jaxdl.models.initialise import batch_of
from jaxdl.report.diagnosis import diagnose
from jaxdl.tasks import Classification
from jaxdl.training.resume import RunFolder
from jaxdl.validation.recommend import recommend as module
from jaxdl.validation.recommend import trials
from jaxdl.validation.recommend.choice import Difference, choose, score_without_luck
from jaxdl.validation.recommend.recommend import Recommending, read_recommendation
from jaxdl.validation.statistics.intervals import OVERLAP
from jaxdl.validation.statistics.pair_tests import out_of_fold
from jaxdl.validation.statistics.sample import Sample

ACCURACY = Classification.METRICS["accuracy"]
KINDS = ("probe", "frozen", "full")
QUICK = Recommending(methods=KINDS, epochs=4)


def blobs(count, seed):
    x, y = make_classification(count, 8, n_informative=5, n_classes=3, class_sep=1.2, random_state=3)
    chosen = np.random.default_rng(seed).permutation(count)
    return data.arrays(x[chosen].astype(np.float32), y[chosen].astype(np.int32), class_names=("a", "b", "c"))


@pytest.fixture(scope="module")
def start():
    """A pretrained network and examples that it has not seen."""
    both = blobs(260, 0)
    known, new = data.subset(both, range(200)), data.subset(both, range(200, 260))
    plan = jaxdl.Plan(epochs=10, learning_rate=1e-2)
    return jaxdl.pretrain(jaxdl.create("mlp", 3, hidden=(12, 8)), known, plan), new


@pytest.fixture(scope="module")
def found(start):
    return jaxdl.recommend(*start, QUICK, folds=3)


def sample_of(right, folds=5):
    """Held-out rows of which is known whether they were right."""
    n = len(right)
    fold = np.arange(n) % folds
    test = np.bincount(fold).astype(float)
    record = {"right": np.asarray(right, np.float64)}
    return Sample(ACCURACY, record, fold, np.arange(n), np.arange(n), n - test, test)


# The methods


def test_every_method_scores_what_its_own_call_finds_on_these_folds(start, found):
    assert [one.kind for one in found.tried.values()] == ["probe", "frozen", "full", "full"]
    for name in ("frozen body", "full at 0.001"):
        plan = found.tried[name].method
        alone = jaxdl.cross_validate(*start, plan, splitter=found.split)
        assert alone.mean == pytest.approx(found.results[name].mean)
        np.testing.assert_allclose(alone.out_of_fold.kept, found.results[name].out_of_fold.kept, atol=1e-4)
    probed = jaxdl.probe_checkpoint(*start, found.split, jaxdl.Probing(heads=("logistic",)))
    assert probed.result("logistic").mean == found.results["logistic head"].mean
    assert probed.heads["logistic"].best == found.results["logistic head"].plan["penalty"]
    assert len({result.split["sha256"] for result in found.results.values()}) == 1


def test_plans_freeze_and_add_what_their_names_say(start):
    parent, source = start
    shared = {"epochs": 3, "batch_size": 16, "seed": 7}
    made, left_out = module.candidates(parent, source, parent.task, shared)
    assert [one.kind for one in made] == ["probe", "frozen", *["partial"] * 2, *["lora"] * 2, *["full"] * 2]
    assert left_out == {}
    boundary = {one.kind: one.method.boundary(parent.model) for one in made[1:]}
    assert boundary["lora"] == boundary["full"] == 0 < boundary["partial"] < boundary["frozen"]
    assert all(one.method.seed == 7 for one in made)
    assert {one.method.adapter for one in made[1:]} == {None, "lora:4"}
    assert len({one.folder for one in made}) == len(made)
    single = jaxdl.from_model(jaxdl.create("mlp", 3, hidden=(4,)), parent.card.preprocessing, ("a", "b", "c"))
    made, left_out = module.candidates(single, source, parent.task, shared)
    assert "partial" in left_out
    assert "partial" not in {one.kind for one in made}


def test_low_rank_additions_leave_grouped_convolutions_alone():
    """Every convolution of a MobileNet's body gets one but the depthwise ones, which can have none."""
    images = ImagePreprocessing((16, 16, 3), (0.5,) * 3, (0.2,) * 3)
    network = jaxdl.from_model(jaxdl.create("mobilenet_v2", 2, depths=(1, 2), width=0.1), images, ("a", "b"))
    source = data.arrays(np.zeros((4, 16, 16, 3), np.uint8), np.arange(4) % 2, class_names=("a", "b"))
    made, left_out = module.candidates(network, source, network.task, {"epochs": 1, "batch_size": 2, "seed": 0})
    assert left_out == {}
    adapter = next(one.method.parsed_adapter for one in made if one.kind == "lora")
    params = {"/".join(path[:-1]) for path in flatten_dict(network.variables["params"]) if path[-1] == "kernel"}
    body = {name for name in params if not name.startswith("head/")}
    layers = layers_of(network.model, network.variables, batch_of(images.spec()))
    stages = network.model.stage_names[:-1]
    chosen = {name for name, _ in choose_layers(layers, stages, adapter.layers)}
    assert chosen == {name for name in body if not name.endswith("/depthwise")} < body


def test_numbers_get_ridge_and_are_recommended_by_their_own_metric(start):
    parent, source = start
    labels = source.x[:, 0] + 0.1 * np.random.default_rng(0).normal(size=len(source)).astype(np.float32)
    numbers = dataclasses.replace(source, labels=labels, class_names=())
    asked = Recommending(methods=("probe", "frozen"), epochs=2)
    found = jaxdl.recommend(parent, numbers, asked, folds=3, metrics="mae")
    assert list(found.results) == ["ridge head", "frozen body"]
    errors = {name: result.mean for name, result in found.results.items()}
    assert found.choice.best == min(errors, key=errors.get)  # a smaller error is the better one
    assert found.checkpoint.task.name == "regression"


@pytest.mark.slow
def test_the_default_of_a_frozen_body_is_not_called_trained_too_little(start):
    found = jaxdl.recommend(*start, Recommending(methods=("frozen",)), folds=3)
    assert found.results["frozen body"].plan["epochs"] == 6 * 50  # two steps in an epoch, 100 at least
    assert diagnose(found.results["frozen body"]) is None


def test_a_model_without_a_checkpoint_is_trained_from_scratch_alone(start):
    _, source = start
    model = jaxdl.create("mlp", 3, hidden=(4,))
    found = jaxdl.recommend(model, source, Recommending(epochs=2), folds=3)
    assert {one.kind for one in found.tried.values()} == {"scratch"}
    assert {one.name for one in found.left_out} == {"linear head", "frozen body", "partial", "LoRA", "full"}
    assert all("--init" in one.why and one.seconds is None for one in found.left_out)


# The choice


def test_the_checkpoint_is_the_chosen_method_fitted_to_all(start, found):
    parent, source = start
    method, (plan,) = found.chosen.method, [found.result.plan]
    if isinstance(method, jaxdl.Plan):
        expected = jaxdl.finetune(parent, source, method, head="fresh")
    else:
        expected = jaxdl.with_head(parent, source, head=method.heads[0], penalty=plan["penalty"])
    mine, theirs = (jaxdl.predict(one, source).logits for one in (found.checkpoint, expected))
    np.testing.assert_allclose(mine, theirs, atol=1e-4)


def heads(*features, labels):
    """Results of ridge on several features of the same examples, by their number."""
    probing = jaxdl.Probing(heads=("ridge",), penalties=(1.0,))
    return {str(i): jaxdl.probe(x, labels, probing=probing).result("ridge") for i, x in enumerate(features)}


def test_the_simplest_that_nothing_beats_is_chosen():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 120)
    noise = random.normal(size=(120, 3)).astype(np.float32)
    good = (noise + 1.2 * labels[:, None]).astype(np.float32)
    better = np.concatenate([good, random.normal(size=(120, 1)) + 0.2 * labels[:, None]], 1).astype(np.float32)
    results = heads(noise, good, better, labels=labels)
    choice = choose(results, {"0": 0, "1": 1, "2": 2})
    assert choice.beaten_by["0"]
    assert choice.chosen == "1"  # simpler than 2, which is not shown to be better
    assert choose(results, {"0": 0, "1": 2, "2": 1}).chosen == "2"
    assert choose(results, {"0": 0, "1": 1, "2": 1}).chosen == choice.best  # of equally simple ones the best
    right = {name: result.record["right"][np.argsort(result.out_of_fold.index)] for name, result in results.items()}
    for name, difference in choice.to_best.items():
        if name == choice.best:
            assert difference is None
            continue
        assert difference.value == pytest.approx(right[name].mean() - right[choice.best].mean())
        assert difference.low < difference.value < difference.high


def test_a_smaller_error_beats_a_larger_one():
    assert Difference(-1.0, -2.0, -0.5).beats(-1)
    assert not Difference(-1.0, -2.0, -0.5).beats(1)
    assert not Difference(-1.0, -2.0, 0.5).beats(-1)
    assert not Difference(-1.0, None, None).beats(-1)


def test_the_difference_is_a_paired_t_test_that_allows_for_training_parts():
    random = np.random.default_rng(1)
    one, two = random.random(100) < 0.9, random.random(100) < 0.7
    difference, p, low, high = out_of_fold(sample_of(one), sample_of(two))
    plain = ttest_rel(one.astype(float), two.astype(float))
    wider = np.sqrt(1 + OVERLAP * 100 / 80)
    assert difference == pytest.approx(one.mean() - two.mean())
    ends = np.array(plain.confidence_interval(0.95))
    np.testing.assert_allclose([low, high], difference + wider * (ends - difference), rtol=1e-6)
    assert p > plain.pvalue
    same = out_of_fold(sample_of(one), sample_of(one))
    assert same[2] is None or same[2] <= 0 <= same[3]


def test_intervals_of_differences_hold_the_truth():
    """Two ridge classifiers on simulated data whose true difference is known to 20,000 examples."""
    random, held, widths = np.random.default_rng(2), [], []
    n, p, folds = 60, 10, 3
    weights = random.normal(size=p)
    x_new = random.normal(size=(20_000, p))
    y_new = np.sign(x_new @ weights + 2 * random.normal(size=len(x_new)))

    def fit(x, y, columns):
        kept = x[:, :columns]
        return np.linalg.solve(kept.T @ kept + np.eye(columns), kept.T @ y)

    for _ in range(200):
        x = random.normal(size=(n, p))
        y = np.sign(x @ weights + 2 * random.normal(size=n))
        fold, right, truth = np.arange(n) % folds, np.zeros((2, n)), []
        for k in range(folds):
            train, test = fold != k, fold == k
            new = []
            for i, columns in enumerate((p, 5)):
                b = fit(x[train], y[train], columns)
                right[i, test] = np.sign(x[test, :columns] @ b) == y[test]
                new.append(np.mean(np.sign(x_new[:, :columns] @ b) == y_new))
            truth.append(new[0] - new[1])
        _, _, low, high = out_of_fold(*(sample_of(one, folds) for one in right))
        held.append(low <= np.mean(truth) <= high)
        widths.append(high - low)
    assert 0.92 <= np.mean(held) <= 0.995
    assert np.mean(widths) < 0.4  # and yet they say something


def test_the_luck_of_the_best_of_many_guessers_is_taken_away():
    """Twenty methods that guess: the best looks better than 50 %, and is expected to be right for 50 %."""
    random, best, expected = np.random.default_rng(3), [], []
    for _ in range(25):
        samples = [sample_of(random.random(80) < 0.5) for _ in range(20)]
        best.append(max(sample.pooled_score for sample in samples))
        expected.append(score_without_luck(samples))
    error = np.std(expected, ddof=1) / np.sqrt(25)
    assert np.mean(best) > 0.58
    assert abs(np.mean(expected) - 0.5) < norm.ppf(0.999) * error
    one = sample_of(random.random(80) < 0.9)
    assert score_without_luck([one, one]) == pytest.approx(one.pooled_score, abs=0.01)  # there is no luck in a copy


# Time


def test_what_does_not_fit_is_left_out_with_what_it_would_take(start, monkeypatch):
    monkeypatch.setattr(trials, "estimate_seconds", lambda *given: 1000.0 if given[2].freeze_through is None else 0.1)
    asked = Recommending(methods=("frozen", "full"), epochs=1, minutes=10)
    found = jaxdl.recommend(*start, asked, folds=3)
    assert list(found.results) == ["frozen body"]
    assert [one.name for one in found.left_out] == ["full at 0.0001", "full at 0.001"]
    assert all(one.seconds == pytest.approx(1000 * (1 + 60 / 120)) for one in found.left_out)  # with the final fit
    assert found.choice.chosen == "frozen body"


def test_the_first_method_is_run_however_short_the_time(start):
    found = jaxdl.recommend(*start, Recommending(methods=KINDS, epochs=1, minutes=1e-6), folds=3)
    assert list(found.results) == ["logistic head"]
    assert [one.name for one in found.left_out] == ["frozen body", "full at 0.0001", "full at 0.001"]
    assert all(one.seconds >= found.result.seconds and not one.timed for one in found.left_out)  # they train more


def test_a_trial_says_how_long_a_cross_validation_takes(start):
    """Twenty times the epochs are twenty times as long, and neither is off by orders of magnitude."""
    parent, source = start
    split = jaxdl.Splitting("stratified")
    parts = module.split_source(source, split, 3, 0, parent.task).train
    few, many = (
        trials.estimate_seconds(parent, source, jaxdl.Plan(epochs=n), parts, parent.task, jaxdl.Execution())
        for n in (10, 200)
    )
    assert few > 0
    assert 2 < many / few < 200


@pytest.mark.slow
def test_finished_methods_are_not_made_again(start, found, tmp_path, monkeypatch):
    def stop(text):
        if text.startswith("full at 0.0001: 3 folds"):
            raise KeyboardInterrupt

    work = lambda: jaxdl.Execution(work=RunFolder(tmp_path / "run"))  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        jaxdl.recommend(*start, QUICK, folds=3, execution=work(), say=stop)
    monkeypatch.setattr(trials, "score_method", lambda *given, **options: pytest.fail("the head is fitted again"))
    made, run_part = [], trials.run_part
    monkeypatch.setattr(trials, "run_part", lambda name, *rest: made.append(name) or run_part(name, *rest))
    again = jaxdl.recommend(*start, QUICK, folds=3, execution=work())
    assert made == ["full-at-0.0001", "full-at-0.001"]
    assert again.choice == found.choice or again.choice.chosen == found.choice.chosen
    for name, result in again.results.items():
        np.testing.assert_allclose(result.out_of_fold.kept, found.results[name].out_of_fold.kept, atol=1e-4)
    with pytest.raises(InputError, match="methods"):
        jaxdl.recommend(*start, Recommending(methods=("probe",), epochs=4), folds=3, execution=work())


def test_what_was_left_out_for_lack_of_time_is_left_out_again_when_resumed(start, tmp_path):
    def stop(text):
        if "fitting it" in text:
            raise KeyboardInterrupt

    asked = Recommending(methods=("probe", "frozen", "full"), epochs=1, minutes=1e-6)
    work = lambda: jaxdl.Execution(work=RunFolder(tmp_path / "run"))  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        jaxdl.recommend(*start, asked, folds=3, execution=work(), say=stop)
    again = jaxdl.recommend(*start, asked, folds=3, execution=work())
    assert list(again.results) == ["logistic head"]
    assert [one.name for one in again.left_out] == ["frozen body", "full at 0.0001", "full at 0.001"]
    assert all(one.seconds >= again.result.seconds for one in again.left_out)


# What is kept and said


def test_it_is_kept_and_read_back(found, tmp_path):
    told, results = read_recommendation(found.save(tmp_path / "run"))
    assert told["chosen"] == found.choice.chosen
    assert {name: result.mean for name, result in results.items()} == {n: r.mean for n, r in found.results.items()}
    assert [row["kind"] for row in told["methods"]] == ["probe", "frozen", "full", "full"]
    kept = jaxdl.restore(tmp_path / "run" / "checkpoint")
    assert kept.card.class_names == ("a", "b", "c")
    frame = found.to_frame()
    assert list(frame["method"]) == list(found.results)
    assert found.choice.chosen in repr(found)


@pytest.mark.parametrize(
    ("asked", "options", "named"),
    [
        ({"minutes": 0.0}, {}, "minutes"),
        ({"methods": ("everything",)}, {}, "everything"),
        ({"epochs": 0}, {}, "epochs"),
        ({"methods": ("scratch",)}, {}, "scratch"),
        ({}, {"metrics": "expected_calibration_error"}, "expected_calibration_error"),
        ({}, {"folds": 1}, "folds"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(start, asked, options, named):
    with pytest.raises(InputError, match=named):
        jaxdl.recommend(*start, Recommending(**asked), **options)


def test_a_leak_is_refused(start):
    parent, source = start
    twice = data.subset(source, [*range(30), *range(30)])
    with pytest.raises(InputError, match="duplicates"):
        jaxdl.recommend(parent, twice, QUICK, folds=3)
