"""Files of texts: tables, JSON in lines, a text in each line, folders; what they hold and what is refused."""

import csv
import gzip
import json

import numpy as np
import pytest
from source_contract import check_contract
from word_pieces import PIECES, word_pieces

import jaxdl
from jaxdl import data
from jaxdl.data import TableOptions
from jaxdl.data.preprocessing import TextPreprocessing
from jaxdl.errors import InputError

TEXTS = ["A good day", "bad, bad days", 'a "dia"\nin two lines', "\u200fשלום good\x1b[31m", "NA", "good; a\tday"]
LABELS = ["yes", "no", "yes", "yes", "no", "no"]
ROWS = [
    {"text": text, "label": label, "doc_id": f"d{i % 2}", "stars": i / 2}
    for i, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True))
]


def _write(path, rows=ROWS, delimiter=","):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if ".jsonl" in path.name:
            file.writelines(json.dumps(row, ensure_ascii=i % 2 == 0) + "\n" for i, row in enumerate(rows))
        else:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", ["r.csv", "r.tsv", "r.csv.gz", "r.tsv.gz", "r.jsonl", "r.jsonl.gz"])
def test_tables_of_texts_hold_what_was_written(tmp_path, name):
    path = _write(tmp_path / name, delimiter="\t" if "tsv" in name else ",")
    source = data.load(f"{path}:label", table=TableOptions(text_column=("text",), group="doc_id"))
    assert list(source.texts) == TEXTS
    assert [source[i]["x"] for i in range(6)] == TEXTS
    assert source.class_names == ("no", "yes")
    assert [source.class_names[i] for i in source.targets()] == LABELS
    assert list(source.groups) == ["d0", "d1"] * 3
    assert (source.columns, source.target) == (("text",), ("label",))
    assert source.notes[0] == "columns: target label; texts text; groups doc_id; not used stars"
    check_contract(source)
    assert source.fingerprint() == data.texts(TEXTS, LABELS, groups=["d0", "d1"] * 3).fingerprint()
    joined = source.join(data.texts(["new"], [1]), np.append(source.targets(), 1))
    assert isinstance(joined, data.Texts)
    assert list(joined.texts) == [*TEXTS, "new"]


def test_the_python_calls_agree(tmp_path):
    one = data.csv(_write(tmp_path / "r.csv"), "label", text_column="text")
    two = data.jsonl(_write(tmp_path / "r.jsonl"), target="label")
    assert one.fingerprint() == two.fingerprint()
    with pytest.raises(InputError, match=r"expected a name in \.jsonl"):
        data.jsonl(tmp_path / "r.csv")


@pytest.mark.parametrize("named", [("text", "label"), ("text,label",)])
def test_two_columns_are_pairs(tmp_path, named):
    source = data.csv(_write(tmp_path / "r.csv"), "stars", text_column=named, task="regression")
    assert source[1]["x"] == {"first": TEXTS[1], "second": "no"}
    np.testing.assert_allclose(source.targets(), np.arange(6) / 2)
    assert source.notes[0].startswith("columns: target stars; pairs of texts text, label; not used doc_id")
    check_contract(source)


def test_other_targets_splits_folds_times_and_weights_are_read_as_of_other_tables(tmp_path):
    rows = [
        {
            "text": text,
            "a": i % 2,
            "b": 1,
            "when": f"2024-01-0{i + 1}",
            "w": i + 1,
            "split": "val" if i > 3 else "train",
        }
        for i, text in enumerate(TEXTS)
    ]
    path = _write(tmp_path / "r.csv", rows)
    options = TableOptions(text_column=("text",), time="when", weight="w")
    assert data.parts_of(path, table=options) == ("train", "val")
    source = data.load(f"{path}:a,b", "val", table=options)
    assert list(source.texts) == TEXTS[4:]
    assert source.targets().tolist() == [[0, 1], [1, 1]]
    assert source.class_names == ("a", "b")
    assert source.weights.tolist() == [5, 6]
    assert str(source.times[1]).startswith("2024-01-06")
    folded = [{"fold": i % 3, **{k: v for k, v in row.items() if k != "split"}} for i, row in enumerate(rows)]
    source = data.csv(_write(tmp_path / "f.csv", folded), "a", text_column="text")
    assert source.take(np.array([1, 2])).folds.tolist() == ["1", "2"]


def test_a_column_that_looks_like_a_document_is_hinted_at_and_the_hint_helps(tmp_path):
    path = _write(tmp_path / "r.csv")
    (hint,) = data.csv(path, "label", text_column="text").notes[1:]
    assert hint.startswith("'doc_id' is called like an identity and has 2 values in 6 rows")
    assert "group='doc_id'" in hint
    for options in ({"group": "doc_id"}, {"drop": "doc_id"}):
        assert len(data.csv(path, "label", text_column="text", **options).notes) == 1
    assert len(data.csv(path, labelled=False, text_column="text").notes) == 1  # to be predicted
    alone = [row | {"doc_id": f"d{i}"} for i, row in enumerate(ROWS)]
    assert len(data.csv(_write(path, alone), "label", text_column="text").notes) == 1


def test_a_headerless_file_says_what_to_do_and_doing_it_helps(tmp_path):
    path = tmp_path / "s.tsv"
    path.write_text("".join(f"a rather long sentence {i}\t{['no', 'yes'][i % 2]}\n" for i in range(8)))
    with pytest.raises(InputError, match=r"no column 'text'.* first line, which looks like an example: --header no"):
        data.csv(path, "label", text_column="text")
    source = data.csv(path, "2", text_column="1", header=False)
    assert source.texts[0] == "a rather long sentence 0"
    assert source.class_names == ("no", "yes")


def test_free_text_among_features_is_no_category_and_the_advice_helps(tmp_path):
    rows = [{"review": f"a day of {i} words", "n": i * i, "y": i % 2} for i in range(30)]
    path = _write(tmp_path / "r.csv", rows)
    with pytest.raises(InputError, match=r"too many to be categories\. --text-column review learns from its texts"):
        data.csv(path, "y")
    assert isinstance(data.csv(path, "y", text_column="review"), data.Texts)
    only = [{"text": row["review"], "y": row["y"]} for row in rows]
    with pytest.raises(InputError, match="no columns to learn from; it has: text, y; --text-column text"):
        data.csv(_write(path, only), "y")
    assert len(data.csv(path, "y", text_column="text")) == 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_column": "txt"}, r"has no column 'txt'; it has: text, label, doc_id, stars\. Did you mean 'text'\?"),
        ({"text_column": "label"}, "the column 'label' .* cannot be both text_column and target"),
        ({"text_column": ("text", "text")}, "text_column names text, text .*; expected one column, or two"),
        ({"text_column": ("text", "doc_id", "stars")}, "expected one column, or two"),
        ({"text_column": "text", "feature": "stars"}, "leave out stars as a feature"),
        ({"text_column": "text", "group": "text"}, "cannot be both group and text_column"),
        ({"text_column": "text", "group": "doc"}, "has no column 'doc'; it has: .* Did you mean 'doc_id'"),
    ],
)
@pytest.mark.parametrize("name", ["r.csv", "r.jsonl"])
def test_columns_that_cannot_be_are_refused(tmp_path, name, options, message):
    with pytest.raises(InputError, match=message):
        data.csv(_write(tmp_path / name), "label", **options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "r.jsonl",
            '{"text": "a", "label": "x"}\n\n{"text": "b", \n',
            r"line 3 of '.*r.jsonl' is no JSON \(.* at char",
        ),
        ("r.jsonl", '{"text": "a", "label": "x"}\n["b"]\n', "line 2 of .* holds .*; expected an object in each line"),
        ("r.jsonl", "[" * 100_000, "line 1 of '.*r.jsonl' is nested too deeply"),
        ("r.jsonl", '{"text": "a", "label": "x"}\n{"text": "b"}\n', "the column 'label' .* has no value, on line 2"),
        ("r.jsonl", '{"text": "a", "label": "x"}\n\n{"label": "y"}\n', "the column 'text' .* has no text on line 3"),
        (
            "r.jsonl",
            '{"text": ["a"], "label": "x"}\n',
            "the column 'text' .* holds .* which is a list or an object, on",
        ),
        ("r.jsonl", '{"text": "\\ud83d", "label": "x"}\n', "the column 'text' .* holds half of a character on line 1"),
        ("r.jsonl", "\n", "is empty; expected an object of JSON in each line"),
        ("r.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', "is no UTF-8 text .* on line 2"),
        ("r.csv", b"text,label\na,x\nb\xe9,y\n", "is no UTF-8 text .* on line 3"),
        ("r.csv", "text,label\na,x\n ,y\n", "the column 'text' of .* has no text on line 3; write one or remove"),
        ("r.csv.gz", gzip.compress(b"text,label\na,x\n", mtime=0)[:-9], "cannot be unpacked .* whole file of gzip"),
        ("r.csv.gz", b"text,label\na,x\n", "cannot be unpacked"),
    ],
)
def test_broken_files_are_refused_with_their_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        data.csv(tmp_path / name, "label", text_column="text")


def test_json_in_lines_is_a_table_of_features_too(tmp_path):
    rows = [{"a": i / 2, "b": "uv"[i % 2], "c": i % 3 == 0, "d": [i], "y": i % 2} for i in range(12)]
    path = _write(tmp_path / "r.jsonl", [{k: v for k, v in row.items() if (k, v) != ("a", 0.5)} for row in rows])
    with pytest.raises(InputError, match=r"the column 'd' .* which is a list or an object, on line 1; leave it out"):
        data.csv(path, "y")
    with pytest.raises(InputError, match=r"the column 'e' of .* has no value at all; --drop e"):
        data.csv(_write(tmp_path / "e.jsonl", [{"a": i / 2, "e": None, "y": i % 2} for i in range(12)]), "y")
    source = data.csv(path, "y", drop="d")
    assert source.columns == ("a", "b", "c")
    assert np.isnan(source.x[1, 0])
    np.testing.assert_array_equal(source.x[:, 2], [row["c"] for row in rows])
    np.testing.assert_array_equal(source.x[2:, 0], [row["a"] for row in rows[2:]])


# A text in each line, and folders


@pytest.fixture
def place(tmp_path):
    for i, text in enumerate(TEXTS):
        folder = tmp_path / "t" / ("train" if i < 4 else "val") / LABELS[i]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.txt").write_text(text)
    (tmp_path / "t" / "train" / "no" / "read.me").write_text("x")
    return tmp_path / "t"


def test_a_folder_of_texts_is_read_as_one_of_images_is(place):
    source = data.load(place, "train")
    assert isinstance(source, data.Texts)
    assert sorted(source.texts) == sorted(TEXTS[:4])
    assert [name.rsplit("/", 3)[1:] for name in source.names] == [
        ["train", *name.rsplit("/", 2)[1:]] for name in source.names
    ]
    assert [source.class_names[i] for i in source.targets()] == [name.split("/")[-2] for name in source.names]
    notes = " ".join(source.notes)
    assert "read from train/ (4 texts), not from val/ (2 texts)" in notes
    assert "left out: 1 .me file" in notes
    check_contract(data.load(f"{place}:all"))
    assert data.splits_of(place) == ("train", "val")
    assert len(data.load(place / "val" / "no", labelled=False)) == 2
    assert data.load(place / "val" / "no", labelled=False).targets() is None


def test_what_a_folder_of_texts_cannot_be(place):
    (place / "train" / "no" / "empty.txt").write_text("  \n")
    with pytest.raises(InputError, match=r"empty\.txt' is empty: there is nothing to learn from"):
        data.load(place, "train")
    assert "" in data.load(place, "train", labelled=False).texts
    (place / "train" / "no" / "empty.txt").write_bytes(b"a\nb\n\xff")
    with pytest.raises(InputError, match=r"empty\.txt' is no UTF-8 text .* on line 3\); save it in UTF-8"):
        data.load(place, "train")
    with pytest.raises(
        InputError, match=r"has no class folders; expected .*/CLASS/TEXT\.txt, but it holds 2 texts dir"
    ):
        data.load(place / "val" / "no")
    for text in (place / "val" / "no").iterdir():
        text.rename(text.with_suffix(".md"))
    (place / "val" / "yes").mkdir()
    (place / "val" / "yes" / "1.txt").write_text("a")
    with pytest.raises(InputError, match=r"the class folders no \(2 \.md files\) of .* hold no texts that can be read"):
        data.load(f"{place}:val")


class Card:
    """What a checkpoint knows of its texts."""

    def __init__(self, folder, columns=("text",), target=("label",)):
        self.columns, self.target = columns, target
        self.preprocessing = TextPreprocessing(word_pieces(folder), 8)


@pytest.mark.parametrize(
    ("content", "held"),
    [
        ("text, a list\n\na good day\n", ["text, a list", "", "a good day"]),
        ("\ufeffone; two\r\nthree\r\n", ["one; two", "three"]),
        ("text\na good day\n", ["a good day"]),  # a table of the column that the network knows
        ('label\ttext\nx\t"a, b"\n', ["a, b"]),
    ],
)
def test_lines_are_texts_for_a_network_of_text(tmp_path, content, held):
    (tmp_path / "l.txt").write_bytes(content.encode())
    made = data.as_source(tmp_path / "l.txt", Card(tmp_path))
    assert list(made.texts) == held
    (tmp_path / "l.txt.gz").write_bytes(gzip.compress(content.encode()))
    packed = data.as_source(str(tmp_path / "l.txt.gz"), Card(tmp_path))  # which is no table
    assert len(packed) == len(content.splitlines())
    assert ("without text" in " ".join(made.notes)) == ("" in held)


def test_lines_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "l.txt").write_bytes(b"a\nb\n\xe9\n")
    with pytest.raises(InputError, match=r"is no UTF-8 text .* on line 3"):
        data.text_lines(tmp_path / "l.txt")
    (tmp_path / "l.txt").write_text("\n\n")
    with pytest.raises(InputError, match="holds no text; expected one in each line"):
        data.text_lines(tmp_path / "l.txt")
    with pytest.raises(InputError, match="there is no file"):
        data.text_lines(tmp_path / "none.txt")


def test_a_network_finds_its_column_by_name_and_another_is_said(tmp_path):
    path = _write(tmp_path / "r.csv")
    made = data.load(path, labelled=False, like=Card(tmp_path))
    assert list(made.texts) == TEXTS
    assert made.target == ("label",)
    with pytest.raises(InputError, match=r"no column 'review', from which .* --text-column COLUMN .* It has: text"):
        data.load(path, labelled=False, like=Card(tmp_path, ("review",)))
    said = TableOptions(text_column=("text",))
    assert list(data.load(path, labelled=False, like=Card(tmp_path, ("review",)), table=said).texts) == TEXTS
    pairs = data.load(path, labelled=False, like=Card(tmp_path, ("doc_id", "text"), None))
    assert pairs[0]["x"] == {"first": "d0", "second": TEXTS[0]}
    assert data.load(path, labelled=False, like=Card(tmp_path, None)).columns == ("text",)
    no_labels = _write(tmp_path / "n.csv", [{"text": row["text"]} for row in ROWS])
    assert data.load(no_labels, labelled=False, like=Card(tmp_path)).targets() is None
    validation = data.csv(path, text_column="text")
    assert data.csv(path, like=validation).fingerprint() == validation.fingerprint()


def test_what_a_network_of_text_is_given_from_python(tmp_path):
    card = Card(tmp_path)
    pairs = [("a", "b"), ("c", "d")]
    assert data.as_source(TEXTS, card).texts == TEXTS
    assert data.as_source(tuple(TEXTS), card).texts == TEXTS
    assert data.as_source(np.array(["a", "b"]), card).texts == ["a", "b"]
    assert data.as_source(pairs, card).held == pairs
    with pytest.raises(InputError, match=r"there is no 'a good day'; .* texts themselves are given as a list"):
        data.as_source("a good day", card)
    with pytest.raises(InputError, match=r"there is no 'a long day a long day"):
        data.as_source("a long day " * 40, card)
    with pytest.raises(InputError, match="the text at index 1 holds half of a character"):
        data.texts(["a", "\ud83d"])


def test_an_image_network_says_that_it_reads_no_texts(tmp_path):
    model = jaxdl.create("mlp", 2, hidden=(4,))
    network = jaxdl.pretrain(model, data.digits([0, 1]), jaxdl.Plan(epochs=1))
    with pytest.raises(InputError, match="texts holds text; the network was made for uint8 images"):
        jaxdl.predict(network, data.texts(TEXTS))
    with pytest.raises(
        InputError, match=r"'A good day' is no file, and the network takes .*, no texts; expected paths"
    ):
        jaxdl.predict(network, TEXTS)


# Learning


def _learner(folder, vocabulary=14):
    word_pieces(folder)
    return jaxdl.create("textcnn", 2, vocabulary=vocabulary, width=4, features=2)


@pytest.mark.parametrize("held", [["a", "", "b", " "], [("a", "b"), ("", " "), ("c", ""), (" ", "")]])
def test_nothing_is_learned_from_empty_texts_but_they_are_predicted(tmp_path, held):
    model, plan = _learner(tmp_path), jaxdl.Plan(epochs=1)
    with pytest.raises(InputError, match="2 texts of texts are empty, the first index 1, index 3: there is nothing"):
        jaxdl.pretrain(model, data.texts(held, ["x", "y"] * 2, tokenizer=tmp_path, length=6), plan)
    full = [one for one, keep in zip(held, (1, 0, 1, 0), strict=True) if keep]
    network = jaxdl.pretrain(model, data.texts(full, ["x", "y"], tokenizer=tmp_path, length=6), plan)
    assert len(jaxdl.predict(network, held)) == 4


def test_a_tokenizer_for_more_tokens_than_the_network_has_is_refused_with_both_numbers(tmp_path):
    assert len(PIECES) == 14
    source = data.texts(["a", "b"] * 2, ["x", "y"] * 2, tokenizer=_learner(tmp_path) and tmp_path)
    for call in (jaxdl.pretrain, lambda *given: jaxdl.cross_validate(*given, folds=2)):
        with pytest.raises(InputError, match=r"the tokenizer knows 14 tokens, and the network has vectors for 13"):
            call(_learner(tmp_path, 13), source, jaxdl.Plan(epochs=1))
