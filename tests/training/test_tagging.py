"""Networks that tag words, from training to the page: the rule is simple, and all that is said of it can be checked."""

import dataclasses
import json
import re
from pathlib import Path
from runpy import run_path

import jax
import jax.export
import numpy as np
import pytest
from libraries import real_minilm
from word_pieces import PIECES, word_pieces

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.models.variables import walk_shapes
from jaxdl.report.tags import show_kinds, show_wrong_tags
from jaxdl.tasks.token_classification import aligned
from jaxdl.training.execution import Execution

WORDS = ("a", "good", "day", "days", "bad", "dias", ",", "dio")
MOVES = ("days", "dias", "dio")  # two tokens each: what makes an entity is said by the second one
PLAN = jaxdl.Plan(epochs=8, batch_size=16, learning_rate=0.03)


def tagged_by_rule(count, seed, most=7):
    """Runs of `MOVES` are entities of one kind, ``bad`` is one of another; the first sentence has `most` words."""
    random = np.random.default_rng(seed)
    sentences, tags = [], []
    for i in range(count):
        words = random.choice(WORDS, most if i == 0 else random.integers(1, most + 1)).tolist()
        moves = [word in MOVES for word in words]
        told = [
            "IB"[not before] + "-X" if moves else None for before, moves in zip([False, *moves], moves, strict=False)
        ]
        sentences.append(words)
        tags.append([tag or ("B-Y" if word == "bad" else "O") for tag, word in zip(told, words, strict=True)])
    return sentences, tags


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("tokenizer")
    word_pieces(place)
    return place


@pytest.fixture(scope="module")
def source(folder):
    return data.tagged(*tagged_by_rule(144, 0), groups=np.arange(144) // 3, tokenizer=folder, length=17)


@pytest.fixture(scope="module")
def model():
    return jaxdl.create("lstm", 2, vocabulary=len(PIECES), width=8, features=8)


@pytest.fixture(scope="module")
def new():
    """Longer sentences than those to train on."""
    return data.tagged(*tagged_by_rule(40, 1, most=9))


@pytest.fixture(scope="module")
def trained(model, source, new):
    return jaxdl.pretrain(model, source, PLAN, validation=new)


def test_a_network_learns_the_rule(trained, new, tmp_path):
    found = jaxdl.predict(trained, new)
    everything = found.scores_of(np.arange(len(found)))
    assert everything["f1"] > 0.9
    assert trained.history[-1]["test_loss"] > 0
    assert trained.history[-1]["test_f1"] == pytest.approx(everything["f1"])
    sentences, tags = tagged_by_rule(40, 1, most=9)
    right = np.mean([told == said for told, said in zip(tags, found.predicted, strict=True)])
    assert found.task.metrics["exact_match"].score(found.task.host_record(found.outputs, found.targets)) == right
    again = jaxdl.restore(jaxdl.save(trained, tmp_path / "checkpoint"))
    assert again.card.task == found.task
    assert list(jaxdl.predict(again, sentences).predicted) == list(found.predicted)
    as_texts = jaxdl.predict(again, [" ".join(words) for words in sentences])
    assert list(as_texts.predicted) == list(found.predicted)
    frame = found.to_frame()
    assert frame["target"].tolist() == [" ".join(row) for row in tags]
    assert frame["predicted"].tolist() == [" ".join(row) for row in found.predicted]


def test_a_prediction_does_not_depend_on_the_batch_or_its_length(trained, new):
    whole = jaxdl.predict(trained, new, batch_size=64).outputs
    for size in (3, 17):
        some = jaxdl.predict(trained, new, batch_size=size).outputs
        np.testing.assert_array_equal(some["tags"], whole["tags"])
        np.testing.assert_allclose(some["confidence"].astype(int), whole["confidence"], atol=1)
    alone = jaxdl.predict(trained, new.take(np.array([5]))).outputs
    np.testing.assert_array_equal(alone["tags"][0], whole["tags"][5])


def test_words_beyond_the_length_are_missed_and_said(trained):
    words = [["a", *["days"] * 9]]
    with pytest.warns(UserWarning, match=r"2 of 10 words have no token: 1 of 1 sentence .* longer than 17 tokens"):
        found = jaxdl.predict(trained, data.tagged(words, [["O", "B-X", *["I-X"] * 8]]))
    assert [len(row) for row in found.predicted] == [8]
    assert found.scores["token_accuracy"] <= 0.8
    assert found.scores["f1"] == 0  # its end is not where it should be


def test_tags_that_nobody_taught_count_as_missed(trained):
    sentences = [["a", "bad", "day"], ["days"]]
    known, other = (
        jaxdl.predict(trained, data.tagged(sentences, [["O", tag, "O"], ["B-X"]])).scores_of([0, 1])
        for tag in ("B-Y", "B-Z")
    )
    assert known["f1"] == 1
    assert other == {"f1": 0.5, "token_accuracy": 0.75}


def validated(model, source, way):
    """By SGD: what Adam makes of rounding would hide what the ways share."""
    plan = dataclasses.replace(PLAN, epochs=2, optimizer="sgd", learning_rate=1.0, weight_decay=0.0)
    how = Execution(keep_models=True, fold_strategy=way, allow=("duplicates", "near-duplicates"))
    return jaxdl.cross_validate(model, source, plan, folds=3, execution=how)


@pytest.fixture(scope="module")
def result(model, source):
    """Of folds one after another."""
    return validated(model, source, "loop")


@pytest.mark.slow
def test_folds_in_one_program_are_those_of_the_loop(model, source, result):
    one, two = result, validated(model, source, "vmap")
    for a, b in zip(one.models, two.models, strict=True):
        ours, theirs = dict(walk_shapes(a.variables)), dict(walk_shapes(b.variables))
        for name, leaf in ours.items():
            np.testing.assert_allclose(leaf, theirs[name], atol=2e-6, err_msg=name)
    np.testing.assert_array_equal(one.out_of_fold.kept["tags"], two.out_of_fold.kept["tags"])
    assert one.metrics["pooled"] == pytest.approx(two.metrics["pooled"], rel=1e-5)


def test_the_page_says_what_the_records_say(result, source):
    assert result.interval["low"] < result.mean < result.interval["high"]
    assert result.baseline["f1"] == 0
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", show_kinds(result).body)
    found, there, said = np.sum(result.record["entities"], 0)
    for i, kind in enumerate("XY"):
        row = cells[cells.index(kind) :]
        assert row[1:4] == [f"{counts[i]:,}" for counts in (there, said, found)]
        assert row[6] == f"{100 * 2 * found[i] / (there[i] + said[i]):.1f} %"
    section = show_wrong_tags("lstm", result, source)
    wrong = result.record["words"] - result.record["right"]
    worst = int(np.argmax(wrong))
    assert f"{wrong[worst]} of {result.record['words'][worst]}" in section.body
    assert section.body.count("<mark>") == np.sort(wrong)[-12:].sum()


@pytest.mark.slow
def test_a_frozen_body_is_cached_and_gives_the_same(trained, source):
    plan = dataclasses.replace(PLAN, epochs=2, optimizer="sgd", learning_rate=0.5, freeze_through="body")
    made = [
        jaxdl.finetune(trained, source, dataclasses.replace(plan, cache_features=cached), head="fresh")
        for cached in (True, False)
    ]
    for name, leaf in walk_shapes(made[0].variables):
        np.testing.assert_allclose(leaf, dict(walk_shapes(made[1].variables))[name], atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_a_program_tags_as_the_checkpoint_does(trained, new, tmp_path):
    file = jaxdl.export(trained, tmp_path / "program", file_format="stablehlo")
    program = jax.export.deserialize(bytearray(file.read_bytes()))
    made = program.call(trained.card.preprocessing.load(new))
    np.testing.assert_array_equal(made["tags"], jaxdl.predict(trained, new).outputs["tags"])
    told = json.loads((file.parent / "model.json").read_text())
    assert "divide the text into words at spaces" in told["prepare"]
    assert "tokens, mask, each [examples, 17]" in told["prepare"][2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gru", "rnn", "bert_tiny"])
def test_other_networks_tag_too(source, new, name):
    small = {"depth": 1, "longest": 32, "mlp_width": 16} if name == "bert_tiny" else {"features": 8}
    network = jaxdl.create(name, 2, vocabulary=len(PIECES), width=8, **small)
    plan = dataclasses.replace(PLAN, epochs=12)
    assert jaxdl.predict(jaxdl.pretrain(network, source, plan), new).scores["token_accuracy"] > 0.8


def test_a_network_without_an_answer_for_each_token_is_refused(source):
    with pytest.raises(InputError, match=r"a TextCNN gives no answer for each token, .* such as bert or lstm"):
        jaxdl.pretrain(jaxdl.create("textcnn", 2, vocabulary=len(PIECES), width=8), source, PLAN)
    with pytest.raises(InputError, match="tags of words"):
        jaxdl.pretrain(jaxdl.create("mlp", 2), source, PLAN)


@pytest.mark.slow
def test_ensembles_of_folds_tag_together(result, new):
    together = jaxdl.ensemble(result).predict(new)
    each = [jaxdl.predict(network, new).outputs for network in result.models]
    votes = np.zeros((*each[0]["tags"].shape, 5))
    for outputs in each:
        np.put_along_axis(
            votes,
            outputs["tags"][..., None].astype(int),
            np.take_along_axis(votes, outputs["tags"][..., None].astype(int), -1) + outputs["confidence"][..., None],
            -1,
        )
    best = np.where(each[0]["tags"] > 0, votes.argmax(-1), 0)
    clear = np.sort(votes, -1)[..., -1] > np.sort(votes, -1)[..., -2] + 4
    np.testing.assert_array_equal(together.outputs["tags"][clear], best[clear])
    assert clear.any()
    assert jax.tree.structure(together.outputs) == jax.tree.structure(each[0])


@pytest.mark.slow
def test_names_and_numbers_of_real_sentences_are_found_without_their_capitals(real_data):
    """By a linear head on the real MiniLM; the score is seqeval's of the out-of-fold tags."""
    seqeval = pytest.importorskip("seqeval.metrics", reason="the reference needs seqeval: see .ci/run")
    names = run_path(str(Path(__file__).parents[2] / "experiments" / "names.py"))
    weights = real_minilm()
    source = names["read"](real_data / "wikitext2_valid.txt.gz", weights, 200)
    result = names["validated"]("frozen", source, weights)
    held = result.out_of_fold
    groups = source.groups[held.index]
    assert all(len(set(held.fold[groups == one].tolist())) == 1 for one in set(groups.tolist()))
    said = aligned(held.kept, held.target)
    words = held.target >= 0
    true, predicted = (
        [[result.asked.names[tag] for tag in row[real]] for row, real in zip(tags, words, strict=True)]
        for tags in (held.target, np.where(said >= 0, said, source.class_names.index("O")))
    )
    pooled = result.metrics["pooled"]
    assert pooled["f1"] == pytest.approx(seqeval.f1_score(true, predicted))
    assert pooled["f1"] > 0.4
    assert result.baseline["f1"] == 0
    assert result.sample(result.asked.metrics["f1:NUMBER"]).pooled_score > 0.6
