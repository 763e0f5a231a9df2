"""Entities in sequences of tags against seqeval, scheme by scheme."""

from itertools import product

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.errors import InputError
from jaxdl.tasks.entities import SCHEMES, Entities, check_scheme, scheme_of

KINDS = ("LOC", "PER-x", "A")
NAMES = {
    name: ("O", *(f"{prefix}-{kind}" for kind in KINDS for prefix in scheme.prefixes))
    for name, scheme in SCHEMES.items()
    if name != "none"
}


@pytest.fixture(scope="module")
def theirs():
    """Entities of a sentence as seqeval finds them: ``(kind, first, behind the last)``."""
    scheme = pytest.importorskip("seqeval.scheme", reason="the reference needs seqeval: see .ci/run")
    from seqeval.metrics.sequence_labeling import get_entities

    def found(name, tags):
        if name == "conll":
            return {(kind, first, last + 1) for kind, first, last in get_entities(list(tags))}
        kind = getattr(scheme, {"BIOES": "IOBES"}.get(name, name))
        return {(one.tag, one.start, one.end) for one in scheme.Tokens(list(tags), kind).entities}

    return found


def ours(name, sentences, xp=np):
    """The same of several sentences, which are padded."""
    entities = Entities(NAMES[name], name)
    rows = np.full((len(sentences), 2 + max(map(len, sentences))), -1, np.int32)
    for row, tags in zip(rows, sentences, strict=True):
        row[: len(tags)] = [entities.tags.index(tag) for tag in tags]
    start, kind, stop = map(np.asarray, entities.find(xp.asarray(rows)))
    made = [set() for _ in sentences]
    for i, place in np.argwhere(start).tolist():
        made[i].add((entities.kinds[kind[i, place]], place, int(stop[i, place])))
    return made


@pytest.mark.parametrize("name", NAMES)
def test_every_short_sequence_of_tags_is_read_as_seqeval_reads_it(theirs, name):
    """Whatever rules of the scheme it breaks: all of up to three words and two kinds."""
    few = [tag for tag in NAMES[name] if not tag.endswith("-A")]
    sentences = [tags for count in (1, 2, 3) for tags in product(few, repeat=count)]
    for tags, found, again in zip(sentences, ours(name, sentences), ours(name, sentences, jnp), strict=True):
        assert found == again == theirs(name, tags), tags


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_random_sequences_of_tags_are_read_as_seqeval_reads_them(theirs, name, data):
    sentence = st.lists(st.sampled_from(NAMES[name]), min_size=1, max_size=15)
    sentences = data.draw(st.lists(sentence, min_size=1, max_size=8))
    assert ours(name, sentences) == [theirs(name, tags) for tags in sentences]


def test_parts_of_speech_are_counted_word_by_word():
    entities = Entities(("NOUN", "VERB"), "none")
    assert entities.kinds == ("NOUN", "VERB")
    targets, said = np.array([[0, 0, 1, -1]]), np.array([[0, 1, 1, -1]])
    assert entities.count(said, targets)[0].tolist() == [[1, 1, 0], [2, 1, 0], [1, 2, 0]]


def test_entities_of_kinds_that_nobody_taught_are_there_and_not_found():
    """As targets of a checkpoint that knows PER alone: ``B-ORG I-ORG O B-PER`` and ``I-ORG``."""
    entities = Entities(("B-PER", "I-PER", "O"), "conll")
    targets, said = np.array([[-2, -3, 2, 0], [-3, -1, -1, -1]]), np.array([[2, 2, 2, 0], [0, -1, -1, -1]])
    assert entities.count(said, targets).tolist() == [[[1, 0], [1, 1], [1, 0]], [[0, 0], [0, 1], [1, 0]]]


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (("B-PER", "I-PER", "O"), "conll"),
        (("I-LOC", "I-PER", "O"), "conll"),
        (("S-LOC", "E-PER", "B-PER", "O"), "conll"),
        (("B-LOC", "L-LOC", "U-LOC", "O"), "BILOU"),
        (("B-LOC", "I-LOC"), "conll"),
        (("NOUN", "VERB", "O"), "none"),
        (("B", "I", "O"), "none"),
        (("O",), "none"),
    ],
)
def test_the_scheme_is_seen_by_the_tags(tags, scheme):
    assert scheme_of(tags) == scheme


def test_a_scheme_that_is_not_known_or_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"scheme.*'IOB3'.*IOB2"):
        check_scheme("IOB3", ("O",))
    with pytest.raises(InputError, match=r"the tag 'S-PER' is not of the scheme IOB2, .* one of B, I and a kind"):
        check_scheme("IOB2", ("O", "B-PER", "S-PER"))
    check_scheme("none", ("NN", "VB"))
    check_scheme("BIOES", ("O", "S-PER"))
