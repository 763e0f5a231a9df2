"""Copies among texts: found, refused, and what the score would have been with them."""

import gzip
import itertools
import time

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

import jaxdl
from jaxdl import data
from jaxdl.errors import InputError
from jaxdl.validation.leakage import check_leaks, check_validation, duplicate_groups, find_near_duplicate_texts
from jaxdl.validation.leakage.duplicates import are_telling
from jaxdl.validation.leakage.near_duplicate_texts import LEAST, LONG, letters
from jaxdl.validation.splits import split_source

SENTENCES = [
    "a stirring, funny and finally transporting tale of beauty and the beast",
    "apparently reassembled from the cutting room floor of any daytime soap",
    "they presume their audience won't sit still for a sociology lesson",
    "this is a visually stunning rumination on love, memory and history",
    "the film is quiet, threatening and unforgettable from its first minute",
    "a slick and manufactured movie that nobody will remember next week",
]
PLAIN = jaxdl.Plan(epochs=2)
MLP = jaxdl.create("mlp", 2, hidden=(8,))


def similarity(one, two):
    sets = [{t[i : i + LONG] for i in range(len(t) - LONG + 1)} for t in map(letters, (one, two))]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def source_of(texts, **options):
    x = np.random.default_rng(0).normal(size=(len(texts), 3))
    return data.arrays(x, np.arange(len(texts)) % 2, texts=texts, **options)


def sst2(real_data):
    with gzip.open(real_data / "sst2_train.tsv.gz", "rt", encoding="utf-8") as file:
        texts, labels = zip(*(line.rstrip("\n").split("\t") for line in file), strict=True)
    return list(texts), np.array(labels, int)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "They WON'T sit still, however (entertainingly) presented!",
            "they wo n't sit still however entertainingly presented",
        ),
        ("the ﬁnal cut of a naïve Ｆｉｌｍ about Straße 9", "The final cut of a naive film,  about\tSTRASSE 9"),
        ("это тихий, страшный и незабываемый фильм", "Это тихий страшный и незабываемый фильм..."),
    ],
)
def test_case_punctuation_spaces_and_forms_of_letters_do_not_count(one, other):
    assert letters(one) == letters(other)
    assert find_near_duplicate_texts([one, "something else entirely, of some length", other]).tolist() == [[0, 2]]


def test_pairs_are_those_of_a_comparison_one_by_one():
    """Random sentences of few words, many of which are alike, each more or less so."""
    rng = np.random.default_rng(0)
    words = ["".join(map(chr, rng.integers(97, 123, rng.integers(3, 9)))) for _ in range(40)]
    texts = [" ".join(rng.choice(words, 9)) for _ in range(60)]
    for text in texts[:60]:
        changed = text.split()
        for place in rng.choice(9, rng.integers(1, 4), replace=False):
            changed[place] = words[rng.integers(40)]
        texts.append(" ".join(changed))
    pairs = itertools.combinations(range(len(texts)), 2)
    similar = {pair: similarity(*(texts[i] for i in pair)) for pair in pairs}
    for least in (0.6, 0.75):
        assert find_near_duplicate_texts(texts, similarity=least).tolist() == [
            list(p) for p, s in similar.items() if s >= least
        ]
    assert 10 < sum(s >= 0.6 for s in similar.values()) < 60


def test_short_texts_and_empty_ones_are_like_no_other():
    assert len(letters("see it, see it now!!")) < LEAST
    for texts in ([], ["", ""], ["🙂🙂🙂", "🙂🙂🙂"], ["see it, see it now!!"] * 3, SENTENCES, SENTENCES[:1]):
        assert find_near_duplicate_texts(texts).shape == (0, 2)
    with pytest.raises(InputError, match=r"similarity is 0.2; expected 0.5 to 1"):
        find_near_duplicate_texts(SENTENCES, similarity=0.2)


def test_many_blocks_give_the_pairs_of_one(monkeypatch):
    texts = [*SENTENCES, *(f"{text} indeed" for text in SENTENCES)]
    whole = find_near_duplicate_texts(texts)
    assert whole.tolist() == [[i, i + 6] for i in range(6)]
    monkeypatch.setattr("jaxdl.validation.leakage.near_duplicate_texts.TOGETHER", 5)
    np.testing.assert_array_equal(find_near_duplicate_texts(texts), whole)


def test_texts_go_with_their_examples():
    source = source_of(SENTENCES)
    part = data.subset(source, [4, 1])
    assert list(part.texts) == [SENTENCES[4], SENTENCES[1]]
    assert list(part.join(source, np.zeros(8, np.int32)).texts) == [SENTENCES[4], SENTENCES[1], *SENTENCES]
    assert data.arrays(np.ones((2, 3))).texts is None


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (SENTENCES[:5], "x has 6 examples but texts has 5"),
        ("sentences", "texts are no list of strings"),
        ([*SENTENCES[:5], None], "the text at index 5 is None; expected strings"),
        (np.arange(6), "the text at index 0 is .*; expected strings"),
    ],
)
def test_texts_that_are_none_are_refused(texts, said):
    with pytest.raises(InputError, match=said):
        data.arrays(np.ones((6, 2)), np.arange(6) % 2, texts=texts)
    with pytest.raises(InputError, match=r"texts stand beside rows of numbers"):
        data.arrays(np.zeros((6, 8, 8, 3), np.uint8), texts=SENTENCES)


def test_copies_are_refused_allowed_or_grouped():
    texts = [*SENTENCES, SENTENCES[0], "This is a visually stunning rumination on love, memory & art history!"]
    source = source_of(texts)
    split = split_source(source, "leave-one-out", 8, 0)
    with pytest.raises(InputError) as caught:
        check_leaks(MLP, source, split)
    said = str(caught.value)
    assert "\n  duplicates: 2 examples are tested that are exact copies" in said
    assert "\n  near-duplicates: 2 examples are tested that read the same as some" in said
    assert "(numbers 3 and 7, 7 and 3)" in said
    found = check_leaks(MLP, source, split, allow=["duplicates", "near-duplicates"])
    assert [(leak.name, leak.examples) for leak in found] == [("duplicates", 2), ("near-duplicates", None)]
    groups = duplicate_groups(source).groups
    assert groups[0] == groups[6]
    assert groups[3] == groups[7]
    assert len(set(groups)) == 6
    assert len(set(duplicate_groups(source, near=False).groups)) == 7
    with pytest.raises(InputError, match="near-duplicates: 1 example is tested that reads the same as"):
        check_validation(MLP, data.subset(source, [0, 1, 3]), data.subset(source, [2, 7]))
    same = source_of(["see it", *SENTENCES, "see it"])  # too short to tell
    assert check_leaks(MLP, same, split_source(same, "leave-one-out", 8, 0)) == []


@pytest.mark.slow
def test_from_files_and_the_command_line(tmp_path, monkeypatch):
    from command_line import jaxdl_command, refused

    monkeypatch.chdir(tmp_path)
    texts = [*SENTENCES, *(f"{text.upper()}!" for text in SENTENCES)]
    source = source_of(texts)
    np.savez("texts.npz", x=source.x, y=source.labels, texts=np.array(texts))
    assert list(data.npz("texts.npz").texts) == texts
    rows = zip(source.x, source.labels, texts, strict=True)
    lines = [f'{a},{b},{c},{label},"{text}"' for (a, b, c), label, text in rows]
    (tmp_path / "texts.csv").write_text("\n".join(["a,b,c,label,Text", *lines]))
    table = data.csv("texts.csv")
    assert (table.columns, list(table.texts)) == (("a", "b", "c"), texts)
    (tmp_path / "named.csv").write_text("\n".join(["a,b,c,label,sentence", *lines]))
    assert list(data.csv("named.csv", text="sentence").texts) == texts
    with pytest.raises(InputError, match=r"no column 'sentense'.*Did you mean 'sentence'"):
        data.csv("named.csv", text="sentense")
    (tmp_path / "numbers.csv").write_text("text,a,label\n1,2,x\n3,4,y\n")  # how many were sent: a feature
    assert data.csv("numbers.csv").columns == ("text", "a")
    for file in ("texts.npz", "texts.csv"):
        command = f"cross-validate --model mlp --data {file} --folds 2 --epochs 1 --fold-strategy loop --out run-{file}"
        assert "near-duplicates: 1" in refused(f"{command} --splitter leave-one-out")
    assert "Caution" not in jaxdl_command(f"{command} --group-duplicates")


def nearly(text, rng):
    """As a second annotator might have typed it: one word left out, an exclamation mark."""
    words = text.split()
    del words[rng.integers(len(words))]
    return " ".join(words).capitalize() + "!"


@pytest.mark.slow
def test_near_copies_of_the_test_sentences_flatter_the_score(real_data):
    """Words counted in sentences of film critics whose labels are by lot: nothing can be learnt but by heart."""
    rng = np.random.default_rng(0)
    texts = [text for text in sst2(real_data)[0] if 40 <= len(letters(text)) <= 100][:120]
    texts += [nearly(text, rng) for text in texts]
    labels = np.tile(rng.permutation(np.arange(120) % 2), 2)
    x = CountVectorizer(min_df=2).fit_transform(texts).toarray()
    source = data.arrays(x, labels, texts=texts)
    how, options = jaxdl.Execution(fold_strategy="vmap"), dict(folds=4)
    model, plan = jaxdl.create("mlp", 2, hidden=(64,)), jaxdl.Plan(epochs=30, learning_rate=5e-3)
    with pytest.raises(InputError, match=r"near-duplicates: \d\d\d examples"):
        jaxdl.cross_validate(model, source, plan, execution=how, **options)
    flattered = jaxdl.cross_validate(
        model, source, plan, execution=how.replace(allow=["duplicates", "near-duplicates"]), **options
    )
    honest = jaxdl.cross_validate(
        model, duplicate_groups(source), plan, splitter="stratified-group", execution=how, **options
    )
    print(f"accuracy {flattered.mean:.2f} with near copies, {honest.mean:.2f} without")
    assert flattered.mean > 0.75
    assert honest.mean < 0.62


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pairs"), [("sst2", 2), ("multi30k", 32)])
def test_alarms_on_real_sentences(name, pairs, real_data):
    """How many pairs of different sentences are taken for copies, and how many of 500 planted ones are found."""
    if name == "sst2":  # the threshold was chosen on these
        texts = sst2(real_data)[0]
    else:
        with gzip.open(real_data / "multi30k_train.en.gz", "rt", encoding="utf-8") as file:
            texts = file.read().splitlines()[:10_000]
    texts = list({letters(text): text for text in texts}.values())
    start = time.process_time()
    found = find_near_duplicate_texts(texts)
    seconds = time.process_time() - start
    print(f"{name}: {len(found)} pairs among {len(texts)} sentences, {seconds:.1f} s")
    assert len(found) == pairs
    rng = np.random.default_rng(0)
    chosen = [i for i in rng.permutation(len(texts)) if len(letters(texts[i])) >= 30][:500]
    planted = {tuple(pair) for pair in find_near_duplicate_texts([*texts, *(nearly(texts[i], rng) for i in chosen)])}
    assert sum((i, len(texts) + j) in planted for j, i in enumerate(chosen)) >= 0.95 * 500


# Pairs of texts

NEAR = ("near-duplicates",)


def _premises(**options):
    """Three second texts for each of six first ones."""
    pairs = [(one, f"{two} number {k}") for k, one in enumerate(SENTENCES) for two in SENTENCES[:3]]
    return data.texts(pairs, np.arange(18) % 2, **options)


def test_a_text_of_a_pair_that_is_trained_on_beside_another_is_a_caution():
    source = _premises()
    split = split_source(source, "kfold", 3, 0)
    (found,) = [leak for leak in check_leaks(MLP, source, split, allow=NEAR) if leak.name == "pairs"]
    assert found.caution
    expected = sum(
        any(source.held[i][0] == source.held[j][0] for j in split.train[k]) for k in range(3) for i in split.test[k]
    )
    assert found.examples == expected > 0
    assert f"{expected} pairs tested with a first text that the same fold trains on" in found.said


def test_first_texts_as_groups_leave_no_such_caution():
    pairs = _premises().held
    source = _premises(groups=[first for first, second in pairs])
    leaks = check_leaks(MLP, source, split_source(source, "group", 3, 0), allow=NEAR)
    assert [leak for leak in leaks if leak.name == "pairs"] == []


def test_short_texts_of_pairs_are_the_same_by_chance_and_queries_are_looked_at_too():
    short = data.texts([("yes", f"{one} {k}") for k in range(2) for one in SENTENCES], np.arange(12) % 2)
    assert not [
        leak for leak in check_leaks(MLP, short, split_source(short, "kfold", 2, 0), allow=NEAR) if leak.name == "pairs"
    ]
    held = [one for one in SENTENCES for _ in range(2)]
    queries = data.pairs([f"{one} query {k}" for k, one in enumerate(reversed(held))], held, groups=np.arange(12))
    said = [leak.said for leak in check_leaks(MLP, queries, split_source(queries, "group", 3, 0), allow=NEAR)]
    assert any("with a second text that the same fold trains on" in one for one in said)
    apart = data.pairs([f"{one} query {k}" for k, one in enumerate(reversed(held))], held)  # by document
    said = [leak.said for leak in check_leaks(MLP, apart, split_source(apart, "group", 3, 0), allow=NEAR)]
    assert not any("second text" in one for one in said)


def test_the_list_of_texts_is_made_once_not_for_each_of_them(monkeypatch):
    made = []
    monkeypatch.setattr(data.Texts, "texts", property(lambda self: made.append(len(self)) or list(self.held)))
    source = data.texts([*SENTENCES, "no"], [0, 1, 0, 1, 0, 1, 0])
    assert are_telling(source, np.arange(7)).tolist() == [True] * 6 + [False]
    assert made == [7]
