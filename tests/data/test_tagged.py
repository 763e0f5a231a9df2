"""Sentences with a tag for each word: the source, files in columns, and the words' tokens."""

import json
import warnings

import numpy as np
import pytest
from source_contract import assert_trees_equal, check_contract, row
from word_pieces import PIECES, word_pieces

from jaxdl import data
from jaxdl.data.preprocessing import TextPreprocessing, WordsPreprocessing, choose_preprocessing
from jaxdl.errors import InputError

SENTENCES = [["a", "good", "days"], ["bad"], ["dias", ",", "a", "dio"]]
TAGS = [["O", "B-X", "I-X"], ["O"], ["B-Y", "O", "O", "B-X"]]


def test_sentences_keep_the_contract_of_sources():
    check_contract(data.tagged(SENTENCES, TAGS))
    check_contract(data.tagged(SENTENCES, TAGS, groups=["d", "d", "e"], weights=[1, 2, 3]))
    check_contract(data.tagged([*SENTENCES, []]))


def test_what_a_source_of_tags_holds():
    source = data.tagged(SENTENCES, TAGS, groups=["d", "d", "e"])
    assert source.class_names == ("B-X", "B-Y", "I-X", "O")
    assert source.targets().tolist() == [[3, 0, 2, -1], [3, -1, -1, -1], [1, 3, 3, 0]]
    assert source.targets().dtype == np.int32
    assert source[0]["x"].tolist() == SENTENCES[0]
    assert source.texts[2] == "dias , a dio"
    assert source.describe_x() == "sentences of 1 to 4 words, 8 in all"
    frame = source.to_frame()
    assert frame["target"].tolist() == ["O B-X I-X", "O", "B-Y O O B-X"]
    assert frame["text"].tolist() == source.texts
    assert frame["group"].tolist() == ["d", "d", "e"]
    named = data.tagged(SENTENCES, TAGS, ["O", "B-X", "I-X", "B-Y", "I-Y"])
    assert named.targets()[0].tolist() == [0, 1, 2, -1]


@pytest.mark.parametrize(
    ("sentences", "tags", "options", "message"),
    [
        ([], [], {}, "there are no sentences"),
        ("a text", None, {}, "a sentence is one string; expected a list of words"),
        (["a text"], None, {}, "a sentence is one string; expected a list of words"),
        ([["a", 3]], None, {}, "the sentence at index 0: its words are 3; expected a list of strings"),
        ([["a"], None], None, {}, "the sentence at index 1: its words are None"),
        ([["a"]], [[1]], {}, "the sentence at index 0: its tags are 1"),
        ([["a"]], ["O"], {}, "the sentence at index 0: its tags are 'O'; expected a list of strings"),
        ([["a"], ["a", "b"]], [["O"], ["O"]], {}, "the sentence at index 1 has 2 words and 1 tags"),
        ([["a"], []], [["O"], []], {}, "the sentence at index 1 has no words; leave it out"),
        ([["a"]], [], {}, "there are 1 sentences but y has 0"),
        ([["a"]], [["O"]], {"class_names": ["X", "X"]}, "class_names holds a name twice"),
        ([["a"]], [["B-Z"]], {"class_names": ["O", "B-X"]}, "tag in the sentence at index 0.*'B-Z'"),
        ([["a"]], [["O"]], {"groups": [1, 2]}, "there are 1 sentences but groups has 2"),
        ([["a"]], [["O"]], {"weights": [-1]}, "the weight at index 0 is -1"),
        ([["a"]], [["O"]], {"tokenizer": "nowhere"}, "there is no tokenizer 'nowhere'"),
    ],
)
def test_what_are_no_tagged_sentences_is_refused(sentences, tags, options, message):
    with pytest.raises(InputError, match=message):
        data.tagged(sentences, tags, **options)


NER = """-DOCSTART- -X- O O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
# # B-NP O

Peter NNP B-NP B-PER

-DOCSTART- -X- O O

Blackburn NNP I-NP I-PER
\ufeff. . O O
"""


def test_a_file_in_columns_is_read_with_its_documents(tmp_path):
    (tmp_path / "train.conll").write_text("\ufeff" + NER, encoding="utf-8")
    source = data.load(tmp_path / "train.conll")
    assert [words.tolist() for words in (source[i]["x"] for i in range(3))] == [
        ["EU", "rejects", "#"],
        ["Peter"],
        ["Blackburn", "\ufeff."],
    ]
    assert source.to_frame()["target"].tolist() == ["B-ORG O O", "B-PER", "I-PER O"]
    assert source.groups.tolist() == [1, 1, 2]
    assert source.names[1].endswith("train.conll:7")
    assert source.notes == (
        "words are column 1, tags column 4 of 4",
        "2 documents: the sentences of one stay together in every division",
    )
    path = str(tmp_path / "train.conll")
    assert data.load(f"{path}:2").class_names == ("#", ".", "NNP", "VBZ")
    assert data.load(f"{path}:-2").class_names == ("B-NP", "B-VP", "I-NP", "O")
    apart = data.conll(path, word=1, tag=0, documents=False)
    assert apart.groups is None
    assert apart[1]["x"].tolist() == ["NNP"]
    assert apart.class_names == ("#", "Blackburn", "EU", "Peter", "rejects", "\ufeff.")


def test_universal_dependencies_are_read(tmp_path):
    word = "{}\t{}\t_\t{}\t_\t_\t0\troot\t_\t_\n".format
    (tmp_path / "a.conllu").write_text(
        "# newdoc id = one\n# text = du bist\n"
        + word("1-2", "zum", "_")
        + word(1, "zu", "ADP")
        + word(2, "dem", "DET")
        + word("2.1", "gut", "ADJ")
        + "\n# newdoc id = two\n# text = New York\n"
        + word(1, "New York", "PROPN")
    )
    source = data.load(tmp_path / "a.conllu")
    assert source[0]["x"].tolist() == ["zu", "dem"]
    assert source[1]["x"].tolist() == ["New York"]
    assert source.class_names == ("ADP", "DET", "PROPN")
    assert source.groups.tolist() == [1, 2]
    assert "2 lines left out: of several words in one, or of a word that is not there" in source.notes


def test_words_alone_are_read_to_be_predicted(tmp_path):
    (tmp_path / "new.conll").write_text("John\nlives\n\nhere\n")
    source = data.load(tmp_path / "new.conll", labelled=False)
    assert source.targets() is None
    assert [len(source[i]["x"]) for i in range(2)] == [2, 1]
    assert source.groups is None
    with pytest.raises(InputError, match=r"new\.conll' has one column; expected a word and its tag"):
        data.load(tmp_path / "new.conll")


@pytest.mark.parametrize(
    ("content", "spec", "message"),
    [
        (b"", "", r"f\.conll' holds no words"),
        (b"-DOCSTART- O\n\n", "", "holds no words"),
        (b"a O\nb\n", "", r"f\.conll', line 2 has 1 column, and the line of the first word 2: 'b'"),
        (b"a O\nb c O\n", "", "line 2 has 3 columns, and the line of the first word 2"),
        (b"a O\n\xff O\n", "", r"f\.conll' is no UTF-8 text .*, on line 2"),
        (b"a\tO\n\tO\n", "", "line 2 has (1 column|no word)"),
        (b"a\tO\nb\t\tO\n", "", "line 2 has 3 columns"),
        (b"a O\n", ":3", r"the column of the tags of '.*f\.conll' is 2 \(from 0\); expected one of 2: 0 to 1"),
        (b"a O\n", ":ner", "'ner' is no number of a column"),
        (b"a O\n", ":0", "'0' is no number of a column"),
    ],
)
def test_damaged_files_in_columns_are_refused_by_line(tmp_path, content, spec, message):
    (tmp_path / "f.conll").write_bytes(content)
    with pytest.raises(InputError, match=message):
        data.load(f"{tmp_path / 'f.conll'}{spec}")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.conll' cannot be read \(No such file"):
        data.load(tmp_path / "none.conll")


ROWS = [
    {"tokens": ["EU", "said"], "ner_tags": ["B-ORG", "O"], "doc": "x"},
    {"tokens": ["it"], "ner_tags": ["O"], "doc": "y"},
]


def write_lines(path, rows):
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_json_in_lines_is_read(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", ["", *ROWS])
    source = data.load(path, table=data.TableOptions(group="doc"))
    assert source.to_frame()["target"].tolist() == ["B-ORG O", "O"]
    assert source.texts == ["EU said", "it"]
    assert source.groups.tolist() == ["x", "y"]
    assert source.names[0].endswith("a.jsonl:2")
    assert source.notes == ("words are the field tokens, tags the field ner_tags", "groups are the field doc")
    numbers = write_lines(tmp_path / "b.jsonl", [{"words": ["a", "b"], "x": [1, 0]}, {"words": ["c"], "x": [0]}])
    assert data.load(f"{numbers}:x").class_names == ("0", "1")
    named = data.tagged_lines(numbers, tags="x", class_names=("O", "B-X"))
    assert named.to_frame()["target"].tolist() == ["B-X O", "O"]
    alone = write_lines(tmp_path / "c.jsonl", [{"tokens": ["a"], "group": 3}])
    assert data.load(alone, labelled=False).groups.tolist() == ["3"]
    assert data.load(alone, labelled=False).targets() is None
    texts = write_lines(tmp_path / "d.jsonl", [{"text": "a b", "label": "x"}, {"text": "c", "label": "y"}])
    assert isinstance(data.load(texts, table=data.TableOptions(text_column=("text",))), data.Texts)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([*ROWS, "{"], {}, r"line 3 of '.*f\.jsonl' is no JSON"),
        ([ROWS[0], {"tokens": ["a", "b"], "ner_tags": ["O"]}], {}, r"f\.jsonl', line 2 has 2 words and 1 tags"),
        ([ROWS[0], {"tokens": [], "ner_tags": []}], {}, r"f\.jsonl', line 2 has no words; leave it out"),
        (
            [ROWS[0], {"tokens": "a", "ner_tags": ["O"]}],
            {},
            r"f\.jsonl', line 2: the field tokens is a; expected",
        ),
        ([ROWS[0], {"tokens": ["a"]}], {}, "line 2: the field ner_tags is missing; expected a list of strings"),
        ([ROWS[0], {"tokens": [["a"]], "ner_tags": ["O"]}], {}, "line 2: the field tokens is"),
        ([{"tokens": ["a"]}], {}, r"has no field of tags, such as tags or ner_tags .*; it has: tokens\. Name it"),
        (ROWS, {"target": ("tagz",)}, "field of .*'tagz'"),
        (ROWS, {"group": "docs"}, "field of .*'docs'.*doc"),
        (ROWS, {"time": "doc"}, "holds sentences of words, for which time says nothing; leave it out"),
    ],
)
def test_damaged_lines_are_refused_by_line(tmp_path, rows, options, message):
    path = write_lines(tmp_path / "f.jsonl", rows)
    with pytest.raises(InputError, match=message):
        data.load(path, table=data.TableOptions(**options))


@pytest.fixture
def content(tmp_path):
    return word_pieces(tmp_path)


def test_each_word_is_answered_by_its_first_token(content):
    made = WordsPreprocessing(content, 9).load(data.tagged(SENTENCES, TAGS))
    pieces = [[PIECES[token] for token, real in zip(*each, strict=True) if real] for each in _rows(made)]
    assert pieces == [
        ["[CLS]", "a", "good", "day", "##s", "[SEP]"],
        ["[CLS]", "bad", "[SEP]"],
        ["[CLS]", "d", "##ias", ",", "a", "d", "##io", "[SEP]"],
    ]
    assert made["carried"]["words"].tolist() == [
        [2, 3, 4, 0, 0, 0, 0, 0, 0, 0],
        [2, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [2, 4, 5, 6, 0, 0, 0, 0, 0, 0],
    ]


def _rows(made):
    return zip(made["tokens"], made["mask"], strict=True)


def test_words_that_are_cut_or_nothing_are_counted(content):
    source = data.tagged([["good"] * 9, ["a", "\u200f", "bad"], ["a"]])
    with pytest.warns(UserWarning, match=r"6 of 13 words have no token: 2 of 3 sentences .* longer than 6 tokens"):
        made = WordsPreprocessing(content, 6).load(source)
    assert made["carried"]["words"].tolist() == [[2, 3, 4, 5, 0, 0, 0], [2, 0, 3, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0]]
    with pytest.warns(UserWarning, match="^sentences longer than 6 tokens are cut"):
        WordsPreprocessing(content, 6).stored(source[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WordsPreprocessing(content, 11).load(source.take(np.array([0, 2])))


def test_a_text_is_divided_at_spaces(content):
    made = WordsPreprocessing(content, 9)
    texts, words = data.texts([" a good\tdays "]), data.tagged([["a", "good", "days"]])
    assert_trees_equal(made.load(texts), made.load(words))
    assert_trees_equal(made.stored(texts[0])["x"], row(made.load(words), 0))


def test_which_words_are_kept_follows_from_the_examples(content):
    plain, words = TextPreprocessing(content, 9, types=True), WordsPreprocessing(content, 9, types=True)
    tagged, texts = data.tagged(SENTENCES, TAGS), data.texts(["a"])
    assert plain.for_targets(tagged) == words.for_targets(tagged) == words
    assert plain.for_targets(texts) == words.for_targets(texts) == plain
    assert words.spec()["types"].shape == (9,)
    with pytest.raises(InputError, match=r"holds uint8\[8, 8, 1\]; the network takes up to 10 words of 9 tokens"):
        words.load(data.digits())


def test_no_room_and_no_tokenizer_are_refused(tmp_path, content):
    with pytest.raises(InputError, match=r"the length is 2, and the marks .* take 2 tokens"):
        WordsPreprocessing(content, 2).load(data.tagged(SENTENCES))
    with pytest.raises(InputError, match=r"data\.tagged\(sentences, tags, tokenizer='tokenizer\.json'\)"):
        choose_preprocessing(data.tagged(SENTENCES, TAGS), None, 32)
    assert data.with_tokenizer(data.tagged(SENTENCES), tmp_path, 9).preprocessing == WordsPreprocessing(content, 9)
    source = data.tagged(SENTENCES, TAGS, tokenizer=tmp_path, length=9)
    assert choose_preprocessing(source, None, 32) == WordsPreprocessing(content, 9)
