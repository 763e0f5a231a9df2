"""Queries with their documents: the source, and both texts as tokens."""

import numpy as np
from source_contract import check_contract
from word_pieces import word_pieces

from jaxdl import data
from jaxdl.data.preprocessing import PairsPreprocessing, TextPreprocessing
from jaxdl.tasks import choose_task
from jaxdl.tasks.examples import describe_examples
from jaxdl.tasks.retrieval import Retrieval


def _pairs(count=24, documents=8, **how):
    which = np.arange(count) % documents
    return data.pairs([f"query {i}" for i in range(count)], [f"what answers {i}" for i in which], **how)


def test_queries_keep_the_contract_of_sources_and_are_grouped_by_document():
    source = _pairs()
    check_contract(source)
    assert len(set(source.groups.tolist())) == 8
    assert (source.groups[:8] == source.groups[8:16]).all()
    named = _pairs(groups=np.arange(24) % 2)
    assert set(named.groups.tolist()) == {0, 1}
    assert choose_task(source, purpose="a test") == Retrieval()
    assert "24 examples, pairs of texts; queries to 8 different documents; 8 groups" in describe_examples(source)


def test_two_texts_are_stored_apart(tmp_path):
    content = word_pieces(tmp_path)
    source = data.pairs(["a day", "good"], ["bad days", "a good day"], tokenizer=tmp_path, length=6)
    made = source.preprocessing.for_targets(source)
    assert made == PairsPreprocessing(content, 6)
    found, single = made.load(source), TextPreprocessing(content, 6)
    for name in ("tokens", "mask"):
        assert found[name].shape == (2, 2, 6)
        np.testing.assert_array_equal(found[name][:, 0], single.load(data.texts(["a day", "good"]))[name])
        np.testing.assert_array_equal(found[name][:, 1], single.load(data.texts(["bad days", "a good day"]))[name])
        np.testing.assert_array_equal(made.stored(source[1])["x"][name], found[name][1])
    assert made.for_targets(data.texts(["a"])) == single
    assert made.for_targets(data.texts([("a", "b")], [0])) == single
