"""A tag for every word: metrics against seqeval and scikit-learn, the loss against a loop."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from jaxdl.errors import InputError
from jaxdl.tasks import choose_task
from jaxdl.tasks.metric import Sums
from jaxdl.tasks.token_classification import FEWEST, METRICS, TokenClassification

NAMES = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
TASK = TokenClassification(NAMES)
PARTS = TokenClassification(("ADJ", "NOUN", "VERB"))
RANDOM = np.random.default_rng(0)
N, WORDS, LENGTH = 6, 7, 9


def random_tags(names, seed=0, lengths=(7, 1, 4, 5, 2, 7)):
    random = np.random.default_rng(seed)
    targets = np.full((len(lengths), max(lengths)), -1, np.int32)
    for row, length in zip(targets, lengths, strict=True):
        row[:length] = random.integers(0, len(names), length)
    return targets


TARGETS = random_tags(NAMES)


def kept_of(said, task=TASK):
    """As `predict` gives it, of tags as targets have them."""
    return {"tags": (said + 1).astype(np.int16), "confidence": np.full(said.shape, 200, np.uint8)}


def names_of(task, rows):
    return [[task.names[tag] for tag in row if tag >= 0] for row in rows]


@pytest.fixture(scope="module")
def seqeval():
    return pytest.importorskip("seqeval.metrics", reason="the reference needs seqeval: see .ci/run")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_scores_are_those_of_seqeval(seqeval, data):
    words = st.lists(st.tuples(st.sampled_from(range(5)), st.sampled_from(range(5))), min_size=1, max_size=9)
    sentences = data.draw(st.lists(words, min_size=1, max_size=6))
    targets, said = np.full((2, len(sentences), 9), -1, np.int32)
    for i, sentence in enumerate(sentences):
        targets[i, : len(sentence)], said[i, : len(sentence)] = zip(*sentence, strict=True)
    strict = {"mode": "strict", "scheme": pytest.importorskip("seqeval.scheme").IOB2}
    for scheme, options in (("conll", {}), ("IOB2", strict)):
        task = TokenClassification(NAMES, scheme=scheme)
        record = task.host_record(kept_of(said), targets)
        true, predicted = names_of(task, targets), names_of(task, said)
        told = seqeval.classification_report(true, predicted, output_dict=True, zero_division=0, **options)
        _, there, wanted = record["entities"].sum(0)
        assert there.sum() == told["micro avg"]["support"]
        for name, key in (("f1", "f1-score"), ("precision", "precision"), ("recall", "recall")):
            score = task.metrics[name].score(record)
            assert np.nan_to_num(score) == pytest.approx(told["micro avg"][key], abs=1e-12)
            if np.isnan(score):
                assert {"f1": there.sum() + wanted.sum(), "precision": wanted.sum(), "recall": there.sum()}[name] == 0
        kinds = [kind for kind in ("LOC", "PER") if kind in told]
        for kind in kinds:
            assert task.metrics[f"f1:{kind}"].score(record) == pytest.approx(told[kind]["f1-score"], abs=1e-12)
        if kinds:
            assert task.metrics["macro_f1"].score(record) == pytest.approx(told["macro avg"]["f1-score"], abs=1e-12)
        accuracy = seqeval.accuracy_score(true, predicted)
        assert task.metrics["token_accuracy"].score(record) == pytest.approx(accuracy)
        exact = np.mean([a == b for a, b in zip(true, predicted, strict=True)])
        assert task.metrics["exact_match"].score(record) == pytest.approx(exact)


def test_a_weighted_score_is_that_of_sentences_so_often(seqeval):
    said = np.where(TARGETS >= 0, random_tags(NAMES, seed=1), -1)
    weights = np.array([2, 0, 1, 3, 1, 1])
    times = np.repeat(np.arange(N), weights)
    record = TASK.host_record(kept_of(said), TARGETS)
    found = TASK.score.score(record, weights.astype(float))
    assert found == pytest.approx(seqeval.f1_score(names_of(TASK, TARGETS[times]), names_of(TASK, said[times])))
    assert 0 < found < 1


def test_parts_of_speech_are_scored_as_scikit_learn_scores_words():
    targets = random_tags(PARTS.names)
    said = np.where(targets >= 0, random_tags(PARTS.names, seed=2), -1)
    record = PARTS.host_record(kept_of(said), targets)
    true, wanted = targets[targets >= 0], said[targets >= 0]
    assert PARTS.metric == "token_accuracy"
    assert PARTS.score.score(record) == np.mean(true == wanted) == PARTS.metrics["f1"].score(record)
    assert PARTS.metrics["macro_f1"].score(record) == pytest.approx(f1_score(true, wanted, average="macro"))
    assert PARTS.metrics["f1:NOUN"].score(record) == pytest.approx(f1_score(true, wanted, labels=[1], average="micro"))


# outputs of a network: seven tokens of which five begin words, then one, and a sentence that is cut after four words
FIRST = np.array([[1, 2, 4, 5, 7], [1, -1, -1, -1, -1], [1, 3, 5, 7, -1]], np.int32)  # token of each word
BEGINS = np.pad(FIRST + 1, ((0, 0), (0, LENGTH + 1 - 5)))
LOGITS = RANDOM.normal(size=(3, LENGTH, 5)).astype(np.float32)
OUTPUTS = {"outputs": jnp.asarray(LOGITS), "words": jnp.asarray(BEGINS)}
ASKED = random_tags(NAMES, seed=3, lengths=(5, 1, 6))


def test_the_loss_is_that_of_the_first_token_of_each_word():
    weights = np.array([1, 2, 3, 4, 0.5])
    log_p = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    for constants in ({}, {"class_weights": np.float32(weights)}):
        factors = weights if constants else np.ones(5)
        total, count = map(np.asarray, TASK.loss(OUTPUTS, jnp.asarray(ASKED), constants))
        for row in range(3):
            places = [(place, word) for word, place in enumerate(FIRST[row]) if place >= 0]
            each = [(-log_p[row, place, ASKED[row, word]], factors[ASKED[row, word]]) for place, word in places]
            assert total[row] == pytest.approx(sum(nats * factor for nats, factor in each), rel=1e-5)
            assert count[row] == pytest.approx(sum(factor for _, factor in each), rel=1e-6)


def test_what_does_not_begin_a_word_has_no_say():
    begins = (np.arange(LENGTH)[:, None] == FIRST[:, None]).any(-1)
    other = np.where(begins[..., None], LOGITS, 9 * RANDOM.normal(size=LOGITS.shape)).astype(np.float32)
    two = {**OUTPUTS, "outputs": jnp.asarray(other)}
    for one, again in zip(TASK.loss(OUTPUTS, ASKED, {}), TASK.loss(two, ASKED, {}), strict=True):
        np.testing.assert_array_equal(one, again)
    jax.tree.map(np.testing.assert_array_equal, TASK.keep(OUTPUTS, ASKED, {}), TASK.keep(two, ASKED, {}))


def test_each_word_gets_the_tag_of_its_first_token_and_one_that_is_cut_none():
    kept = jax.tree.map(np.asarray, TASK.keep(OUTPUTS, jnp.asarray(ASKED), {}))
    assert (kept["tags"].dtype, kept["confidence"].dtype) == (np.int16, np.uint8)
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    for row in range(3):
        places = FIRST[row][FIRST[row] >= 0]
        said = LOGITS[row, places].argmax(-1)
        np.testing.assert_array_equal(kept["tags"][row], [*(said + 1), *[0] * (LENGTH + 1 - len(places))])
        np.testing.assert_array_equal(kept["confidence"][row, : len(places)], np.round(255 * p[row, places].max(-1)))
        assert TASK.predicted(kept)[row] == [NAMES[i] for i in said]
    columns = TASK.columns(kept)
    assert columns["predicted"][1] == NAMES[LOGITS[1, 1].argmax()]
    assert float(columns["confidence"][0]) == pytest.approx(kept["confidence"][0, :5].min() / 255, abs=1e-6)


def test_words_that_are_cut_off_are_missed():
    """Six words of which four are seen; an entity is in those that are not."""
    targets = np.array([[4, 0, 2, 4, 1, 3]], np.int32)
    kept = kept_of(np.array([[4, 0, 2, 4, -1, -1, -1, -1, -1]]))
    record = TASK.host_record(kept, targets)
    assert [int(record[key][0]) for key in ("right", "words", "seen")] == [4, 6, 4]
    assert TASK.metrics["token_accuracy"].score(record) == pytest.approx(4 / 6)
    assert TASK.metrics["recall"].score(record) == 0.5
    assert TASK.metrics["precision"].score(record) == 1
    one = kept_of(np.array([[4, 0, -1, 4, 1]]))  # and a word of which the tokenizer makes nothing
    assert TASK.predicted(one)[0] == ["O", "B-LOC", None, "O", "B-PER"]
    assert TASK.columns(one)["predicted"] == ["O B-LOC - O B-PER"]
    assert TASK.host_record(one, targets)["entities"][0, 0].sum() == 0


def test_records_on_the_device_are_those_on_the_host():
    kept = TASK.keep(OUTPUTS, jnp.asarray(ASKED), {})
    for task in (TASK, TokenClassification(("a", "b", "c", "d", "e")), TokenClassification(NAMES, scheme="IOB1")):
        device = jax.jit(task.record)(kept, jnp.asarray(ASKED))
        host = task.host_record(kept, ASKED)
        assert device.keys() == host.keys()
        for name, value in host.items():
            np.testing.assert_allclose(device[name], value, rtol=1e-6, err_msg=name)


def test_the_log_loss_is_the_mean_over_words_that_are_seen():
    kept = TASK.keep(OUTPUTS, jnp.asarray(ASKED), {})
    total, count = TASK.loss(OUTPUTS, jnp.asarray(ASKED), {})
    assert TASK.evaluate(kept, ASKED)["loss"] == pytest.approx(float(total.sum() / count.sum()), rel=1e-6)
    assert TASK.evaluate(TASK.predict(OUTPUTS, {}), ASKED).keys() == {"f1", "token_accuracy"}


def test_tags_that_the_checkpoint_does_not_know_count_as_missed():
    theirs = ("B-LOC", "B-ORG", "I-ORG", "O")
    targets = np.array([[0, 3, 1, 2, 3], [1, 1, -1, -1, -1]], np.int32)
    matched = TASK.match(targets, theirs)
    assert matched.tolist() == [[0, 4, -2, -3, 4], [-2, -2, -1, -1, -1]]
    assert TASK.known(matched).all()
    assert TASK.takes(targets, theirs)
    kept = kept_of(np.array([[0, 4, 1, 3, 4], [4, 4, -1, -1, -1]]))
    record = TASK.host_record(kept, matched)
    assert TASK.metrics["recall"].score(record) == pytest.approx(1 / 4)
    assert TASK.metrics["precision"].score(record) == pytest.approx(1 / 2)
    assert TASK.metrics["token_accuracy"].score(record) == pytest.approx(3 / 7)
    assert PARTS.match(np.array([[0, 1]]), ("NOUN", "I-X")).tolist() == [[1, -2]]


def test_the_baseline_says_the_most_frequent_tag():
    targets = np.array([[4, 4, 0], [4, -1, -1]], np.int32)
    kept = TASK.baseline(targets, 3)
    assert kept["tags"].shape == (3, 3)
    assert (kept["tags"] == 5).all()
    assert (kept["confidence"] == round(255 * 3 / 4)).all()
    scores = TASK.evaluate(kept, np.array([[4, 0, 2], [4, 4, -1], [1, -1, -1]], np.int32))
    assert scores["f1"] == 0
    assert scores["token_accuracy"] == pytest.approx(0.5)


def test_rare_tags_are_spread_over_folds():
    targets = np.full((100, 2), 4, np.int32)
    targets[:25, 1], targets[25:55, 1], targets[55:59, 1] = 0, 1, 2
    targets[:3, 0] = 1  # of two rare ones the rarer
    strata = TASK.strata(targets)
    assert strata[:25].tolist() == [0] * 25
    assert strata[25:55].tolist() == [1] * 30
    assert strata[55:].tolist() == [4] * 45  # of the third there are fewer than a fold needs
    assert np.unique(strata, return_counts=True)[1].min() >= FEWEST
    assert TASK.strata(targets[50:70]) is None
    what, has = TASK.in_numbers(targets)
    assert what == "labels"
    assert has.sum(0).tolist() == [25, 33, 4, 0, 100 - 3 + 3 - 3 + 0]


def test_sentences_of_two_sources_are_joined():
    one, two = np.zeros((2, 3), np.int32), np.ones((1, 5), np.int64)
    for a, b in ((one, two), (two, one)):
        made = TASK.join(a, b)
        assert made.dtype == a.dtype
        assert made.shape == (3, 5)
        assert (made == -1).sum() == 4
    untaught = TASK.untaught(np.array([[0, 4], [1, 4], [1, 4]]), np.array([0]), np.array([1, 2]))
    assert untaught == {"B-PER": 2}


def test_networks_vote():
    tags = jnp.array([[[1, 2, 3, 0]], [[2, 2, 1, 0]]], jnp.int16)
    sure = jnp.array([[[200, 100, 100, 0]], [[100, 50, 255, 0]]], jnp.uint8)
    made = jax.tree.map(np.asarray, TASK.combine({"tags": tags, "confidence": sure}, jnp.ones((2, 1))))
    assert made["tags"].tolist() == [[1, 2, 1, 0]]
    assert made["confidence"].tolist() == [[100, 75, 128, 0]]


@pytest.mark.parametrize("name", METRICS)
def test_influences_are_derivatives(name):
    kept = {**TASK.keep(OUTPUTS, jnp.asarray(ASKED), {})}
    record = TASK.host_record(kept, ASKED)
    metric = METRICS[name]
    assert isinstance(metric, Sums)
    for row in range(3):
        step = 1e-5 * np.eye(3)[row]
        slope = (metric.score(record, 1 + step) - metric.score(record, 1 - step)) / 2e-5
        assert metric.influence(metric.columns(record))[row] == pytest.approx(slope, abs=1e-7)


def test_what_is_said_of_tags():
    assert TASK.describe() == "5 tags of words (B-LOC, B-PER, I-LOC, I-PER, O)"
    targets = np.array([[0, 2, 4], [1, -1, -1]], np.int32)
    assert TASK.tally(targets) == ("5 tags of 4 words (B-LOC 1 B-PER 1 I-LOC 1 I-PER 0 O 1); 2 entities (LOC 1, PER 1)")
    assert "; " not in PARTS.tally(np.array([[0, 1]]))
    assert TASK.plain()["scheme"] == "conll"
    assert dataclasses.replace(TASK, class_weights="balanced").fit(targets)["class_weights"].tolist() == [1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("targets", "count", "message"),
    [
        (np.zeros(3, np.int32), 3, r"are no 3 sentences of tags; expected int32\[n, words\]"),
        (np.zeros((3, 2), np.float32), 3, "are no 3 sentences of tags"),
        (np.zeros((3, 2), np.int32), 4, "are no 4 sentences of tags"),
        (np.array([[0, 5]]), 1, "the tags of mine run from 0 to 5; with 5 class names expected 0 to 4, or -1"),
        (np.array([[0, -2]]), 1, "the tags of mine run from -2 to 0"),
        (np.array([[0, 1], [-1, -1]]), 2, "the sentence at index 1 of mine has no words; leave it out"),
        (np.array([[3, 3], [3, -1]]), 2, r"mine holds a single tag \('I-PER'\); a test needs words of at least two"),
    ],
)
def test_what_are_no_tags_is_refused(targets, count, message):
    with pytest.raises(InputError, match=message):
        TASK.check(targets, count, "mine", "a test")


def test_bad_requests_are_refused():
    with pytest.raises(InputError, match=r"scheme.*'IOB9'"):
        TokenClassification(NAMES, scheme="IOB9")
    with pytest.raises(InputError, match="the tag 'ADJ' is not of the scheme IOB2"):
        TokenClassification(PARTS.names, scheme="IOB2")
    with pytest.raises(InputError, match="'f1_macro' cannot score token-classification: expected one of f1, "):
        TASK.scored_by("f1_macro")
    assert TASK.scored_by("f1:PER").score.name == "f1:PER"
    with pytest.raises(InputError, match="class in class_weights"):
        TASK.with_options(class_weights={"X": 2.0})
    with pytest.raises(InputError, match=r"label_smoothing is 0.1, but token-classification has no label_smoothing"):
        TASK.with_options(label_smoothing=0.1)


def test_targets_with_a_tag_for_each_word_ask_for_it():
    from jaxdl import data

    source = data.tagged([["a", "b"], ["c"]], [["O", "B-X"], ["O"]])
    assert choose_task(source, purpose="a test") == TokenClassification(("B-X", "O"))
