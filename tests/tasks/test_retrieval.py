"""Which document answers a query: the loss, the ranks, folds, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import ndcg_score
from word_pieces import PIECES, word_pieces

import jaxdl
from jaxdl import data
from jaxdl.data.preprocessing import PairsPreprocessing, TextPreprocessing
from jaxdl.errors import InputError
from jaxdl.tasks import choose_task
from jaxdl.tasks.retrieval import Retrieval

TASK = Retrieval()
WORDS = ("a", "good", "day", "days", "bad", "dias", "dio")


def _pairs(count=24, documents=8, seed=0, **how):
    """Queries that share their first word with their document."""
    rng = np.random.default_rng(seed)
    held = [" ".join(rng.choice(WORDS, 6)) for _ in range(documents)]
    which = np.arange(count) % documents
    return data.pairs([f"{held[i]} , {rng.choice(WORDS)}" for i in which], [held[i] for i in which], **how)


def _kept(n=30, width=5, documents=12, seed=0):
    """Vectors of queries and documents, some of which occur several times."""
    rng = np.random.default_rng(seed)
    which = rng.integers(documents, size=n)
    vectors = rng.normal(size=(documents, width))[which]
    outputs = np.stack([vectors + 0.8 * rng.normal(size=(n, width)), vectors], 1).astype(np.float32)
    return which, outputs


def _source(which):
    return data.pairs([f"query {i}" for i in range(len(which))], [f"document {k}" for k in which])


def _by_hand(outputs, document, real, temperature):
    """The mean loss, in float64, one example after another."""
    vectors = outputs / np.linalg.norm(outputs, axis=-1, keepdims=True)
    losses = []
    for i in np.flatnonzero(real):
        mine = vectors[i, 0] @ vectors[i, 1] / temperature
        others = [
            vectors[i, 0] @ vectors[j, 1] / temperature for j in np.flatnonzero(real) if document[j] != document[i]
        ]
        losses.append(np.log(np.exp(np.array([mine, *others]) - mine).sum()))
    return np.array(losses)


# The loss


def test_the_loss_is_the_cross_entropy_among_the_documents_of_a_batch():
    which, outputs = _kept()
    targets = _source(which).targets()
    total, count = TASK.loss(jnp.asarray(outputs), targets, {})
    np.testing.assert_allclose(total, _by_hand(outputs, which, np.ones(30, bool), 0.05), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(count, 1)


def test_rows_that_only_pad_are_no_wrong_answers():
    which, outputs = _kept()
    targets, real = _source(which).targets(), np.arange(30) < 21
    filled = np.where(real[:, None, None], outputs, outputs[0])
    total, _ = TASK.batch_loss(jnp.asarray(filled), targets, {}, jnp.asarray(real))
    np.testing.assert_allclose(total[:21], _by_hand(outputs, which, real, 0.05), rtol=1e-4, atol=1e-5)
    alone, _ = TASK.loss(jnp.asarray(outputs[:21]), jax.tree.map(lambda a: a[:21], targets), {})
    np.testing.assert_allclose(total[:21], alone, rtol=1e-6)


def test_gradients_are_those_of_finite_differences_and_finite_for_zeros():
    which, outputs = _kept(12)
    targets = _source(which).targets()
    task = Retrieval(temperature=0.5)

    def loss(outputs):
        return task.loss(outputs, targets, {})[0].sum()

    found, step = np.asarray(jax.grad(loss)(jnp.asarray(outputs))), 1e-5
    real = np.ones(12, bool)
    for place in [(0, 0, 0), (3, 1, 2), (7, 0, 4), (11, 1, 1)]:
        moved = [outputs.astype(np.float64) for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        up, down = (_by_hand(one, which, real, 0.5).sum() for one in moved)
        assert found[place] == pytest.approx((up - down) / (2 * step), rel=2e-3, abs=1e-4)
    assert np.isfinite(jax.grad(loss)(jnp.zeros_like(outputs))).all()


def test_equal_documents_are_right_for_one_another():
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 4)), jnp.float32)
    total, _ = TASK.loss(outputs, _source([0, 0, 0]).targets(), {})
    np.testing.assert_array_equal(total, 0)  # there is no other


# Ranks


def _read(which, outputs):
    source = _source(which)
    return TASK.read(TASK.predict(jnp.asarray(outputs), {}), source, np.arange(len(which))), source


def test_ranks_are_those_of_a_plain_search_and_of_scikit_learns_ndcg():
    which, outputs = _kept()
    kept, source = _read(which, outputs)
    record = TASK.host_record(kept, source.targets())
    vectors = outputs.astype(np.float64) / np.linalg.norm(outputs, axis=-1, keepdims=True)
    names, first = np.unique(which, return_index=True)
    cosines = vectors[:, 0] @ vectors[first, 1].T
    ranks = np.array([1 + (row > row[names == k]).sum() for row, k in zip(cosines, which, strict=True)])
    scores = {name: metric.score(record) for name, metric in TASK.metrics.items()}
    assert scores["recall_at_1"] == pytest.approx((ranks == 1).mean())
    assert scores["recall_at_10"] == pytest.approx((ranks <= 10).mean())
    assert scores["mean_reciprocal_rank"] == pytest.approx((1 / ranks).mean())
    assert scores["candidates"] == len(names)
    assert scores["recall_at_1"] == pytest.approx(ndcg_score(names == which[:, None], cosines, k=1))
    logits = cosines / 0.05
    own = logits[np.arange(30), np.searchsorted(names, which)]
    assert scores["log_loss"] == pytest.approx((np.log(np.exp(logits).sum(1)) - own).mean(), rel=1e-4)
    assert [which[i] for i in kept["nearest"]] == names[cosines.argmax(1)].tolist()
    shuffled = np.random.default_rng(0).permutation(30)
    again = TASK.read(TASK.predict(jnp.asarray(outputs[shuffled]), {}), source, shuffled)
    np.testing.assert_array_equal(again["better"], kept["better"][shuffled])


def test_documents_that_are_as_near_share_the_ranks():
    """Of three, one is nearer, and the right one ties with another: its rank is 2 or 3."""
    outputs = np.zeros((3, 2, 2), np.float32)
    outputs[:, 0, 0] = 1
    outputs[:, 1] = [[0, 1], [0, 1], [1, 0]]
    kept, source = _read([0, 1, 2], outputs)
    record = TASK.host_record(kept, source.targets())
    first = {key: values[:1] for key, values in record.items()}
    assert TASK.metrics["recall_at_1"].score(first) == 0
    assert TASK.metrics["mean_reciprocal_rank"].score(first) == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert TASK.columns(kept)["rank"] == [2.5, 2.5, 1.0]
    shown = TASK.shown_examples(kept, source.targets(), source)
    assert shown == {"rank": ["2–3 of 3", "2–3 of 3", "1 of 3"], "nearest document": ["document 2"] * 3}
    assert TASK.shown_examples(kept, source.targets(), None)["nearest document"] == ["of example 2"] * 3
    assert TASK.metrics["recall_at_1"].score(record) == pytest.approx(1 / 3)


def test_who_knows_nothing_finds_one_of_all():
    which = np.repeat(np.arange(5), 3)
    source = _source(which)
    kept = TASK.read(TASK.baseline(source.targets(), 15), source, np.arange(15))
    record = TASK.host_record(kept, source.targets())
    assert TASK.metrics["recall_at_1"].score(record) == pytest.approx(1 / 5)
    assert TASK.metrics["recall_at_10"].score(record) == 1
    assert TASK.metrics["mean_reciprocal_rank"].score(record) == pytest.approx((1 / np.arange(1, 6)).mean())
    assert TASK.metrics["log_loss"].score(record) == pytest.approx(np.log(5))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: data.pairs("a", ["b"]), "queries and documents are lists of texts"),
        (lambda: data.pairs(["a"], ["b", "c"]), "there are 1 queries and 2 documents"),
        (lambda: data.pairs(["a", " "], ["b", "c"]), "the query or the document at index 1 is empty"),
        (lambda: data.pairs(["a", 3], ["b", "c"]), "the text at index 1"),
        (lambda: choose_task(data.pairs(["a", "b"], ["c", "c"]), purpose="a test"), "holds a single document"),
        (lambda: choose_task(data.texts([("a", "b")]), purpose="a test"), r"with their documents: data\.pairs"),
        (lambda: choose_task(data.digits(), "retrieval", purpose="a test"), r"data\.pairs\(queries, documents\)"),
        (lambda: Retrieval(temperature=0), "expected a number above 0"),
        (lambda: TASK.scored_by("f1_macro"), "cannot score retrieval"),
    ],
)
def test_what_cannot_be_is_refused(made, message):
    with pytest.raises(InputError, match=message):
        made()


# Training


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A small BERT that takes the mean over tokens, with its tokenizer."""
    content = word_pieces(tmp_path_factory.mktemp("encoder"))
    model = jaxdl.create("bert_tiny", 2, vocabulary=len(PIECES), width=8, depth=1, num_heads=2, longest=12, pool="mean")
    return jaxdl.from_model(model, TextPreprocessing(content, 12))


PLAN = jaxdl.Plan(epochs=2, batch_size=7, optimizer="sgd", learning_rate=0.05, schedule="constant")


def test_folds_at_once_equal_folds_one_by_one_and_test_other_documents(encoder):
    source, still = _pairs(), dataclasses.replace(encoder, model=encoder.model.clone(dropout=0.0))
    plan = dataclasses.replace(PLAN, epochs=3)
    loop, vmap = (
        jaxdl.cross_validate(still, source, plan, folds=3, execution=jaxdl.Execution(fold_strategy=way))
        for way in ("loop", "vmap")
    )
    assert loop.task == "retrieval"
    assert loop.metric == "recall_at_1"
    for one, two in zip(loop.folds, vmap.folds, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
        assert one["recall_at_1"] == two["recall_at_1"]
    held = loop.out_of_fold
    for fold in range(3):
        candidates = len(set(source.groups[held.index[held.fold == fold]].tolist()))
        assert set(held.kept["candidates"][held.fold == fold]) == {candidates}
    chance = np.mean(1 / held.kept["candidates"])
    assert loop.baseline["recall_at_1"] == pytest.approx(chance)
    assert loop.mean > chance
    assert loop.interval["low"] < loop.mean < loop.interval["high"]


@pytest.mark.slow
def test_a_training_learns_and_its_checkpoint_answers(encoder, tmp_path):
    source = _pairs(40, 20)
    before = jaxdl.embed(encoder, ["a good day"])
    plan = jaxdl.Plan(epochs=25, batch_size=20, learning_rate=0.01)
    tuned = jaxdl.finetune(encoder, source, plan)
    losses = [row["train_loss"] for row in tuned.history]
    assert losses[-1] < 0.5 * losses[0]
    again = jaxdl.restore(jaxdl.save(tuned, tmp_path / "tuned"))
    assert again.card.preprocessing == PairsPreprocessing(encoder.card.preprocessing.tokenizer, 12)
    assert again.model.num_outputs == 0
    found = jaxdl.predict(again, source)
    assert found.scores["recall_at_1"] == pytest.approx(TASK.metrics["recall_at_1"].score(found.outputs))
    vectors = jaxdl.embed(again, ["a good day"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.abs(vectors - before / np.linalg.norm(before)).max() > 0.01
    queries, documents = (jaxdl.embed(again, [pair[side] for pair in source.held]) for side in (0, 1))
    nearest = documents[(queries @ documents.T).argmax(1)]
    np.testing.assert_allclose(nearest, documents[found.predicted], atol=1e-5)
    with pytest.raises(InputError, match=r"jaxdl\.embed\(checkpoint, queries\)"):
        jaxdl.embed(again, source)
    # another question, from there on
    labelled = data.texts([first for first, _ in source.held], np.arange(40) % 2)
    other = jaxdl.finetune(again, labelled, PLAN)
    assert (other.model.num_outputs, other.card.preprocessing) == (2, encoder.card.preprocessing)


def test_padding_of_a_batch_changes_nothing(encoder):
    """Folds of uneven size, whose batches are as wide as the largest, against each training part alone."""
    source, still = _pairs(10, 10), dataclasses.replace(encoder, model=encoder.model.clone(dropout=0.0))
    plan = dataclasses.replace(PLAN, epochs=1, batch_size=100)
    result = jaxdl.cross_validate(still, source, plan, folds=3, execution=jaxdl.Execution(fold_strategy="vmap"))
    held, sizes = result.out_of_fold, set()
    for row in result.curves:
        train = np.setdiff1d(np.arange(10), held.index[held.fold == row["fold"]])
        alone = jaxdl.finetune(still, data.subset(source, train), plan).history[0]
        assert row["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-5)
        assert row["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-4)
        sizes.add(len(train))
    assert sizes == {6, 7}


def test_batches_in_parts_are_refused(encoder, tmp_path):
    word_pieces(tmp_path)
    source = _pairs(tokenizer=tmp_path)
    with pytest.raises(InputError, match="accumulate is 2, but retrieval compares the examples of a batch"):
        jaxdl.finetune(encoder, source, dataclasses.replace(PLAN, accumulate=2))
    with pytest.raises(InputError, match="reads no text, and retrieval compares texts"):
        jaxdl.cross_validate(jaxdl.create("mlp", 2), source, PLAN)


def test_a_checkpoint_without_a_head_comes_back_and_goes_to_sentence_transformers(encoder, tmp_path):
    body = {
        kind: {name: held for name, held in tree.items() if name != "head"} for kind, tree in encoder.variables.items()
    }
    task = Retrieval(temperature=0.1)
    made = PairsPreprocessing(encoder.card.preprocessing.tokenizer, 12)
    card = dataclasses.replace(encoder.card, task=task, preprocessing=made)
    checkpoint = dataclasses.replace(encoder, model=encoder.model.clone(num_outputs=0), variables=body, card=card)
    again = jaxdl.restore(jaxdl.save(checkpoint, tmp_path / "saved"))
    assert (again.card, again.model) == (checkpoint.card, checkpoint.model)
    kept = jaxdl.predict(again, _pairs()).outputs
    assert kept["candidates"].tolist() == [8] * 24
    texts = ["a good day", "bad"]
    folder = jaxdl.export(again, tmp_path / "exported").parent
    back = jaxdl.convert(folder, preprocessing={"length": 12}).checkpoint
    assert back.card.normalise
    np.testing.assert_allclose(jaxdl.embed(back, texts), jaxdl.embed(again, texts), atol=1e-6)
